//! Sagas whose definition this process does not have.

use std::sync::Arc;

use ratebox_kit::Timestamp;

use super::super::session::Session;
use super::Leave;
use crate::journal::store::{Append, Entry, Head, HeadChange, Letter, Wake};
use crate::machine::{Deed, Machine};
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
    /// Parks it, so that nobody guesses. Whoever has its definition takes it from there.
    pub(super) async fn park(self: Box<Self>) -> Result<Leave> {
        let is_parked = self.records.last().map(|it| it.kind) == Some(Kind::Parked);
        let is_given_up = self.letters.iter().any(is_abandonment);
        // One that waits for an operator was told something that only its definition understands.
        let is_asked = !is_parked && !is_given_up && !self.letters.is_empty();
        if self.head.status == Status::Parked && !is_asked {
            return self.abandon().await;
        }
        if self.head.status.is_end() {
            return Ok(Leave::Over);
        }
        let words = format!(
            "no definition {} with hash {}",
            self.head.definition, self.head.hash
        );
        tracing::warn!(saga.id = %self.head.id, words, "a saga is parked: its definition is not here");
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
        let Some(letter) = self.letters.iter().find(|it| is_abandonment(it)) else {
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

/// Whether a saga that is read back was parked for want of its definition, and nobody else decides
/// what is to become of it.
pub(super) fn is_found(records: &[Record], letters: &[Letter]) -> bool {
    let decides = |it: &Letter| {
        let verbs = [Kind::Resumed, Kind::Abandoned, Kind::Cancelled];
        verbs.iter().any(|verb| it.verb == verb.as_str())
    };
    records.last().map(|it| it.kind) == Some(Kind::Parked) && !letters.iter().any(decides)
}

/// The record that says so; the machine has taken it in.
pub(super) fn found(machine: &mut Machine, process: &str, now: Timestamp) -> Record {
    let deed = Deed {
        kind: Kind::Resumed,
        step: "".into(),
        payload: None,
        who: Some(process.to_owned()),
        why: "its definition is here".to_owned(),
    };
    let record = machine.record_of(deed, now);
    machine.apply(&record);
    record
}

fn is_abandonment(letter: &Letter) -> bool {
    letter.verb == Kind::Abandoned.as_str()
}
