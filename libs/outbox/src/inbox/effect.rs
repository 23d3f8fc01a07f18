//! What a handler works with: the transaction of its message.

use ratebox_db::{Dialect, Row, Statement, Tx};

use crate::{Event, Failure};

/// The transaction in which a message has its effect. What is done through it, the mark of the
/// message and the events that it sends are kept together or not at all.
#[derive(Debug)]
pub struct Effect {
    pub(super) tx: Tx,
    pub(super) events: Vec<Event>,
}

impl Effect {
    pub(super) fn new(tx: Tx) -> Self {
        Self {
            tx,
            events: Vec::new(),
        }
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

    /// Sends an event if and only if the effect is kept; it leaves right after the commit.
    pub fn send(&mut self, event: Event) {
        self.events.push(event);
    }
}
