//! Which attempt is broken how, and the ledger of what really ran.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::ctx::Cancel;
use crate::definition::plan::Plan;
use crate::engine::faults::{Fault, Faults, Point, Work};
use crate::{Kind, Record};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Break {
    /// Of which step.
    pub step: String,
    /// Of its undo.
    pub undoing: bool,
    /// What happens.
    pub harm: Harm,
}

/// What can happen to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Harm {
    /// Every attempt is rejected, without effect.
    Rejected,
    /// The first attempt fails without effect.
    RetryableOnce,
    /// Every attempt fails without effect.
    Retryable,
    /// The first attempt has its effect, and its answer is lost.
    UnknownOnce,
    /// Every attempt has its effect, and its answer is lost.
    Unknown,
    /// Every attempt has its effect and panics.
    Panic,
    /// Every attempt has its effect and never returns.
    Hang,
    /// Every attempt takes forty seconds longer.
    Slow,
    /// The process dies when the first attempt has had its effect, before that is written.
    CrashBeforeWrite,
    /// The process dies when the outcome of the first attempt is on disk.
    CrashAfterWrite,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The function of a step or of its undo ran: from here on there may be an effect.
    Ran(Run),
    /// It returned, and this is whether it succeeded.
    Returned(Run, bool),
    /// A record is on disk.
    Written(Record),
    /// A process died, and another took over.
    Died,
}

/// Which run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) step: String,
    pub(super) item: u32,
    pub(super) undoing: bool,
    pub(super) key: String,
    pub(super) has_result: bool,
    /// Of which process, counted from 0.
    pub(super) process: usize,
}

/// A step that is tried for ever is broken so often: then what was broken is mended.
const ENDLESS_MAX: usize = 20;

/// What all processes of a scene share.
pub(super) struct Script {
    breaks: Vec<Break>,
    /// Which of them break attempts that are made for ever.
    endless: Vec<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// Faults that happen once, and have.
    used: Vec<usize>,
    /// Faults that happened, by their place among the breaks, each time.
    happened: Vec<usize>,
    healed: bool,
}

/// The faults of one process.
pub(super) struct OfProcess {
    pub(super) script: Arc<Script>,
    pub(super) process: usize,
    pub(super) died: Cancel,
}

// === impl Harm ===

impl Harm {
    /// Every harm.
    pub const ALL: [Self; 10] = [
        Self::Rejected,
        Self::RetryableOnce,
        Self::Retryable,
        Self::UnknownOnce,
        Self::Unknown,
        Self::Panic,
        Self::Hang,
        Self::Slow,
        Self::CrashBeforeWrite,
        Self::CrashAfterWrite,
    ];

    fn is_once(self) -> bool {
        matches!(
            self,
            Self::RetryableOnce
                | Self::UnknownOnce
                | Self::CrashBeforeWrite
                | Self::CrashAfterWrite
        )
    }

    /// What happens when an attempt begins.
    fn at_begin(self) -> Fault {
        match self {
            Self::Rejected => Fault::Rejected,
            Self::RetryableOnce | Self::Retryable => Fault::Retryable,
            Self::Slow => Fault::Slow(40),
            Self::UnknownOnce
            | Self::Unknown
            | Self::Panic
            | Self::Hang
            | Self::CrashBeforeWrite
            | Self::CrashAfterWrite => Fault::None,
        }
    }

    /// What happens when its function has returned.
    fn at_end(self) -> Fault {
        match self {
            Self::UnknownOnce | Self::Unknown => Fault::Unknown,
            Self::Panic => Fault::Panic,
            Self::Hang => Fault::Hang,
            Self::CrashBeforeWrite => Fault::Crash,
            Self::Rejected
            | Self::RetryableOnce
            | Self::Retryable
            | Self::Slow
            | Self::CrashAfterWrite => Fault::None,
        }
    }
}

// === impl Script ===

impl Script {
    pub(super) fn new(breaks: Vec<Break>, plan: &Plan) -> Arc<Self> {
        let is_endless = |it: &Break| {
            let node = plan.find(&it.step).and_then(|at| plan.nodes.get(at));
            let retry = node.map(|node| match it.undoing {
                true => node.undo_retry,
                false => node.retry,
            });
            retry.is_some_and(|it| it.max == u32::MAX)
        };
        Arc::new(Self {
            endless: breaks.iter().map(is_endless).collect(),
            breaks,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn note(&self, event: Event) {
        self.lock().events.push(event);
    }

    /// How much has happened.
    pub(super) fn count(&self) -> usize {
        self.lock().events.len()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// From here on nothing is broken.
    pub(super) fn heal(&self) {
        self.lock().healed = true;
    }

    /// The fault of a step, or of its undo, that `choose` finds.
    fn fault(&self, step: &str, undoing: bool, choose: impl Fn(Harm) -> Fault) -> Fault {
        let mut state = self.lock();
        if state.healed {
            return Fault::None;
        }
        for (index, it) in self.breaks.iter().enumerate() {
            let fits = it.step == step && it.undoing == undoing && !state.used.contains(&index);
            let is_endless = self.endless.get(index) == Some(&true);
            let times = || state.happened.iter().filter(|it| **it == index).count();
            let is_mended = is_endless && times() >= ENDLESS_MAX;
            let fault = match fits && !is_mended {
                true => choose(it.harm),
                false => Fault::None,
            };
            if fault != Fault::None {
                if is_endless {
                    state.happened.push(index);
                }
                if it.harm.is_once() {
                    state.used.push(index);
                }
                return fault;
            }
        }
        Fault::None
    }
}

impl Faults for OfProcess {
    fn at(&self, point: Point<'_>) -> Fault {
        let fault = match point {
            Point::Attempt(work) => {
                let fault = self.script.fault(work.step, work.undoing, Harm::at_begin);
                if matches!(fault, Fault::None | Fault::Slow(_)) {
                    self.script.note(Event::Ran(self.run(work)));
                }
                fault
            }
            Point::Returned(work, is_ok) => {
                self.script.note(Event::Returned(self.run(work), is_ok));
                self.script.fault(work.step, work.undoing, Harm::at_end)
            }
            Point::Written(records) => self.written(records),
        };
        if fault == Fault::Crash {
            self.died.cancel();
        }
        fault
    }
}

impl OfProcess {
    fn run(&self, work: &Work<'_>) -> Run {
        Run {
            step: work.step.to_owned(),
            item: work.item,
            undoing: work.undoing,
            key: work.key.to_owned(),
            has_result: work.has_result,
            process: self.process,
        }
    }

    fn written(&self, records: &[Record]) -> Fault {
        let mut worst = Fault::None;
        for record in records {
            self.script.note(Event::Written(record.clone()));
            let undoing = match record.kind {
                Kind::Done | Kind::Failed | Kind::Retry => false,
                Kind::Undone | Kind::UndoFailed | Kind::UndoRetry => true,
                _ => continue,
            };
            let crash = |harm| match harm {
                Harm::CrashAfterWrite => Fault::Crash,
                _ => Fault::None,
            };
            if self.script.fault(&record.step, undoing, crash) != Fault::None {
                worst = Fault::Crash;
            }
        }
        worst
    }
}
