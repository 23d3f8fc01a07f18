//! Sagas whose definition this process does not have.

use std::sync::Arc;

use ratebox_kit::Timestamp;

use super::super::session::Session;
use super::Leave;
use crate::journal::store::{Append, Entry, Head, HeadChange, Letter, Wake};
use crate::record::note;
use crate::{Kind, Record, Result, Status};

/// A saga whose definition this process does not have.
pub(super) struct Unknown {
    pub(super) session: Arc<Session>,
    pub(super) head: Head,
    pub(super) records: Vec<Record>,
    pub(super) letters: Vec<Letter>,
    pub(super) now: Timestamp,
}

impl Unknown {
    /// Parks it, so that nobody guesses.
    pub(super) async fn park(self: Box<Self>) -> Result<Leave> {
        if self.head.status == Status::Parked {
            return self.abandon().await;
        }
        if self.head.status.is_end() {
            return Ok(Leave::Over);
        }
        let words = format!(
            "no definition {} with hash {}",
            self.head.definition, self.head.hash
        );
        tracing::error!(saga.id = %self.head.id, words, "a saga is parked: its definition is not here");
        let record = self.record(Kind::Parked, words.clone(), None);
        let append = Append {
            saga: self.head.id,
            records: vec![record],
            head: Some(HeadChange {
                status: Status::Parked,
                wake: Wake::Letter,
                error: Some(words),
                output: None,
                at: self.now,
            }),
            letters: Vec::new(),
            follow_ups: Vec::new(),
        };
        self.session.writer.write(Entry::Append(append)).await?;
        Ok(Leave::Over)
    }

    /// Ends it if an operator said so: that needs no definition. Other letters wait for one.
    async fn abandon(self: Box<Self>) -> Result<Leave> {
        let is_it = |it: &&Letter| it.verb == Kind::Abandoned.as_str();
        let Some(letter) = self.letters.iter().find(is_it) else {
            return Ok(Leave::Over);
        };
        let record = self.record(Kind::Abandoned, note(&letter.why), Some(note(&letter.who)));
        let append = Append {
            saga: self.head.id,
            records: vec![record],
            head: Some(HeadChange {
                status: Status::Failed,
                wake: Wake::Letter,
                error: None,
                output: None,
                at: self.now,
            }),
            letters: vec![letter.id],
            follow_ups: Vec::new(),
        };
        self.session.writer.write(Entry::Append(append)).await?;
        Ok(Leave::Over)
    }

    fn record(&self, kind: Kind, note: String, who: Option<String>) -> Record {
        Record {
            seq: self.records.last().map_or(0, |it| it.seq + 1),
            step: "".into(),
            item: 0,
            kind,
            class: None,
            attempt: 0,
            at: self.now,
            took_us: 0,
            due: None,
            payload: None,
            note: Some(note),
            who,
        }
    }
}
