//! Changes that the tier could not be told of: they are told when it is back, before anything that
//! it holds is believed again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Names and tags remembered at most; beyond it, everything of their caches counts as changed.
const REPAIRS_MAX: usize = 10_000;

/// Changes that the tier has yet to be told of. Each is told once, however often it was made.
#[derive(Default)]
pub(crate) struct Repairs(Mutex<Changes>);

/// Names of entries and tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) names: HashSet<String>,
    pub(crate) tags: HashSet<String>,
}

// === impl Repairs ===

impl Repairs {
    /// Remembers a change.
    pub(crate) fn add(&self, names: &[String], tags: &[String]) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.names.extend(names.iter().cloned());
        changes.tags.extend(tags.iter().cloned());
        if changes.names.len() > REPAIRS_MAX {
            let names = std::mem::take(&mut changes.names);
            let caches = names.iter().filter_map(|name| name.split_once(':'));
            let tags: HashSet<String> = caches.map(|(cache, _)| version_tag(cache)).collect();
            changes.tags.extend(tags);
        }
    }

    /// What is remembered, which is forgotten with this.
    pub(crate) fn take(&self) -> Changes {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changes)
    }
}

// === impl Changes ===

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.tags.is_empty()
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
        let changes = repairs.take();
        assert!(changes.names.is_empty());
        assert_eq!(changes.tags, ["t", "@users"].map(str::to_owned).into());
        assert!(repairs.take().is_empty());
    }
}
