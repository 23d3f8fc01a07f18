//! When the machine stood still: a guest whose host gives its processors to others for a second, or for
//! five. What code under test may take says something of the code only without those times.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use ratebox_kit::Stopwatch;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A look that comes so much later was kept from the processor; less is usual on a busy machine.
const LATE_AFTER: Duration = Duration::from_millis(20);

/// What Linux counts stolen time in: hundredths of a second, on every platform that it knows.
const TICK: Duration = Duration::from_millis(10);

/// Watches the machine from its start on, and tells times without those at which it stood still.
///
/// A processor stands still while its host takes it away, as Linux counts it in `/proc/stat`, and the machine does
/// where a look of the watch comes late. Both are known when they are over.
#[derive(Clone, Debug)]
pub struct Stalls(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    running: Stopwatch,
    spans: Mutex<Spans>,
}

/// Stalls in order and apart from each other.
#[derive(Debug, Default)]
struct Spans(Vec<Span>);

#[derive(Debug)]
struct Span {
    begin: Duration,
    end: Duration,
    /// How much was stalled before it.
    before: Duration,
}

#[derive(Debug)]
struct Look {
    at: Duration,
    /// Of each processor, in ticks.
    stolen: Vec<u64>,
}

// === impl Stalls ===

impl Stalls {
    /// Starts to watch, on a thread of its own that ends with the last clone.
    pub fn watch() -> Self {
        let watched = Arc::new(Watched {
            running: Stopwatch::start(),
            spans: Mutex::default(),
        });
        let weak = Arc::downgrade(&watched);
        thread::spawn(move || look_on(&weak));
        Self(watched)
    }

    /// Time since the start, stalls and all.
    pub fn elapsed(&self) -> Duration {
        self.0.running.elapsed()
    }

    /// How much of the first `elapsed` the machine was awake. To be asked a while afterwards, when all is known.
    pub fn awake(&self, elapsed: Duration) -> Duration {
        let spans = self.0.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.without(elapsed)
    }
}

fn look_on(watched: &Weak<Watched>) {
    let mut last: Option<Look> = None;
    while let Some(watched) = watched.upgrade() {
        let look = Look {
            at: watched.running.elapsed(),
            stolen: stolen(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        };
        if let Some(last) = &last {
            let stalled = look.stalled_since(last);
            let mut spans = watched.spans.lock().unwrap_or_else(PoisonError::into_inner);
            spans.add(look.at.saturating_sub(stalled), look.at);
        }
        last = Some(look);
        drop(watched);
        thread::sleep(LOOK_EVERY);
    }
}

// === impl Spans ===

impl Spans {
    /// A stall that ended after all others; it may have begun before them.
    fn add(&mut self, mut begin: Duration, end: Duration) {
        if begin >= end {
            return;
        }
        while let Some(span) = self.0.pop_if(|span| span.end >= begin) {
            begin = begin.min(span.begin);
        }
        let before = self
            .0
            .last()
            .map_or(Duration::ZERO, |last| last.until(last.end));
        self.0.push(Span { begin, end, before });
    }

    fn without(&self, elapsed: Duration) -> Duration {
        let begun = self.0.partition_point(|span| span.begin < elapsed);
        let last = begun.checked_sub(1).and_then(|last| self.0.get(last));
        elapsed - last.map_or(Duration::ZERO, |last| last.until(elapsed))
    }
}

// === impl Span ===

impl Span {
    /// How much was stalled until a moment after its begin.
    fn until(&self, moment: Duration) -> Duration {
        self.before + (moment.min(self.end) - self.begin)
    }
}

// === impl Look ===

impl Look {
    fn stalled_since(&self, last: &Self) -> Duration {
        let ticks = self.stolen.iter().zip(&last.stolen);
        let most = ticks.map(|(now, then)| now.saturating_sub(*then)).max();
        let stolen = TICK * u32::try_from(most.unwrap_or(0)).unwrap_or(u32::MAX);
        let late = (self.at.saturating_sub(last.at)).saturating_sub(LOOK_EVERY);
        match late > LATE_AFTER {
            true => stolen.max(late),
            false => stolen,
        }
    }
}

/// Stolen ticks of each processor, the eighth number of its line (man 5 proc_stat); none where the system
/// does not tell.
fn stolen(stat: &str) -> Vec<u64> {
    let of_one = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?.strip_prefix("cpu")?;
        let ticks = words.nth(7)?.parse().ok();
        ticks.filter(|_| !number.is_empty())
    };
    stat.lines().filter_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  9 0 9 9 0 0 0 70 0 0\ncpu0 5 0 5 5 0 0 0 30 0 0\n\
                        cpu1 4 0 4 4 0 0 0 40 0 0\nintr 5 0 1 2 3 4 5 6 7 8 9";

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_stall_is_what_was_stolen_or_how_late_a_look_came() {
        assert_eq!(stolen(STAT), [30, 40]);
        let stalled = |at_ms, stolen: [u64; 2]| {
            let (before, now) = ([30, 40].to_vec(), stolen.to_vec());
            let look = |at, stolen| Look { at, stolen };
            look(ms(at_ms), now).stalled_since(&look(ms(0), before))
        };
        assert_eq!(stalled(11, [30, 40]), ms(0));
        assert_eq!(stalled(25, [30, 40]), ms(0), "a busy machine");
        assert_eq!(stalled(510, [30, 40]), ms(500));
        assert_eq!(stalled(310, [60, 40]), ms(300));
        // It comes to light at the end.
        assert_eq!(stalled(11, [31, 90]), ms(500));
    }

    #[test]
    fn stalls_are_taken_out_once() {
        let mut spans = Spans::default();
        spans.add(ms(100), ms(100));
        spans.add(ms(100), ms(200));
        spans.add(ms(300), ms(310));
        spans.add(ms(305), ms(320));
        assert_eq!(spans.without(ms(100)), ms(100));
        assert_eq!(spans.without(ms(150)), ms(100));
        assert_eq!(spans.without(ms(250)), ms(150));
        assert_eq!(spans.without(ms(400)), ms(280));
        // Of the other processor, and longer.
        spans.add(ms(150), ms(330));
        assert_eq!(spans.without(ms(400)), ms(170));
    }

    #[test]
    fn who_watches_is_told_at_once() {
        let stalls = Stalls::watch();
        let elapsed = stalls.elapsed();
        assert!(stalls.awake(elapsed) <= elapsed);
        assert!(stalls.elapsed() >= elapsed);
    }
}
