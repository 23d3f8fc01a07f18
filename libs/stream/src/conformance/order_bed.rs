//! What the cases about partitions and order work with: processes that can be killed, and a store
//! that notices when an effect comes too late, twice or out of order.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Backoff, Clock, DeadLetters, Message, Stopwatch, Tasks};

use super::{Bed, Letters, done};
use crate::{
    Admin, Append, Backends, Backlogs, Chooser, Consumer, ConsumerName, Entry, Fence, GroupName,
    Handler, Handlers, KeyOrder, Lane, Lanes, Limit, Limits, Log, Outcome, Ownership,
    PartitionedConsumer, Partitions, Policy, Rooms, Scope, Subscription, Terms, field,
};

/// How long a case waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The parts of one process' connection to a log.
pub struct Connection {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Its leases.
    pub ownership: Arc<dyn Ownership>,
    /// Its limits.
    pub limits: Arc<dyn Limits>,
    /// Its rooms.
    pub rooms: Arc<dyn Rooms>,
    /// Its backlogs.
    pub backlogs: Arc<dyn Backlogs>,
    /// Its operator's side.
    pub admin: Arc<dyn Admin>,
}

// === impl Connection ===

impl Connection {
    /// Every side of one log.
    pub fn of<L>(log: &Arc<L>) -> Self
    where
        L: Log + Ownership + Limits + Rooms + Backlogs + Admin + 'static,
    {
        Self {
            log: log.clone(),
            ownership: log.clone(),
            limits: log.clone(),
            rooms: log.clone(),
            backlogs: log.clone(),
            admin: log.clone(),
        }
    }
}

/// A bed whose log several processes may connect to. Its time passes by itself.
pub struct OrderBed {
    /// The bed.
    pub bed: Bed,
    /// Where letters are kept.
    pub letters: Arc<Letters>,
    connect: Box<dyn Fn() -> Connection + Send + Sync>,
}

// === impl OrderBed ===

impl OrderBed {
    /// A bed with a way for one more process to connect.
    pub fn new(bed: Bed, connect: impl Fn() -> Connection + Send + Sync + 'static) -> Self {
        Self {
            bed,
            letters: Letters::new(),
            connect: Box::new(connect),
        }
    }

    /// One more process' connection.
    pub fn connect(&self) -> Connection {
        (self.connect)()
    }

    /// So many partitions of the case's stream.
    pub fn partitions(&self, count: u32) -> Partitions {
        Partitions::new(self.bed.stream.clone(), count).unwrap()
    }

    /// Short leases, so that nothing is waited for longer than needed.
    pub fn terms(&self, order: KeyOrder) -> Terms {
        Terms {
            lease: Duration::from_millis(1_200),
            turn: Duration::from_millis(100),
            drain: Duration::from_secs(5),
            order,
        }
    }

    /// Short waits.
    pub fn policy(&self) -> Policy {
        let wait = |first_ms| Backoff {
            first: Duration::from_millis(first_ms),
            max: Duration::from_millis(first_ms * 4),
        };
        Policy {
            batch_max: 50,
            block: Duration::from_millis(100),
            claim_every: Duration::from_millis(100),
            claim_idle: Duration::from_secs(2),
            heartbeat: Duration::from_millis(400),
            retry_backoff: wait(20),
            ..self.bed.policy()
        }
    }

    /// The member `name` of the group `g` of a partition.
    pub fn member_of(&self, partitions: &Partitions, number: u32, name: &str) -> Subscription {
        let lanes = partitions.lanes(number);
        Subscription::new(lanes, GroupName::new("g"), ConsumerName::new(name))
    }

    /// Starts a process of its own with a member.
    pub fn process(
        &self,
        name: &str,
        partitions: &Partitions,
        terms: Terms,
        handlers: impl Handlers + 'static,
    ) -> Process {
        self.process_that(name, partitions, (self.policy(), terms), handlers)
    }

    /// The same with a policy of the case's own.
    pub fn process_that(
        &self,
        name: &str,
        partitions: &Partitions,
        behaviour: (Policy, Terms),
        handlers: impl Handlers + 'static,
    ) -> Process {
        let connection = self.connect();
        let dead_letters: Arc<dyn DeadLetters> = self.letters.clone();
        let backends = Backends {
            log: connection.log,
            ownership: connection.ownership,
            dead_letters,
            limits: Some(connection.limits),
        };
        let named = (GroupName::new("g"), ConsumerName::new(name));
        let clock = Clock::system();
        let member =
            PartitionedConsumer::new(backends, partitions.clone(), named, behaviour, clock);
        let handlers: Arc<dyn Handlers> = Arc::new(handlers);
        Process::start(Arc::new(member.unwrap()), |member, tasks| async move {
            member.run(handlers, &tasks).await;
        })
    }

    /// Starts a process of its own with a plain consumer of the case's stream, under its limits.
    pub async fn limited(&self, name: &str, handler: Arc<dyn Handler>) -> Process<Consumer> {
        let connection = self.connect();
        let sub = self.bed.member(name).await;
        let (letters, clock) = (self.letters.clone(), Clock::system());
        let consumer = Consumer::new(connection.log, letters, sub, self.policy(), clock)
            .with_limits(connection.limits);
        Process::start(Arc::new(consumer), |consumer, tasks| async move {
            consumer.run(handler, &tasks).await;
        })
    }

    /// Sets a rule of the case's stream.
    pub async fn limit(&self, scope: Scope, limit: Limit) {
        let limits = self.connect().limits;
        let sub = self.bed.member("operator").await;
        limits.set_limit(&sub, &scope, limit).await.unwrap();
    }

    /// Appends so many messages of an owner and a key to the case's stream.
    pub async fn append_of(&self, owner: &str, key: &str, count: usize) {
        let message = |number: usize| {
            Message::new(format!("{owner}-{key}-{number}"), number.to_string())
                .with_header(field::OWNER, owner)
                .with_header(field::KEY, key)
        };
        let stream = &self.bed.stream;
        let appends: Vec<Append> = (0..count)
            .map(|it| Append::new(stream.clone(), message(it)))
            .collect();
        for answer in self.bed.log.append(&appends).await {
            answer.unwrap();
        }
    }

    /// Appends `messages` numbered messages, spread in turn over keys `k0`, `k1`, … of a number;
    /// the body of each is its number within its key.
    pub async fn append_keyed(&self, partitions: &Partitions, messages: usize, keys: usize) {
        let chooser = Chooser::new(partitions.clone());
        let message = |number: usize| {
            let (key, of_key) = (number % keys, number / keys);
            let id = format!("k{key}-{of_key}");
            let message = Message::new(id, of_key.to_string());
            chooser.append(
                Lane::Normal,
                message.with_header(field::KEY, format!("k{key}")),
            )
        };
        let appends: Vec<Append> = (0..messages).map(message).collect();
        for chunk in appends.chunks(1_000) {
            for answer in self.bed.log.append(chunk).await {
                answer.unwrap();
            }
        }
    }

    /// Entries pending in all partitions.
    pub async fn pending(&self, partitions: &Partitions) -> u64 {
        let mut sum = 0;
        for number in 0..partitions.count() {
            for (_, stream) in partitions.lanes(number).iter() {
                let info = self.bed.admin.info(stream).await.unwrap();
                let groups = info.into_iter().flat_map(|info| info.groups);
                sum += groups.map(|group| group.pending).sum::<u64>();
            }
        }
        sum
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let watch = Stopwatch::start();
        while !holds().await {
            assert!(watch.elapsed() < PATIENCE, "waited too long until {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The plain lanes of the case's stream, for calls that are about all of it.
    pub fn whole(&self, name: &str) -> Subscription {
        let lanes = Lanes::only(&self.bed.stream);
        Subscription::new(lanes, GroupName::new("g"), ConsumerName::new(name))
    }
}

/// A member in a runtime of its own, which can die at any moment.
pub struct Process<M = PartitionedConsumer> {
    /// The member.
    pub member: Arc<M>,
    tasks: Tasks,
    runtime: Option<tokio::runtime::Runtime>,
}

// === impl Process ===

impl<M: Send + Sync + 'static> Process<M> {
    fn start<F: Future<Output = ()> + Send + 'static>(
        member: Arc<M>,
        work: impl FnOnce(Arc<M>, Tasks) -> F,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.unwrap();
        let tasks = Tasks::new();
        let (running, of) = (Arc::clone(&member), tasks.clone());
        let inside = runtime.enter();
        tasks.spawn("member", work(running, of));
        drop(inside);
        Self {
            member,
            tasks,
            runtime: Some(runtime),
        }
    }

    /// Everything that runs in it ends where it stands, and nothing is handed back.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) {
        assert_eq!(self.tasks.join(PATIENCE).await, Vec::<String>::new());
        assert_eq!(self.tasks.failed(), Vec::<String>::new());
        self.kill();
    }
}

impl<M> Drop for Process<M> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a handler does with one message before its effect: `None` = commit it.
type Script = dyn Fn(&str, u64) -> Option<Fate> + Send + Sync;

/// What becomes of a message instead of its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Fails, and may pass.
    Retry,
    /// Not now, and nothing failed.
    Snooze,
    /// Can never succeed.
    Dead,
}

/// A store of effects with an inbox, which refuses the epoch of an owner that was replaced.
pub struct Effects {
    state: Mutex<Committed>,
    script: Box<Script>,
}

#[derive(Default)]
struct Committed {
    /// The highest epoch that committed anything, by partition.
    epochs: HashMap<u32, u64>,
    inbox: HashSet<String>,
    /// The numbers that took effect or became dead, in order, by key.
    keys: HashMap<String, Vec<u64>>,
    refused: usize,
    inversions: usize,
    tries: usize,
}

// === impl Effects ===

impl Effects {
    /// A store; `script` says by key and number what fails.
    pub fn new(script: impl Fn(&str, u64) -> Option<Fate> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            script: Box::new(script),
        })
    }

    /// How many messages took effect or were given up.
    pub fn count(&self) -> usize {
        self.state().keys.values().map(Vec::len).sum()
    }

    /// The numbers of a key in the order of their effects.
    pub fn of(&self, key: &str) -> Vec<u64> {
        self.state().keys.get(key).cloned().unwrap_or_default()
    }

    /// Effects that came after a later one of their key.
    pub fn inversions(&self) -> usize {
        self.state().inversions
    }

    /// Effects that were refused because their owner had been replaced.
    pub fn refused(&self) -> usize {
        self.state().refused
    }

    /// Messages offered, again and again included.
    pub fn tries(&self) -> usize {
        self.state().tries
    }

    /// The handlers of one process.
    pub fn handlers(self: &Arc<Self>) -> impl Handlers + use<> {
        let effects = Arc::clone(self);
        move |fence: &Fence| -> Arc<dyn Handler> {
            Arc::new(Committer {
                effects: Arc::clone(&effects),
                fence: fence.clone(),
            })
        }
    }

    /// One transaction: epoch, inbox, effect.
    fn commit(&self, fence: &Fence, entry: &Entry) -> Option<Fate> {
        let key = entry
            .field(field::KEY)
            .map_or("", |key| std::str::from_utf8(key).unwrap());
        let number: u64 = super::bed::body(entry).parse().unwrap();
        let fate = (self.script)(key, number);
        let mut state = self.state();
        state.tries += 1;
        let highest = state.epochs.entry(fence.partition()).or_default();
        if fence.epoch() < *highest {
            state.refused += 1;
            return Some(Fate::Retry);
        }
        *highest = fence.epoch();
        // A dead head frees its key as an effect does; one that comes again does not.
        let ends = !matches!(fate, Some(Fate::Retry | Fate::Snooze));
        if ends && state.inbox.insert(entry.message_id().into_owned()) {
            let numbers = state.keys.entry(key.to_owned()).or_default();
            let late = numbers.last().is_some_and(|last| *last > number);
            numbers.push(number);
            state.inversions += usize::from(late);
        }
        fate
    }

    fn state(&self) -> MutexGuard<'_, Committed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handler of one partition.
struct Committer {
    effects: Arc<Effects>,
    fence: Fence,
}

#[async_trait]
impl Handler for Committer {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        // As a commit takes its time: what runs beside this gets its chance.
        tokio::task::yield_now().await;
        let judge = |entry: Entry| match self.effects.commit(&self.fence, &entry) {
            None => done(entry),
            Some(Fate::Retry) => super::retry(entry),
            Some(Fate::Snooze) => Outcome::Snooze {
                entry,
                wait: Duration::from_millis(20),
            },
            Some(Fate::Dead) => Outcome::Dead {
                entry,
                class: ratebox_kit::DeadLetterClass::Permanent,
                error: "on purpose".to_owned(),
                code: "test.dead".to_owned(),
            },
        };
        batch.into_iter().map(judge).collect()
    }
}
