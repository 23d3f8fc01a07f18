//! A member of a consumer group: the loop that turns a log into reliable delivery.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ratebox_kit::{
    Backoff, Causes, Clock, DeadLetters, Shutdown, Spell, Stopwatch, Tasks, Trouble,
};
use tokio::sync::Mutex;

use crate::failed::Failed;
use crate::fence::Fence;
use crate::gate::Gate;
use crate::heartbeat::Heart;
use crate::inflow::{Inflow, Taken};
use crate::key_order::Lines;
use crate::scaling::{Measured, Scaler, Scaling};
use crate::shared::{Alone, Doorkeeper, Shared};
use crate::slots::{Slot, Want};
use crate::standing::Standing;
use crate::urgent::{Ended, Urgent};
use crate::{
    Dispatcher, Door, Error, Handler, KeyOrder, Limits, Log, Policy, Rooms, Subscription, stats,
};

/// Waits after a failed turn. The longest bounds how long a log that is back goes unnoticed.
const TROUBLE_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_millis(500),
};

/// The longest nap while inflow is paused, so that a manual clock and a shutdown are seen.
const NAP_MAX: Duration = Duration::from_millis(100);

/// What one pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many entries were worked on.
    Did(usize),
    /// There was nothing to do.
    Idle,
}

/// A member of a consumer group.
///
/// Delivery is at least once. While the consumer runs, each entry of its group reaches the
/// handler until it is done, dead, or handed to another member.
pub struct Consumer {
    shared: Arc<Shared>,
    inflow: Mutex<Inflow>,
}

// === impl Consumer ===

impl Consumer {
    /// A member that reads `log` as `sub` says. Its name should be
    /// [`crate::ConsumerName::unique`].
    pub fn new(
        log: Arc<dyn Log>,
        dead_letters: Arc<dyn DeadLetters>,
        sub: Subscription,
        policy: Policy,
        clock: Clock,
    ) -> Self {
        let shared = Arc::new(Shared::new(log, dead_letters, sub, policy, clock));
        let inflow = Mutex::new(Inflow::new(&shared));
        Self { shared, inflow }
    }

    /// The same as the only one who reads these lanes, as long as the fence is open. What others
    /// left pending is taken over at once, before anything fresh.
    pub(crate) fn alone_behind(mut self, fence: Fence, order: KeyOrder) -> Self {
        let lines = match order {
            KeyOrder::None => None,
            KeyOrder::PerKey => Some(Lines::default()),
        };
        Arc::get_mut(&mut self.shared)
            .expect("it was just made, so nobody shares it")
            .alone = Some(Alone {
            fence,
            lines,
            failed: Failed::default(),
        });
        self
    }

    /// The same under the limits of its stream; see [`crate::limits`]. Call it before the consumer
    /// works.
    #[must_use]
    pub fn with_limits(self, limits: Arc<dyn Limits>) -> Self {
        let sub = self.shared.sub.clone();
        self.limited(limits, sub)
    }

    /// The same under the limits of another stream and name.
    pub(crate) fn limited(mut self, limits: Arc<dyn Limits>, sub: Subscription) -> Self {
        Arc::get_mut(&mut self.shared)
            .expect("a consumer is set up before it works")
            .gate = Some(Gate::new(limits, sub));
        self
    }

    /// The same, letting messages of waiting owners in; see [`crate::rooms`]. Call it before the
    /// consumer works.
    #[must_use]
    pub fn with_rooms(mut self, rooms: Arc<dyn Rooms>, door: Door) -> Self {
        Arc::get_mut(&mut self.shared)
            .expect("a consumer is set up before it works")
            .doorkeeper = Some(Doorkeeper { rooms, door });
        self
    }

    /// The same with the log's second port: it follows the orders of [`crate::Control`].
    #[must_use]
    pub fn with_dispatcher(mut self, dispatcher: Arc<dyn Dispatcher>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.standing = Some(Standing::new(dispatcher));
        }
        self
    }

    /// Whether its policy makes sense: what [`Consumer::run`] looks at before anything else.
    ///
    /// # Errors
    /// What [`Policy::check`] says.
    pub fn check(&self) -> Result<(), Error> {
        self.shared.policy.check()
    }

    /// The same, told in the log and counted.
    pub(crate) fn has_sound_policy(&self) -> bool {
        let Err(error) = self.check() else {
            return true;
        };
        let stream = self.shared.base();
        stats::failed(stream, "policy");
        tracing::error!(%stream, error = %Causes(&error), "the consumer does not run: its policy cannot work");
        false
    }

    /// Batches that may be worked on at the same time.
    pub fn batches_in_flight(&self) -> usize {
        self.shared.slots.limit()
    }

    /// Changes it while the consumer runs: at once when it grows, as batches end when it shrinks.
    /// At least 1. With [`Policy::scaling`] it is only where scaling goes on from.
    pub fn set_batches_in_flight(&self, count: usize) {
        self.shared.slots.set_limit(count);
    }

    /// Whether an operator ordered its group or stream to pause.
    pub fn is_paused_by_order(&self) -> bool {
        self.shared.is_halted()
    }

    /// Entries in its hands: queued, in work or parked.
    pub fn held(&self) -> usize {
        self.shared.held.count()
    }

    /// Whether inflow is stopped because what the handler needs is away.
    pub fn is_paused(&self) -> bool {
        self.shared.breaker.is_tripped()
    }

    /// Whether the log could not be read for seconds, several times in a row, while it runs. It goes
    /// on trying, and the process' log has the reason.
    pub fn cannot_read(&self) -> bool {
        self.shared.cannot_read.load(Ordering::SeqCst)
    }

    /// Whether what the handler needs has been away for [`Policy::hand_back_after`] and was not back
    /// when it was asked last ([`Handler::is_ready`]); or no dead letter could be kept for as long.
    pub fn is_without_what_it_needs(&self) -> bool {
        let shared = &self.shared;
        let keeps_no_letters = shared.keeps_no_letters.load(Ordering::SeqCst);
        shared.is_without.load(Ordering::SeqCst)
            || (keeps_no_letters && shared.is_stopped_for_long())
    }

    /// One pass: maintenance where due, one read without waiting, one batch. For tests and
    /// simulations; no heartbeat beats meanwhile, and nobody checks the policy.
    ///
    /// # Errors
    /// When the log cannot be reached. The next step goes on.
    pub async fn step(&self, handler: &dyn Handler) -> Result<Step, Error> {
        let shared = &*self.shared;
        shared.read_orders().await;
        if shared.is_halted() || shared.is_fenced_off() {
            return Ok(Step::Idle);
        }
        let mut inflow = self.inflow.lock().await;
        if !shared.may_offer(&mut inflow, handler.is_ready()).await {
            return Ok(Step::Idle);
        }
        match inflow.next(shared, Duration::ZERO).await {
            Ok(taken) => Ok(shared.take_on(taken, handler).await),
            Err(error) => {
                inflow.failed(shared, &error).await;
                Err(error)
            }
        }
    }

    /// One heartbeat, for tests that step.
    pub async fn beat(&self) {
        self.shared.touch_held().await;
    }

    /// Hands back what was read and not started, for tests that step.
    pub async fn hand_back(&self) {
        self.inflow.lock().await.hand_back(&self.shared).await;
    }

    /// Steps until the process is asked to stop; batches run at the same time, each as a task of
    /// its own. At the end it finishes what is in work and hands back what was not started.
    ///
    /// With a policy that cannot work ([`Policy::check`]) it takes nothing and returns at once, with
    /// an error in the log; [`Consumer::check`] tells so beforehand.
    pub async fn run(&self, handler: Arc<dyn Handler>, tasks: &Tasks) {
        if !self.has_sound_policy() {
            return;
        }
        let mut run = Run {
            shared: &self.shared,
            handler,
            tasks,
            shutdown: tasks.shutdown(),
            growth: self.shared.policy.scaling.map(Growth::new),
            urgent: None,
            trouble: Trouble::default(),
        };
        let mut inflow = self.inflow.lock().await;
        let heart = Heart::start(&self.shared, tasks);
        let orders = self.shared.follow_orders(tasks);
        while !run.shutdown.is_stopping() {
            if let Err(error) = run.turn(&mut inflow).await {
                run.learn(&mut inflow, &error).await;
            }
        }
        run.drain(&mut inflow).await;
        drop((heart, orders));
    }
}

// === impl Shared ===

impl Shared {
    /// Whether an entry may be offered now. While what the handler needs is away it says no for a
    /// while after each offer; when that lasts, what is held goes to others, and the handler is asked
    /// before the next one is taken.
    async fn may_offer(&self, inflow: &mut Inflow, is_ready: impl Future<Output = bool>) -> bool {
        let is_unable = self.is_unable();
        if is_unable {
            inflow.hand_back(self).await;
        }
        if self.breaker.wait(self.clock.steady()).is_some() {
            return false;
        }
        let is_without = is_unable && !is_ready.await;
        self.is_without.store(is_without, Ordering::SeqCst);
        if is_without {
            self.trip(Duration::ZERO);
            return false;
        }
        true
    }

    async fn take_on(&self, taken: Taken, handler: &dyn Handler) -> Step {
        let count = taken.count();
        match taken {
            Taken::Batch(batch) => self.work(handler, batch).await,
            Taken::Alone(entry) => self.work(handler, vec![entry]).await,
            Taken::Doomed(doomed) => {
                if self.bury(doomed).await {
                    self.breaker.close();
                }
            }
            Taken::Nothing => return Step::Idle,
        }
        Step::Did(count)
    }
}

/// One run of the loop.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    handler: Arc<dyn Handler>,
    tasks: &'a Tasks,
    shutdown: Shutdown,
    growth: Option<Growth>,
    /// The way of urgent entries, while bulk work fills the reads.
    urgent: Option<Urgent>,
    /// The turns that failed.
    trouble: Trouble,
}

// === impl Run ===

impl Run<'_> {
    async fn turn(&mut self, inflow: &mut Inflow) -> Result<(), Error> {
        if self.shared.is_halted() {
            // Who said so was read, and nothing else is asked for.
            self.reads();
            self.shutdown.sleep(NAP_MAX).await;
            return Ok(());
        }
        let is_ready = async {
            let is_ready = self.handler.is_ready();
            self.shutdown.unless(is_ready).await == Some(true)
        };
        if !self.shared.may_offer(inflow, is_ready).await || self.shared.is_fenced_off() {
            self.shutdown.sleep(self.nap()).await;
            return Ok(());
        }
        self.mind_urgent(inflow)?;
        if let Some(want) = self.wanted_to_read(inflow) {
            let Some(held) = self.take(want).await else {
                return Ok(());
            };
            drop(held);
        }
        let taken = inflow.next(self.shared, self.shared.policy.block).await?;
        self.reads();
        self.grow(inflow);
        let (batch, want) = match taken {
            Taken::Nothing => return Ok(()),
            Taken::Doomed(_) => {
                self.shared.take_on(taken, &*self.handler).await;
                return Ok(());
            }
            Taken::Batch(batch) => (batch, Want::One),
            Taken::Alone(entry) => (vec![entry], Want::All),
        };
        let was_tripped = self.shared.breaker.is_tripped();
        let slot = self.take(want).await;
        let (Some(slot), false) = (slot, self.must_not_start(was_tripped)) else {
            inflow.put_back(batch);
            return Ok(());
        };
        let (shared, handler) = (Arc::clone(self.shared), Arc::clone(&self.handler));
        self.tasks.spawn("stream.batch", async move {
            shared.work(&*handler, batch).await;
            drop(slot);
        });
        Ok(())
    }

    /// How long nothing may begin, at most [`NAP_MAX`].
    fn nap(&self) -> Duration {
        let wait = self.shared.breaker.wait(self.shared.clock.steady());
        wait.unwrap_or(NAP_MAX).min(NAP_MAX)
    }

    /// Opens the way of urgent entries where bulk work fills the reads, and closes it afterwards.
    fn mind_urgent(&mut self, inflow: &mut Inflow) -> Result<(), Error> {
        if let Some(ended) = self.urgent.as_mut().and_then(Urgent::ended) {
            self.urgent = None;
            match ended {
                Ended::Quiet => {}
                Ended::Plenty => inflow.has_urgent_plenty(),
                Ended::Failed(error) => return Err(error),
            }
        }
        let wanted = inflow.is_bulk_only() && Urgent::suits(self.shared);
        match &self.urgent {
            Some(urgent) => urgent.want(wanted),
            None if wanted => {
                self.urgent = Some(Urgent::open(self.shared, &self.handler, self.tasks));
            }
            None => {}
        }
        self.shared.slots.keep_one(wanted);
        inflow.leaves_urgent = wanted;
        Ok(())
    }

    /// What must be free before the next read. With a backlog nothing: the next batch is read while
    /// others are in work, so that no slot waits for a read; without one, what comes meanwhile makes
    /// the next batch larger. While something is away, one batch at a time finds out whether it is
    /// back.
    fn wanted_to_read(&self, inflow: &Inflow) -> Option<Want> {
        if self.shared.breaker.is_tripped() {
            Some(Want::All)
        } else {
            (!inflow.has_backlog()).then_some(Want::One)
        }
    }

    /// Waits until a batch may begin; `None` when the process is to stop, or when something is away
    /// and others are in work for long. Nobody else takes slots, so what was free for a read is free
    /// for its batch.
    async fn take(&self, want: Want) -> Option<Slot> {
        let slot = self.shutdown.unless(self.shared.slots.take(want));
        if !self.shared.breaker.is_tripped() {
            return slot.await;
        }
        // What is in work may hang for as long as something is away. What is not should be handed
        // back meanwhile, so this is no place to wait for long.
        tokio::time::timeout(NAP_MAX, slot).await.ok().flatten()
    }

    /// A batch that was in work has found out that something is away, an operator paused, or the stop
    /// came together with the free slot.
    fn must_not_start(&self, was_tripped: bool) -> bool {
        (!was_tripped && self.shared.breaker.is_tripped())
            || self.shared.is_halted()
            || self.shutdown.is_stopping()
    }

    /// Lets the number of slots follow what was measured.
    fn grow(&mut self, inflow: &Inflow) {
        if let Some(growth) = &mut self.growth {
            growth.look(self.shared, inflow.has_backlog());
        }
    }

    /// Takes note of a turn that failed, and waits.
    async fn learn(&mut self, inflow: &mut Inflow, error: &Error) {
        let now = self.shared.clock.steady_time();
        if let Some(spell) = self.trouble.failed(now) {
            self.complain(error, spell);
        }
        let lasts = self.trouble.lasts(now);
        self.shared.cannot_read.store(lasts, Ordering::SeqCst);
        // What is looked for among our own must not be on its way to us.
        self.close_urgent(inflow).await;
        inflow.failed(self.shared, error).await;
        self.shutdown
            .sleep(TROUBLE_BACKOFF.bound(self.trouble.row()))
            .await;
    }

    /// The log could be read.
    fn reads(&mut self) {
        if self.trouble.row() == 0 {
            return;
        }
        self.shared.cannot_read.store(false, Ordering::SeqCst);
        if let Some(spell) = self.trouble.ended(self.shared.clock.steady_time()) {
            let (stream, lasted_s) = (self.shared.base(), spell.lasted.as_secs());
            tracing::info!(%stream, lasted_s, "the log is back after {} failed tries", spell.failures);
        }
    }

    /// Somebody has to look where it does not pass by itself.
    fn complain(&self, error: &Error, spell: Spell) {
        let (stream, cause) = (self.shared.base(), Causes(error));
        let (failures, lasted_s) = (spell.failures, spell.lasted.as_secs());
        if error.is_denied() {
            tracing::error!(%stream, error = %cause, failures, lasted_s,
                "cannot read: look at user and password, and give the user the rights of \
                 docs/Bus-Users.md; ACL LOG on the server names the one that is missing");
        } else if error.is_retryable() {
            tracing::warn!(%stream, error = %cause, failures, lasted_s, "cannot read");
        } else {
            tracing::error!(%stream, error = %cause, failures, lasted_s,
                "cannot read, and that does not pass by itself");
        }
    }

    async fn close_urgent(&mut self, inflow: &mut Inflow) {
        if let Some(urgent) = self.urgent.take() {
            urgent.close().await;
        }
        self.shared.slots.keep_one(false);
        inflow.leaves_urgent = false;
    }

    async fn drain(&mut self, inflow: &mut Inflow) {
        self.close_urgent(inflow).await;
        // Having all slots says that nothing is in work.
        let _all = self.shared.slots.take(Want::All).await;
        inflow.hand_back(self.shared).await;
    }
}

/// How often the number of slots may change.
const GROWTH_EVERY: Duration = Duration::from_millis(500);

/// The scaler, with what was seen since its last look.
struct Growth {
    scaler: Scaler,
    watch: Stopwatch,
    worked: u64,
    full: bool,
}

// === impl Growth ===

impl Growth {
    fn new(scaling: Scaling) -> Self {
        Self {
            scaler: Scaler::new(scaling),
            watch: Stopwatch::start(),
            worked: 0,
            full: false,
        }
    }

    fn look(&mut self, shared: &Shared, backlog: bool) {
        self.full |= shared.slots.is_full();
        let elapsed = self.watch.elapsed();
        if elapsed < GROWTH_EVERY {
            return;
        }
        let worked = shared.pace.worked();
        let limit = self.scaler.look(Measured {
            worked: worked - self.worked,
            elapsed,
            backlog,
            full: self.full,
        });
        shared.slots.set_limit(limit);
        metrics::gauge!(stats::SLOTS, "stream" => shared.base().to_string()).set(limit as f64);
        (self.worked, self.full, self.watch) = (worked, false, Stopwatch::start());
    }
}
