//! What a case of the suite works with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::Committed;
use ratebox_kit::{Backoff, Clock, DeadLetter, DeadLetters, Message, PortError, id};

use crate::{
    Admin, Append, Consumer, ConsumerName, Dispatcher, Entry, EntryId, GroupName, Handler, Lane,
    LaneQuota, Lanes, Log, Outcome, Policy, StreamName, Subscription, Wait,
};

/// How a case lets time pass.
#[derive(Clone)]
pub enum Waits {
    /// The log's clock is moved by hand.
    Moves(Clock),
    /// The log's clock is a server's, so the case has to wait.
    Really,
}

/// Destroys things behind the log's back.
#[async_trait]
pub trait Sabotage: Send + Sync {
    /// Deletes one entry, as a trim does that does not look.
    async fn lose_entry(&self, stream: &StreamName, id: EntryId);

    /// Deletes a stream with its groups.
    async fn lose_stream(&self, stream: &StreamName);
}

/// A fresh log, or a fresh name on a shared one.
pub struct Bed {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Its operator's side.
    pub admin: Arc<dyn Admin>,
    /// Its second port, where it has one.
    pub delivery: Option<Arc<dyn Dispatcher>>,
    /// How to harm it.
    pub sabotage: Arc<dyn Sabotage>,
    /// What the consumers read the time from.
    pub clock: Clock,
    /// The name of this case's stream.
    pub stream: StreamName,
    waits: Waits,
}

// === impl Bed ===

impl Bed {
    /// A bed with a name of its own.
    pub fn new(
        log: Arc<dyn Log>,
        admin: Arc<dyn Admin>,
        sabotage: Arc<dyn Sabotage>,
        waits: Waits,
    ) -> Self {
        let clock = match &waits {
            Waits::Moves(clock) => clock.clone(),
            Waits::Really => Clock::system(),
        };
        let stream = StreamName::new(format!("t_{}", id::hex(&id::random_bytes::<6>())));
        Self {
            log,
            admin,
            delivery: None,
            sabotage,
            clock,
            stream,
            waits,
        }
    }

    /// With the log's second port.
    #[must_use]
    pub fn with_dispatcher(mut self, delivery: Arc<dyn Dispatcher>) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// The second port.
    pub(super) fn delivery(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(self.delivery.as_ref().unwrap())
    }

    /// When an untouched entry may be taken. Short where it is really waited for.
    pub fn idle(&self) -> Duration {
        match self.waits {
            Waits::Moves(_) => Duration::from_secs(12),
            Waits::Really => Duration::from_millis(1_000),
        }
    }

    /// Lets this much time pass.
    pub async fn pass(&self, time: Duration) {
        match &self.waits {
            Waits::Moves(clock) => clock.advance(time),
            // A little more, for the server's clock has whole milliseconds.
            Waits::Really => tokio::time::sleep(time + Duration::from_millis(5)).await,
        }
    }

    /// Another stream of this case.
    pub fn other(&self, name: &str) -> StreamName {
        StreamName::new(format!("{}_{name}", self.stream))
    }

    /// A member of the group `g`; the group is made.
    pub async fn member(&self, consumer: &str) -> Subscription {
        self.member_of("g", consumer).await
    }

    /// A member of any group; the group is made.
    pub async fn member_of(&self, group: &str, consumer: &str) -> Subscription {
        let lanes = Lanes::of(&self.stream);
        let sub = Subscription::new(lanes, GroupName::new(group), ConsumerName::new(consumer));
        self.log.ensure_group(&sub).await.unwrap();
        sub
    }

    /// Short waits, so that nothing is waited for longer than needed.
    pub fn policy(&self) -> Policy {
        let short = Duration::from_millis(20);
        Policy {
            claim_idle: self.idle(),
            heartbeat: self.idle() / 3,
            claim_every: Duration::ZERO,
            retry_backoff: Backoff {
                first: short,
                max: short,
            },
            pause_backoff: Backoff {
                first: short,
                max: short,
            },
            hand_back_after: self.idle() * 10,
            dead_letter_view: Some(self.other("dlq")),
            ..Policy::default()
        }
    }

    /// A consumer of the group `g` that steps.
    pub async fn consumer(&self, name: &str, letters: &Arc<Letters>, policy: Policy) -> Consumer {
        let sub = self.member(name).await;
        let (log, letters) = (Arc::clone(&self.log), Arc::clone(letters));
        Consumer::new(log, letters, sub, policy, self.clock.clone())
    }

    /// Appends messages with these bodies to a lane; the id of each is its body.
    pub async fn append(&self, lane: Lane, bodies: &[&str]) -> Vec<EntryId> {
        let stream = Lanes::of(&self.stream).stream(lane).clone();
        let message = |body: &&str| Message::new(format!("id-{body}"), (*body).to_owned());
        let appends: Vec<_> = bodies
            .iter()
            .map(|body| Append::new(stream.clone(), message(body)))
            .collect();
        let ids = self.log.append(&appends).await;
        ids.into_iter().map(Result::unwrap).collect()
    }

    /// Appends so many numbered messages.
    pub async fn append_many(&self, lane: Lane, count: usize) -> Vec<EntryId> {
        let bodies: Vec<String> = (0..count)
            .map(|number| format!("{lane}-{number}"))
            .collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        self.append(lane, &bodies).await
    }

    /// Reads up to `max` of the normal lane, without waiting.
    pub async fn read(&self, sub: &Subscription, max: usize) -> Vec<Entry> {
        let quotas = [LaneQuota {
            lane: Lane::Normal,
            max,
        }];
        self.log.read(sub, &quotas, Wait::None).await.unwrap()
    }

    /// Entries that the group `group` has pending on the normal lane.
    pub async fn pending(&self, group: &str) -> u64 {
        let info = self.admin.info(&self.stream).await.unwrap();
        let groups = info.map(|info| info.groups).unwrap_or_default();
        let group = groups.into_iter().find(|one| one.name.as_str() == group);
        group.map_or(0, |group| group.pending)
    }

    /// Steps until there is nothing to do, letting retries become due.
    pub async fn drain(&self, consumer: &Consumer, handler: &dyn Handler) {
        for _ in 0..200 {
            self.pass(Duration::from_millis(25)).await;
            consumer.step(handler).await.unwrap();
            let sub = self.member("looker").await;
            let waiting = self.admin.delayed(&sub).await.unwrap().count;
            let floors = self.admin.floor(&sub).await.unwrap();
            if waiting == 0 && floors.iter().all(|floor| floor.owed_from.is_none()) {
                return;
            }
        }
        panic!("the stream was never drained");
    }
}

/// A keeper of dead letters that can be down.
#[derive(Default)]
pub struct Letters {
    kept: Mutex<Vec<DeadLetter>>,
    down: AtomicBool,
}

// === impl Letters ===

impl Letters {
    /// An empty keeper.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// What was kept, each letter once.
    pub fn kept(&self) -> Vec<DeadLetter> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Goes down or comes back.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

#[async_trait]
impl DeadLetters for Letters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        if self.down.load(Ordering::SeqCst) {
            let source = std::io::Error::other("the store is down");
            return Err(PortError::new("could not keep the letter", source));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for letter in letters {
            let same =
                |one: &DeadLetter| one.stream == letter.stream && one.entry_id == letter.entry_id;
            if !kept.iter().any(same) {
                kept.push(letter.clone());
            }
        }
        Ok(())
    }
}

/// A handler that judges entry by entry and remembers what it saw.
pub struct Judge<F> {
    judge: F,
    seen: Mutex<Vec<String>>,
}

// === impl Judge ===

impl<F: Fn(Entry) -> Option<Outcome> + Send + Sync> Judge<F> {
    /// `None` drops the entry without an outcome.
    pub fn new(judge: F) -> Self {
        Self {
            judge,
            seen: Mutex::default(),
        }
    }

    /// What it says of one entry.
    pub(super) fn judge(&self, entry: Entry) -> Option<Outcome> {
        (self.judge)(entry)
    }

    /// The bodies that were offered, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl<F: Fn(Entry) -> Option<Outcome> + Send + Sync> Handler for Judge<F> {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let bodies = batch.iter().map(body);
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bodies);
        batch.into_iter().filter_map(&self.judge).collect()
    }
}

/// The body as a text.
pub(super) fn body(entry: &Entry) -> String {
    let data = entry.field(crate::field::DATA).map(|data| data.to_vec());
    String::from_utf8(data.unwrap_or_default()).unwrap()
}

/// The bodies as texts.
pub(super) fn bodies(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(body).collect()
}

/// Done, for a handler whose effects are the test's own.
pub fn done(entry: Entry) -> Outcome {
    Outcome::Done {
        entry,
        proof: Committed::outside("the test keeps its effects in memory"),
    }
}

/// Failed in a way that may pass.
pub fn retry(entry: Entry) -> Outcome {
    Outcome::Retry {
        entry,
        error: "on purpose".to_owned(),
        code: "test.retry".to_owned(),
    }
}
