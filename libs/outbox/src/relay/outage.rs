//! Tells the log that a broker is away and why, and that it is back. Nobody else does: what waits for
//! it is charged to nobody and comes again by itself.

use ratebox_kit::{Stopwatch, Trouble};

/// Of a broker that answered for too few messages, or not in time.
pub(crate) const NO_ANSWER: &str = "no answer in time";

/// What is told of one broker's outages.
#[derive(Debug)]
pub(crate) struct Outage {
    /// The broker's name, where it is one of several.
    broker: Option<String>,
    /// Since it is looked after.
    began: Stopwatch,
    trouble: Trouble,
}

impl Default for Outage {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Outage {
    /// Of the broker of this name; `None` for the first one, or the only one.
    pub(crate) fn of(broker: Option<String>) -> Self {
        Self {
            broker,
            began: Stopwatch::start(),
            trouble: Trouble::default(),
        }
    }

    /// It takes nothing for now.
    pub(crate) fn lasts(&mut self, why: &str) {
        if let Some(spell) = self.trouble.failed(self.began.elapsed()) {
            let (broker, failures) = (self.broker.as_deref(), spell.failures);
            let lasted_s = spell.lasted.as_secs();
            tracing::warn!(
                broker,
                error = why,
                failures,
                lasted_s,
                "the broker takes nothing; events wait"
            );
        }
    }

    /// It took something.
    pub(crate) fn ended(&mut self) {
        if let Some(spell) = self.trouble.ended(self.began.elapsed()) {
            let (broker, lasted_s) = (self.broker.as_deref(), spell.lasted.as_secs());
            tracing::info!(broker, lasted_s, "the broker takes events again");
        }
    }

    /// Nothing waits for it any more, or it answered: whether it takes events, the next one shows.
    pub(super) fn rests(&mut self) {
        self.trouble.rests();
    }

    /// It has taken nothing for seconds, in several tries.
    pub(super) fn goes_on(&self) -> bool {
        self.trouble.lasts(self.began.elapsed())
    }
}
