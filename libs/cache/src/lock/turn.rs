//! The waiting line of one process: who waits for the same name is served in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Line, OwnedMutexGuard};

/// The lines that somebody stands in.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: Mutex<HashMap<String, Arc<Line<()>>>>,
}

/// The head of a line. Dropped, the next one is served.
#[derive(Debug)]
pub(super) struct Turn {
    seat: Seat,
    held: Option<OwnedMutexGuard<()>>,
}

/// A place in a line; the last to leave takes the line away.
#[derive(Debug)]
struct Seat {
    turns: Arc<Turns>,
    name: String,
    line: Option<Arc<Line<()>>>,
}

// === impl Turn ===

impl Turn {
    /// The head of the line if nobody stands in it.
    pub(super) fn take(turns: &Arc<Turns>, name: &str) -> Option<Self> {
        let (seat, line) = Seat::new(turns, name);
        let held = Some(line.try_lock_owned().ok()?);
        Some(Self { seat, held })
    }

    /// Waits for the head of the line.
    pub(super) async fn wait(turns: &Arc<Turns>, name: &str) -> Self {
        let (seat, line) = Seat::new(turns, name);
        let held = Some(line.lock_owned().await);
        Self { seat, held }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the seat, which counts who still has the line.
        self.held = None;
        self.seat.leave();
    }
}

// === impl Seat ===

impl Seat {
    fn new(turns: &Arc<Turns>, name: &str) -> (Self, Arc<Line<()>>) {
        let mut lines = turns.lock();
        let line = Arc::clone(lines.entry(name.to_owned()).or_default());
        drop(lines);
        let seat = Self {
            turns: Arc::clone(turns),
            name: name.to_owned(),
            line: Some(Arc::clone(&line)),
        };
        (seat, line)
    }

    fn leave(&mut self) {
        let Some(line) = self.line.take() else { return };
        let mut lines = self.turns.lock();
        drop(line);
        if lines
            .get(&self.name)
            .is_some_and(|it| Arc::strong_count(it) == 1)
        {
            lines.remove(&self.name);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

// === impl Turns ===

impl Turns {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Line<()>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_empty_line_is_taken_away_also_after_a_waiter_gave_up() {
        let turns = Arc::new(Turns::default());
        let head = Turn::take(&turns, "a").expect("nobody stands there");
        assert!(Turn::take(&turns, "a").is_none());
        {
            let mut waiting = Box::pin(Turn::wait(&turns, "a"));
            let soon = tokio::time::timeout(std::time::Duration::from_millis(1), &mut waiting);
            assert!(soon.await.is_err());
            drop(head);
            // Its turn has come, but it is dropped before it knows.
        }
        assert!(turns.lock().is_empty());
        assert!(Turn::take(&turns, "a").is_some());
    }
}
