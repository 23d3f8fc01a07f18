//! What a step is told about its run, and what it can say meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ratebox_kit::{FollowUp, Timestamp};
use tokio::sync::Notify;

use crate::SagaId;

/// A step's view of its run. Cheap to clone.
#[derive(Clone)]
pub struct Ctx(Arc<Inner>);

struct Inner {
    run: Run,
    cancel: Cancel,
    beat: Notify,
    sends: Mutex<Vec<FollowUp>>,
}

/// Which run of which step.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) saga: SagaId,
    pub(crate) step: Arc<str>,
    /// `None` outside fan-outs.
    pub(crate) item: Option<u32>,
    pub(crate) undoing: bool,
    pub(crate) attempt: u32,
    pub(crate) deadline: Timestamp,
    pub(crate) epoch: i64,
}

/// Tells a running step to end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Arc<(AtomicBool, Notify)>);

// === impl Cancel ===

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait(&self) {
        loop {
            let told = self.0.1.notified();
            if self.is_cancelled() {
                return;
            }
            told.await;
        }
    }
}

// === impl Ctx ===

impl Ctx {
    pub(crate) fn new(run: Run, cancel: Cancel) -> Self {
        Self(Arc::new(Inner {
            run,
            cancel,
            beat: Notify::new(),
            sends: Mutex::default(),
        }))
    }

    /// The saga.
    pub fn saga(&self) -> SagaId {
        self.0.run.saga
    }

    /// The step's name.
    pub fn step(&self) -> &str {
        &self.0.run.step
    }

    /// Which item of a fan-out, from 0; 0 for all other steps.
    pub fn item(&self) -> u32 {
        self.0.run.item.unwrap_or(0)
    }

    /// Counts from 1. After a takeover it may begin anew.
    pub fn attempt(&self) -> u32 {
        self.0.run.attempt
    }

    /// The same for every attempt of this step (of this item) in this saga, in whatever process,
    /// and different from that of its undo. Hand it to whoever has the effect, so that two
    /// attempts have one.
    pub fn idempotency_key(&self) -> String {
        let run = &self.0.run;
        let mut key = format!("{}:{}", run.saga, run.step);
        if let Some(item) = run.item {
            key.push_str(&format!("#{item}"));
        }
        if run.undoing {
            key.push_str(":undo");
        }
        key
    }

    /// Grows with every process that takes over: for those who can refuse an older one.
    pub fn fencing_token(&self) -> i64 {
        self.0.run.epoch
    }

    /// When this attempt is dropped.
    pub fn deadline(&self) -> Timestamp {
        self.0.run.deadline
    }

    /// True when nobody waits for this attempt any more, or soon will not.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Completes when this attempt is to end. Cancel-safe.
    pub async fn cancelled(&self) {
        self.0.cancel.wait().await;
    }

    /// A sign of life, for steps with a limit between two of them.
    pub fn heartbeat(&self) {
        self.0.beat.notify_one();
    }

    /// Sends a message if, and only if, this attempt succeeds and is kept: it is written with the
    /// step's outcome. On a store without an outbox the attempt fails instead, as unknown.
    pub fn send(&self, message: FollowUp) {
        let mut sends = self.0.sends.lock().unwrap_or_else(|e| e.into_inner());
        sends.push(message);
    }

    pub(crate) fn take_sends(&self) -> Vec<FollowUp> {
        std::mem::take(&mut *self.0.sends.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub(crate) async fn next_beat(&self) {
        self.0.beat.notified().await;
    }

    pub(crate) fn run(&self) -> &Run {
        &self.0.run
    }
}

impl std::fmt::Debug for Ctx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.run.fmt(f)
    }
}
