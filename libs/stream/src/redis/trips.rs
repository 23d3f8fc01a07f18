//! Small calls that come at the same time travel together.
//!
//! Each of them would take a connection and a round trip of its own: with many callers the server
//! and we would be busy with connections and small packets. A few trips are under way at a time;
//! what comes meanwhile gathers for the next one. A call that comes alone leaves at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ratebox_kit::Tasks;
use ratebox_valkey::{Error, Reply, Requests, Valkey};
use tokio::sync::oneshot;

use super::reader::Readers;

/// Trips under way at a time.
const UNDER_WAY_MAX: usize = 4;

/// A trip with so many bytes or commands takes no more calls.
const FULL_BYTES: usize = 64 * 1024;
const FULL_COMMANDS: usize = 500;

type Replies = Vec<Result<Reply, Error>>;

/// Calls that travel together, over connections of the log.
pub(super) struct Trips {
    station: Arc<Station>,
    tasks: Tasks,
}

struct Station {
    valkey: Valkey,
    readers: Arc<Readers>,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    waiting: VecDeque<Trip>,
    under_way: usize,
}

#[derive(Default)]
struct Trip {
    requests: Requests,
    calls: Vec<Call>,
}

/// How many commands it sent, and who waits for their replies.
struct Call {
    commands: usize,
    caller: oneshot::Sender<Result<Replies, Error>>,
}

/// Sends one trip after the other until none waits.
struct Driver {
    station: Arc<Station>,
    is_done: bool,
}

// === impl Trips ===

impl Trips {
    pub(super) fn new(valkey: Valkey, readers: Arc<Readers>) -> Self {
        let board = Mutex::default();
        Self {
            station: Arc::new(Station {
                valkey,
                readers,
                board,
            }),
            tasks: Tasks::new(),
        }
    }

    /// Sends the commands that `write` adds, and returns the reply to each. A caller that gives up
    /// takes nothing back: what it wrote is sent.
    ///
    /// # Errors
    /// When the trip fails; what was written may have been done.
    pub(super) async fn call(&self, write: impl FnOnce(&mut Requests)) -> Result<Replies, Error> {
        let (caller, replies) = oneshot::channel();
        if let Some(driver) = self.station.board(write, caller) {
            self.tasks.spawn("append trip", driver.run());
        }
        replies.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> Error {
    Error::Connection {
        what: "the program stopped while the call was under way".to_owned(),
    }
}

// === impl Station ===

impl Station {
    /// The call waits for the next trip. Returns a driver when there may be one more.
    fn board(
        self: &Arc<Self>,
        write: impl FnOnce(&mut Requests),
        caller: oneshot::Sender<Result<Replies, Error>>,
    ) -> Option<Driver> {
        let mut board = self.lock();
        if board.waiting.back().is_none_or(Trip::is_full) {
            board.waiting.push_back(Trip::default());
        }
        if let Some(trip) = board.waiting.back_mut() {
            let before = trip.requests.len();
            write(&mut trip.requests);
            let commands = trip.requests.len() - before;
            trip.calls.push(Call { commands, caller });
        }
        let may_leave = board.under_way < UNDER_WAY_MAX;
        board.under_way += usize::from(may_leave);
        may_leave.then(|| Driver {
            station: Arc::clone(self),
            is_done: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Trip ===

impl Trip {
    fn is_full(&self) -> bool {
        self.requests.size() >= FULL_BYTES || self.requests.len() >= FULL_COMMANDS
    }

    fn answer(self, replies: Result<Replies, Error>) {
        let mut replies = replies.map(Vec::into_iter);
        for call in self.calls {
            let own = match &mut replies {
                Ok(replies) => Ok(replies.by_ref().take(call.commands).collect()),
                Err(error) => Err(error.clone()),
            };
            let _ = call.caller.send(own); // Whoever gave up asks no more.
        }
    }
}

// === impl Driver ===

impl Driver {
    async fn run(mut self) {
        while let Some(trip) = self.next() {
            let station = &self.station;
            let sent = station.readers.with(&station.valkey, async |reader| {
                reader.send(&trip.requests, Duration::ZERO).await
            });
            let replies = sent.await;
            if let Err(error @ Error::Timeout { .. }) = &replies {
                // Who waits behind a server that says nothing would wait as long once more.
                let waiting = std::mem::take(&mut station.lock().waiting);
                for trip in waiting {
                    trip.answer(Err(error.clone()));
                }
            }
            trip.answer(replies);
        }
    }

    /// The next trip; with none, the driver is done at the same moment, so that whoever comes then
    /// finds a place for another.
    fn next(&mut self) -> Option<Trip> {
        let mut board = self.station.lock();
        let next = board.waiting.pop_front();
        if next.is_none() {
            board.under_way -= 1;
            self.is_done = true;
        }
        next
    }
}

impl Drop for Driver {
    /// Cut off by the end of its runtime: nobody is left waiting for a trip that may never leave.
    fn drop(&mut self) {
        if !self.is_done {
            let mut board = self.station.lock();
            board.under_way -= 1;
            board.waiting.clear();
        }
    }
}
