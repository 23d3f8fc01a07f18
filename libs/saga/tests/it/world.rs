//! A journal in memory with engines on it, in virtual time, and a ledger of what steps did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_kit::{Tasks, Timestamp};
use ratebox_saga::{
    Ctx, Engine, EngineBuilder, EngineSettings, Journal, MemoryStore, StepError, StepResult, Time,
};

/// One journal; engines come and go.
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) journal: Journal,
    pub(crate) time: Time,
    pub(crate) ledger: Ledger,
}

/// What steps did, in order: `do a`, `undo a Some`, `undo b None`.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<String>>>, Arc<Mutex<HashMap<String, String>>>);

impl World {
    pub(crate) fn new() -> Self {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let time = Time::timers(start);
        let store = MemoryStore::new(time.clone());
        Self {
            journal: Journal::new(store.clone()),
            store,
            time,
            ledger: Ledger::default(),
        }
    }

    pub(crate) fn settings(&self) -> EngineSettings {
        EngineSettings {
            time: self.time.clone(),
            seed: Some(7),
            ..EngineSettings::default()
        }
    }

    pub(crate) fn builder(&self) -> EngineBuilder {
        Engine::builder(&self.journal).settings(self.settings())
    }

    /// An engine that runs until its tasks end.
    pub(crate) fn engine(&self) -> (Engine, Tasks) {
        let tasks = Tasks::new();
        (self.builder().start(&tasks).unwrap(), tasks)
    }
}

impl Ledger {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// Notes that a step ran, and that its key is always the same.
    pub(crate) fn ran(&self, ctx: &Ctx, what: &str) {
        let line = format!("{what} {}", ctx.step());
        let key = ctx.idempotency_key();
        let mut keys = self.1.lock().unwrap();
        let name = format!("{} {line} {}", ctx.saga(), ctx.item());
        let known = keys.entry(name).or_insert_with(|| key.clone());
        assert_eq!(*known, key, "a key changed");
        drop(keys);
        self.note(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|it| *it == line).count()
    }

    pub(crate) fn at(&self, line: &str) -> usize {
        let lines = self.lines();
        let at = lines.iter().position(|it| it == line);
        at.unwrap_or_else(|| panic!("no `{line}` in {lines:?}"))
    }

    /// A step that notes that it ran, after a while.
    pub(crate) fn step<A: Send + 'static>(
        &self,
        wait: Duration,
    ) -> impl Fn(Ctx, A) -> std::pin::Pin<Box<dyn Future<Output = StepResult<u32>> + Send>>
    + Send
    + Sync
    + 'static {
        let ledger = self.clone();
        move |ctx, _| {
            let ledger = ledger.clone();
            Box::pin(async move {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                ledger.ran(&ctx, "do");
                Ok(1)
            })
        }
    }

    /// A step that notes that it ran, and fails.
    pub(crate) fn failing<A: Send + 'static>(
        &self,
        error: StepError,
    ) -> impl Fn(Ctx, A) -> std::pin::Pin<Box<dyn Future<Output = StepResult<u32>> + Send>>
    + Send
    + Sync
    + 'static {
        let ledger = self.clone();
        move |ctx, _| {
            let (ledger, error) = (ledger.clone(), error.clone());
            Box::pin(async move {
                ledger.ran(&ctx, "do");
                Err(error)
            })
        }
    }

    /// An undo that notes that it ran, and with what.
    pub(crate) fn undo<A: Send + 'static>(
        &self,
    ) -> impl Fn(Ctx, A, Option<u32>) -> std::pin::Pin<Box<dyn Future<Output = StepResult> + Send>>
    + Send
    + Sync
    + 'static {
        let ledger = self.clone();
        move |ctx, _, done| {
            let ledger = ledger.clone();
            Box::pin(async move {
                let what = if done.is_some() {
                    "undo"
                } else {
                    "undo unknown"
                };
                ledger.ran(&ctx, what);
                Ok(())
            })
        }
    }
}
