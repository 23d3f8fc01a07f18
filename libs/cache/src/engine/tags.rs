//! Tags: counts in the shared tier that an entry was built under. A change raises the count, and
//! every entry with the old one is nothing any more, wherever it lies.
//!
//! The counts are remembered in this process and the tier tells of changes, so that a read of the
//! tier mostly needs no second trip. A count that is remembered may be behind: what is filled under
//! it is then dead from the start, which costs a load and never a wrong value.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::Error;
use crate::entry::{Entry, TAGS_MAX, Tagged};
use crate::generations::{Moment, tag_cell};
use crate::policy::Policy;

/// Before a user's tag in the tier, so that it is none of ours.
const USER: &str = "#";

/// Before the name of an entry that others depend on.
const ENTRY: &str = "=";

/// A user's tag as it is in the tier.
pub(crate) fn user_tag(tag: &str) -> String {
    [USER, tag].concat()
}

/// The tag of what depends on an entry.
pub(crate) fn entry_tag(name: &str) -> String {
    [ENTRY, name].concat()
}

/// The entry whose tag this is, if it is one of an entry.
pub(crate) fn entry_of(tag: &str) -> Option<&str> {
    tag.strip_prefix(ENTRY)
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// The tags that are known before a load: the cache's version first.
    pub(super) fn tags_of(&self, policy: &Policy) -> Vec<Arc<str>> {
        let mut tags = Vec::with_capacity(1 + policy.tags.len());
        tags.push(Arc::clone(&self.version));
        tags.extend(policy.tags.iter().map(|tag| user_tag(tag).into()));
        tags
    }

    /// Whether every tag of an entry has the count that the entry was built under.
    pub(super) async fn tags_hold(&self, entry: &Entry<'_>) -> bool {
        let mut unknown: Vec<(String, u64)> = Vec::new();
        for (tag, count) in entry.tags() {
            match self.tier.view.count(tag) {
                Some((known, _)) if known == count => {}
                Some(_) => return false,
                None => unknown.push((tag.to_owned(), count)),
            }
        }
        unknown.is_empty() || self.ask_counts(unknown).await
    }

    async fn ask_counts(&self, unknown: Vec<(String, u64)>) -> bool {
        let Ok(Some(store)) = self.tier.live() else {
            return false;
        };
        let at = self.tier.view.generations.now();
        let (tags, expected): (Vec<String>, Vec<u64>) = unknown.into_iter().unzip();
        let Ok(counts) = store.counts(&tags).await else {
            self.tier_failed();
            return false;
        };
        for (tag, count) in tags.iter().zip(&counts) {
            if let Some(count) = count {
                self.tier.view.learn(tag, *count, at, i64::MIN);
            }
        }
        let expected = expected.into_iter().map(Some);
        counts.into_iter().eq(expected)
    }

    /// The counts of tags, for an entry that lives for `life`.
    pub(super) async fn sample(
        &self,
        tags: Vec<Arc<str>>,
        life: Duration,
    ) -> Result<Vec<Tagged>, Error> {
        let plain = |tag| Tagged { tag, count: 0 };
        let mut tagged: Vec<Tagged> = tags.into_iter().map(plain).collect();
        let Some(store) = self.tier.live()? else {
            // Without a shared tier, what was heard in this process is all there is.
            return Ok(tagged);
        };
        let now_ms = self.clock.now_ms();
        let ms = |life: Duration| i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        let needed_ms = now_ms.saturating_add(ms(life));
        let mut unknown: Vec<&mut Tagged> = Vec::new();
        for one in &mut tagged {
            match self.tier.view.count(&one.tag) {
                Some((count, until_ms)) if until_ms >= needed_ms => one.count = count,
                Some(_) | None => unknown.push(one),
            }
        }
        if !unknown.is_empty() {
            let at = self.tier.view.generations.now();
            // Twice the life, so that it is not asked for at every load.
            let kept = life.saturating_mul(2);
            let names: Vec<String> = unknown.iter().map(|one| one.tag.to_string()).collect();
            let asked = store.ensure(&names, kept).await?;
            let until_ms = now_ms.saturating_add(ms(kept));
            // A tier that answers less than it was asked for makes a dead entry.
            for (one, count) in unknown.into_iter().zip(asked) {
                self.tier.view.learn(&one.tag, count, at, until_ms);
                one.count = count;
            }
        }
        Ok(tagged)
    }

    /// The tags that a loader named, with counts that hold since before its load: `None` when one
    /// of them changed meanwhile.
    pub(super) async fn late_tags(
        &self,
        mut tags: Vec<Arc<str>>,
        depends_on: Vec<String>,
        at: Moment,
        life: Duration,
    ) -> Result<Option<Vec<Tagged>>, Error> {
        let inherited = self.inherited(&depends_on).await?;
        tags.extend(depends_on.iter().map(|name| entry_tag(name).into()));
        if tags.is_empty() && inherited.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let known: Vec<_> = tags.iter().map(|tag| self.tier.view.count(tag)).collect();
        let mut tagged = self.sample(tags, life).await?;
        let is_known = |(tag, known): (&Tagged, &Option<(u64, i64)>)| {
            known.is_some_and(|(count, _)| count == tag.count)
        };
        let mut all_known = tagged.iter().zip(&known).all(is_known);
        for tag in inherited {
            if !tagged.iter().any(|there| there.tag == tag.tag) {
                let known = self.tier.view.count(&tag.tag);
                all_known &= known.is_some_and(|(count, _)| count == tag.count);
                tagged.push(tag);
            }
        }
        if !all_known {
            self.hear(&tagged).await?;
        }
        let generations = &self.tier.view.generations;
        let holds = |tagged: &Tagged| generations.tag_holds(tag_cell(&tagged.tag), at);
        Ok(tagged.iter().all(holds).then_some(tagged))
    }

    /// Waits until every change of tags was heard that came before their counts were read.
    ///
    /// A server tells of changes after it has answered all that lay in its sockets, so the answer to
    /// one question may overtake them. The answer to the next one cannot. A count that was known,
    /// with nothing heard of the tag since, needs none: if the tag changed, it is the old count.
    async fn hear(&self, tagged: &[Tagged]) -> Result<(), Error> {
        if let Some(store) = self.tier.live()? {
            let tags: Vec<String> = tagged.iter().map(|one| one.tag.to_string()).collect();
            store.counts(&tags).await?;
        }
        Ok(())
    }

    /// The tags of entries, for what was built from their values.
    async fn inherited(&self, names: &[String]) -> Result<Vec<Tagged>, Error> {
        let Some(store) = self.tier.live()? else {
            return Ok(Vec::new());
        };
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut tags: Vec<Tagged> = Vec::new();
        for bytes in store.get_many(names).await?.into_iter().flatten() {
            let Some(entry) = Entry::decode(&bytes) else {
                continue;
            };
            for (tag, count) in entry.tags() {
                if !tags.iter().any(|there| &*there.tag == tag) {
                    tags.push(Tagged {
                        tag: tag.into(),
                        count,
                    });
                }
            }
        }
        Ok(tags)
    }

    /// Whether an entry may have so many tags.
    pub(super) fn may_have(tags: &[Tagged]) -> bool {
        tags.len() <= TAGS_MAX
    }
}
