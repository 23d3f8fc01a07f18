//! What a handler works with: the transaction of its message.

use ratebox_db::{Dialect, Row, Statement, Tx};

use super::received::Received;
use crate::event::TRACEPARENT;
use crate::{Event, Failure};

/// The transaction in which a message has its effect. What is done through it, the mark of the
/// message and the events that it sends are kept together or not at all.
#[derive(Debug)]
pub struct Effect {
    pub(super) tx: Tx,
    pub(super) events: Vec<Event>,
    /// Of the message, for what follows from it.
    traceparent: Option<String>,
}

impl Effect {
    pub(super) fn new(tx: Tx) -> Self {
        Self {
            tx,
            events: Vec::new(),
            traceparent: None,
        }
    }

    /// Carries the trace of a message on.
    pub(super) fn following(mut self, received: &Received) -> Self {
        let traceparent = received.message.header(TRACEPARENT);
        self.traceparent = traceparent.map(str::to_owned);
        self
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        self.tx.dialect()
    }

    /// Runs a statement; returns the rows it changed.
    ///
    /// # Errors
    /// After any error the effect cannot be kept: return it.
    pub async fn execute(&mut self, statement: impl Into<Statement>) -> Result<u64, Failure> {
        Ok(self.tx.execute(statement).await?)
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// As [`Effect::execute`].
    pub async fn query(&mut self, statement: impl Into<Statement>) -> Result<Vec<Row>, Failure> {
        Ok(self.tx.query(statement).await?)
    }

    /// The transaction itself, for code that takes one.
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// Sends an event if and only if the effect is kept; it leaves right after the commit. Unless it
    /// has a trace of its own it carries on that of the message (not in a batch of several).
    pub fn send(&mut self, event: Event) {
        self.events.push(match &self.traceparent {
            Some(traceparent) if !event.is_traced() => event.traced(traceparent.as_str()),
            _ => event,
        });
    }
}
