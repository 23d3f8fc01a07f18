//! The breaker's decisions: states and their moves, with the time as an argument.
//!
//! Every change of state starts a new epoch, except the end of the ramp. What a call reports counts only in the
//! epoch that admitted it: a call from before the outage can neither reopen nor close anything.

use std::time::Duration;

use super::BreakerSettings;
use super::window::Window;

/// What the ramp tells a caller to wait.
const RAMP_RETRY: Duration = Duration::from_millis(100);

/// The share of calls that the ramp begins with.
const RAMP_FROM: f64 = 0.1;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Succeeded,
    Failed,
    /// Dropped before it had an answer: it says nothing of the backend, unless it was slow.
    Abandoned,
}

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets every call through.
    Closed,
    /// Lets none through.
    Open,
    /// Lets a few through, to see how the backend does.
    HalfOpen,
    /// Lets a growing share through.
    Ramp,
}

/// A call that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) epoch: u64,
    pub(super) probe: Option<u64>,
}

/// The state machine of one endpoint.
#[derive(Debug)]
pub(super) struct Core {
    settings: BreakerSettings,
    state: State,
    epoch: u64,
    window: Window,
    failures_in_a_row: u32,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Duration },
    HalfOpen(Probes),
    Ramp { since: Duration, credit: f64 },
}

#[derive(Debug, Default)]
struct Probes {
    /// Number and deadline of each probe without an answer; never more than `settings.probes`.
    out: Vec<(u64, Duration)>,
    succeeded: u32,
    next: u64,
}

// === impl BreakerState ===

impl BreakerState {
    /// The word for health answers and metrics. The ramp counts as half open: not every call gets
    /// through yet.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen | Self::Ramp => "half_open",
        }
    }
}

// === impl Core ===

impl Core {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self {
            window: Window::new(settings.window),
            settings,
            state: State::Closed,
            epoch: 1,
            failures_in_a_row: 0,
        }
    }

    /// The state as of the last call; time alone changes nothing here.
    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen(_) => BreakerState::HalfOpen,
            State::Ramp { .. } => BreakerState::Ramp,
        }
    }

    /// The epoch while it is closed: callers that know it need not ask.
    pub(super) fn open_gate(&self) -> Option<u64> {
        matches!(self.state, State::Closed).then_some(self.epoch)
    }

    /// Lets one call through, or says how long to wait.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Admitted, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(State::HalfOpen(Probes::default()));
        }
        let epoch = self.epoch;
        let free = Admitted { epoch, probe: None };
        match &mut self.state {
            State::Closed | State::Open { .. } => Ok(free),
            State::HalfOpen(probes) => probes.admit(now, &self.settings).map(|number| Admitted {
                epoch,
                probe: Some(number),
            }),
            State::Ramp { since, credit } => {
                let gone = now.saturating_sub(*since);
                if gone >= self.settings.ramp {
                    self.state = State::Closed;
                    return Ok(free);
                }
                let part = gone.div_duration_f64(self.settings.ramp);
                *credit += RAMP_FROM + (1.0 - RAMP_FROM) * part;
                if *credit < 1.0 {
                    return Err(RAMP_RETRY);
                }
                *credit -= 1.0;
                Ok(free)
            }
        }
    }

    /// Takes note of how a call ended.
    pub(super) fn record(&mut self, call: Admitted, now: Duration, took: Duration, end: Ending) {
        if call.epoch != self.epoch {
            return;
        }
        let slow = took >= self.settings.slow_after;
        let failed = end == Ending::Failed;
        let says_nothing = end == Ending::Abandoned && !slow;
        match &mut self.state {
            State::HalfOpen(probes) => {
                let was_out = probes.take(call.probe);
                if says_nothing {
                    return;
                }
                if failed || slow {
                    return self.open(now);
                }
                probes.succeeded += u32::from(was_out);
                if probes.succeeded >= self.settings.probes {
                    self.failures_in_a_row = 0;
                    self.window.clear();
                    // A tenth of the calls from the start, and the first of them at once.
                    self.enter(State::Ramp {
                        since: now,
                        credit: 1.0 - RAMP_FROM,
                    });
                }
            }
            State::Closed | State::Ramp { .. } if !says_nothing => self.count(now, failed, slow),
            State::Closed | State::Ramp { .. } | State::Open { .. } => {}
        }
    }

    fn count(&mut self, now: Duration, failed: bool, slow: bool) {
        self.window.add(now, failed, slow);
        if !failed {
            self.failures_in_a_row = 0;
        }
        if !failed && !slow {
            return;
        }
        self.failures_in_a_row += u32::from(failed);
        let limits = self.settings;
        let tally = self.window.tally(now);
        if (failed && self.failures_in_a_row >= limits.failures_in_a_row)
            || tally.reaches(tally.failed, limits.failure_rate, limits.calls_min)
            || tally.reaches(tally.slow, limits.slow_rate, limits.calls_min)
        {
            self.open(now);
        }
    }

    fn open(&mut self, now: Duration) {
        self.failures_in_a_row = 0;
        self.window.clear();
        self.enter(State::Open {
            until: now.saturating_add(self.settings.open_for),
        });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

// === impl Probes ===

impl Probes {
    /// Gives out a permit; those past their deadline are given out again.
    fn admit(&mut self, now: Duration, settings: &BreakerSettings) -> Result<u64, Duration> {
        self.out.retain(|(_, deadline)| *deadline > now);
        let taken = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        if taken.saturating_add(self.succeeded) >= settings.probes.max(1) {
            let first = self.out.iter().map(|(_, deadline)| *deadline).min();
            return Err(first.map_or(RAMP_RETRY, |deadline| deadline - now));
        }
        self.next += 1;
        let deadline = now.saturating_add(settings.probe_deadline);
        self.out.push((self.next, deadline));
        Ok(self.next)
    }

    /// Takes a permit back; false when it was taken from its holder before.
    fn take(&mut self, probe: Option<u64>) -> bool {
        let before = self.out.len();
        self.out.retain(|(number, _)| Some(*number) != probe);
        self.out.len() < before
    }
}
