//! What operators ask of a log, and what keeps it small. No consumer needs it to work.

use std::time::Duration;

use async_trait::async_trait;

use crate::{ConsumerName, Entry, EntryId, Error, GroupName, Lane, StreamName, Subscription};

/// A stream as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Entries it holds.
    pub length: u64,
    /// Entries ever appended.
    pub appended: u64,
    /// The oldest entry it holds.
    pub first: Option<EntryId>,
    /// The newest id it ever gave, also when that entry is gone; [`EntryId::MIN`] when none.
    pub last: EntryId,
    /// Its groups.
    pub groups: Vec<GroupInfo>,
}

impl StreamInfo {
    /// Whether entries after `cursor` may be gone: a reader with that cursor must look elsewhere
    /// for what it missed. Says yes once too often rather than once too little.
    pub fn may_have_lost_after(&self, cursor: EntryId) -> bool {
        let gone = self.appended > self.length;
        gone && self
            .first
            .map_or(cursor < self.last, |first| cursor < first)
    }
}

/// A group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: GroupName,
    /// The newest entry that was delivered to any member.
    pub last_delivered: EntryId,
    /// Delivered, not acknowledged.
    pub pending: u64,
    /// The oldest of those.
    pub oldest_pending: Option<EntryId>,
    /// Not yet delivered; `None` when the server cannot tell.
    pub lag: Option<u64>,
    /// Its members.
    pub consumers: Vec<ConsumerInfo>,
}

/// A member of a group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: ConsumerName,
    /// Delivered to it, not acknowledged.
    pub pending: u64,
    /// Since it last asked for anything.
    pub idle: Duration,
}

/// From where on the bus owes a group something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneFloor {
    /// The lane.
    pub lane: Lane,
    /// Its stream.
    pub stream: StreamName,
    /// Every entry below this id is done with, or was never there. `None`: nothing is owed at
    /// all, be it that all is done or that stream or group do not exist.
    pub owed_from: Option<EntryId>,
}

/// What may be trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Acknowledged entries older than this go.
    pub max_age: Option<Duration>,
    /// Acknowledged entries go while the stream is longer than this.
    pub max_len: Option<u64>,
}

/// What a trim did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trimmed {
    /// Entries removed.
    pub removed: u64,
    /// The group that keeps the stream longer than the retention asks for, if one does.
    pub held_by: Option<GroupName>,
}

/// What waits for its retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Delayed {
    /// How many.
    pub count: u64,
    /// Until the next is due; zero when it is overdue.
    pub next_in: Option<Duration>,
}

/// The operator's side of a log.
#[async_trait]
pub trait Admin: Send + Sync {
    /// The stream as it stands; `None` when it does not exist.
    async fn info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, Error>;

    /// From where on each lane owes the group something: its oldest pending entry, its first
    /// undelivered one, or the first entry of a retry that waits, whichever is oldest. With more
    /// than [`FLOOR_SCAN_MAX`] retries waiting, or with a message in a room before the lane, the
    /// answer is [`EntryId::MIN`], which is safe.
    async fn floor(&self, sub: &Subscription) -> Result<Vec<LaneFloor>, Error>;

    /// Removes what the retention no longer keeps and **every** group has acknowledged. A group
    /// that nobody reads any more holds its entries until it is removed.
    async fn trim(&self, stream: &StreamName, retention: Retention) -> Result<Trimmed, Error> {
        self.trim_but(stream, retention, &[]).await
    }

    /// The same without waiting for the groups in `ignored`: what only they have not read or
    /// acknowledged goes, and is lost to them.
    async fn trim_but(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<Trimmed, Error>;

    /// Bytes that the stream takes, about: in a server its memory, in a file its fields. 0 when
    /// it does not exist.
    async fn bytes(&self, stream: &StreamName) -> Result<u64, Error>;

    /// Makes a group that reads from `from` on, and the stream with it. False when there is a
    /// group of that name already; nothing is changed then.
    async fn make_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: EntryId,
    ) -> Result<bool, Error>;

    /// Looks at entries from `from` on, without delivering them.
    async fn peek(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error>;

    /// What waits in the delayed set of the lanes, of all groups.
    async fn delayed(&self, sub: &Subscription) -> Result<Delayed, Error>;

    /// Removes members that did nothing for `idle` and own nothing, in one step, so that no
    /// pending entry is ever dropped with its owner. Returns their names.
    async fn remove_dead_consumers(
        &self,
        sub: &Subscription,
        idle: Duration,
    ) -> Result<Vec<ConsumerName>, Error>;

    /// How much of what was accepted a power cut can take: zero when every append is on disk
    /// before its answer, `None` when it is unknown or unbounded.
    async fn loss_window(&self) -> Result<Option<Duration>, Error>;

    /// Asks the server for a sign of life.
    async fn ping(&self) -> Result<(), Error>;
}

/// Waiting retries that [`Admin::floor`] looks at.
pub const FLOOR_SCAN_MAX: usize = 1_000;
