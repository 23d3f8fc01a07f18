//! Tags: counts in the shared tier that an entry was built under. A change raises the count, and
//! every entry with the old one is nothing any more, wherever it lies.
//!
//! An entry carries more than was named: the version of its cache, that of the cache of each entry
//! that it depends on, and one tag that all entries with a user's tag have. So many changes can be
//! told as one, whoever keeps what they are about.
//!
//! The counts are remembered in this process and the tier tells of changes, so that a read of the
//! tier mostly needs no second trip. A count that is remembered may be behind: what is filled under
//! it is then dead from the start, which costs a load and never a wrong value.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::Error;
use crate::entry::{Entry, NAMED_MAX, TAGS_MAX, Tagged};
use crate::generations::{Moment, tag_cell};
use crate::loaded::Loaded;
use crate::policy::Policy;

/// Before a user's tag in the tier, so that it is none of ours.
const USER: &str = "#";

/// Before the name of an entry that others depend on.
const ENTRY: &str = "=";

/// Before the name of a cache.
const VERSION: &str = "@";

/// The tag of every entry that has a user's tag: raising its count invalidates them all.
pub(crate) const TAGGED: &str = "*";

/// What a value goes with beside what its policy names.
pub(super) struct Named {
    /// Tags as their user writes them.
    tags: Vec<String>,
    /// Names of entries.
    pub(super) depends_on: Vec<String>,
}

/// A user's tag as it is in the tier.
pub(crate) fn user_tag(tag: &str) -> String {
    [USER, tag].concat()
}

/// Whether it is one.
pub(crate) fn is_of_user(tag: &str) -> bool {
    tag.starts_with(USER)
}

/// The tag of what depends on an entry.
pub(crate) fn entry_tag(name: &str) -> String {
    [ENTRY, name].concat()
}

/// The entry whose tag this is, if it is one of an entry.
pub(crate) fn entry_of(tag: &str) -> Option<&str> {
    tag.strip_prefix(ENTRY)
}

/// The tag that every entry of a cache carries, and all that depends on one of them: raising its
/// count invalidates them all.
pub(crate) fn version_tag(cache: &str) -> String {
    [VERSION, cache].concat()
}

/// That of the cache of an entry.
pub(crate) fn version_of(name: &str) -> Option<String> {
    let (cache, _) = name.split_once(':')?;
    Some(version_tag(cache))
}

/// Refuses more than may be named for one entry: its policy's tags, its own, and what it depends on,
/// each counted once. What it inherits from there was named for others.
fn check_named(policy: &Policy, named: &Named) -> Result<(), Error> {
    let of_user: HashSet<&String> = policy.tags.iter().chain(&named.tags).collect();
    if of_user.len() + named.depends_on.len() > NAMED_MAX {
        let what = format!("an entry has more than {NAMED_MAX} tags");
        return Err(Error::Settings { what });
    }
    Ok(())
}

/// Refuses an entry with more tags than any may have, those that it inherits among them.
pub(super) fn check_all(count: usize) -> Result<(), Error> {
    if count > TAGS_MAX {
        let what =
            format!("an entry has more than {TAGS_MAX} tags, with those of what it depends on");
        return Err(Error::Settings { what });
    }
    Ok(())
}

/// Adds a tag that is not there yet.
fn add(tags: &mut Vec<Arc<str>>, tag: impl Into<Arc<str>>) {
    let tag = tag.into();
    if !tags.contains(&tag) {
        tags.push(tag);
    }
}

/// Adds the tags of a user, and the one of all that have some.
fn add_of_user(tags: &mut Vec<Arc<str>>, named: &[String]) {
    for tag in named {
        add(tags, user_tag(tag));
    }
    if !named.is_empty() {
        add(tags, TAGGED);
    }
}

// === impl Named ===

impl Named {
    /// Adds them as they are in the tier.
    pub(super) fn add_to(&self, tags: &mut Vec<Arc<str>>) {
        add_of_user(tags, &self.tags);
        for name in &self.depends_on {
            add(tags, entry_tag(name));
            if let Some(version) = version_of(name) {
                add(tags, version);
            }
        }
    }
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// The tags of a name that are known before its load: the cache's version first.
    pub(super) fn tags_of(&self, policy: &Policy, name: &str) -> Vec<Arc<str>> {
        let mut tags = self.tags_of_all(policy);
        tags.extend(self.tags_of_one(name));
        tags
    }

    /// Those of them that all names have.
    pub(super) fn tags_of_all(&self, policy: &Policy) -> Vec<Arc<str>> {
        let mut tags = Vec::with_capacity(1 + policy.tags.len());
        tags.push(Arc::clone(&self.version));
        add_of_user(&mut tags, &policy.tags);
        for cache in self.made_from.iter() {
            add(&mut tags, version_tag(cache));
        }
        tags
    }

    /// Those of them that are its own: as many for each name.
    pub(super) fn tags_of_one(&self, name: &str) -> Vec<Arc<str>> {
        let sources = self.sources_of(name);
        let tags = sources.iter().map(|source| entry_tag(source).into());
        tags.collect()
    }

    /// The entries that one of ours is made from, whatever its loader says.
    fn sources_of(&self, name: &str) -> Vec<String> {
        let key = name.get(self.cache.len()..).unwrap_or_default();
        let caches = self.made_from.iter();
        caches.map(|cache| [&**cache, key].concat()).collect()
    }

    /// What a value goes with, as its loader or writer says, and what its cache is made from. An error
    /// when that is too much: known before any tier is asked, so it is the same on each.
    pub(super) fn named(
        &self,
        policy: &Policy,
        loaded: &Loaded<V>,
        name: &str,
    ) -> Result<Named, Error> {
        let mut depends_on = self.sources_of(name);
        for source in &loaded.depends_on {
            if !depends_on.contains(source) {
                depends_on.push(source.clone());
            }
        }
        let tags = loaded.tags.clone();
        let named = Named { tags, depends_on };
        check_named(policy, &named)?;
        Ok(named)
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

    /// The counts of tags that are known before a load, for an entry that lives for `life`. What the
    /// tier tells of those that were made just now is heard by the time this is answered: later it
    /// would look like a change during the load, and the load would be in vain.
    pub(super) async fn sample(
        &self,
        tags: Vec<Arc<str>>,
        life: Duration,
    ) -> Result<Vec<Tagged>, Error> {
        let (tagged, is_told) = self.ask(tags, life).await?;
        if is_told {
            self.hear(&tagged).await?;
        }
        Ok(tagged)
    }

    /// The counts of tags, and whether the tier tells of one that it was asked to keep.
    async fn ask(&self, tags: Vec<Arc<str>>, life: Duration) -> Result<(Vec<Tagged>, bool), Error> {
        let plain = |tag| Tagged { tag, count: 0 };
        let mut tagged: Vec<Tagged> = tags.into_iter().map(plain).collect();
        let Some(store) = self.tier.live()? else {
            // Without a shared tier, what was heard in this process is all there is.
            return Ok((tagged, false));
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
        let mut is_told = false;
        if !unknown.is_empty() {
            let at = self.tier.view.generations.now();
            // Twice the life, so that it is not asked for at every load.
            let kept = life.saturating_mul(2);
            let names: Vec<String> = unknown.iter().map(|one| one.tag.to_string()).collect();
            let asked = store.ensure(&names, kept).await?;
            let until_ms = now_ms.saturating_add(ms(kept));
            // A tier that answers less than it was asked for makes a dead entry.
            for (one, ensured) in unknown.into_iter().zip(asked) {
                self.tier.view.learn(&one.tag, ensured.count, at, until_ms);
                one.count = ensured.count;
                is_told |= ensured.is_told;
            }
        }
        Ok((tagged, is_told))
    }

    /// Adds the tags that were not known before a load, with counts that hold since then; false when
    /// one of them changed meanwhile. A tag without a count so far is taken for one that changed: the
    /// tier tells of a count that is made as of one that is raised, and a full one that could raise
    /// none during the load told of nothing. Too many with those that are inherited are an error,
    /// changed or not.
    pub(super) async fn add_late(
        &self,
        tags: &mut Vec<Tagged>,
        named: &Named,
        at: Moment,
        life: Duration,
    ) -> Result<bool, Error> {
        let inherited = self.inherited(&named.depends_on).await?;
        let mut late = Vec::new();
        named.add_to(&mut late);
        late.retain(|tag| !has(tags, tag));
        if late.is_empty() && inherited.is_empty() {
            return Ok(true);
        }
        let known: Vec<_> = late.iter().map(|tag| self.tier.view.count(tag)).collect();
        let (mut late, _) = self.ask(late, life).await?;
        let is_known = |(tagged, known): (&Tagged, &Option<(u64, i64)>)| {
            known.is_some_and(|(count, _)| count == tagged.count)
        };
        let mut all_known = late.iter().zip(&known).all(is_known);
        for tagged in inherited {
            if !has(tags, &tagged.tag) && !has(&late, &tagged.tag) {
                let known = self.tier.view.count(&tagged.tag);
                all_known &= is_known((&tagged, &known));
                late.push(tagged);
            }
        }
        check_all(tags.len() + late.len())?;
        if !all_known {
            self.hear(&late).await?;
        }
        let generations = &self.tier.view.generations;
        let holds = |tagged: &Tagged| generations.tag_holds(tag_cell(&tagged.tag), at);
        let all_hold = late.iter().all(holds);
        tags.extend(late);
        Ok(all_hold)
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
}

/// Whether a tag is among others.
fn has(tags: &[Tagged], tag: &str) -> bool {
    tags.iter().any(|there| &*there.tag == tag)
}
