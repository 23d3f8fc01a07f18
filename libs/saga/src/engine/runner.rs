//! Runs one saga: starts what can start, writes down what came of it, and only then goes on.
//!
//! One entry of a saga is under way at a time. What ends meanwhile is collected and written with
//! the next, so that parallel steps share a commit.

mod gather;
mod launch;
mod messages;
mod transact;

pub(crate) use gather::SIGNAL;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ratebox_kit::{Causes, FollowUp, Timestamp};
use tracing::Instrument as _;
use uuid::Uuid;

use super::Engine;
use super::attempt::Done;
use super::faults::{Fault, Point};
use super::live::{Ending, Live};
use super::session::Session;
use crate::ctx::Cancel;
use crate::definition::plan::Plan;
use crate::journal::store::{
    Append, Entry, Head, HeadChange, Letter, NewSaga, Stored, Wake, Written,
};
use crate::listener::About;
use crate::machine::{Machine, Phase, UnitKey};
use crate::strategy::Fate;
use crate::strategy::Situation;
use crate::time::after;
use crate::{Error, Kind, OnFailure, Record, Result, SagaId, Status, stats};

/// A saga to be run.
pub(crate) struct Job {
    pub(crate) id: SagaId,
    pub(crate) live: Arc<Live>,
    pub(crate) origin: Origin,
}

/// Where it comes from.
pub(crate) enum Origin {
    /// Started a moment ago, by this process.
    New(Box<NewSaga>, Arc<Plan>),
    Stored(Box<Stored>),
}

/// An attempt that ended.
struct Finished {
    key: UnitKey,
    done: Done,
    took: Duration,
    sends: Vec<FollowUp>,
}

/// Why a saga is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// It ended, rests, or the process stops.
    Over,
    /// What is in memory may not be what is on disk.
    Reload,
}

/// One saga in memory.
pub(crate) struct Runner {
    engine: Engine,
    session: Arc<Session>,
    live: Arc<Live>,
    id: SagaId,
    plan: Arc<Plan>,
    machine: Machine,
    created_at: Timestamp,
    running: FuturesUnordered<BoxFuture<'static, Finished>>,
    finished: Vec<Finished>,
    cancels: HashMap<UnitKey, Cancel>,
    /// Steps in a transaction that can start; one at a time.
    transactions: Vec<UnitKey>,
    letters: Vec<Letter>,
    seen: HashSet<Uuid>,
    answered: Vec<Uuid>,
    sends: Vec<FollowUp>,
    announced: HashSet<(UnitKey, u32)>,
    /// When running attempts are told to end.
    cancel_at: Option<Timestamp>,
    first_error: Option<String>,
    written: (Status, Wake),
    rng: fastrand::Rng,
}

// === impl Runner ===

impl Runner {
    /// Runs the saga until it ends, rests, or this process is to leave it.
    pub(super) async fn run(engine: Engine, session: Arc<Session>, job: Job) {
        let (id, inner, live) = (job.id, Arc::clone(&engine.0), Arc::clone(&job.live));
        let outcome = match Self::new(engine, Arc::clone(&session), job) {
            Ok((mut runner, news)) => {
                stats::active(&runner.plan.name, 1.0);
                let name = Arc::clone(&runner.plan.name);
                let span = tracing::info_span!("saga.execute", saga.id = %id, saga.name = &*name);
                let outcome = Box::pin(runner.drive(news)).instrument(span).await;
                stats::active(&runner.plan.name, -1.0);
                outcome
            }
            Err(unknown) => unknown.park().await,
        };
        match outcome {
            Ok(Leave::Over) => inner.lives.drop_saga(id, &live),
            Ok(Leave::Reload) => {
                inner.lives.drop_saga(id, &live);
                session.reload(id);
                inner.poke.notify_one();
            }
            Err(Error::Fenced) => session.lost.cancel(),
            Err(error) => {
                tracing::error!(saga.id = %id, error = %Causes(&error), "a saga cannot go on here");
                inner.lives.drop_saga(id, &live);
            }
        }
    }

    fn new(
        engine: Engine,
        session: Arc<Session>,
        job: Job,
    ) -> Result<(Self, Vec<Record>), Box<Unknown>> {
        let now = engine.now();
        let (machine, news, facts, letters) = match job.origin {
            Origin::New(new, plan) if new.records.is_empty() => {
                let facts = (new.created_at, (Status::Executing, Wake::Live), None);
                (Machine::new(plan, new.input), Vec::new(), facts, Vec::new())
            }
            Origin::New(new, plan) => {
                let facts = (new.created_at, (Status::Executing, Wake::Live), None);
                let (machine, news) = Machine::replay(plan, new.input, &new.records, now);
                (machine, news, facts, Vec::new())
            }
            Origin::Stored(stored) => {
                let head = stored.head;
                let Some(plan) = engine.plan(&head.definition, &head.hash) else {
                    let records = stored.records;
                    return Err(Box::new(Unknown {
                        session,
                        head,
                        records,
                        now,
                    }));
                };
                let facts = (head.created_at, (head.status, head.wake), head.error);
                let (machine, news) = if head.status == Status::Pending {
                    (Machine::new(plan, head.input), Vec::new())
                } else {
                    Machine::replay(plan, head.input, &stored.records, now)
                };
                (machine, news, facts, stored.letters)
            }
        };
        let seed = engine.0.settings.seed;
        let rng = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let runner = Self {
            engine,
            session,
            live: job.live,
            id: job.id,
            plan: Arc::clone(machine.plan()),
            machine,
            created_at: facts.0,
            running: FuturesUnordered::new(),
            finished: Vec::new(),
            cancels: HashMap::new(),
            transactions: Vec::new(),
            seen: letters.iter().map(|it: &Letter| it.id).collect(),
            letters,
            answered: Vec::new(),
            sends: Vec::new(),
            announced: HashSet::new(),
            cancel_at: None,
            first_error: facts.2,
            written: facts.1,
            rng,
        };
        Ok((runner, news))
    }

    async fn drive(&mut self, news: Vec<Record>) -> Result<Leave> {
        if self.machine.phase() == Phase::Ended(self.written.0) && self.letters.is_empty() {
            return Ok(Leave::Over);
        }
        let mut records = news;
        loop {
            self.gather(&mut records);
            let is_news = !records.is_empty() || self.machine.status() != self.written.0;
            if is_news || !self.answered.is_empty() {
                self.write(std::mem::take(&mut records)).await?;
                if matches!(self.machine.phase(), Phase::Ended(_)) {
                    return Ok(Leave::Over);
                }
                continue;
            }
            self.launch();
            if let Some(key) = self.transactions.pop() {
                match self.transact(key).await? {
                    transact::Outcome::Going => continue,
                    transact::Outcome::Ended => return Ok(Leave::Over),
                    transact::Outcome::Reload => return Ok(Leave::Reload),
                }
            }
            let is_draining = self.session.draining.is_cancelled();
            if is_draining && self.running.is_empty() {
                return Ok(Leave::Over);
            }
            if let Some(wake) = self.rest()
                && self.go_to_rest(wake).await?
            {
                return Ok(Leave::Over);
            }
            self.wait().await;
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) {
        let now = self.engine.now();
        let next = [self.machine.next_due(), self.cancel_at, self.deadline()];
        // What is past has been seen to, or waits for something else.
        let next = next.into_iter().flatten().filter(|it| *it > now).min();
        let time = self.engine.0.settings.time.clone();
        let timer = async {
            match next {
                Some(next) => tokio::time::sleep(time.until(next)).await,
                None => std::future::pending().await,
            }
        };
        let live = Arc::clone(&self.live);
        let session = Arc::clone(&self.session);
        tokio::select! {
            biased;
            Some(finished) = self.running.next(), if !self.running.is_empty() => {
                self.finished.push(finished);
            }
            () = live.told() => {}
            () = timer => {}
            () = session.draining.wait(), if !session.draining.is_cancelled() => {}
        }
        self.drain();
    }

    /// Collects every attempt that has ended by now.
    fn drain(&mut self) {
        while let Some(Some(finished)) = self.running.next().now_or_never() {
            self.finished.push(finished);
        }
    }

    /// Until when it must be done; none once there is no way back.
    fn deadline(&self) -> Option<Timestamp> {
        let may_expire = self.machine.phase() == Phase::Forward
            && !self.machine.is_committed()
            && self.machine.cause().is_none();
        let deadline = self.plan.deadline.filter(|_| may_expire)?;
        Some(after(self.created_at, deadline))
    }

    /// When it needs a process again, if it needs none for a while.
    fn rest(&self) -> Option<Wake> {
        let now = self.engine.now();
        let is_busy = !self.running.is_empty()
            || !self.finished.is_empty()
            || !self.transactions.is_empty()
            || !self.machine.startable(now).is_empty();
        if is_busy {
            return None;
        }
        match self
            .machine
            .next_due()
            .into_iter()
            .chain(self.deadline())
            .min()
        {
            None => Some(Wake::Letter),
            Some(due) => {
                let is_far = due > after(now, self.engine.0.settings.idle_max);
                is_far.then_some(Wake::At(due))
            }
        }
    }

    /// Writes when it is needed again and lets go; false when something came meanwhile.
    async fn go_to_rest(&mut self, wake: Wake) -> Result<bool> {
        if self.written.1 != wake {
            self.write(Vec::new()).await?;
        }
        Ok(self.rest() == Some(wake) && self.engine.0.lives.release(self.id))
    }

    /// Writes records that the machine has taken in, and tells whoever wants to know.
    async fn write(&mut self, records: Vec<Record>) -> Result<()> {
        let append = self.append(records);
        let change = append.head.clone();
        let records = append.records.clone();
        let entry = Entry::Append(append);
        let writer = self.session.writer.clone();
        let written = {
            let write = writer.write(entry);
            tokio::pin!(write);
            loop {
                tokio::select! {
                    biased;
                    written = &mut write => break written,
                    Some(finished) = self.running.next(), if !self.running.is_empty() => {
                        self.finished.push(finished);
                    }
                }
            }
        };
        match written? {
            Written::Kept => {}
            Written::NotYours | Written::Exists(_) => return Err(Error::Fenced),
        }
        self.kept(&records, change).await;
        Ok(())
    }

    /// What the next entry of this saga says.
    fn append(&mut self, records: Vec<Record>) -> Append {
        let status = self.machine.status();
        let wake = self.rest().unwrap_or(Wake::Live);
        let now = self.engine.now();
        for record in &records {
            if matches!(record.kind, Kind::Failed | Kind::UndoFailed | Kind::Parked) {
                let note = record.note.as_deref().unwrap_or_default();
                self.first_error
                    .get_or_insert_with(|| format!("{}: {note}", record.step));
            }
        }
        let error = self.machine.cause().map(str::to_owned);
        let change = ((status, wake) != self.written).then(|| HeadChange {
            status,
            wake,
            error: error.or_else(|| self.first_error.clone()),
            output: self
                .machine
                .final_output()
                .filter(|_| status == Status::Completed),
            at: now,
        });
        let mut follow_ups = std::mem::take(&mut self.sends);
        messages::lifecycle(
            &self.plan,
            self.id,
            &records,
            change.as_ref(),
            &mut follow_ups,
        );
        Append {
            saga: self.id,
            records,
            head: change,
            letters: std::mem::take(&mut self.answered),
            follow_ups,
        }
    }

    /// The entry is on disk.
    async fn kept(&mut self, records: &[Record], change: Option<HeadChange>) {
        if let Some(faults) = &self.engine.0.faults {
            match faults.at(Point::Written(self.id, records)) {
                Fault::Crash => std::future::pending().await,
                _ => {}
            }
        }
        let about = About {
            saga: self.id,
            name: &self.plan.name,
        };
        messages::tell(&self.engine.0.listeners, about, &self.plan, records);
        if let Some(change) = change {
            let before = std::mem::replace(&mut self.written, (change.status, change.wake)).0;
            if before != change.status {
                self.turned(&change);
            }
        }
    }

    /// Its status is another one now.
    fn turned(&self, change: &HeadChange) {
        let (name, status) = (&*self.plan.name, change.status);
        let about = About {
            saga: self.id,
            name,
        };
        let cause = change.error.as_deref().unwrap_or_default();
        let listeners = &self.engine.0.listeners;
        match status {
            Status::Pending | Status::Executing | Status::ForwardRecovery => return,
            Status::Compensating => {
                stats::compensating(name);
                return listeners.tell(about, |it| it.on_compensation_start(about, cause));
            }
            Status::Completed => listeners.tell(about, |it| it.on_saga_complete(about)),
            Status::Parked => {
                stats::parked(name);
                tracing::error!(saga.id = %self.id, saga.name = name, cause, "a saga is parked: it needs an operator");
                listeners.tell(about, |it| it.on_saga_failed(about, status, cause));
            }
            Status::RolledBack | Status::Failed => {
                listeners.tell(about, |it| it.on_saga_failed(about, status, cause));
            }
        }
        if status.is_end() {
            let took_us = change.at.as_microsecond() - self.created_at.as_microsecond();
            #[expect(clippy::cast_precision_loss, reason = "a histogram is of floats")]
            stats::ended(name, status, took_us as f64 / 1e6);
        }
        let ending = Ending {
            status,
            output: change.output.clone(),
            error: change.error.clone(),
        };
        self.engine.0.lives.announce(self.id, &ending);
    }

    /// How long running attempts have when a step has failed or the saga was cancelled.
    fn grace(&self) -> Duration {
        match self.plan.on_failure.fate(Situation::Running) {
            Fate::Cancelled(grace) => grace,
            // Nothing but a cancellation of the whole saga stops what waits for all.
            Fate::GoesOn | Fate::NeverStarts | Fate::GivenUp => match OnFailure::default() {
                OnFailure::FailFastWithGrace(grace) => grace,
                OnFailure::FailFast | OnFailure::WaitAll => Duration::ZERO,
            },
        }
    }
}

/// A saga whose definition this process does not have.
struct Unknown {
    session: Arc<Session>,
    head: Head,
    records: Vec<Record>,
    now: Timestamp,
}

impl Unknown {
    /// Parks it, so that nobody guesses.
    async fn park(self: Box<Self>) -> Result<Leave> {
        if self.head.status == Status::Parked || self.head.status.is_end() {
            return Ok(Leave::Over);
        }
        let note = format!(
            "no definition {} with hash {}",
            self.head.definition, self.head.hash
        );
        tracing::error!(saga.id = %self.head.id, note, "a saga is parked: its definition is not here");
        let record = Record {
            seq: self.records.last().map_or(0, |it| it.seq + 1),
            step: "".into(),
            item: 0,
            kind: Kind::Parked,
            class: None,
            attempt: 0,
            at: self.now,
            took_us: 0,
            due: None,
            payload: None,
            note: Some(note.clone()),
            who: None,
        };
        let append = Append {
            saga: self.head.id,
            records: vec![record],
            head: Some(HeadChange {
                status: Status::Parked,
                wake: Wake::Letter,
                error: Some(note),
                output: None,
                at: self.now,
            }),
            letters: Vec::new(),
            follow_ups: Vec::new(),
        };
        self.session.writer.write(Entry::Append(append)).await?;
        Ok(Leave::Over)
    }
}

/// A result that nobody reads.
fn nothing() -> Bytes {
    Bytes::from_static(b"null")
}
