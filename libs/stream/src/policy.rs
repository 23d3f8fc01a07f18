//! How a consumer behaves: every limit with its default and its reason.

use std::time::Duration;

use ratebox_kit::Backoff;

use crate::{Error, Scaling, StreamName};

/// Entries in one batch. At 500 the cost of a commit is spread thin, and a batch still takes well
/// under a second.
pub const BATCH_MAX: usize = 500;

/// Bytes in one batch, so that 500 large entries do not fill the memory. One entry may be larger.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Batches worked on at the same time: one is committed while the next is judged.
pub const BATCHES_IN_FLIGHT: usize = 3;

/// How long a read waits for the first entry. Also how long a shutdown may wait for it.
pub const BLOCK: Duration = Duration::from_secs(1);

/// An entry that nobody touched for this long belongs to a dead consumer.
pub const CLAIM_IDLE: Duration = Duration::from_secs(12);

/// How often a consumer touches what it holds: three misses in a row make it dead.
pub const HEARTBEAT: Duration = Duration::from_secs(4);

/// How often due retries are promoted and dead consumers' entries looked for.
pub const CLAIM_EVERY: Duration = Duration::from_secs(1);

/// Retries after an error, so four tries in all.
pub const RETRY_MAX: u32 = 3;

/// Waits between them, with full jitter.
pub const RETRY_BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_secs(60),
};

/// Deliveries without any outcome before an entry is poison.
pub const DELIVERIES_MAX: u32 = 3;

/// Shares of the lanes high, normal and low when all of them have work.
pub const LANE_WEIGHTS: [u32; 3] = [6, 3, 1];

/// Waits between offers while what the handler needs is away.
pub const PAUSE_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(5),
};

/// How long what the handler needs may be away before others get what is held: as long as a dead
/// consumer keeps its entries.
pub const HAND_BACK_AFTER: Duration = CLAIM_IDLE;

/// Fields that an entry may have. A retry moves them through a script, and Lua passes at most
/// some thousand values at once.
pub const FIELDS_MAX: usize = 1_000;

/// Failed attempts that a message carries with it, for its dead letter: more than the usual number
/// of retries, and a kilobyte or two.
pub const HISTORY_MAX: usize = 10;
/// What becomes of an entry whose deadline (`rb-expires-at`) was over before a handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expired {
    /// A dead letter of class `expired`.
    #[default]
    Bury,
    /// Acknowledged and counted (`ratebox_stream_expired_total`), not kept.
    Drop,
    /// Offered nevertheless: nobody looks at the deadline.
    Offer,
}

/// How often a failure is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Failed attempts of the message, of any code, that still leave a retry. 0 is dead at once.
    pub max: u32,
    /// Waits between them, with full jitter.
    pub backoff: Backoff,
}

/// Another number of retries for failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRule {
    /// The code of [`crate::Outcome::Retry`], or a beginning of it and a star: `http.*`.
    pub code: String,
    /// What holds for it.
    pub retries: Retries,
}

// === impl RetryRule ===

impl RetryRule {
    /// A rule for a code, or for all that begin like it: `http.503`, `http.*`.
    pub fn new(code: impl Into<String>, max: u32, backoff: Backoff) -> Self {
        let retries = Retries { max, backoff };
        Self {
            code: code.into(),
            retries,
        }
    }

    fn covers(&self, code: &str) -> bool {
        match self.code.strip_suffix('*') {
            Some(start) => code.starts_with(start),
            None => self.code == code,
        }
    }
}

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Entries in one batch ([`BATCH_MAX`]).
    pub batch_max: usize,
    /// Bytes in one batch ([`BATCH_BYTES_MAX`]).
    pub batch_bytes_max: usize,
    /// Batches worked on at the same time ([`BATCHES_IN_FLIGHT`]).
    pub batches_in_flight: usize,
    /// How long a read waits for the first entry ([`BLOCK`]).
    pub block: Duration,
    /// When an untouched entry may be taken over ([`CLAIM_IDLE`]).
    pub claim_idle: Duration,
    /// How often held entries are touched ([`HEARTBEAT`]).
    pub heartbeat: Duration,
    /// How often is promoted and claimed ([`CLAIM_EVERY`]).
    pub claim_every: Duration,
    /// Retries after an error ([`RETRY_MAX`]).
    pub retry_max: u32,
    /// Waits between them ([`RETRY_BACKOFF`]).
    pub retry_backoff: Backoff,
    /// Other retries for failures of some codes; the first rule that covers a code holds.
    pub retry_rules: Vec<RetryRule>,
    /// What becomes of entries that come too late.
    pub expired: Expired,
    /// How long the handler may work on one batch. Beyond that the call is dropped where it waits,
    /// and its entries failed with code `handler.timed_out`; one that has no retry left is offered
    /// alone before it dies. `None`: as long as it likes.
    pub handler_timeout: Option<Duration>,
    /// Read ahead no more than the handler gets done in this time, by what it needed so far:
    /// between one entry and `batch_max`. `None`: always up to `batch_max`.
    pub batch_time: Option<Duration>,
    /// Changes the batches at work by backlog and handler time; `batches_in_flight` does not hold
    /// then.
    pub scaling: Option<Scaling>,
    /// Deliveries without an outcome ([`DELIVERIES_MAX`]).
    pub deliveries_max: u32,
    /// Shares of high, normal and low ([`LANE_WEIGHTS`]).
    pub lane_weights: [u32; 3],
    /// Waits while a dependency is away ([`PAUSE_BACKOFF`]).
    pub pause_backoff: Backoff,
    /// When what the handler needs was away for this long, what is held and not in work goes back to
    /// the group, uncounted, so that members that can work get it ([`HAND_BACK_AFTER`]). From then on
    /// one entry at a time finds out whether it is back. The owner of a partition keeps its entries.
    pub hand_back_after: Duration,
    /// Where operators see dead letters, without payload; the letters are in the store.
    pub dead_letter_view: Option<StreamName>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            batch_max: BATCH_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            batches_in_flight: BATCHES_IN_FLIGHT,
            block: BLOCK,
            claim_idle: CLAIM_IDLE,
            heartbeat: HEARTBEAT,
            claim_every: CLAIM_EVERY,
            retry_max: RETRY_MAX,
            retry_backoff: RETRY_BACKOFF,
            retry_rules: Vec::new(),
            expired: Expired::Bury,
            handler_timeout: None,
            batch_time: None,
            scaling: None,
            deliveries_max: DELIVERIES_MAX,
            lane_weights: LANE_WEIGHTS,
            pause_backoff: PAUSE_BACKOFF,
            hand_back_after: HAND_BACK_AFTER,
            dead_letter_view: None,
        }
    }
}

impl Policy {
    /// What holds for failures with this code.
    pub fn retries(&self, code: &str) -> Retries {
        let rule = self.retry_rules.iter().find(|rule| rule.covers(code));
        rule.map_or(
            Retries {
                max: self.retry_max,
                backoff: self.retry_backoff,
            },
            |rule| rule.retries,
        )
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence that says what to change.
    pub fn check(&self) -> Result<(), Error> {
        let positive = [
            ("batch_max", self.batch_max > 0),
            ("batch_bytes_max", self.batch_bytes_max > 0),
            ("batches_in_flight", self.batches_in_flight > 0),
            ("deliveries_max", self.deliveries_max > 0),
            ("heartbeat", !self.heartbeat.is_zero()),
            (
                "handler_timeout",
                self.handler_timeout != Some(Duration::ZERO),
            ),
            ("scaling.min", self.scaling.is_none_or(|it| it.min > 0)),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, holds)| !holds) {
            return Err(Error::refused(format!("{name} must be at least 1")));
        }
        if self.lane_weights.contains(&0) {
            return Err(Error::refused(
                "every lane needs a weight of at least 1, or it starves",
            ));
        }
        if self.scaling.is_some_and(|it| it.max < it.min) {
            return Err(Error::refused("scaling.max must not be below scaling.min"));
        }
        if self.heartbeat * 2 > self.claim_idle {
            return Err(Error::refused(
                "claim_idle must be at least twice the heartbeat, or one late heartbeat gives \
                 entries away that are being worked on",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_covers_a_code_holds() {
        let rule = |code, max| RetryRule::new(code, max, RETRY_BACKOFF);
        let policy = Policy {
            retry_rules: vec![rule("http.503", 9), rule("http.*", 0)],
            ..Policy::default()
        };
        let max = |code| policy.retries(code).max;
        assert_eq!((max("http.503"), max("http.404")), (9, 0));
        assert_eq!((max("https"), max("db.away")), (RETRY_MAX, RETRY_MAX));
    }

    #[test]
    fn the_defaults_hold_together_and_a_late_claim_idle_is_refused() {
        Policy::default().check().unwrap();
        let hasty = Policy {
            claim_idle: Duration::from_secs(5),
            ..Policy::default()
        };
        assert!(
            hasty
                .check()
                .unwrap_err()
                .to_string()
                .contains("twice the heartbeat")
        );
    }
}
