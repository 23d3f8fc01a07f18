//! Changes that the tier could not be told of: they are told when it is back, before anything that
//! it holds is believed again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::entry_of;

/// Names and tags remembered at most; beyond it, everything of their caches counts as changed.
const REPAIRS_MAX: usize = 10_000;

/// Changes that the tier has yet to be told of. Each is told once, however often it was made.
#[derive(Default)]
pub(crate) struct Repairs(Mutex<State>);

#[derive(Default)]
struct State {
    changes: Changes,
    /// How many are being told just now: until the tier has answered, they are untold.
    telling: usize,
}

/// Names of entries and tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) names: HashSet<String>,
    pub(crate) tags: HashSet<String>,
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
        let (names, tags) = (names.iter().cloned(), tags.iter().cloned());
        self.state().changes.add(names, tags);
    }

    /// What is remembered, for who tells it now.
    pub(crate) fn take(&self) -> Telling<'_> {
        let mut state = self.state();
        let changes = std::mem::take(&mut state.changes);
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Telling ===

impl Telling<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The names and the tags.
    pub(crate) fn lists(&self) -> (Vec<String>, Vec<String>) {
        let list = |of: &HashSet<String>| of.iter().cloned().collect();
        (list(&self.changes.names), list(&self.changes.tags))
    }

    /// The tier knows them.
    pub(crate) fn told(mut self) {
        self.changes = Changes::default();
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let Changes { names, tags } = std::mem::take(&mut self.changes);
        let mut state = self.repairs.state();
        state.telling -= self.count;
        state.changes.add(names, tags);
    }
}

// === impl Changes ===

impl Changes {
    fn add(
        &mut self,
        names: impl IntoIterator<Item = String>,
        tags: impl IntoIterator<Item = String>,
    ) {
        self.names.extend(names);
        self.tags.extend(tags);
        if self.names.len() > REPAIRS_MAX {
            let names = std::mem::take(&mut self.names);
            let caches = names.iter().filter_map(|name| name.split_once(':'));
            let tags: HashSet<String> = caches.map(|(cache, _)| version_tag(cache)).collect();
            self.tags.extend(tags);
        }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.tags.is_empty()
    }

    /// An entry and what depends on it are one change.
    fn count(&self) -> usize {
        let is_counted = |tag: &str| entry_of(tag).is_some_and(|name| self.names.contains(name));
        let tags = self.tags.iter().filter(|tag| !is_counted(tag));
        self.names.len() + tags.count()
    }
}

/// The tag that every entry of a cache carries: raising its count invalidates them all.
pub(crate) fn version_tag(cache: &str) -> String {
    format!("@{cache}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_names_become_the_versions_of_their_caches() {
        let repairs = Repairs::default();
        let names: Vec<String> = (0..=REPAIRS_MAX).map(|n| format!("users:{n}")).collect();
        repairs.add(&names, &["t".to_owned()]);
        let telling = repairs.take();
        assert!(telling.changes.names.is_empty());
        assert_eq!(
            telling.changes.tags,
            ["t", "@users"].map(str::to_owned).into()
        );
        telling.told();
        assert!(repairs.take().is_empty());
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
