//! Changes: keys and tags are invalidated.

use super::Engine;
use super::tags::entry_tag;
use crate::Error;
use crate::events::Event;

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Invalidates entries by name with what depends on them, and tags.
    pub(crate) async fn invalidate(&self, names: &[String], tags: &[String]) -> Result<(), Error> {
        self.figures
            .invalidations
            .many((names.len() + tags.len()) as u64);
        let dependents = names.iter().map(|name| entry_tag(name));
        let tags: Vec<String> = dependents.chain(tags.iter().cloned()).collect();
        for name in names {
            self.event(|| Event::Invalidated { name });
        }
        for tag in tags.iter().skip(names.len()) {
            self.event(|| Event::TagInvalidated { tag });
        }
        let told = self.tier.tell(names, &tags).await;
        if told.is_err() {
            self.figures.tier_errors.one();
        }
        told
    }

    /// Invalidates all entries of the cache.
    pub(crate) async fn invalidate_all(&self) -> Result<(), Error> {
        let told = self.invalidate(&[], &[self.version.to_string()]).await;
        self.memory.clear();
        told
    }

    pub(crate) fn check_key(&self, key: &str) -> Result<(), Error> {
        let (bytes, bytes_max) = (key.len(), self.limits.key_bytes_max);
        match bytes > bytes_max {
            true => Err(Error::KeyTooLong { bytes, bytes_max }),
            false => Ok(()),
        }
    }
}
