//! Telling the caches of look-ups what was recorded.
//!
//! After a commit the worker notes the buckets of the values that it recorded
//! ([`ratebox_intake::LookupKind::bucket`]), a bit each. A few milliseconds later, once for all that
//! was noted meanwhile and out of the way of the answers, a task of its own asks which buckets
//! somebody looked into lately, and has the caches forget those that are in both. A worker that dies
//! before it tells costs freshness for as long as answers live, which is a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_intake::LOOKUP_BUCKETS;
use ratebox_kit::{Shutdown, Tasks};
use tokio::sync::Notify;

/// How long what was noted waits for company: many small batches cost the server one question.
const TELL_AFTER: Duration = Duration::from_millis(10);

/// Buckets of one word of bits.
const WORD: usize = 64;

/// The caches of look-ups, as far as a worker needs them. Nothing here fails: a cache that cannot be
/// told lets its entries die of age.
#[async_trait]
pub trait LookupCaches: Send + Sync {
    /// Which buckets were looked into lately. Asked after a commit: who looked before it is told.
    async fn watched(&self) -> Watched;

    /// Forgets what is cached of these buckets.
    async fn forget(&self, buckets: &[u16]);
}

/// Buckets that somebody looked into.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// One bit a bucket, the most significant first; one field over the other.
    fields: Vec<Vec<u8>>,
}

// === impl Watched ===

impl Watched {
    /// The buckets whose bit is set in one of the fields.
    pub fn new(fields: Vec<Vec<u8>>) -> Self {
        Self { fields }
    }

    /// Nobody looked.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether somebody looked into a bucket.
    pub fn has(&self, bucket: u16) -> bool {
        let (byte, bit) = (usize::from(bucket / 8), 0x80 >> (bucket % 8));
        let mut bytes = self.fields.iter().filter_map(|field| field.get(byte));
        bytes.any(|it| it & bit != 0)
    }
}

/// Notes what is recorded, and tells the caches.
pub(crate) struct Teller {
    caches: Arc<dyn LookupCaches>,
    untold: Mutex<Untold>,
    is_due: Notify,
}

/// Buckets in which something was recorded since the caches were told.
#[derive(Default)]
struct Untold {
    /// A bit each, the least significant first; empty while there is none.
    words: Vec<u64>,
}

// === impl Teller ===

impl Teller {
    /// Tells `caches` from a task of its own.
    pub(crate) fn start(caches: Arc<dyn LookupCaches>, tasks: &Tasks) -> Arc<Self> {
        let teller = Arc::new(Self {
            caches,
            untold: Mutex::default(),
            is_due: Notify::new(),
        });
        let (it, shutdown) = (Arc::clone(&teller), tasks.shutdown());
        tasks.spawn("tell-lookups", async move { it.run(&shutdown).await });
        teller
    }

    /// Notes the buckets of what is on disk now.
    pub(crate) fn note(&self, buckets: &[u16]) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = untold.words.is_empty();
        for bucket in buckets {
            untold.add(*bucket);
        }
        if was_empty && !untold.words.is_empty() {
            self.is_due.notify_one();
        }
    }

    async fn run(&self, shutdown: &Shutdown) {
        while shutdown.unless(self.is_due.notified()).await.is_some() {
            shutdown.sleep(TELL_AFTER).await;
            self.tell().await;
        }
    }

    async fn tell(&self) {
        let untold = {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *untold)
        };
        // Asked after what was noted was committed: who looked before that is told.
        let watched = self.caches.watched().await;
        if watched.is_empty() {
            return;
        }
        let buckets: Vec<u16> = untold.buckets().filter(|it| watched.has(*it)).collect();
        if !buckets.is_empty() {
            self.caches.forget(&buckets).await;
        }
    }
}

// === impl Untold ===

impl Untold {
    fn add(&mut self, bucket: u16) {
        if self.words.is_empty() {
            self.words = vec![0; LOOKUP_BUCKETS / WORD];
        }
        let bucket = usize::from(bucket);
        if let Some(word) = self.words.get_mut(bucket / WORD) {
            *word |= 1 << (bucket % WORD);
        }
    }

    fn buckets(&self) -> impl Iterator<Item = u16> {
        let words = self
            .words
            .iter()
            .enumerate()
            .filter(|(_, word)| **word != 0);
        words.flat_map(|(number, word)| {
            let bits = (0..WORD).filter(move |bit| word & (1 << bit) != 0);
            bits.filter_map(move |bit| u16::try_from(number * WORD + bit).ok())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_watched_in_any_of_the_fields() {
        let watched = Watched::new(vec![vec![0b0100_0000], vec![0, 0b0000_0001]]);
        assert!(watched.has(1) && watched.has(15));
        assert!(!watched.has(0) && !watched.has(16) && !watched.has(u16::MAX));
        assert!(Watched::default().is_empty());
    }
    #[test]
    fn a_bucket_is_noted_once_and_found_again() {
        let mut untold = Untold::default();
        assert_eq!(untold.buckets().count(), 0);
        for bucket in [4_000, 63, 64, 4_000, 0] {
            untold.add(bucket);
        }
        assert_eq!(untold.buckets().collect::<Vec<_>>(), [0, 63, 64, 4_000]);
    }
}
