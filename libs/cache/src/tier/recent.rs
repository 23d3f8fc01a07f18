//! Changes that the tier was told of a moment ago.
//!
//! A server may lose what it has answered: a replica takes over that had not heard of it yet, or the
//! server comes back from a file that lacks its last second. What was removed is there again then, and
//! old counts hold. So these changes are told once more when a connection was lost, before this
//! process' memory is believed again. Where nothing was lost, that costs some loads.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ratebox_kit::Stopwatch;

/// For so long a change may be lost: longer than it takes until another server has taken over.
const KEPT: Duration = Duration::from_secs(30);

/// Names and tags that are kept at most; the oldest make room. With texts of usual length they take a
/// mebibyte.
const TEXTS_MAX: usize = 10_000;

/// Changes of the last while.
#[derive(Default)]
pub(crate) struct Recent(Mutex<State>);

#[derive(Default)]
struct State {
    changes: VecDeque<Change>,
    /// Names and tags of all of them.
    texts: usize,
}

struct Change {
    told: Stopwatch,
    names: Vec<String>,
    tags: Vec<String>,
}

// === impl Recent ===

impl Recent {
    /// The tier was told of a change.
    pub(super) fn add(&self, names: &[String], tags: &[String]) {
        let change = Change {
            told: Stopwatch::start(),
            names: names.to_vec(),
            tags: tags.to_vec(),
        };
        let mut state = self.state();
        state.texts += change.texts();
        state.changes.push_back(change);
        state.trim();
    }

    /// Hands over the names and the tags of each change that may have been lost.
    pub(super) fn hand_over(&self, mut tell: impl FnMut(&[String], &[String])) {
        let mut state = self.state();
        state.trim();
        state.texts = 0;
        for change in state.changes.drain(..) {
            tell(&change.names, &change.tags);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Forgets what is too old, and the oldest of what is too much.
    fn trim(&mut self) {
        while let Some(oldest) = self.changes.front() {
            if self.texts <= TEXTS_MAX && oldest.told.elapsed() < KEPT {
                return;
            }
            self.texts -= oldest.texts();
            self.changes.pop_front();
        }
    }
}

// === impl Change ===

impl Change {
    fn texts(&self) -> usize {
        self.names.len() + self.tags.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(recent: &Recent) -> Vec<String> {
        let mut all = Vec::new();
        recent.hand_over(|names, _| all.extend_from_slice(names));
        all
    }

    #[test]
    fn of_too_many_changes_the_oldest_are_forgotten() {
        let recent = Recent::default();
        let one = |name: &str| recent.add(&[name.to_owned()], &["=t".to_owned()]);
        one("first");
        one("second");
        assert_eq!(names(&recent), ["first", "second"]);
        assert!(names(&recent).is_empty(), "they were handed over");
        one("first");
        one("second");
        let many: Vec<String> = (0..TEXTS_MAX - 2).map(|n| n.to_string()).collect();
        recent.add(&many, &[]);
        assert_eq!(names(&recent).len(), TEXTS_MAX - 1, "the first made room");
        recent.add(&[], &vec![String::new(); TEXTS_MAX + 1]);
        assert!(names(&recent).is_empty());
        assert_eq!(recent.state().texts, 0);
    }
}
