//! Remembers where a stream stood, so that a trim by length needs no counting on the server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::{EntryId, StreamName};

/// Marks kept over the length that is retained: the precision of the trim.
const MARKS_PER_LENGTH: u64 = 50;

/// Marks of one stream at most.
const MARKS_MAX: usize = 128;

/// When so many entries had been appended, this was the newest.
type Mark = (u64, EntryId);

#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<StreamName, VecDeque<Mark>>>);

impl Marks {
    /// Notes where the stream stands and returns the newest id that has at least `max_len`
    /// entries after it, as far as the marks tell.
    pub(super) fn note(
        &self,
        stream: &StreamName,
        appended: u64,
        last: EntryId,
        max_len: u64,
    ) -> Option<EntryId> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = streams.entry(stream.clone()).or_default();
        if marks.back().is_some_and(|(then, _)| *then > appended) {
            // The stream was made anew.
            marks.clear();
        }
        let step = (max_len / MARKS_PER_LENGTH).max(1);
        if marks.back().is_none_or(|(then, _)| appended - then >= step) {
            marks.push_back((appended, last));
        }
        let mut reached = None;
        while let Some((then, id)) = marks.front().copied()
            && appended - then >= max_len
        {
            reached = Some(id);
            marks.pop_front();
        }
        while marks.len() > MARKS_MAX {
            marks.pop_front();
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_reached_once_enough_entries_came_after_it() {
        let (marks, stream) = (Marks::default(), StreamName::new("s"));
        let note = |appended| marks.note(&stream, appended, EntryId::new(appended, 0), 100);
        assert_eq!(note(50), None);
        assert_eq!(note(100), None);
        assert_eq!(note(155), Some(EntryId::new(50, 0)));
        assert_eq!(note(255), Some(EntryId::new(155, 0)));
        assert_eq!(note(10), None);
    }
}
