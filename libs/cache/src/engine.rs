//! What a cache is made of, apart from the type of its keys. The steps of a read are in `read.rs`,
//! those of a load in `load.rs`, changes in `change.rs`.

mod behind;
mod bulk;
mod change;
mod complaint;
mod confirm;
mod fill;
mod load;
mod outlook;
mod read;
mod tags;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ratebox_kit::{Clock, Tasks};
use tokio::sync::Semaphore;

use crate::codec::Codec;
use crate::entry::{Entry, Head, Packing, Stamp, Tagged, Times, encode};
use crate::error::Cause;
use crate::events::{Event, Listener, tell};
use crate::flight::Flights;
use crate::generations::{Moment, TagCells, tag_cell};
use crate::held::Held;
use crate::loaded::Loaded;
use crate::memory::Memory;
use crate::packing::Packer;
use crate::stats::Figures;
use crate::write_queue::WriteQueue;
use crate::{Limits, Tier};
pub(crate) use bulk::LoadMany;
pub(crate) use complaint::Complaint;
pub(crate) use confirm::Filled;
pub(crate) use load::cause;
pub(crate) use outlook::Outlook;
pub(crate) use read::Look;
pub(crate) use tags::{TAGGED, entry_of, entry_tag, is_of_user, user_tag, version_of, version_tag};

/// Brings a value from where it comes from.
pub(crate) type Load<V> =
    Box<dyn FnOnce() -> BoxFuture<'static, Result<Loaded<V>, Cause>> + Send + 'static>;

pub(crate) struct Engine<V> {
    /// The cache's name: begins the names of its entries.
    pub(crate) cache: Box<str>,
    /// The tag that every entry carries.
    pub(crate) version: Arc<str>,
    /// The caches of whose values of the same key its own are made.
    pub(crate) made_from: Box<[Box<str>]>,
    pub(crate) tier: Tier,
    pub(crate) memory: Arc<Memory<V>>,
    pub(crate) flights: Arc<Flights<V>>,
    /// Values that were filled a moment ago.
    pub(crate) filled: Filled<V>,
    pub(crate) codec: Arc<dyn Codec<V>>,
    /// Where writes wait that the origin does not have yet.
    pub(crate) queue: Option<Arc<dyn WriteQueue>>,
    /// Which values are made smaller for the shared tier.
    pub(crate) packer: Packer,
    /// Hears of what happens.
    pub(crate) listener: Option<Listener>,
    /// What a value weighs that is not encoded.
    pub(crate) weigh: fn(&V) -> u64,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    /// Loads that may run at once.
    pub(crate) permits: Semaphore,
    /// Loads that wait for a permit.
    pub(crate) waiting: AtomicUsize,
    pub(crate) outlook: Outlook,
    /// When it was told that a value cannot be kept.
    pub(crate) complaint: Complaint,
    pub(crate) figures: Figures,
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// The name of a key's entry in the shared tier, and in other caches' dependencies.
    pub(crate) fn name_of(&self, key: &str) -> String {
        [&self.cache, ":", key].concat()
    }

    /// Tells whoever listens.
    pub(crate) fn event<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        tell(self.listener.as_ref(), event);
    }

    /// Reads the value of an entry that was found valid; `None` when it cannot be read.
    fn hold(&self, entry: &Entry<'_>, at: Moment) -> Option<Held<V>> {
        let (value, weight) = match entry.value {
            Some(_) if entry.head.codec != self.codec.id() => return None,
            Some(bytes) => {
                let (value, weight) = self.unpack(&entry.head, bytes)?;
                (Some(Arc::new(value)), weight)
            }
            None => (None, 0),
        };
        let mut held = Held::new(value, at, entry.head.times);
        held.stamp = entry.head.stamp;
        held.cost_us = entry.head.cost_us;
        held.tags = cells(entry.tags().map(|(tag, _)| tag));
        held.weight = weight as u64;
        held.trusted_ms = self.trusted_ms();
        Some(held)
    }

    /// A value, and how many bytes it has unpacked.
    fn unpack(&self, head: &Head, bytes: &[u8]) -> Option<(V, usize)> {
        match head.packing {
            Packing::Plain => Some((self.codec.decode(bytes).ok()?, bytes.len())),
            packed => {
                let bytes = crate::packing::unpack(packed, bytes, self.limits.value_bytes_max)?;
                Some((self.codec.decode(&bytes).ok()?, bytes.len()))
            }
        }
    }

    /// An entry as it lies in the shared tier.
    fn entry(
        &self,
        stamp: Stamp,
        times: Times,
        cost_us: u32,
        tags: &[Tagged],
        value: Option<&[u8]>,
    ) -> Bytes {
        let packed = value.map(|bytes| self.packer.pack(bytes));
        let (packing, value) =
            packed.map_or_else(Default::default, |(packing, bytes)| (packing, Some(bytes)));
        let head = Head {
            stamp,
            times,
            cost_us,
            codec: self.codec.id(),
            packing,
        };
        encode(&head, tags, value.as_deref())
    }

    fn trusted_ms(&self) -> i64 {
        let trust = self.limits.memory.trust_max.as_millis();
        let trust = i64::try_from(trust).unwrap_or(i64::MAX);
        self.clock.now_ms().saturating_add(trust)
    }

    /// A call of the tier failed: it is counted, and somebody looks.
    fn tier_failed(&self) {
        self.figures.tier_errors.one();
        self.tier.view.doubt();
    }
}

/// The cells of tags.
fn cells<'a>(tags: impl Iterator<Item = &'a str>) -> TagCells {
    tags.map(tag_cell).collect()
}
