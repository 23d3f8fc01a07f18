//! Tells the log that a broker is away and why, and that it is back. Nobody else does: what waits for
//! it is charged to nobody and comes again by itself.

use std::time::Duration;

use ratebox_kit::Stopwatch;

/// How often the log is told while it lasts, or while the broker comes and goes.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Of a broker that answered for too few messages, or not in time.
pub(crate) const NO_ANSWER: &str = "no answer in time";

/// What is told of one broker's outages.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// The broker's name, where it is one of several.
    broker: Option<String>,
    said: Option<Stopwatch>,
    /// The log knows of the one that lasts.
    is_known: bool,
}

impl Outage {
    /// Of the broker of this name; `None` for the first one, or the only one.
    pub(crate) fn of(broker: Option<String>) -> Self {
        Self {
            broker,
            ..Self::default()
        }
    }

    /// It takes nothing for now.
    pub(crate) fn lasts(&mut self, why: &str) {
        let is_due = |at: &Stopwatch| at.elapsed() >= SAY_EVERY;
        if self.said.as_ref().is_none_or(is_due) {
            self.said = Some(Stopwatch::start());
            self.is_known = true;
            let broker = self.broker.as_deref();
            tracing::warn!(broker, error = why, "the broker takes nothing; events wait");
        }
    }

    /// It took something.
    pub(crate) fn ended(&mut self) {
        if std::mem::take(&mut self.is_known) {
            let broker = self.broker.as_deref();
            tracing::info!(broker, "the broker takes events again");
        }
    }
}
