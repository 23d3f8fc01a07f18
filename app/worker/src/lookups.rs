//! Telling the caches of look-ups what was recorded.
//!
//! After a commit, and beside the publication of the answers, the worker asks which buckets of
//! values somebody looked into lately ([`ratebox_intake::LookupKind::bucket`]) and has the caches
//! forget those in which it recorded something. While nobody looks anything up that is one small
//! question a batch and nothing an item. A worker that dies before it tells costs freshness for as
//! long as answers live, which is a second.

use async_trait::async_trait;
use ratebox_intake::{Action, LookupKind};

use crate::judge::Judged;

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

/// Tells the caches of what was recorded just now.
pub(crate) async fn tell<'a>(
    caches: &dyn LookupCaches,
    recorded: impl Iterator<Item = &'a Judged>,
) {
    let watched = caches.watched().await;
    if watched.is_empty() {
        return;
    }
    let buckets = touched(recorded, &watched);
    if !buckets.is_empty() {
        caches.forget(&buckets).await;
    }
}

/// The watched buckets in which something was recorded, each once.
fn touched<'a>(recorded: impl Iterator<Item = &'a Judged>, watched: &Watched) -> Vec<u16> {
    let mut buckets = Vec::new();
    // A check is not recorded as an item.
    for judged in recorded.filter(|it| it.task.request.action != Action::Check) {
        for result in &judged.response.results {
            let normalized = &result.normalized;
            let values = [
                (LookupKind::Phone, &normalized.phone),
                (LookupKind::BankAccount, &normalized.bank_account),
                (LookupKind::Email, &normalized.email),
            ];
            for (kind, value) in values {
                let bucket = value.as_deref().map(|value| kind.bucket(value));
                buckets.extend(bucket.filter(|bucket| watched.has(*bucket)));
            }
        }
    }
    buckets.sort_unstable();
    buckets.dedup();
    buckets
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
}
