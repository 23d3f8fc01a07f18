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

// === impl Tier ===

impl Tier {
    /// Removes entries by name and raises the counts of tags.
    pub(crate) async fn tell(&self, names: &[String], tags: &[String]) -> Result<(), Error> {
        self.tell_here(names, tags);
        let told = match self.live() {
            Ok(None) => return Ok(()),
            Ok(Some(store)) => store.remove(names, tags, COUNT_LIFE).await,
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
        self.tell_here(names, tags);
        Ok(())
    }

    fn tell_here(&self, names: &[String], tags: &[String]) {
        for name in names {
            self.view.changed(name);
        }
        for tag in tags {
            self.view.tag_changed(tag);
        }
    }
}
