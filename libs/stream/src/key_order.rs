//! Messages of one key, one after the other: which entries may start, and which wait behind whom.
//!
//! Only for the owner of a partition, who sees every message of its keys. The first message of a
//! key that is not finished is its head; the others wait in line behind it. A head that fails waits
//! for its retry where it is: it stays pending under its id, so whoever takes the partition over
//! finds the same order. When it is done or dead, the next one is the head.
//!
//! What waits is kept in memory up to a bound; beyond it only ids are, and the entries are fetched
//! again when it is their turn. Nobody else takes them: there is one owner.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ratebox_kit::Timestamp;
use tokio::sync::Notify;

use crate::held::{Key, key};
use crate::{Entry, EntryId, field};

/// Entries that wait in memory, for one partition.
const HERE_MAX: usize = 2_000;

/// Entries of which only the id is kept, for one partition: about 100 bytes each here, and 200 on
/// the server. Beyond that the partition reads nothing until some are finished.
const AWAY_MAX: usize = 100_000;

/// Whether messages of one key are worked on one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// As they come; a retry lets later messages pass.
    #[default]
    None,
    /// The header `key` orders: a message starts when the one before it is done or dead. Messages
    /// without the header have no order.
    PerKey,
}

/// What becomes of an entry that came in.
pub(crate) enum Admitted {
    /// It may start.
    Start(Entry),
    /// It waits here, and is held.
    Waits,
    /// Its id waits; the entry is to be let go, uncounted.
    Away(Entry),
}

/// How an entry came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Fresh from the stream.
    Fresh,
    /// From an owner before us: only heads can have been in work.
    Adopted,
}

/// The lines of all keys of a partition.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    lines: HashMap<Bytes, Line>,
    /// Whose head an entry is.
    heads: HashMap<Key, Bytes>,
    /// Heads that failed, by the time of their retry.
    due: BTreeSet<(Timestamp, Bytes)>,
    /// Heads that may start now.
    ready: VecDeque<Entry>,
    /// Heads that must be fetched.
    to_fetch: VecDeque<Key>,
    /// Suspects that must be fetched, one by one.
    to_fetch_alone: VecDeque<Key>,
    /// The suspect in our hands.
    suspect: Option<Key>,
    /// The newest entry that came, by lane.
    seen: [EntryId; 3],
    here: usize,
    away: usize,
}

#[derive(Default)]
struct Line {
    /// The head while it waits for its retry.
    failed: Option<(Entry, Timestamp)>,
    waiting: VecDeque<Slot>,
}

enum Slot {
    Here(Entry),
    Away(Key),
}

// === impl Lines ===

impl Lines {
    /// Puts an entry at the end of its line. A suspect may take the process down, so of all heads
    /// that are suspects one is in our hands.
    pub(crate) fn admit(&self, entry: Entry, came: Came, is_suspect: bool) -> Admitted {
        let mut state = self.lock();
        let at = key(&entry);
        let seen = &mut state.seen[entry.lane.index()];
        *seen = entry.id.max(*seen);
        let Some(name) = entry.field(field::KEY).filter(|name| !name.is_empty()) else {
            return Admitted::Start(entry);
        };
        let name = name.clone();
        if state.heads.contains_key(&at) {
            // It was mislaid and came back.
            return Admitted::Start(entry);
        }
        if state.lines.contains_key(&name) {
            return state.wait(&name, entry, came);
        }
        state.lines.insert(name.clone(), Line::default());
        state.heads.insert(at, name);
        if is_suspect && state.suspect.is_some_and(|other| other != at) {
            state.to_fetch_alone.push_back(at);
            return Admitted::Away(entry);
        }
        if is_suspect {
            state.suspect = Some(at);
        }
        Admitted::Start(entry)
    }

    /// These are done or dead: the next of their lines are heads.
    pub(crate) fn finish(&self, finished: impl IntoIterator<Item = Key>) {
        let mut state = self.lock();
        for at in finished {
            state.finish(at);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A head failed, or nobody wanted it now: it comes again at `due`, before all that wait.
    /// Gives an entry without a key back to who asks: it holds up nobody.
    pub(crate) fn again(&self, entry: Entry, due: Timestamp) {
        let mut state = self.lock();
        let at = key(&entry);
        let name = match state.heads.get(&at) {
            Some(name) => name.clone(),
            None => state.nameless(at),
        };
        if state.suspect == Some(at) {
            state.suspect = None;
        }
        state.due.insert((due, name.clone()));
        if let Some(line) = state.lines.get_mut(&name) {
            line.failed = Some((entry, due));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Heads that are nowhere in our hands any more: they are fetched again.
    pub(crate) fn mislaid(&self, keys: impl IntoIterator<Item = Key>) {
        let mut state = self.lock();
        for at in keys {
            if !state.heads.contains_key(&at) {
                state.nameless(at);
            }
            state.to_fetch.push_back(at);
        }
    }

    /// Heads that may start now.
    pub(crate) fn ready(&self, now: Timestamp) -> VecDeque<Entry> {
        let mut state = self.lock();
        while let Some((due, name)) = state.due.first().cloned()
            && due <= now
        {
            state.due.pop_first();
            let failed = state.lines.get_mut(&name).and_then(|it| it.failed.take());
            state.ready.extend(failed.map(|(entry, _)| entry));
        }
        std::mem::take(&mut state.ready)
    }

    /// Heads that must be fetched now, at most `max`.
    pub(crate) fn to_fetch(&self, max: usize) -> Vec<Key> {
        let mut state = self.lock();
        let count = state.to_fetch.len().min(max);
        let mut keys: Vec<Key> = state.to_fetch.drain(..count).collect();
        if state.suspect.is_none()
            && let Some(at) = state.to_fetch_alone.pop_front()
        {
            state.suspect = Some(at);
            keys.push(at);
        }
        keys
    }

    /// Whether a fetched head may stay in our hands: of those that are suspects, one may.
    pub(crate) fn keeps(&self, entry: &Entry, is_suspect: bool) -> bool {
        let mut state = self.lock();
        let at = key(entry);
        if !is_suspect {
            return true;
        }
        if state.suspect.is_some_and(|other| other != at) {
            state.to_fetch_alone.push_back(at);
            return false;
        }
        state.suspect = Some(at);
        true
    }

    /// These could not be fetched for now.
    pub(crate) fn fetch_later(&self, keys: impl IntoIterator<Item = Key>) {
        self.lock().to_fetch.extend(keys);
    }

    /// Whether somebody waits for somebody, so that a reader should not sleep long.
    pub(crate) fn is_waiting(&self) -> bool {
        let state = self.lock();
        state.here + state.away > 0 || !state.due.is_empty() || !state.to_fetch.is_empty()
    }

    /// Whether no more ids can be kept.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().away >= AWAY_MAX
    }

    /// Whether ids wait that must not be claimed as if they were a dead member's.
    pub(crate) fn has_away(&self) -> bool {
        let state = self.lock();
        state.away > 0 || !state.to_fetch.is_empty() || !state.to_fetch_alone.is_empty()
    }

    /// Where unseen entries of a lane begin.
    pub(crate) fn unseen(&self, lane: crate::Lane) -> EntryId {
        self.lock().seen[lane.index()].next()
    }

    /// Waits until a line moves.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Everything that waits here, to be handed back.
    pub(crate) fn drain(&self) -> Vec<Entry> {
        let mut state = self.lock();
        let mut entries: Vec<Entry> = state.ready.drain(..).collect();
        for line in state.lines.values_mut() {
            entries.extend(line.failed.take().map(|(entry, _)| entry));
            entries.extend(line.waiting.drain(..).filter_map(|slot| match slot {
                Slot::Here(entry) => Some(entry),
                Slot::Away(_) => None,
            }));
        }
        *state = State::default();
        entries
    }

    /// Entries that wait here or away, for the metric.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.lock();
        state.here + state.away
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn wait(&mut self, name: &Bytes, entry: Entry, came: Came) -> Admitted {
        let away = came == Came::Adopted || self.here >= HERE_MAX;
        let Some(line) = self.lines.get_mut(name) else {
            return Admitted::Start(entry);
        };
        if away {
            line.waiting.push_back(Slot::Away(key(&entry)));
            self.away += 1;
            Admitted::Away(entry)
        } else {
            line.waiting.push_back(Slot::Here(entry));
            self.here += 1;
            Admitted::Waits
        }
    }

    fn finish(&mut self, at: Key) {
        if self.suspect == Some(at) {
            self.suspect = None;
        }
        let Some(name) = self.heads.remove(&at) else {
            return;
        };
        let Some(line) = self.lines.get_mut(&name) else {
            return;
        };
        match line.waiting.pop_front() {
            Some(Slot::Here(entry)) => {
                self.here -= 1;
                self.heads.insert(key(&entry), name);
                self.ready.push_back(entry);
            }
            Some(Slot::Away(next)) => {
                self.away -= 1;
                self.heads.insert(next, name);
                self.to_fetch.push_back(next);
            }
            None => drop(self.lines.remove(&name)),
        }
    }

    /// A line for an entry without a key, which nobody ever joins: no header is as long.
    fn nameless(&mut self, at: Key) -> Bytes {
        let name = Bytes::from(format!("\0{}/{}", at.0, at.1));
        self.lines.insert(name.clone(), Line::default());
        self.heads.insert(at, name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lane, StreamName};

    fn entry(number: u64, name: &str) -> Entry {
        let fields = vec![(field::KEY.into(), Bytes::copy_from_slice(name.as_bytes()))];
        Entry {
            stream: StreamName::new("s"),
            lane: Lane::Normal,
            id: EntryId::new(number, 0),
            deliveries: 1,
            fields,
        }
    }

    fn at(number: u64) -> Key {
        (Lane::Normal, EntryId::new(number, 0))
    }

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn started(admitted: Admitted) -> Option<u64> {
        match admitted {
            Admitted::Start(entry) => Some(entry.id.ms),
            Admitted::Waits | Admitted::Away(_) => None,
        }
    }

    fn ready(lines: &Lines, now: i64) -> Vec<u64> {
        let ready = lines.ready(second(now));
        ready.iter().map(|entry| entry.id.ms).collect()
    }

    #[test]
    fn the_next_of_a_key_starts_when_its_head_is_finished() {
        let lines = Lines::default();
        let admit = |number, name| started(lines.admit(entry(number, name), Came::Fresh, false));
        assert_eq!(admit(1, "a"), Some(1));
        assert_eq!(admit(2, "a"), None);
        assert_eq!(admit(3, "b"), Some(3));
        assert_eq!(admit(4, ""), Some(4));
        lines.finish([at(3), at(4)]);
        assert!(ready(&lines, 0).is_empty());
        lines.finish([at(1)]);
        assert_eq!(ready(&lines, 0), [2]);
        lines.finish([at(2)]);
        assert!(!lines.is_waiting() && lines.lock().lines.is_empty());
    }

    #[test]
    fn a_failed_head_holds_up_its_key_until_its_retry() {
        let lines = Lines::default();
        let _ = lines.admit(entry(1, "a"), Came::Fresh, false);
        let _ = lines.admit(entry(2, "a"), Came::Fresh, false);
        lines.again(entry(1, "a"), second(10));
        assert!(ready(&lines, 9).is_empty());
        assert_eq!(ready(&lines, 10), [1]);
        lines.finish([at(1)]);
        assert_eq!(ready(&lines, 10), [2]);
    }

    #[test]
    fn an_adopted_line_is_fetched_entry_by_entry() {
        let lines = Lines::default();
        let _ = lines.admit(entry(1, "a"), Came::Adopted, false);
        assert!(matches!(
            lines.admit(entry(2, "a"), Came::Adopted, false),
            Admitted::Away(_)
        ));
        assert!(lines.has_away() && lines.to_fetch(9).is_empty());
        lines.finish([at(1)]);
        assert_eq!(lines.to_fetch(9), [at(2)]);
    }

    #[test]
    fn of_the_suspects_one_is_in_our_hands() {
        let lines = Lines::default();
        assert!(started(lines.admit(entry(1, "a"), Came::Adopted, true)).is_some());
        assert!(started(lines.admit(entry(2, "b"), Came::Adopted, true)).is_none());
        assert!(lines.to_fetch(9).is_empty());
        lines.finish([at(1)]);
        assert_eq!(lines.to_fetch(9), [at(2)]);
    }
}
