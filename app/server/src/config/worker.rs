//! Take, check, record, answer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratebox_kit::Backoff;
use ratebox_stream::{Expired, Limit, Policy, Rate, RetryRule, Rules, Scaling, Scope, StreamName};
use serde::Deserialize;

/// Take, check, record, answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Messages of one transaction.
    pub batch_max: usize,
    /// Bytes of the messages of one transaction.
    pub batch_max_bytes: usize,
    /// Transactions at the same time.
    pub batches_in_flight: usize,
    /// Transactions at the same time at most; 0 = always [`WorkerConfig::batches_in_flight`].
    pub batches_in_flight_max: usize,
    /// Milliseconds that one transaction may take; 0 = any time.
    pub handler_timeout_ms: u64,
    /// Milliseconds of work that is read ahead; 0 = always a whole batch.
    pub batch_time_ms: u64,
    /// Milliseconds that a read waits.
    pub block_ms: u64,
    /// Milliseconds without a heartbeat after which others take over.
    pub claim_idle_ms: u64,
    /// Milliseconds without the store after which what is held goes back to the group.
    pub hand_back_after_ms: u64,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u64,
    /// Milliseconds between looks for work to take over.
    pub claim_every_ms: u64,
    /// Retries after an error.
    pub retry_max: u32,
    /// Milliseconds: bound of the first wait.
    pub retry_first_ms: u64,
    /// Milliseconds: no wait is longer.
    pub retry_wait_max_ms: u64,
    /// Other retries for some codes, as `code=retries` or `code=retries/first_ms/wait_max_ms`.
    pub retry_rules: Vec<String>,
    /// What becomes of messages that come after their deadline.
    pub expired: LateMessages,
    /// Deliveries without an outcome.
    pub deliveries_max: u32,
    /// Messages of one owner in work over all workers; 0 = any number.
    pub owner_in_work_max: u32,
    /// Messages in work over all workers; 0 = any number.
    pub in_work_max: u32,
    /// Messages begun in a second over all workers; 0 = any number.
    pub rate_per_s: u32,
    /// Seconds between looks at the backlog; 0 = none.
    pub backlog_every_s: u64,
    /// Seconds that the oldest message should not exceed.
    pub backlog_target_s: u64,
}

/// What becomes of messages that come after their deadline.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LateMessages {
    /// Dead letters.
    Bury,
    /// Acknowledged and counted.
    Drop,
    /// Judged all the same.
    Offer,
}

impl WorkerConfig {
    /// How the consumer behaves; `view` is where operators see dead letters.
    ///
    /// # Errors
    /// When a rule for retries cannot be read, or numbers contradict each other.
    pub fn policy(&self, view: &str) -> Result<Policy> {
        let ms = Duration::from_millis;
        let some_ms = |value: u64| (value > 0).then(|| ms(value));
        ensure!(
            self.batches_in_flight_max == 0 || self.batches_in_flight_max >= self.batches_in_flight,
            "worker.batches_in_flight_max ({}) must be 0 or at least worker.batches_in_flight ({})",
            self.batches_in_flight_max,
            self.batches_in_flight
        );
        let policy = Policy {
            batch_max: self.batch_max,
            batch_bytes_max: self.batch_max_bytes,
            batches_in_flight: self.batches_in_flight,
            scaling: (self.batches_in_flight_max > self.batches_in_flight).then_some(Scaling {
                min: self.batches_in_flight,
                max: self.batches_in_flight_max,
            }),
            handler_timeout: some_ms(self.handler_timeout_ms),
            batch_time: some_ms(self.batch_time_ms),
            block: ms(self.block_ms),
            claim_idle: ms(self.claim_idle_ms),
            hand_back_after: ms(self.hand_back_after_ms),
            heartbeat: ms(self.heartbeat_ms),
            claim_every: ms(self.claim_every_ms),
            retry_max: self.retry_max,
            retry_backoff: self.backoff(),
            retry_rules: self.rules_of_retries()?,
            expired: match self.expired {
                LateMessages::Bury => Expired::Bury,
                LateMessages::Drop => Expired::Drop,
                LateMessages::Offer => Expired::Offer,
            },
            deliveries_max: self.deliveries_max,
            dead_letter_view: (!view.is_empty()).then(|| StreamName::new(view)),
            ..Policy::default()
        };
        policy.check().context("[worker]")?;
        Ok(policy)
    }

    /// Transactions that there may be at the same time.
    pub fn batches_most(&self) -> usize {
        self.batches_in_flight.max(self.batches_in_flight_max)
    }

    fn backoff(&self) -> Backoff {
        Backoff {
            first: Duration::from_millis(self.retry_first_ms),
            max: Duration::from_millis(self.retry_wait_max_ms),
        }
    }

    fn rules_of_retries(&self) -> Result<Vec<RetryRule>> {
        let rules = self.retry_rules.iter().map(|text| {
            retry_rule(text, self.backoff()).with_context(|| {
                format!(
                    "worker.retry_rules: \"{text}\" is not code=retries or \
                     code=retries/first_ms/wait_max_ms"
                )
            })
        });
        rules.collect()
    }

    /// The limits over all workers; empty when there are none.
    pub fn limits(&self) -> Rules {
        let some = |value: u32| (value > 0).then_some(value);
        let all = Limit {
            rate: some(self.rate_per_s).map(Rate::per_second),
            at_work: some(self.in_work_max),
        };
        let owner = Limit {
            rate: None,
            at_work: some(self.owner_in_work_max),
        };
        let rules = [(Scope::all(), all), (Scope::each_owner(), owner)];
        let is_limit = |(_, limit): &(Scope, Limit)| *limit != Limit::default();
        rules.into_iter().filter(is_limit).collect()
    }
}

/// `code=retries`, or `code=retries/first_ms/wait_max_ms`.
fn retry_rule(text: &str, usual: Backoff) -> Option<RetryRule> {
    let (code, rest) = text.split_once('=')?;
    let code = Some(code.trim()).filter(|code| !code.is_empty())?;
    let numbers: Vec<u64> = rest
        .split('/')
        .map(|number| number.trim().parse().ok())
        .collect::<Option<_>>()?;
    let (max, backoff) = match numbers.as_slice() {
        [max] => (*max, usual),
        [max, first_ms, wait_max_ms] if first_ms <= wait_max_ms => {
            let (first, max_wait) = (*first_ms, *wait_max_ms);
            let backoff = Backoff {
                first: Duration::from_millis(first),
                max: Duration::from_millis(max_wait),
            };
            (*max, backoff)
        }
        _ => return None,
    };
    Some(RetryRule::new(code, u32::try_from(max).ok()?, backoff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn policy(pairs: &[(&str, &str)]) -> Result<Policy> {
        let env = pairs
            .iter()
            .map(|(key, value)| (format!("RATEBOX_WORKER__{key}"), (*value).to_owned()));
        let sources = Sources {
            env: env.collect(),
            ..Sources::default()
        };
        load(&sources)?.worker.policy("dlq")
    }

    #[test]
    fn by_default_nothing_beyond_the_plain_policy_is_on() {
        let policy = policy(&[]).unwrap();
        assert_eq!(policy.handler_timeout, None);
        assert_eq!((policy.scaling, policy.batch_time), (None, None));
        assert!(policy.retry_rules.is_empty());
        assert_eq!(policy.expired, Expired::Bury);
    }

    #[test]
    fn every_part_of_the_policy_can_be_set() {
        let set = [
            ("BATCHES_IN_FLIGHT_MAX", "8"),
            ("HANDLER_TIMEOUT_MS", "30000"),
            ("BATCH_TIME_MS", "200"),
            ("EXPIRED", "drop"),
            ("RETRY_RULES", "handler.timed_out=1, db.*=20/500/30000"),
        ];
        let policy = policy(&set).unwrap();
        assert_eq!(policy.scaling, Some(Scaling { min: 3, max: 8 }));
        assert_eq!(policy.handler_timeout, Some(Duration::from_secs(30)));
        assert_eq!(policy.batch_time, Some(Duration::from_millis(200)));
        assert_eq!(policy.expired, Expired::Drop);
        assert_eq!(policy.retries("handler.timed_out").max, 1);
        assert_eq!(
            policy.retries("handler.timed_out").backoff,
            policy.retry_backoff
        );
        let away = policy.retries("db.away");
        assert_eq!(
            (away.max, away.backoff.first),
            (20, Duration::from_millis(500))
        );
    }

    #[test]
    fn what_cannot_be_read_or_contradicts_is_refused_with_its_words() {
        for (key, value, said) in [
            ("RETRY_RULES", "db.away", "\"db.away\" is not code=retries"),
            ("RETRY_RULES", "a=1/2", "\"a=1/2\" is not"),
            ("RETRY_RULES", "a=1/9/2", "is not code=retries"),
            ("BATCHES_IN_FLIGHT_MAX", "2", "must be 0 or at least"),
            ("BATCHES_IN_FLIGHT_MAX", "200", "store.pool_max"),
            ("EXPIRED", "keep", "expired"),
        ] {
            let error = policy(&[(key, value)]).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{key}: {error:#}");
        }
    }
}
