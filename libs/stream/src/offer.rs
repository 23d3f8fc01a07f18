//! How a batch is offered to the handler, and how the call may end.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ratebox_kit::{Causes, DeadLetterClass};

use crate::held::{Key, key};
use crate::retry::has_retry_left;
use crate::shared::Shared;
use crate::{Entry, Handler, Outcome, stats};

/// The code of a call that ran beyond its time.
pub(crate) const TIMED_OUT: &str = "handler.timed_out";

/// The code of a message that an operator cancelled.
pub(crate) const CANCELLED: &str = "operator.cancelled";

/// How a call of the handler ended. Unless it said something, the entries are gone with it, and
/// still pending.
enum Ended {
    Said(Vec<Outcome>),
    Panicked,
    TimedOut,
    Cancelled,
}

// === impl Shared ===

impl Shared {
    /// One outcome for each entry of the batch.
    pub(crate) async fn offer(&self, handler: &dyn Handler, batch: Vec<Entry>) -> Vec<Outcome> {
        let offered: HashSet<Key> = batch.iter().map(key).collect();
        match self.call(handler, batch).await {
            Ended::Said(outcomes) => self.with_missing(outcomes, &offered).await,
            Ended::Panicked if offered.len() == 1 => {
                self.failed(&offered, "the handler panicked", "handler.panicked")
                    .await
            }
            Ended::Panicked => {
                let entries = self.recovered(&offered).await;
                self.offer_each(handler, entries).await
            }
            Ended::TimedOut => self.timed_out(handler, &offered).await,
            Ended::Cancelled => self.cancelled(handler, &offered).await,
        }
    }

    async fn call(&self, handler: &dyn Handler, batch: Vec<Entry>) -> Ended {
        let cancelled = self.cancels(&batch);
        let timed_out = after(self.policy.handler_timeout);
        let handled = AssertUnwindSafe(handler.handle(batch)).catch_unwind();
        let ended = tokio::select! {
            biased;
            handled = handled => handled.map_or(Ended::Panicked, Ended::Said),
            () = timed_out => Ended::TimedOut,
            () = cancelled => Ended::Cancelled,
        };
        match ended {
            Ended::Said(_) => {}
            Ended::Panicked => {
                stats::count(stats::PANICS, self.base(), 1);
                tracing::error!(stream = %self.base(), "the handler panicked");
            }
            Ended::TimedOut => {
                stats::count(stats::TIMEOUTS, self.base(), 1);
                tracing::warn!(stream = %self.base(), "the handler ran beyond its time");
            }
            Ended::Cancelled => {
                tracing::info!(stream = %self.base(), "an operator stopped the handler");
            }
        }
        ended
    }

    /// One by one, so that one that fails costs no other.
    async fn offer_each(&self, handler: &dyn Handler, entries: Vec<Entry>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.extend(Box::pin(self.offer(handler, vec![entry])).await);
        }
        outcomes
    }

    /// All failed; but one that has no retry left gets its last chance alone, so that nothing dies
    /// of a slow neighbour.
    async fn timed_out(&self, handler: &dyn Handler, offered: &HashSet<Key>) -> Vec<Outcome> {
        let error = "the handler ran beyond its time";
        if offered.len() == 1 {
            return self.failed(offered, error, TIMED_OUT).await;
        }
        let (retried, last): (Vec<Entry>, Vec<Entry>) = self
            .recovered(offered)
            .await
            .into_iter()
            .partition(|entry| has_retry_left(entry, &self.policy, TIMED_OUT));
        let mut outcomes = self.offer_each(handler, last).await;
        outcomes.extend(retried.into_iter().map(|entry| Outcome::Retry {
            entry,
            error: error.to_owned(),
            code: TIMED_OUT.to_owned(),
        }));
        outcomes
    }

    /// Those that were cancelled are dead; the others are offered again.
    async fn cancelled(&self, handler: &dyn Handler, offered: &HashSet<Key>) -> Vec<Outcome> {
        let orders = self.orders().unwrap_or_default();
        let (dead, rest): (Vec<Entry>, Vec<Entry>) = self
            .recovered(offered)
            .await
            .into_iter()
            .partition(|entry| self.is_cancelled(&orders, entry));
        let mut outcomes: Vec<Outcome> = dead.into_iter().map(cancelled).collect();
        if !rest.is_empty() {
            outcomes.extend(Box::pin(self.offer(handler, rest)).await);
        }
        outcomes
    }

    /// Adds a failure for each entry that the handler said nothing of.
    async fn with_missing(
        &self,
        mut outcomes: Vec<Outcome>,
        offered: &HashSet<Key>,
    ) -> Vec<Outcome> {
        if outcomes.len() == offered.len() {
            return outcomes;
        }
        let mut missing = offered.clone();
        for outcome in &outcomes {
            missing.remove(&key(outcome.entry()));
        }
        let error = "the handler returned no outcome";
        outcomes.extend(self.failed(&missing, error, "handler.no_outcome").await);
        outcomes
    }

    async fn failed(&self, keys: &HashSet<Key>, error: &str, code: &str) -> Vec<Outcome> {
        let entries = self.recovered(keys).await.into_iter();
        entries
            .map(|entry| Outcome::Retry {
                entry,
                error: error.to_owned(),
                code: code.to_owned(),
            })
            .collect()
    }

    /// Gets dropped entries back from the log. Those that do not come back stay pending and are
    /// claimed like a dead consumer's.
    async fn recovered(&self, keys: &HashSet<Key>) -> Vec<Entry> {
        let entries = match self.recover(Some(keys)).await {
            Ok(entries) => entries,
            Err(error) => {
                stats::failed(self.base(), "recover");
                tracing::warn!(stream = %self.base(), error = %Causes(&error), "dropped entries wait to be claimed");
                Vec::new()
            }
        };
        let back: HashSet<Key> = entries.iter().map(key).collect();
        self.held.remove(keys.difference(&back).copied());
        if let Some(lines) = self.lines() {
            lines.mislaid(keys.difference(&back).copied());
        }
        entries
    }
}

/// What becomes of a message that an operator cancelled.
fn cancelled(entry: Entry) -> Outcome {
    Outcome::Dead {
        entry,
        class: DeadLetterClass::Cancelled,
        error: "cancelled by an operator".to_owned(),
        code: CANCELLED.to_owned(),
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
