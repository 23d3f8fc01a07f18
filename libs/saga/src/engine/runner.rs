//! Runs one saga: starts what can start, writes down what came of it, and only then goes on.
//!
//! One entry of a saga is under way at a time. What ends meanwhile is collected and written with
//! the next, so that parallel steps share a commit.

mod gather;
mod launch;
mod messages;
mod refused;
mod transact;
mod unknown;
mod write;

pub(crate) use gather::SIGNAL;
pub(super) use refused::Refused;

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
use super::live::Live;
use super::session::Session;
use crate::ctx::Cancel;
use crate::definition::plan::Plan;
use crate::journal::store::{Letter, NewSaga, Stored, Wake};
use crate::machine::{Machine, Phase, UnitKey};
use crate::strategy::{Fate, Situation};
use crate::time::after;
use crate::{Error, OnFailure, Record, Result, SagaId, Status};
use unknown::Unknown;
use write::Kept;

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
    /// What the store refused of it, before it was read back.
    refused: Option<Refused>,
    rng: fastrand::Rng,
}

// === impl Runner ===

impl Runner {
    /// Runs the saga until it ends, rests, or this process is to leave it.
    pub(super) async fn run(engine: Engine, session: Arc<Session>, job: Job) {
        let (id, inner, live) = (job.id, Arc::clone(&engine.0), Arc::clone(&job.live));
        let outcome = match Self::new(engine, Arc::clone(&session), job) {
            Ok((mut runner, news)) => {
                let name = Arc::clone(&runner.plan.name);
                let _active = inner.stats.active(&name);
                let span = match inner.settings.spans {
                    true => tracing::info_span!("saga.execute", saga.id = %id, saga.name = &*name),
                    false => tracing::Span::none(),
                };
                Box::pin(runner.drive(news)).instrument(span).await
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
                let machine = Machine::forked(plan, new.input, &new.records);
                (machine, Vec::new(), facts, Vec::new())
            }
            Origin::Stored(stored) => {
                let head = stored.head;
                let Some(plan) = engine.plan(&head.definition, &head.hash) else {
                    return Err(Box::new(Unknown {
                        session,
                        head,
                        records: stored.records,
                        letters: stored.letters,
                        now,
                    }));
                };
                let facts = (head.created_at, (head.status, head.wake), head.error);
                let (mut machine, mut news) = if head.status == Status::Pending {
                    (Machine::new(plan, head.input), Vec::new())
                } else {
                    Machine::replay(plan, head.input, &stored.records, now)
                };
                if unknown::is_found(&stored.records, &stored.letters) {
                    news.push(unknown::found(
                        &mut machine,
                        &engine.0.settings.process,
                        now,
                    ));
                }
                (machine, news, facts, stored.letters)
            }
        };
        let seed = engine.0.settings.seed;
        let rng = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let runner = Self {
            engine,
            refused: session.take_refusal(job.id),
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
                if self.write(std::mem::take(&mut records)).await? == Kept::Never {
                    return Ok(Leave::Reload);
                }
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
        // Without a lease nothing starts; it may come back.
        let renewal = after(now, self.engine.0.settings.renew_every);
        let renewal = (!self.session.is_valid()).then_some(renewal);
        let next = [
            self.machine.next_due(),
            self.cancel_at,
            self.deadline(),
            renewal,
        ];
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

/// A result that nobody reads.
fn nothing() -> Bytes {
    Bytes::from_static(b"null")
}
