//! Signs of life of one connection, and when there have been none for too long.
//!
//! The socket writes them, the connection's watchdog reads them every so often. So a request costs
//! no timer, however many deadlines there are, and one that comes whole not even a look at the
//! clock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use ratebox_kit::Stopwatch;
use tokio::net::TcpStream;

use crate::framing::Phase;
use crate::settings::ListenSettings;

/// Why a connection was closed by the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// No first byte.
    Silent,
    /// No request for long.
    Idle,
    /// The head did not end.
    Head,
    /// The body did not end.
    Body,
    /// The client does not take its answer.
    Write,
}

impl Overdue {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Head => "slow_head",
            Self::Body => "slow_body",
            Self::Write => "slow_reader",
        }
    }
}

/// After the body's own deadline, in which the handler answers 408.
const BODY_GRACE: Duration = Duration::from_secs(2);

/// Signs of life. Times are milliseconds since the connection began.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Stopwatch,
    phase: AtomicU8,
    /// When the phase began.
    since_ms: AtomicU64,
    /// A byte came or went since the watchdog looked last.
    moved: AtomicBool,
    /// When the watchdog saw last that one had.
    moved_ms: AtomicU64,
    /// Since when the client takes nothing; 0 when it does.
    stalled_ms: AtomicU64,
    /// A handler is at work.
    busy: AtomicBool,
    /// Some byte has come.
    spoke: AtomicBool,
    /// The stream, when it was dropped with input unread.
    leftover: Mutex<Option<TcpStream>>,
}

/// While it lives, the connection waits for us and not for its client.
#[derive(Debug)]
pub(crate) struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            began: Stopwatch::start(),
            phase: AtomicU8::new(code(Phase::Idle)),
            since_ms: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            moved_ms: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            spoke: AtomicBool::new(false),
            leftover: Mutex::new(None),
        }
    }

    /// Bytes came; the connection is in `phase` now.
    pub(crate) fn read(&self, phase: Phase) {
        self.spoke.store(true, Ordering::Relaxed);
        self.moved.store(true, Ordering::Relaxed);
        if self.phase.load(Ordering::Relaxed) != code(phase) {
            self.phase.store(code(phase), Ordering::Relaxed);
            self.since_ms
                .store(self.began.elapsed_ms(), Ordering::Relaxed);
        }
    }

    /// Bytes went.
    pub(crate) fn wrote(&self) {
        self.moved.store(true, Ordering::Relaxed);
        self.stalled_ms.store(0, Ordering::Relaxed);
    }

    /// The client takes no bytes now.
    pub(crate) fn stalled(&self) {
        let now = self.began.elapsed_ms().max(1);
        let _ = self
            .stalled_ms
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A handler is at work until what this returns is dropped.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.busy.store(true, Ordering::Relaxed);
        Busy(&self.busy)
    }

    /// Which deadline has passed, if any.
    pub(crate) fn overdue(&self, settings: &ListenSettings) -> Option<Overdue> {
        self.overdue_at(self.began.elapsed_ms(), settings)
    }

    fn overdue_at(&self, now: u64, settings: &ListenSettings) -> Option<Overdue> {
        let passed =
            |since: u64, limit: Duration| u128::from(now - since.min(now)) > limit.as_millis();
        if self.moved.swap(false, Ordering::Relaxed) {
            self.moved_ms.store(now, Ordering::Relaxed);
        }
        let stalled = self.stalled_ms.load(Ordering::Relaxed);
        if stalled > 0 && passed(stalled, settings.write_timeout) {
            return Some(Overdue::Write);
        }
        let since = self.since_ms.load(Ordering::Relaxed);
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == code(Phase::Head) {
            return passed(since, settings.head_timeout).then_some(Overdue::Head);
        }
        if phase == code(Phase::Body) {
            let limit = settings.body_timeout + BODY_GRACE;
            return passed(since, limit).then_some(Overdue::Body);
        }
        if self.busy.load(Ordering::Relaxed) {
            return None;
        }
        if !self.spoke.load(Ordering::Relaxed) {
            return passed(0, settings.first_byte_timeout).then_some(Overdue::Silent);
        }
        let moved = self.moved_ms.load(Ordering::Relaxed);
        passed(moved, settings.idle_timeout).then_some(Overdue::Idle)
    }

    pub(crate) fn leave(&self, stream: TcpStream) {
        *self.leftover.lock().unwrap_or_else(|e| e.into_inner()) = Some(stream);
    }

    pub(crate) fn leftover(&self) -> Option<TcpStream> {
        self.leftover
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take()
    }
}

fn code(phase: Phase) -> u8 {
    match phase {
        Phase::Idle => 0,
        Phase::Head => 1,
        Phase::Body => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_deadline() {
        let pulse = Pulse::new();
        let settings = ListenSettings::default();
        let in_an_hour = |pulse: &Pulse| pulse.overdue_at(3_600_000, &settings);
        let in_two_hours = |pulse: &Pulse| pulse.overdue_at(7_200_000, &settings);
        assert_eq!(pulse.overdue(&settings), None);
        assert_eq!(in_an_hour(&pulse), Some(Overdue::Silent));
        pulse.read(Phase::Head);
        assert_eq!(in_an_hour(&pulse), Some(Overdue::Head));
        pulse.read(Phase::Body);
        assert_eq!(in_an_hour(&pulse), Some(Overdue::Body));
        pulse.read(Phase::Idle);
        assert_eq!(in_an_hour(&pulse), None);
        assert_eq!(in_two_hours(&pulse), Some(Overdue::Idle));
        let _busy = pulse.busy();
        assert_eq!(in_an_hour(&pulse), None);
        pulse.stalled();
        assert_eq!(in_an_hour(&pulse), Some(Overdue::Write));
        pulse.wrote();
        assert_eq!(in_an_hour(&pulse), None);
    }
}
