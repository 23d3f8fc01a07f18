//! Changes: keys and tags are invalidated.
//!
//! Every change is made known in this process before and after the tier is told of it: what is read
//! in between may be from before. A change that the tier could not be told of is remembered, and
//! told when it is back; until then this process believes nothing that the tier holds.

use std::time::Duration;

use super::Engine;
use super::tags::entry_tag;
use crate::Error;

/// How long a raised count is kept at least: longer than what was built under the one before.
const COUNT_LIFE: Duration = Duration::from_secs(24 * 3_600);

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Invalidates entries by name with what depends on them, and tags.
    pub(crate) async fn invalidate(&self, names: &[String], tags: &[String]) -> Result<(), Error> {
        self.figures
            .invalidations
            .many((names.len() + tags.len()) as u64);
        let dependents = names.iter().map(|name| entry_tag(name));
        let tags: Vec<String> = dependents.chain(tags.iter().cloned()).collect();
        self.tell(names, &tags);
        let told = match self.tier.live() {
            Ok(None) => return Ok(()),
            Ok(Some(store)) => store.remove(names, &tags, COUNT_LIFE).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            self.figures.tier_errors.one();
            self.tier.repairs.add(names, &tags);
            self.tier.set_behind();
            return Err(error);
        }
        self.tell(names, &tags);
        Ok(())
    }

    /// Invalidates all entries of the cache.
    pub(crate) async fn invalidate_all(&self) -> Result<(), Error> {
        let told = self.invalidate(&[], &[self.version.to_string()]).await;
        self.memory.clear();
        told
    }

    /// Makes a change known in this process.
    fn tell(&self, names: &[String], tags: &[String]) {
        for name in names {
            self.tier.view.changed(name);
        }
        for tag in tags {
            self.tier.view.tag_changed(tag);
        }
    }

    pub(crate) fn check_key(&self, key: &str) -> Result<(), Error> {
        let (bytes, bytes_max) = (key.len(), self.limits.key_bytes_max);
        match bytes > bytes_max {
            true => Err(Error::KeyTooLong { bytes, bytes_max }),
            false => Ok(()),
        }
    }
}
