//! Who owns a partition: leases with a fence, and what one owner leaves to the next, beside
//! [`crate::Log`].
//!
//! A [`Subscription`] names what is owned: its lanes' base is the partition, its consumer is the
//! member, and each group has owners of its own. The server's clock decides when a lease ends.
//! Every change of owner raises the epoch; [`crate::Fence`] carries it to the effects.

use std::time::Duration;

use async_trait::async_trait;

use crate::{ConsumerName, EntryId, Error, Lane, Subscription};

/// Who owns a partition now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The member.
    pub member: ConsumerName,
    /// Grows with every change of owner.
    pub epoch: u64,
}

/// What a failed entry that stays pending carries with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEntry {
    /// Its lane.
    pub lane: Lane,
    /// Its id.
    pub id: EntryId,
    /// What is kept of it; `None` forgets it.
    pub text: Option<String>,
}

/// Leases of partitions. Filled by every log of this crate.
#[async_trait]
pub trait Ownership: Send + Sync {
    /// Says that the member lives for `length` from now; returns every member that does, in order
    /// of name. Here the lanes are those of the whole stream.
    async fn meet(&self, sub: &Subscription, length: Duration) -> Result<Vec<ConsumerName>, Error>;

    /// Says that the member is gone.
    async fn leave(&self, sub: &Subscription) -> Result<(), Error>;

    /// Takes or renews the lease of a partition that is free, the member's, or past its end.
    /// Returns the epoch, or `None` when another owns it. After an error it may be ours.
    async fn lease(&self, sub: &Subscription, length: Duration) -> Result<Option<u64>, Error>;

    /// Gives a lease back, so that another member need not wait for its end.
    async fn give_back(&self, sub: &Subscription) -> Result<(), Error>;

    /// Who owns the partition now.
    async fn owner(&self, sub: &Subscription) -> Result<Option<Owner>, Error>;

    /// Keeps what failed entries of the partition carry as long as they are pending, for its next
    /// owner, so that attempts are counted on ([`crate::KeyOrder::PerKey`]; elsewhere an entry that
    /// failed is no longer pending).
    async fn keep_failures(
        &self,
        sub: &Subscription,
        failures: &[FailedEntry],
    ) -> Result<(), Error>;

    /// What owners of the partition kept so.
    async fn failures(&self, sub: &Subscription) -> Result<Vec<FailedEntry>, Error>;
}
