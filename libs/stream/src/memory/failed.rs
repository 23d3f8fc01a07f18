//! What failed entries that stay pending carry, in memory.

use std::collections::BTreeMap;

use super::MemoryLog;
use crate::FailedEntry;
use crate::{EntryId, GroupName, Lane, StreamName, Subscription};

/// By partition and group.
pub(super) type Failures = BTreeMap<(StreamName, GroupName), BTreeMap<(usize, EntryId), String>>;

fn place(sub: &Subscription) -> (StreamName, GroupName) {
    (sub.lanes.base().clone(), sub.group.clone())
}

// === impl MemoryLog ===

impl MemoryLog {
    pub(super) fn put_failures(&self, sub: &Subscription, failures: &[FailedEntry]) {
        let mut state = self.state();
        let kept = state.failures.entry(place(sub)).or_default();
        for failure in failures {
            let at = (failure.lane.index(), failure.id);
            match &failure.text {
                Some(text) => kept.insert(at, text.clone()),
                None => kept.remove(&at),
            };
        }
    }

    pub(super) fn all_failures(&self, sub: &Subscription) -> Vec<FailedEntry> {
        let state = self.state();
        let kept = state.failures.get(&place(sub)).into_iter().flatten();
        let failure = |((lane, id), text): (&(usize, EntryId), &String)| {
            let lane = *Lane::ALL.get(*lane)?;
            let text = Some(text.clone());
            Some(FailedEntry {
                lane,
                id: *id,
                text,
            })
        };
        kept.filter_map(failure).collect()
    }
}
