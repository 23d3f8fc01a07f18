//! Changes that the tier could not be told of: they are told when it is back, before anything that
//! it holds is believed again.
//!
//! They are bounded. What there are too many of is told as one change of more than that: a whole
//! cache with all that depends on it in place of its entries, everything that has a tag in place of
//! tags. That costs loads and leaves nothing stale.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::{TAGGED, entry_of, entry_tag, is_of_user, version_of};

/// Names that are remembered at most, entries whose dependents changed, and tags: so many of each.
/// With texts of usual length they take some 5 MiB, of the longest 40.
const REPAIRS_MAX: usize = 10_000;

/// A longer text is not remembered as it is: a key of the length that a cache keeps unless told
/// otherwise, and its cache's name.
const TEXT_MAX_BYTES: usize = 1_200;

/// Names that are told in one go, with what depends on them, and tags: so many of each. Few enough to
/// be answered within the time that a tier has for one answer: all at once might never be.
const PORTION: usize = 500;

/// Changes that the tier has yet to be told of. Each is told once, however often it was made.
#[derive(Default)]
pub(crate) struct Repairs {
    state: Mutex<State>,
    /// Whoever tells them.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    changes: Changes,
    /// How many are being told just now: until the tier has answered, they are untold.
    telling: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Changes {
    /// Names of entries.
    names: HashSet<String>,
    /// Tags of what depends on entries.
    dependents: HashSet<String>,
    /// Tags of users.
    tags: HashSet<String>,
    /// Tags that stand for many changes: one for each cache at most, and the one of all that is tagged.
    wide: HashSet<String>,
}

/// Changes that are being told. Unless it hears [`Telling::told`] they are remembered again when it
/// is dropped: the tier may fail, and a stop may cut a question short.
pub(crate) struct Telling<'a> {
    repairs: &'a Repairs,
    changes: Changes,
    count: usize,
}

// === impl Repairs ===

impl Repairs {
    /// Remembers a change.
    pub(crate) fn add(&self, names: &[String], tags: &[String]) {
        self.state().changes.add(names, tags);
    }

    /// Waits until nobody else tells them: what another has taken is not told yet.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A part of what is remembered, for who tells it now.
    pub(crate) fn take(&self) -> Telling<'_> {
        let mut state = self.state();
        let changes = state.changes.take();
        let count = changes.count();
        state.telling += count;
        Telling {
            repairs: self,
            changes,
            count,
        }
    }

    /// Whether there are none, nor any that are being told.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.changes.is_empty() && state.telling == 0
    }

    /// How many there are, those that are being told included.
    pub(crate) fn count(&self) -> usize {
        let state = self.state();
        state.changes.count() + state.telling
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Telling ===

impl Telling<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The names and the tags.
    pub(crate) fn lists(&self) -> (Vec<String>, Vec<String>) {
        let changes = &self.changes;
        let tags = changes.dependents.iter().chain(&changes.tags);
        let tags = tags.chain(&changes.wide).cloned().collect();
        (changes.names.iter().cloned().collect(), tags)
    }

    /// The tier knows them.
    pub(crate) fn told(mut self) {
        self.changes = Changes::default();
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let (names, tags) = self.lists();
        let mut state = self.repairs.state();
        state.telling -= self.count;
        state.changes.add(&names, &tags);
    }
}

// === impl Changes ===

impl Changes {
    fn add(&mut self, names: &[String], tags: &[String]) {
        for name in names {
            if self.is_to_be_named(name) {
                self.names.insert(name.clone());
                self.bound_entries();
            }
        }
        for tag in tags {
            if let Some(name) = entry_of(tag) {
                if self.is_to_be_named(name) {
                    self.dependents.insert(tag.clone());
                    self.bound_entries();
                }
            } else if is_of_user(tag) {
                self.add_of_user(tag);
            } else {
                self.wide.insert(tag.clone());
            }
        }
    }

    /// Whether an entry is remembered by its name; else its whole cache is.
    fn is_to_be_named(&mut self, name: &str) -> bool {
        // No entry has a name without a cache.
        let Some(version) = version_of(name) else {
            return false;
        };
        if name.len() > TEXT_MAX_BYTES {
            self.wide.insert(version);
            return false;
        }
        !self.wide.contains(&version)
    }

    fn add_of_user(&mut self, tag: &str) {
        if self.wide.contains(TAGGED) {
            return;
        }
        if tag.len() <= TEXT_MAX_BYTES && self.tags.len() < REPAIRS_MAX {
            self.tags.insert(tag.to_owned());
        } else if !self.tags.contains(tag) {
            self.tags.clear();
            self.wide.insert(TAGGED.to_owned());
        }
    }

    /// Whole caches in place of too many entries.
    fn bound_entries(&mut self) {
        if self.names.len().max(self.dependents.len()) <= REPAIRS_MAX {
            return;
        }
        let names = std::mem::take(&mut self.names);
        let dependents = std::mem::take(&mut self.dependents);
        let of_dependents = dependents.iter().filter_map(|tag| entry_of(tag));
        let all = names.iter().map(String::as_str).chain(of_dependents);
        self.wide.extend(all.filter_map(version_of));
    }

    /// Takes a portion out; entries together with what depends on them.
    fn take(&mut self) -> Self {
        let names = portion(&mut self.names);
        let of_names = names.iter().map(|name| entry_tag(name));
        let of_names: HashSet<String> = of_names
            .filter_map(|tag| self.dependents.take(&tag))
            .collect();
        let dependents = match names.is_empty() {
            true => portion(&mut self.dependents),
            false => of_names,
        };
        Self {
            names,
            dependents,
            tags: portion(&mut self.tags),
            wide: std::mem::take(&mut self.wide),
        }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty()
            && self.dependents.is_empty()
            && self.tags.is_empty()
            && self.wide.is_empty()
    }

    /// An entry and what depends on it are one change.
    fn count(&self) -> usize {
        let is_counted = |tag: &str| entry_of(tag).is_some_and(|name| self.names.contains(name));
        let dependents = self.dependents.iter().filter(|tag| !is_counted(tag));
        self.names.len() + dependents.count() + self.tags.len() + self.wide.len()
    }
}

/// Takes some of a set out of it.
fn portion(set: &mut HashSet<String>) -> HashSet<String> {
    let some: Vec<String> = set.iter().take(PORTION).cloned().collect();
    some.iter().filter_map(|text| set.take(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(before: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{before}{n}")).collect()
    }

    /// All that is remembered, and in how many portions it is told.
    fn all(repairs: &Repairs) -> (Changes, usize) {
        let (mut all, mut portions) = (Changes::default(), 0);
        loop {
            let mut telling = repairs.take();
            if telling.is_empty() {
                return (all, portions);
            }
            portions += 1;
            let Changes {
                names,
                dependents,
                tags,
                wide,
            } = std::mem::take(&mut telling.changes);
            all.names.extend(names);
            all.dependents.extend(dependents);
            all.tags.extend(tags);
            all.wide.extend(wide);
        }
    }

    fn wide<const N: usize>(tags: [&str; N]) -> Changes {
        Changes {
            wide: tags.map(str::to_owned).into(),
            ..Changes::default()
        }
    }

    #[test]
    fn too_many_entries_become_their_caches_and_too_many_tags_all_that_is_tagged() {
        let (caches, tagged) = (wide(["@users"]), wide([TAGGED]));
        for (names, tags, expected) in [
            (numbered("users:", REPAIRS_MAX + 1), Vec::new(), &caches),
            (Vec::new(), numbered("=users:", REPAIRS_MAX + 1), &caches),
            (Vec::new(), numbered("#", REPAIRS_MAX + 1), &tagged),
            (vec![format!("users:{:2000}", 1)], Vec::new(), &caches),
            (Vec::new(), vec![format!("=users:{:2000}", 1)], &caches),
            (Vec::new(), vec![format!("#{:2000}", 1)], &tagged),
        ] {
            let repairs = Repairs::default();
            // Once more, one by one: what is told as more stays so, and nothing grows.
            repairs.add(&names, &tags);
            for one in &names {
                repairs.add(std::slice::from_ref(one), &[entry_tag(one)]);
            }
            for one in &tags {
                repairs.add(&[], std::slice::from_ref(one));
            }
            assert_eq!(repairs.count(), 1);
            assert_eq!(all(&repairs), (expected.clone(), 1));
            assert!(repairs.is_empty());
        }
    }

    #[test]
    fn as_many_as_may_be_are_remembered_each_and_told_in_portions() {
        let repairs = Repairs::default();
        let names = numbered("users:", REPAIRS_MAX);
        let dependents = numbered("=users:", REPAIRS_MAX);
        let tags = numbered("#", REPAIRS_MAX);
        let whole = ["@orders".to_owned()];
        repairs.add(&names, &[&dependents[..], &tags[..], &whole[..]].concat());
        assert_eq!(repairs.count(), 2 * REPAIRS_MAX + 1);
        let expected = Changes {
            names: names.into_iter().collect(),
            dependents: dependents.into_iter().collect(),
            tags: tags.into_iter().collect(),
            wide: whole.into(),
        };
        assert_eq!(all(&repairs), (expected, REPAIRS_MAX / PORTION));
    }

    #[test]
    fn what_was_not_told_to_its_end_is_remembered_and_counts_meanwhile() {
        let repairs = Repairs::default();
        let (name, tag) = (["users:1".to_owned()], ["=users:1".to_owned()]);
        repairs.add(&name, &tag);
        assert_eq!(repairs.count(), 1, "an entry and what depends on it");
        let telling = repairs.take();
        assert_eq!(repairs.count(), 1, "nobody has heard of it yet");
        repairs.add(&name, &tag);
        drop(telling);
        assert_eq!(repairs.count(), 1, "the same once more");
        let telling = repairs.take();
        assert_eq!(telling.lists(), (name.to_vec(), tag.to_vec()));
        telling.told();
        assert!(repairs.is_empty());
    }
}
