//! How a consumer behaves: every limit with its default and its reason.

use std::time::Duration;

use ratebox_kit::Backoff;

use crate::{Error, StreamName};

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

/// Fields that an entry may have. A retry moves them through a script, and Lua passes at most
/// some thousand values at once.
pub const FIELDS_MAX: usize = 1_000;

/// Failed attempts that a message carries with it, for its dead letter: more than the usual number
/// of retries, and a kilobyte or two.
pub const HISTORY_MAX: usize = 10;

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
    /// Deliveries without an outcome ([`DELIVERIES_MAX`]).
    pub deliveries_max: u32,
    /// Shares of high, normal and low ([`LANE_WEIGHTS`]).
    pub lane_weights: [u32; 3],
    /// Waits while a dependency is away ([`PAUSE_BACKOFF`]).
    pub pause_backoff: Backoff,
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
            deliveries_max: DELIVERIES_MAX,
            lane_weights: LANE_WEIGHTS,
            pause_backoff: PAUSE_BACKOFF,
            dead_letter_view: None,
        }
    }
}

impl Policy {
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
        ];
        if let Some((name, _)) = positive.iter().find(|(_, holds)| !holds) {
            return Err(Error::refused(format!("{name} must be at least 1")));
        }
        if self.lane_weights.contains(&0) {
            return Err(Error::refused(
                "every lane needs a weight of at least 1, or it starves",
            ));
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
