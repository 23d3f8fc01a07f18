//! A handler that does what a message says, and by chance something else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::DeadLetterClass;
use ratebox_stream::conformance::{done, retry};
use ratebox_stream::{Entry, EntryId, Handler, Outcome};
use tokio::sync::Notify;

use super::protocol::Deed;
use super::trace::{Event, Trace, number};
use super::world::Kind;

/// Messages of a run, by number.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::Good,
    Kind::Killer,
    Kind::Good,
    Kind::Failing,
    Kind::Good,
    Kind::Malformed,
    Kind::Good,
    Kind::Good,
];

/// Numbers that look random and follow from a seed.
pub(crate) struct Dice(Mutex<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// One of `0..sides`.
    pub(crate) fn roll(&self, sides: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % sides
    }
}

/// Does what the kind of a message says, and sometimes something else.
pub(crate) struct Actor {
    pub(crate) by: u8,
    pub(crate) trace: Arc<Trace>,
    pub(crate) dice: Arc<Dice>,
    pub(crate) calm: Arc<AtomicBool>,
    pub(crate) died: Arc<Notify>,
    /// Effects that were applied, with the inbox that makes each apply once.
    pub(crate) effects: Arc<Mutex<Vec<u8>>>,
}

impl Actor {
    fn handled(&self, deed: Deed, id: EntryId) {
        let by = self.by;
        self.trace.record(Event::Handled { by, deed, id });
    }

    /// The effect, unless its inbox mark is there.
    fn apply(&self, message: u8) {
        let mut effects = self.effects.lock().unwrap();
        if !effects.contains(&message) {
            effects.push(message);
        }
    }

    async fn die(&self) -> Option<Outcome> {
        self.died.notify_one();
        std::future::pending().await
    }

    /// By chance the whole call runs beyond its time; some effects may be committed by then. The
    /// others of the rig's kinds have a fate of their own.
    fn hangs(&self, batch: &[Entry]) -> bool {
        let message = |entry: &Entry| number(&entry.message_id());
        let mut kinds = batch.iter().map(|it| KINDS[usize::from(message(it))]);
        let calm = self.calm.load(Ordering::SeqCst);
        if calm || self.dice.roll(8) > 0 || !kinds.all(|kind| kind == Kind::Good) {
            return false;
        }
        for entry in batch {
            if self.dice.roll(2) == 0 {
                self.apply(message(entry));
                self.handled(Deed::TimeOut, entry.id);
            } else {
                self.handled(Deed::Drop, entry.id);
            }
        }
        true
    }

    async fn judge(&self, entry: Entry) -> Option<Outcome> {
        let message = number(&entry.message_id());
        let mood = if self.calm.load(Ordering::SeqCst) {
            9
        } else {
            self.dice.roll(10)
        };
        match (KINDS[usize::from(message)], mood) {
            (Kind::Killer, _) => self.die().await,
            (Kind::Failing, _) | (Kind::Good, 0) => {
                self.handled(Deed::Fail, entry.id);
                Some(retry(entry))
            }
            (Kind::Malformed, _) => {
                self.handled(Deed::Condemn, entry.id);
                Some(Outcome::Dead {
                    entry,
                    class: DeadLetterClass::Malformed,
                    error: "not to be read".to_owned(),
                    code: "test.malformed".to_owned(),
                })
            }
            (Kind::Good, 1) => {
                self.handled(Deed::Drop, entry.id);
                None
            }
            (Kind::Good, 2) => {
                self.handled(Deed::Pause, entry.id);
                let (error, code) = ("away".to_owned(), "test.away".to_owned());
                Some(Outcome::Pause { entry, error, code })
            }
            (Kind::Good, 3) => Some(Outcome::Release { entry }),
            (Kind::Good, 5) => {
                self.handled(Deed::Snooze, entry.id);
                let wait = Duration::from_millis(1);
                Some(Outcome::Snooze { entry, wait })
            }
            (Kind::Good, mood) => {
                self.apply(message);
                self.handled(Deed::Commit, entry.id);
                if mood == 4 {
                    // Committed, and never acknowledged.
                    return self.die().await;
                }
                Some(done(entry))
            }
        }
    }
}

#[async_trait]
impl Handler for Actor {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        for entry in &batch {
            self.trace.record(Event::Offered {
                by: self.by,
                id: entry.id,
                message: number(&entry.message_id()),
                attempt: entry.attempt(),
                deliveries: entry.deliveries,
            });
        }
        if self.hangs(&batch) {
            return std::future::pending().await;
        }
        let mut outcomes = Vec::new();
        for entry in batch {
            outcomes.extend(self.judge(entry).await);
        }
        outcomes
    }
}
