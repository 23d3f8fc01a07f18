//! Writes down what handlers said of each message.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, DeadLetterClass, Timestamp};

use crate::{Entry, GroupName, Handler, Outcome};

/// What a handler said of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The message.
    pub message_id: String,
    /// The group whose handler it was.
    pub group: GroupName,
    /// Failed attempts before this one.
    pub attempt: u32,
    /// When, on the bus's clock.
    pub at: Timestamp,
    /// What.
    pub ending: Ending,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Acknowledged.
    Done,
    /// Failed with this code; comes again, or is a dead letter after the last retry.
    Retry {
        /// The failure's code.
        code: String,
    },
    /// A dead letter.
    Dead {
        /// Why.
        class: DeadLetterClass,
        /// The failure's code.
        code: String,
    },
    /// Something was away.
    Pause {
        /// The failure's code.
        code: String,
    },
    /// Put off, without using up an attempt.
    Snooze {
        /// How long.
        wait: Duration,
    },
    /// Handed back to the group.
    Release,
}

/// A handler, and what it said.
pub(super) struct Recorder {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) group: GroupName,
    pub(super) clock: Clock,
    pub(super) seen: Arc<Mutex<Vec<Recorded>>>,
}

#[async_trait]
impl Handler for Recorder {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let outcomes = self.handler.handle(batch).await;
        let record = |outcome: &Outcome| Recorded {
            message_id: outcome.entry().message_id().into_owned(),
            group: self.group.clone(),
            attempt: outcome.entry().attempt(),
            at: self.clock.now(),
            ending: ending(outcome),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(outcomes.iter().map(record));
        outcomes
    }

    async fn is_ready(&self) -> bool {
        self.handler.is_ready().await
    }
}

fn ending(outcome: &Outcome) -> Ending {
    match outcome {
        Outcome::Done { .. } => Ending::Done,
        Outcome::Retry { code, .. } => Ending::Retry { code: code.clone() },
        Outcome::Dead { class, code, .. } => Ending::Dead {
            class: *class,
            code: code.clone(),
        },
        Outcome::Pause { code, .. } => Ending::Pause { code: code.clone() },
        Outcome::Snooze { wait, .. } => Ending::Snooze { wait: *wait },
        Outcome::Release { .. } => Ending::Release,
    }
}
