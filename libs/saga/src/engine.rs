//! Runs sagas: starts them, drives them, takes them over, lets operators decide.

mod attempt;
mod child;
pub(crate) mod faults;
mod handle;
mod known;
mod live;
mod operator;
mod poll;
mod runner;
mod session;
mod settings;
mod start;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use ratebox_kit::{Tasks, Timestamp};
use tokio::sync::{Notify, Semaphore, watch};

use crate::ctx::Cancel;
use crate::definition::plan::{Plan, Undo, Work};
use crate::listener::{Listener, Listeners};
use crate::stats::Stats;
use crate::{Archive, Error, Journal, Outline, Result, Saga, Store};
use faults::Faults;
use live::Lives;
use session::Session;

pub use handle::Handle;
pub use operator::By;
pub use operator::History;
pub(crate) use runner::SIGNAL;
pub use settings::EngineSettings;
#[cfg(feature = "testing")]
pub(crate) use start::Order;
pub use start::Start;
pub use start::Started;

/// Runs sagas of one journal in this process. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settings: EngineSettings,
    pub(crate) stats: Stats,
    plans: RwLock<Plans>,
    pub(crate) lives: Lives,
    permits: Arc<Semaphore>,
    session: watch::Sender<Option<Arc<Session>>>,
    /// Why there is none, since the last try to join.
    join_error: Mutex<Option<String>>,
    listeners: Listeners,
    faults: Option<Arc<dyn Faults>>,
    pub(crate) archive: Option<Arc<dyn Archive>>,
    /// What the journal has not been told of yet.
    undescribed: Mutex<Vec<Outline>>,
    /// Wakes the poll.
    poke: Notify,
    /// For tests: ends everything at once, as a kill does.
    kill: Cancel,
    /// There will be no further session.
    pub(crate) stopped: Cancel,
}

/// Definitions by name and hash.
type Plans = HashMap<(Arc<str>, Arc<str>), Arc<Plan>>;

/// An engine that has yet to start.
pub struct EngineBuilder {
    journal: Journal,
    settings: EngineSettings,
    listeners: Vec<Arc<dyn Listener>>,
    plans: Vec<Arc<Plan>>,
    faults: Option<Arc<dyn Faults>>,
    archive: Option<Arc<dyn Archive>>,
}

// === impl EngineBuilder ===

impl EngineBuilder {
    /// How it runs sagas.
    #[must_use]
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Tells this listener what happens; may be called several times.
    #[must_use]
    pub fn listen(mut self, listener: impl Listener + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// A definition that this process can run, and its children. Register all before the start:
    /// a saga whose definition is not here is parked when it is taken over.
    #[must_use]
    pub fn register<I, O>(mut self, saga: &Saga<I, O>) -> Self {
        self.plans.push(saga.plan());
        self
    }

    /// Ended sagas are kept there before they are deleted ([`EngineSettings::keep_ended`]).
    #[must_use]
    pub fn archive(mut self, archive: impl Archive + 'static) -> Self {
        self.archive = Some(Arc::new(archive));
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn faults(mut self, faults: Arc<dyn Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn plan(mut self, plan: Arc<Plan>) -> Self {
        self.plans.push(plan);
        self
    }

    /// Starts the engine. It ends with `tasks`.
    ///
    /// # Errors
    /// [`Error::Registered`] for two definitions of one name and version that differ,
    /// [`Error::NoTransactions`] when a step needs them and the store has none,
    /// [`Error::Refused`] for lifecycle events on a store without an outbox.
    pub fn start(self, tasks: &Tasks) -> Result<Engine> {
        let engine = self.build()?;
        let work = session::supervise(engine.clone(), tasks.shutdown());
        tasks.spawn("saga engine", work);
        Ok(engine)
    }

    fn build(self) -> Result<Engine> {
        let settings = self.settings;
        let engine = Engine(Arc::new(Inner {
            store: self.journal.shared(),
            permits: Arc::new(Semaphore::new(settings.live_max)),
            stats: Stats {
                is_on: settings.metrics,
            },
            settings,
            plans: RwLock::default(),
            lives: Lives::default(),
            session: watch::Sender::new(None),
            join_error: Mutex::default(),
            listeners: Listeners(self.listeners.into()),
            faults: self.faults,
            archive: self.archive,
            undescribed: Mutex::default(),
            poke: Notify::new(),
            kill: Cancel::default(),
            stopped: Cancel::default(),
        }));
        for plan in &self.plans {
            engine.register_plan(plan)?;
        }
        Ok(engine)
    }
}

// === impl Engine ===

impl Engine {
    /// An engine over a journal, with default settings.
    pub fn builder(journal: &Journal) -> EngineBuilder {
        EngineBuilder {
            journal: journal.clone(),
            settings: EngineSettings::default(),
            listeners: Vec::new(),
            plans: Vec::new(),
            faults: None,
            archive: None,
        }
    }

    /// Adds a definition that this process can run, and its children.
    ///
    /// # Errors
    /// As [`EngineBuilder::start`].
    pub fn register<I, O>(&self, saga: &Saga<I, O>) -> Result<()> {
        self.register_plan(&saga.plan())
    }

    fn register_plan(&self, plan: &Arc<Plan>) -> Result<()> {
        if self.plan(&plan.name, &plan.hash).is_some() {
            return Ok(());
        }
        let in_tx = |work: &Work, undo: &Option<Undo>| {
            matches!(work, Work::InTx(_)) || matches!(undo, Some(Undo::InTx(_)))
        };
        let needs_tx = plan.nodes.iter().any(|it| in_tx(&it.work, &it.undo));
        if needs_tx && self.0.store.database().is_none() {
            return Err(Error::NoTransactions);
        }
        if plan.events.is_some() && !self.0.store.has_outbox() {
            let why = "its lifecycle events need a store with an outbox".to_owned();
            return Err(Error::Refused { why });
        }
        for node in &plan.nodes {
            if let Work::Child(child) = &node.work {
                self.register_plan(&child.plan)?;
            }
        }
        let mut plans = self.0.plans.write().unwrap_or_else(|e| e.into_inner());
        let rival = plans
            .values()
            .any(|it| it.name == plan.name && it.version == plan.version && it.hash != plan.hash);
        if rival {
            return Err(Error::Registered {
                name: plan.name.to_string(),
                version: plan.version,
            });
        }
        let key = (Arc::clone(&plan.name), Arc::clone(&plan.hash));
        plans.insert(key, Arc::clone(plan));
        drop(plans);
        let mut undescribed = self.0.undescribed.lock().unwrap_or_else(|e| e.into_inner());
        undescribed.push(Outline::of(plan));
        Ok(())
    }

    /// Tells the journal of definitions, so that others can draw them and order.
    pub(crate) async fn describe(&self) -> Result<()> {
        let lock = || self.0.undescribed.lock().unwrap_or_else(|e| e.into_inner());
        let outlines = lock().clone();
        if outlines.is_empty() {
            return Ok(());
        }
        self.0.store.describe(&outlines).await?;
        // Others may have been added at the end meanwhile.
        lock().drain(..outlines.len());
        Ok(())
    }

    pub(crate) fn plan(&self, name: &Arc<str>, hash: &Arc<str>) -> Option<Arc<Plan>> {
        let plans = self.0.plans.read().unwrap_or_else(|e| e.into_inner());
        let key = (Arc::clone(name), Arc::clone(hash));
        plans.get(&key).cloned()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.settings.time.now()
    }

    /// What became of the last try to join the journal.
    fn note_join(&self, error: Option<String>) {
        *self.0.join_error.lock().unwrap_or_else(|e| e.into_inner()) = error;
    }

    fn not_joined(&self, waited: Duration) -> Error {
        let cause = self.0.join_error.lock().unwrap_or_else(|e| e.into_inner());
        Error::NotJoined {
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            cause: cause.as_deref().unwrap_or("no answer yet").to_owned(),
        }
    }

    /// The membership that sagas run under; waits a while for one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let wait = self.0.settings.start_wait;
        let mut sessions = self.0.session.subscribe();
        let next = async {
            // An error means that the engine is gone, which `stopped` says as well.
            let found = sessions.wait_for(Option::is_some).await;
            found.ok().and_then(|it| it.clone())
        };
        tokio::select! {
            biased;
            Some(session) = next => Ok(session),
            () = self.0.stopped.wait() => Err(Error::Stopping),
            () = tokio::time::sleep(wait) => Err(self.not_joined(wait)),
        }
    }

    /// Ends everything at once, as a kill of the process does: nothing is given back, and what ran
    /// is dropped. For tests of what comes after.
    pub fn crash(&self) {
        self.0.kill.cancel();
    }

    /// The membership of this process, while it has one.
    #[cfg(feature = "testing")]
    pub(crate) fn owner(&self) -> Option<crate::Owner> {
        self.0.session.borrow().as_ref().map(|it| it.owner)
    }

    /// Sagas that this process holds in memory.
    pub fn live_sagas(&self) -> usize {
        self.0.lives.len()
    }

    /// Asks the journal for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<()> {
        self.0.store.ping().await
    }
}
