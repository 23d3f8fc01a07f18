//! Streams as they are seen: nothing but the bus is asked, so it works while the store is away.
//! Whatever changes something, or must be written down, is in `streams.rs`. Writing entries into a
//! file is in `carry.rs`.

use std::sync::Arc;

use ratebox_stream::{
    Admin, ConsumerName, Control, Delayed, Entry, EntryId, GroupName, Lane, Lanes, Order,
    StreamInfo, StreamName, Subscription,
};

use crate::Result;

/// What can be seen of streams with the bus alone. Cheap to clone.
#[derive(Clone)]
pub struct Lookout {
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) lanes: Lanes,
}

/// A stream as operators see it.
#[derive(Clone, Debug)]
pub struct StreamSeen {
    /// Its name.
    pub name: StreamName,
    /// Its lane, when it is one of the requests'.
    pub lane: Option<Lane>,
    /// As it stands; `None` when it does not exist.
    pub info: Option<StreamInfo>,
    /// Bytes that it takes, about.
    pub bytes: u64,
}

// === impl Lookout ===

impl Lookout {
    /// Streams of a bus; `lanes` are the requests'.
    pub fn new(admin: Arc<dyn Admin>, lanes: Lanes) -> Self {
        Self { admin, lanes }
    }

    /// One stream as it stands.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn look(&self, name: &StreamName) -> Result<StreamSeen> {
        let info = self.admin.info(name).await?;
        let bytes = match info {
            Some(_) => self.admin.bytes(name).await?,
            None => 0,
        };
        Ok(StreamSeen {
            name: name.clone(),
            lane: self.lanes.lane_of(name.as_str()),
            info,
            bytes,
        })
    }

    /// What waits for its retry on the requests' lanes.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn delayed(&self, group: &GroupName) -> Result<Delayed> {
        Ok(self
            .admin
            .delayed(&self.as_member(group, "operator"))
            .await?)
    }

    /// Entries from `from` on, without delivering them.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn peek(&self, name: &StreamName, from: EntryId, max: usize) -> Result<Vec<Entry>> {
        Ok(self.admin.peek(name, from, max).await?)
    }

    /// The pauses that stand.
    ///
    /// # Errors
    /// When the bus is away.
    pub async fn pauses(&self, control: &Control) -> Result<Vec<Order>> {
        Ok(control.orders().await?.pauses().to_vec())
    }

    pub(crate) fn as_member(&self, group: &GroupName, consumer: &str) -> Subscription {
        Subscription::new(
            self.lanes.clone(),
            group.clone(),
            ConsumerName::new(consumer),
        )
    }
}
