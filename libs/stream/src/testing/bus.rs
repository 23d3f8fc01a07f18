//! The bus itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratebox_kit::{Clock, DeadLetter, Message, MessageId, Timestamp, id};
use serde::Serialize;

use super::recorder::{Ending, Recorded, Recorder};
use crate::conformance::Letters;
use crate::cron::{Cron, Job};
use crate::handler::TYPE_HEADER;
use crate::handler::gather::AT_ONCE;
use crate::{
    Admin as _, Append, Consumer, ConsumerName, Entry, EntryId, GroupName, Handler, Lanes, Log,
    MemoryLog, Policy, Step, StreamName, Subscription,
};

/// Where the clock stands at first: 2023-11-14T22:13:20Z.
const START_S: i64 = 1_700_000_000;

/// Steps of one run; more means that a handler feeds itself for ever.
const STEPS_MAX: usize = 100_000;

/// Moves of the clock in one [`TestBus::advance`].
const MOVES: u32 = 1_000;

/// Messages that [`TestBus::on`] shows of a stream.
const SHOWN_MAX: usize = 10_000;

/// A log in memory, consumers on it, and a clock that only the test moves.
///
/// Methods that assert panic with what they found instead.
pub struct TestBus {
    clock: Clock,
    log: Arc<MemoryLog>,
    letters: Arc<Letters>,
    members: Vec<(Consumer, Recorder)>,
    seen: Arc<Mutex<Vec<Recorded>>>,
    cron: Cron,
}

// === impl TestBus ===

impl Default for TestBus {
    fn default() -> Self {
        Self::new()
    }
}

impl TestBus {
    /// An empty bus.
    ///
    /// # Panics
    /// Never: the first moment is a valid one.
    pub fn new() -> Self {
        Self::starting_at(Timestamp::from_second(START_S).expect("a moment in 2023"))
    }

    /// An empty bus whose clock stands at `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        let clock = Clock::manual(start);
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let cron = Cron::new(Arc::<MemoryLog>::clone(&log), clock.clone());
        Self {
            clock,
            log,
            letters: Letters::new(),
            members: Vec::new(),
            seen: Arc::default(),
            cron,
        }
    }

    /// Adds a member of `group` that gives the messages of `stream` to `handler`.
    #[must_use]
    pub fn worker(self, stream: &str, group: &str, handler: impl Handler + 'static) -> Self {
        self.worker_with(stream, group, Policy::default(), handler)
    }

    /// The same with other limits.
    #[must_use]
    pub fn worker_with(
        mut self,
        stream: &str,
        group: &str,
        policy: Policy,
        handler: impl Handler + 'static,
    ) -> Self {
        let group = GroupName::new(group);
        let name = ConsumerName::new(format!("member-{}", self.members.len()));
        let lanes = Lanes::of(&StreamName::new(stream));
        let sub = Subscription::new(lanes, group.clone(), name);
        // Time stands still between steps, so each of them looks for what is due.
        let policy = Policy {
            claim_every: Duration::ZERO,
            ..policy
        };
        let (log, letters) = (self.log(), Arc::clone(&self.letters));
        let consumer = Consumer::new(log, letters, sub, policy, self.clock.clone());
        let recorder = Recorder {
            handler: Arc::new(handler),
            group,
            clock: self.clock.clone(),
            seen: Arc::clone(&self.seen),
        };
        self.members.push((consumer, recorder));
        self
    }

    /// Adds a job: it fires as the clock moves.
    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        self.cron = self.cron.job(job);
        self
    }

    /// The clock; it moves only by [`TestBus::advance`].
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The log, for whatever of yours sends on it.
    pub fn log(&self) -> Arc<dyn Log> {
        Arc::<MemoryLog>::clone(&self.log)
    }

    /// Sends a message of a type with a JSON body; returns its id.
    ///
    /// # Panics
    /// When the body cannot be written as JSON.
    pub async fn send<T: Serialize + ?Sized>(
        &self,
        stream: &str,
        message_type: &str,
        body: &T,
    ) -> MessageId {
        let body = serde_json::to_vec(body).expect("the body can be written as JSON");
        let message = Message::new(id::new().to_string(), body);
        let message = message.with_header(TYPE_HEADER, message_type);
        self.send_message(stream, message).await
    }

    /// Sends a message as it is; returns its id.
    ///
    /// # Panics
    /// Never: the log in memory takes everything.
    pub async fn send_message(&self, stream: &str, message: Message) -> MessageId {
        let id = message.id.clone();
        let append = Append::new(StreamName::new(stream), message);
        for appended in self.log.append(&[append]).await {
            appended.expect("the log in memory takes everything");
        }
        id
    }

    /// Lets every member work until none finds anything to do at this moment.
    ///
    /// # Panics
    /// When that never happens, because a handler feeds itself.
    pub async fn run_until_idle(&self) {
        let fired = self.cron.step().await;
        fired.expect("the log in memory is never away");
        for _ in 0..STEPS_MAX {
            let mut is_idle = true;
            for (consumer, recorder) in &self.members {
                let step = AT_ONCE.scope((), consumer.step(recorder)).await;
                is_idle &= step.expect("the log in memory is never away") == Step::Idle;
            }
            if is_idle {
                return;
            }
        }
        panic!("not idle after {STEPS_MAX} rounds: does a handler send to its own stream?");
    }

    /// Moves the clock by `time` in small moves and works after each, so that what is due comes in
    /// its order.
    pub async fn advance(&self, time: Duration) {
        let each = (time / MOVES).max(Duration::from_millis(10)).min(time);
        let mut left = time;
        while !left.is_zero() {
            let now = each.min(left);
            self.clock.advance(now);
            self.run_until_idle().await;
            left -= now;
        }
    }

    /// What the handlers said of a message, in order.
    pub fn outcomes(&self, message: &MessageId) -> Vec<Recorded> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_message = seen.iter().filter(|it| it.message_id == message.0);
        of_message.cloned().collect()
    }

    /// The dead letters so far.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.letters.kept()
    }

    /// Lets the store of dead letters be away, or come back.
    pub fn set_letters_away(&self, away: bool) {
        self.letters.set_down(away);
    }

    /// What is on a stream, oldest first: what your handlers sent.
    ///
    /// # Panics
    /// Never: the log in memory is never away.
    pub async fn on(&self, stream: &str) -> Vec<Entry> {
        let stream = StreamName::new(stream);
        let entries = self.log.peek(&stream, EntryId::MIN, SHOWN_MAX).await;
        entries.expect("the log in memory is never away")
    }

    /// A handler was called for the message and said in the end that it is done.
    ///
    /// # Panics
    /// When none did.
    #[track_caller]
    pub fn assert_done(&self, message: &MessageId) {
        let outcomes = self.outcomes(message);
        let is_done = outcomes.last().is_some_and(|it| it.ending == Ending::Done);
        assert!(is_done, "{message} is not done: {outcomes:?}");
    }

    /// The message failed this often in a way that may pass.
    ///
    /// # Panics
    /// When it failed more or less often.
    #[track_caller]
    pub fn assert_retried(&self, message: &MessageId, times: usize) {
        let outcomes = self.outcomes(message);
        let is_retry = |it: &&Recorded| matches!(it.ending, Ending::Retry { .. });
        let retried = outcomes.iter().filter(is_retry).count();
        assert_eq!(retried, times, "retries of {message}: {outcomes:?}");
    }

    /// The message is a dead letter with this code.
    ///
    /// # Panics
    /// When it is none, or has another code.
    #[track_caller]
    pub fn assert_dead(&self, message: &MessageId, code: &str) {
        let letters = self.dead_letters();
        let letter = letters.iter().find(|it| it.message_id == message.0);
        let Some(letter) = letter else {
            panic!("{message} is no dead letter: {:?}", self.outcomes(message));
        };
        assert_eq!(letter.code, code, "the code of {message}'s dead letter");
    }

    /// Nobody was ever called for the message.
    ///
    /// # Panics
    /// When somebody was.
    #[track_caller]
    pub fn assert_untouched(&self, message: &MessageId) {
        let outcomes = self.outcomes(message);
        assert!(outcomes.is_empty(), "{message} was worked on: {outcomes:?}");
    }
}
