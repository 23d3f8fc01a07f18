//! A batch on its way through the handler: offered, decided, buried, settled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ratebox_kit::{Attempt, Backoff, Causes, DeadLetter, DeadLetterClass, Stopwatch};

use crate::dead_letter::Doomed;
use crate::held::{Key, key};
use crate::retry::has_retry_left;
use crate::shared::Shared;
use crate::{Append, Entry, HandTo, Handler, Outcome, Settlement, stats};

/// Waits between tries to settle what is already decided.
const SETTLE_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_secs(1),
};

/// Tries before a settlement is given up and the entry comes again: about 15 s.
const SETTLE_TRIES: u32 = 18;

/// What is to be done with the entries of a batch.
#[derive(Default)]
struct Verdicts {
    done: Vec<Key>,
    /// With their waits.
    retried: Vec<(Entry, Duration)>,
    snoozed: Vec<(Entry, Duration)>,
    doomed: Vec<Doomed>,
    paused: Vec<Entry>,
    released: Vec<Entry>,
}

// === impl Shared ===

impl Shared {
    /// Offers a batch to the handler and settles every outcome.
    pub(crate) async fn work(&self, handler: &dyn Handler, batch: Vec<Entry>) {
        let Some(gate) = &self.gate else {
            return self.work_on(handler, batch).await;
        };
        let (batch, at_work) = gate.pass(self, batch).await.split();
        if !batch.is_empty() {
            self.work_on(handler, batch).await;
        }
        gate.ended(self, at_work).await;
    }

    async fn work_on(&self, handler: &dyn Handler, batch: Vec<Entry>) {
        let watch = Stopwatch::start();
        let count = batch.len();
        let outcomes = self.offer(handler, batch).await;
        self.pace.learn(count, watch.elapsed());
        metrics::histogram!(stats::BATCH_SECONDS, "stream" => self.base().to_string())
            .record(watch.elapsed().as_secs_f64());
        let verdicts = self.decide(outcomes);
        self.conclude(verdicts, watch.elapsed()).await;
    }

    fn decide(&self, outcomes: Vec<Outcome>) -> Verdicts {
        let mut verdicts = Verdicts {
            done: Vec::with_capacity(outcomes.len()),
            ..Verdicts::default()
        };
        for outcome in outcomes {
            match outcome {
                Outcome::Done { entry, proof: _ } => verdicts.done.push(key(&entry)),
                Outcome::Retry {
                    mut entry,
                    error,
                    code,
                } => {
                    // By its place: an id that a sender chose may be somebody's number or address.
                    tracing::warn!(
                        stream = %entry.stream,
                        entry.id = %entry.id,
                        entry.first = %entry.first_entry(),
                        attempt = entry.attempt(),
                        code,
                        "failed: {error}"
                    );
                    if has_retry_left(&entry, &self.policy, &code) {
                        let backoff = self.policy.retries(&code).backoff;
                        let wait = backoff.jittered(entry.attempt() + 1);
                        entry.remember(&self.attempt(error, code));
                        verdicts.retried.push((entry, wait));
                    } else {
                        let class = DeadLetterClass::Transient;
                        verdicts.doomed.push(Doomed {
                            entry,
                            class,
                            error,
                            code,
                        });
                    }
                }
                Outcome::Dead {
                    entry,
                    class,
                    error,
                    code,
                } => {
                    verdicts.doomed.push(Doomed {
                        entry,
                        class,
                        error,
                        code,
                    });
                }
                Outcome::Pause { entry, error, code } => {
                    if verdicts.paused.is_empty() {
                        self.report_pause(&error, &code);
                    }
                    verdicts.paused.push(entry);
                }
                Outcome::Snooze { entry, wait } => verdicts.snoozed.push((entry, wait)),
                Outcome::Release { entry } => verdicts.released.push(entry),
            }
        }
        verdicts
    }

    fn attempt(&self, error: String, code: String) -> Attempt {
        Attempt {
            at: self.clock.now(),
            consumer: self.sub.consumer.to_string(),
            code,
            error,
        }
    }

    fn report_pause(&self, error: &str, code: &str) {
        if self.breaker.is_tripped() {
            tracing::debug!(stream = %self.base(), code, "still paused: {error}");
        } else {
            tracing::warn!(stream = %self.base(), code, "inflow pauses: {error}");
        }
    }

    async fn conclude(&self, verdicts: Verdicts, worked: Duration) {
        let Verdicts {
            done,
            retried,
            snoozed,
            doomed,
            paused,
            released,
        } = verdicts;
        let got_through =
            !(done.is_empty() && retried.is_empty() && snoozed.is_empty() && doomed.is_empty());
        let has_paused = !paused.is_empty();
        self.park(paused);
        self.settle_worked(&done, retried, snoozed).await;
        self.let_go(released).await;
        let buried = self.bury(doomed).await;
        if has_paused {
            self.trip(worked);
        } else if got_through && buried {
            if self.breaker.is_tripped() {
                tracing::info!(stream = %self.base(), "inflow goes on");
            }
            self.breaker.close();
        }
    }

    async fn settle_worked(
        &self,
        done: &[Key],
        retried: Vec<(Entry, Duration)>,
        snoozed: Vec<(Entry, Duration)>,
    ) {
        let failed_at = self.clock.now();
        if let Some(lines) = self.lines() {
            return self.settle_in_line(lines, done, retried, snoozed).await;
        }
        let acks = done.iter().map(|(lane, id)| Settlement::Ack {
            lane: *lane,
            id: *id,
        });
        let delays = retried.iter().map(|(entry, wait)| Settlement::Delay {
            entry,
            wait: *wait,
            failed_at,
        });
        let snoozes = snoozed
            .iter()
            .map(|(entry, wait)| Settlement::Snooze { entry, wait: *wait });
        let mut settlements = Vec::with_capacity(done.len() + retried.len() + snoozed.len());
        settlements.extend(acks.chain(delays).chain(snoozes));
        if self.settle(&settlements).await {
            stats::count(stats::ACKED, self.base(), done.len());
            stats::count(stats::RETRIED, self.base(), retried.len());
            stats::count(stats::SNOOZED, self.base(), snoozed.len());
        }
        drop(settlements);
        let again = retried.iter().chain(&snoozed).map(|(entry, _)| key(entry));
        self.held.remove(done.iter().copied().chain(again));
    }

    /// Hands entries back; this delivery does not count.
    pub(crate) async fn release(&self, entries: Vec<Entry>, to: HandTo) {
        let settlements: Vec<_> = entries
            .iter()
            .map(|entry| Settlement::Release {
                lane: entry.lane,
                id: entry.id,
                deliveries: entry.deliveries,
                to,
            })
            .collect();
        if self.settle(&settlements).await {
            stats::count(stats::RELEASED, self.base(), entries.len());
        }
        self.held.remove(entries.iter().map(key));
    }

    /// Keeps the letters, then acknowledges. While letters cannot be kept the entries stay
    /// pending and held, and inflow stops; no count is used up. False when that happened.
    pub(crate) async fn bury(&self, doomed: Vec<Doomed>) -> bool {
        if doomed.is_empty() {
            return true;
        }
        let now = self.clock.now();
        let letters: Vec<DeadLetter> = doomed
            .iter()
            .map(|doomed| doomed.letter(&self.sub, now))
            .collect();
        let kept = self.dead_letters.keep(&letters).await;
        self.keeps_no_letters.store(kept.is_err(), Ordering::SeqCst);
        if let Err(error) = kept {
            stats::failed(self.base(), "keep");
            self.report_pause(&Causes(&error).to_string(), "dead_letters.away");
            self.park_doomed(doomed);
            self.trip(Duration::ZERO);
            return false;
        }
        self.acknowledge_buried(&doomed).await;
        if let Some(lines) = self.lines() {
            let keys = || doomed.iter().map(|doomed| key(&doomed.entry));
            self.forget_failures(keys()).await;
            lines.finish(keys());
        }
        true
    }

    async fn acknowledge_buried(&self, doomed: &[Doomed]) {
        let now = self.clock.now();
        let view = self.policy.dead_letter_view.as_ref();
        let views: Vec<Option<Append>> = doomed
            .iter()
            .map(|doomed| view.map(|to| doomed.view(to, now)))
            .collect();
        let settlements: Vec<_> = doomed
            .iter()
            .zip(&views)
            .map(|(doomed, view)| Settlement::Bury {
                entry: &doomed.entry,
                view: view.as_ref(),
            })
            .collect();
        self.settle(&settlements).await;
        for doomed in doomed {
            stats::dead_letter(self.base(), doomed.class);
            tracing::warn!(
                stream = %doomed.entry.stream,
                entry.id = %doomed.entry.id,
                entry.first = %doomed.entry.first_entry(),
                class = doomed.class.as_str(),
                code = doomed.code,
                "became a dead letter: {}", doomed.error
            );
        }
        self.held
            .remove(doomed.iter().map(|doomed| key(&doomed.entry)));
    }

    /// What is needed is away; work that took `after` found it out.
    pub(crate) fn trip(&self, after: Duration) {
        if !self.breaker.is_tripped() {
            stats::count(stats::PAUSES, self.base(), 1);
        }
        // Half of the wait is certain, so that offers never become a busy loop.
        let backoff = self.policy.pause_backoff;
        let wait = |failures| (backoff.bound(failures) + backoff.jittered(failures)) / 2;
        self.breaker.trip(self.clock.steady(), after, wait);
    }

    /// Settles, again and again while the log is away. False when it was given up: the entries
    /// come again then, and the inbox of their effects absorbs that.
    pub(crate) async fn settle(&self, settlements: &[Settlement<'_>]) -> bool {
        if settlements.is_empty() {
            return true;
        }
        self.held.leave(settlements);
        for attempt in 1..=SETTLE_TRIES {
            let Err(error) = self.log.settle(&self.sub, settlements).await else {
                return true;
            };
            stats::failed(self.base(), "settle");
            if !error.is_retryable() || attempt == SETTLE_TRIES {
                let count = settlements.len();
                tracing::error!(stream = %self.base(), error = %Causes(&error), "{count} entries not settled");
                return false;
            }
            tokio::time::sleep(SETTLE_BACKOFF.bound(attempt)).await;
        }
        false
    }
}
