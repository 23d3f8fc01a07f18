//! Telling a change to everybody.
//!
//! Every change is made known in this process before and after the tier is told of it: what is read
//! in between may be from before. A change that the tier could not be told of is remembered, and
//! told when it is back; until then this process believes nothing that the tier holds.

#[cfg(feature = "broken")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Tier;
use crate::Error;

/// How long a raised count is kept at least: longer than what was built under the one before.
const COUNT_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// A change that the tier is being told of. Dropped before the tier has answered, as when whoever
/// made the change waits no longer, it is remembered, and told by whoever watches the tier. Until then
/// the tier may still hold what changed, so it is not believed.
struct Asked<'a> {
    tier: &'a Tier,
    names: &'a [String],
    tags: &'a [String],
    is_answered: bool,
}

// === impl Tier ===

impl Tier {
    /// Removes entries by name and raises the counts of tags.
    pub(crate) async fn tell(&self, names: &[String], tags: &[String]) -> Result<(), Error> {
        self.tell_here(names, tags);
        let told = match self.attentive() {
            Ok(None) => return Ok(()),
            Ok(Some(store)) => {
                let mut asked = Asked {
                    tier: self,
                    names,
                    tags,
                    is_answered: false,
                };
                let told = store.remove(names, tags, COUNT_LIFE).await;
                asked.is_answered = true;
                told
            }
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            #[cfg(feature = "broken")]
            if self.view.generations.lacks.repairs.load(Ordering::Relaxed) {
                return Err(error);
            }
            self.repairs.add(names, tags);
            self.set_behind();
            return Err(error);
        }
        self.keep(names, tags);
        self.tell_here(names, tags);
        Ok(())
    }

    /// A value was filled in where another one was: should the server lose that, what was there before
    /// is told as changed.
    pub(crate) fn replaced(&self, name: &str) {
        self.keep(&[name.to_owned()], &[]);
    }

    /// The server may lose what it was told.
    pub(super) fn keep(&self, names: &[String], tags: &[String]) {
        if self.is_far() {
            self.recent.add(names, tags);
        }
    }

    pub(super) fn tell_here(&self, names: &[String], tags: &[String]) {
        for name in names {
            self.view.changed(name);
        }
        for tag in tags {
            self.view.tag_changed(tag);
        }
    }
}

// === impl Asked ===

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            // In this order: a look that did not see the change yet is overruled by what follows.
            self.tier.repairs.add(self.names, self.tags);
            self.tier.set_behind();
        }
    }
}
