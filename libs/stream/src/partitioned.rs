//! A member of the group of a partitioned stream: takes its share of the partitions, runs a
//! [`Consumer`] for each, and hands them over when members come and go.
//!
//! Every turn the member says that it lives, renews its leases, and compares what it owns with its
//! share: the partitions divided by the members that live, in order of name, so that shares add up
//! to all. What is too much is drained and given back; what is missing is taken when it is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_kit::{Causes, Clock, DeadLetters, Stopwatch, Tasks};
use tokio::sync::{Mutex, Notify};

use crate::fence::{Fence, Fenced};
use crate::{
    Consumer, ConsumerName, Error, GroupName, Handler, KeyOrder, Limits, Log, Ownership,
    Partitions, Policy, Subscription, key_hash, stats,
};

/// How long a partition is leased. A dead member's partitions are free after this.
pub const LEASE: Duration = Duration::from_secs(10);
/// The longest.
const LEASE_MAX: Duration = Duration::from_secs(600);

/// How often leases are renewed and shares compared.
pub const TURN: Duration = Duration::from_secs(1);

/// How long a partition that is handed over may take to finish what is in work.
pub const DRAIN: Duration = Duration::from_secs(10);

/// On what terms partitions are held.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long a partition is leased ([`LEASE`]); ten minutes at most.
    pub lease: Duration,
    /// How often leases are renewed ([`TURN`]); at most a quarter of the lease.
    pub turn: Duration,
    /// How long a hand-over may take ([`DRAIN`]).
    pub drain: Duration,
    /// Whether messages of one key are worked on one after the other.
    pub order: KeyOrder,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: LEASE,
            turn: TURN,
            drain: DRAIN,
            order: KeyOrder::None,
        }
    }
}

impl Terms {
    /// Whether the times make sense together.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence that says what to change.
    pub fn check(&self, policy: &Policy) -> Result<(), Error> {
        if self.turn.is_zero() || self.turn * 4 > self.lease {
            return Err(Error::refused(
                "the lease of a partition must last four turns, or one late turn loses it",
            ));
        }
        // The leases of a database last no longer, and the fence must know when they end.
        if self.lease > LEASE_MAX {
            return Err(Error::refused(
                "the lease of a partition lasts ten minutes at most",
            ));
        }
        if policy.block * 4 > self.lease {
            return Err(Error::refused(
                "the lease of a partition must be four times policy.block, or a read that waits \
                 may get entries after the lease ended",
            ));
        }
        Ok(())
    }
}

/// Gives each partition its handler, which knows the fence around its effects.
pub trait Handlers: Send + Sync {
    /// The handler of a partition that was just taken.
    fn of(&self, fence: &Fence) -> Arc<dyn Handler>;
}

impl<F: Fn(&Fence) -> Arc<dyn Handler> + Send + Sync> Handlers for F {
    fn of(&self, fence: &Fence) -> Arc<dyn Handler> {
        self(fence)
    }
}

/// What members need of the log. A log fills both: pass it twice.
#[derive(Clone)]
pub struct Backends {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Its leases.
    pub ownership: Arc<dyn Ownership>,
    /// Where letters are kept.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The limits of the whole stream, over all partitions; `None` where there are none to ask.
    pub limits: Option<Arc<dyn Limits>>,
}

/// A partition in our hands.
struct Owned {
    sub: Subscription,
    fence: Fence,
    consumer: Arc<Consumer>,
    /// Its loop and its batches.
    tasks: Tasks,
    /// It is being handed over; true once nothing of it is in work.
    leaving: Option<Arc<AtomicBool>>,
}

/// A member of the group of a partitioned stream. It does not follow the orders of
/// [`crate::Control`]: its consumers have no dispatcher.
pub struct PartitionedConsumer {
    backends: Backends,
    partitions: Partitions,
    sub: Subscription,
    policy: Policy,
    terms: Terms,
    clock: Clock,
    owned: Mutex<BTreeMap<u32, Owned>>,
    drained: Arc<Notify>,
}

// === impl PartitionedConsumer ===

impl PartitionedConsumer {
    /// A member under a name that no other process has ([`ConsumerName::unique`]).
    ///
    /// # Errors
    /// When policy or terms contradict themselves.
    pub fn new(
        backends: Backends,
        partitions: Partitions,
        member: (GroupName, ConsumerName),
        (policy, terms): (Policy, Terms),
        clock: Clock,
    ) -> Result<Self, Error> {
        policy.check()?;
        terms.check(&policy)?;
        let lanes = crate::Lanes::only(partitions.base());
        let (group, name) = member;
        Ok(Self {
            backends,
            partitions,
            sub: Subscription::new(lanes, group, name),
            policy,
            terms,
            clock,
            owned: Mutex::default(),
            drained: Arc::new(Notify::new()),
        })
    }

    /// The partitions that it works on now, without those that it hands over.
    pub async fn partitions(&self) -> Vec<u32> {
        let owned = self.owned.lock().await;
        let working = owned.iter().filter(|(_, one)| one.leaving.is_none());
        working.map(|(number, _)| *number).collect()
    }

    /// Entries in its hands.
    pub async fn held(&self) -> usize {
        let owned = self.owned.lock().await;
        owned.values().map(|one| one.consumer.held()).sum()
    }

    /// Works until the process is asked to stop; then drains and gives everything back.
    pub async fn run(&self, handlers: Arc<dyn Handlers>, tasks: &Tasks) {
        let shutdown = tasks.shutdown();
        while !shutdown.is_stopping() {
            if let Err(error) = self.turn(&*handlers, tasks).await {
                stats::failed(self.sub.lanes.base(), "ownership");
                tracing::warn!(stream = %self.sub.lanes.base(), error = %Causes(&error), "leases not renewed");
            }
            let nap = tokio::time::timeout(self.terms.turn, self.drained.notified());
            let _ = shutdown.unless(nap).await;
        }
        self.hand_over_all().await;
    }

    /// One turn: lives, renews, gives, takes. Consumers run as tasks of their own.
    ///
    /// # Errors
    /// When the log cannot be reached. Fences close by themselves when that lasts.
    pub async fn turn(&self, handlers: &dyn Handlers, tasks: &Tasks) -> Result<(), Error> {
        let mut owned = self.owned.lock().await;
        self.renew(&mut owned, tasks).await?;
        self.give_back_drained(&mut owned).await?;
        let members = self.backends.ownership.meet(&self.sub, self.terms.lease);
        let share = self.share(&members.await?);
        let working = owned.values().filter(|one| one.leaving.is_none()).count();
        if working > share {
            let surplus = owned.values_mut().rev();
            let surplus = surplus.filter(|one| one.leaving.is_none());
            for one in surplus.take(working - share) {
                tracing::info!(partition = %one.sub.lanes.base(), "hands a partition over");
                self.let_go(one, tasks);
            }
        } else if working < share {
            self.take(&mut owned, share - working, handlers).await?;
        }
        self.report(&owned);
        Ok(())
    }

    /// How many partitions are ours when all members that live have their share.
    fn share(&self, members: &[ConsumerName]) -> usize {
        let count = self.partitions.count() as usize;
        let rank = members.iter().position(|one| *one == self.sub.consumer);
        let (Some(rank), living) = (rank, members.len()) else {
            return 0;
        };
        count / living + usize::from(rank < count % living)
    }

    /// Renews every lease. One that another has, or that comes back under another epoch, was lost.
    async fn renew(&self, owned: &mut BTreeMap<u32, Owned>, tasks: &Tasks) -> Result<(), Error> {
        let mut failure = None;
        for one in owned.values_mut() {
            let began_ms = one.fence.moment_ms();
            match self
                .backends
                .ownership
                .lease(&one.sub, self.terms.lease)
                .await
            {
                Ok(Some(epoch)) if epoch == one.fence.epoch() => {
                    one.fence.renewed(began_ms, self.terms.lease);
                }
                Ok(_) if one.leaving.is_some() => one.fence.close(),
                Ok(_) => {
                    stats::count(stats::PARTITIONS_LOST, self.sub.lanes.base(), 1);
                    tracing::error!(partition = %one.sub.lanes.base(), "lost a partition");
                    one.fence.close();
                    self.let_go(one, tasks);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Stops the consumer of a partition, without waiting for it.
    fn let_go(&self, one: &mut Owned, tasks: &Tasks) {
        let done = Arc::new(AtomicBool::new(false));
        one.leaving = Some(Arc::clone(&done));
        let (of, fence) = (one.tasks.clone(), one.fence.clone());
        let (drain, drained) = (self.terms.drain, Arc::clone(&self.drained));
        of.stop();
        tasks.spawn("stream.partition.drain", async move {
            let late = of.join(drain).await;
            fence.close();
            if !late.is_empty() {
                tracing::warn!("a partition was handed over with work unfinished: {late:?}");
            }
            done.store(true, Ordering::SeqCst);
            drained.notify_one();
        });
    }

    async fn give_back_drained(&self, owned: &mut BTreeMap<u32, Owned>) -> Result<(), Error> {
        let is_drained = |one: &Owned| {
            let leaving = one.leaving.as_ref();
            leaving.is_some_and(|done| done.load(Ordering::SeqCst))
        };
        let drained = owned.iter().filter(|(_, one)| is_drained(one));
        let drained: Vec<u32> = drained.map(|(number, _)| *number).collect();
        for number in drained {
            if let Some(one) = owned.get(&number) {
                self.backends.ownership.give_back(&one.sub).await?;
            }
            owned.remove(&number);
        }
        Ok(())
    }

    /// Takes up to `missing` partitions that are free, beginning at a place of its own.
    async fn take(
        &self,
        owned: &mut BTreeMap<u32, Owned>,
        missing: usize,
        handlers: &dyn Handlers,
    ) -> Result<(), Error> {
        let count = self.partitions.count();
        let start = key_hash(self.sub.consumer.as_str().as_bytes()) % u64::from(count);
        let start = u32::try_from(start).unwrap_or(0);
        let mut missing = missing;
        for number in (start..count).chain(0..start) {
            if missing == 0 {
                break;
            }
            if owned.contains_key(&number) {
                continue;
            }
            if let Some(fence) = self.try_take(number).await? {
                owned.insert(number, self.begin(fence, handlers));
                missing -= 1;
            }
        }
        Ok(())
    }

    async fn try_take(&self, number: u32) -> Result<Option<Fence>, Error> {
        let mut sub = self.sub.clone();
        sub.lanes = self.partitions.lanes(number);
        let (watch, length) = (Stopwatch::start(), self.terms.lease);
        let ownership = &self.backends.ownership;
        let epoch = ownership.lease(&sub, length).await?;
        let fence = |epoch| Fence::new(ownership.clone(), sub, number, epoch, watch, length);
        Ok(epoch.map(fence))
    }

    fn begin(&self, fence: Fence, handlers: &dyn Handlers) -> Owned {
        let sub = fence.subscription().clone();
        stats::count(stats::PARTITIONS_TAKEN, self.sub.lanes.base(), 1);
        tracing::info!(partition = %sub.lanes.base(), epoch = fence.epoch(), "took a partition");
        let handler = Arc::new(Fenced {
            handler: handlers.of(&fence),
            fence: fence.clone(),
        });
        let backends = self.backends.clone();
        let consumer = Consumer::new(
            backends.log,
            backends.dead_letters,
            sub.clone(),
            self.policy.clone(),
            self.clock.clone(),
        );
        let mut consumer = consumer.alone_behind(fence.clone(), self.terms.order);
        if let Some(limits) = backends.limits {
            let mut whole = self.sub.clone();
            let name = format!("{}/{}", whole.consumer, fence.partition());
            whole.consumer = ConsumerName::new(name);
            consumer = consumer.limited(limits, whole);
        }
        let consumer = Arc::new(consumer);
        let tasks = Tasks::new();
        let (of, running) = (tasks.clone(), Arc::clone(&consumer));
        tasks.spawn("stream.partition", async move {
            running.run(handler, &of).await
        });
        Owned {
            sub,
            fence,
            consumer,
            tasks,
            leaving: None,
        }
    }

    /// Hands everything over, renewing what is not drained yet, and leaves.
    async fn hand_over_all(&self) {
        // Not the tasks of the process: those are ending.
        let tasks = Tasks::new();
        let mut owned = self.owned.lock().await;
        for one in owned.values_mut().filter(|one| one.leaving.is_none()) {
            self.let_go(one, &tasks);
        }
        let end = Stopwatch::start();
        while !owned.is_empty() && end.elapsed() < self.terms.drain * 2 {
            let _ = tokio::time::timeout(self.terms.turn, self.drained.notified()).await;
            if let Err(error) = self.give_back_drained(&mut owned).await {
                tracing::warn!(error = %Causes(&error), "leases end by themselves");
                break;
            }
            // What is not drained keeps its lease; an error is seen by the fence.
            let _ = self.renew(&mut owned, &tasks).await;
        }
        if let Err(error) = self.backends.ownership.leave(&self.sub).await {
            tracing::warn!(error = %Causes(&error), "others learn of the stop when our presence ends");
        }
    }

    fn report(&self, owned: &BTreeMap<u32, Owned>) {
        let stream = self.sub.lanes.base().to_string();
        metrics::gauge!(stats::PARTITIONS_OWNED, "stream" => stream).set(owned.len() as f64);
    }
}
