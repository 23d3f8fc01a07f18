//! Sagas whose definition this process does not have.

use std::sync::Arc;

use ratebox_kit::Timestamp;

use super::super::session::Session;
use super::Leave;
use crate::journal::store::{Append, Entry, Head, HeadChange, Wake};
use crate::{Kind, Record, Result, Status};

/// A saga whose definition this process does not have.
pub(super) struct Unknown {
    pub(super) session: Arc<Session>,
    pub(super) head: Head,
    pub(super) records: Vec<Record>,
    pub(super) now: Timestamp,
}

impl Unknown {
    /// Parks it, so that nobody guesses.
    pub(super) async fn park(self: Box<Self>) -> Result<Leave> {
        if self.head.status == Status::Parked || self.head.status.is_end() {
            return Ok(Leave::Over);
        }
        let note = format!(
            "no definition {} with hash {}",
            self.head.definition, self.head.hash
        );
        tracing::error!(saga.id = %self.head.id, note, "a saga is parked: its definition is not here");
        let record = Record {
            seq: self.records.last().map_or(0, |it| it.seq + 1),
            step: "".into(),
            item: 0,
            kind: Kind::Parked,
            class: None,
            attempt: 0,
            at: self.now,
            took_us: 0,
            due: None,
            payload: None,
            note: Some(note.clone()),
            who: None,
        };
        let append = Append {
            saga: self.head.id,
            records: vec![record],
            head: Some(HeadChange {
                status: Status::Parked,
                wake: Wake::Letter,
                error: Some(note),
                output: None,
                at: self.now,
            }),
            letters: Vec::new(),
            follow_ups: Vec::new(),
        };
        self.session.writer.write(Entry::Append(append)).await?;
        Ok(Leave::Over)
    }
}
