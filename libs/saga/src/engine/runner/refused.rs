//! What the store will never take: the attempt that left it fails, and its saga goes on.
//!
//! The machine has taken the outcome in by then, so the saga is read back and the attempt made
//! again, as after a crash; that time its outcome is a failure.

use ratebox_kit::{Causes, FollowUp};

use super::super::attempt::Done;
use super::{Finished, Runner};
use crate::machine::UnitKey;
use crate::{Error, Kind, Record, StepError};

const NO_OUTBOX: &str = "it sent a message, and this store has no outbox for messages to others";
const NUL: &str = "it sent a message with U+0000 in its topic, its key or a header";

/// Makes the error of an attempt whose outcome cannot be kept: what is known of its effect.
pub(super) type Refuse = fn(String) -> StepError;

/// An entry that the store will never take.
#[derive(Debug)]
pub(in crate::engine) struct Refused {
    /// The outcomes in it: whose, and whether of the step or of its undo.
    outcomes: Vec<(UnitKey, Kind)>,
    why: String,
}

impl Runner {
    /// Fails an attempt whose outcome the store cannot take: with it no record of its saga would
    /// ever be written. What it did is undone, or waits for an operator. True when it did so.
    pub(super) fn refuse(&mut self, finished: &mut Finished, class: Refuse) -> bool {
        let is_done = match &finished.done {
            Done::Step(outcome) => outcome.is_ok(),
            Done::Undo(outcome) => outcome.is_ok(),
        };
        let Some(why) = is_done.then(|| self.flaw(finished)).flatten() else {
            return false;
        };
        match &mut finished.done {
            Done::Step(outcome) => *outcome = Err(class(why)),
            Done::Undo(outcome) => *outcome = Err(class(why)),
        }
        true
    }

    fn flaw(&mut self, finished: &Finished) -> Option<String> {
        let kind = match &finished.done {
            Done::Step(_) => Kind::Done,
            Done::Undo(_) => Kind::Undone,
        };
        let outcome = (finished.key, kind);
        if let Some(refused) = self.refused.take_if(|it| it.outcomes == [outcome]) {
            return Some(format!("the journal cannot keep it: {}", refused.why));
        }
        if finished.sends.is_empty() {
            None
        } else if !self.engine.0.store.has_outbox() {
            Some(NO_OUTBOX.to_owned())
        } else {
            finished.sends.iter().any(has_nul).then(|| NUL.to_owned())
        }
    }

    /// Whether outcomes are written one by one: of several in one entry nobody knows which one the
    /// store refuses.
    pub(super) fn writes_one_by_one(&self) -> bool {
        self.refused.is_some()
    }

    /// Notes that the store will never take these records; true when the saga can go on once it was
    /// read back.
    pub(super) fn note_refusal(&self, records: &[Record], error: &Error) -> bool {
        let done = records
            .iter()
            .filter(|it| matches!(it.kind, Kind::Done | Kind::Undone));
        let outcomes: Vec<(UnitKey, Kind)> = done
            .filter_map(|it| Some((self.machine.key_of(it)?, it.kind)))
            .collect();
        // What is the same as last time comes from no attempt, such as the value of a signal.
        let last = self.refused.as_ref();
        let is_new = last.is_none_or(|it| it.outcomes != outcomes);
        let may_go_on = is_new && !outcomes.is_empty();
        if may_go_on {
            let why = Causes(error).to_string();
            tracing::warn!(saga.id = %self.id, why, "the journal refuses what a step left; the step fails");
            self.session
                .note_refusal(self.id, Refused { outcomes, why });
        }
        may_go_on
    }
}

/// PostgreSQL keeps no such text; what one store refuses is refused by all.
fn has_nul(message: &FollowUp) -> bool {
    let headers = message.headers.iter();
    let mut texts = headers
        .flat_map(|(name, value)| [name, value])
        .chain(&message.key)
        .chain([&message.topic]);
    texts.any(|it| it.contains('\0'))
}
