//! What is asked of the server at the same time goes in one trip: reads of entries, rights to fill
//! together with them, and fills.
//!
//! A lone one goes its own way at once. Those that come while others are under way are gathered by
//! one task and sent together: the same commands, but the client's work for each trip (a message to
//! its writer, an answer's own wake-up, the calls of the system) is done once for all of them.
//!
//! Answers are told in portions, and whoever asks again meanwhile is sent before the next portion
//! is told. Else all who ask in a loop end up in one trip, and server and client wait for each other
//! in turns.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use ratebox_kit::Shutdown;
use ratebox_valkey::Valkey;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{Notify, oneshot};

use crate::Error;

/// Trips under way at once; what comes meanwhile goes with the next.
const TRIPS_MAX: usize = 4;

/// What one trip takes along.
const ASKS_MAX: usize = 256;

/// Answers that are told before what was asked meanwhile is sent.
const PORTION: usize = 16;

/// What the server says to one command.
type Reply = Result<Value, ratebox_valkey::Error>;

/// What it says to each command of an ask.
type Answer = Result<(Reply, Option<Reply>), Error>;

/// One command, or two that the server gets one after the other.
pub(super) struct Ask {
    first: Cmd,
    second: Option<Cmd>,
}

/// What waits for the next trip.
pub(super) struct Gather {
    waiting: Mutex<Waiting>,
    came: Notify,
    /// Asks under way, gathered or not.
    under_way: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    asks: Vec<(Ask, oneshot::Sender<Answer>)>,
    /// Somebody takes them.
    is_served: bool,
}

/// Somebody and what is answered; nobody may wait for it any more, and that is no loss.
type Told = (oneshot::Sender<Answer>, Answer);

/// Counts an ask while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

// === impl Ask ===

impl Ask {
    pub(super) fn one(first: Cmd) -> Self {
        let second = None;
        Self { first, second }
    }

    pub(super) fn two(first: Cmd, second: Cmd) -> Self {
        let second = Some(second);
        Self { first, second }
    }

    /// Puts its commands into a trip; whether there are two.
    fn join(self, trip: &mut Pipeline) -> bool {
        trip.add_command(self.first);
        let is_two = self.second.is_some();
        if let Some(second) = self.second {
            trip.add_command(second);
        }
        is_two
    }

    async fn alone(self, valkey: &Valkey) -> Answer {
        if self.second.is_none() {
            return Ok((valkey.query(&self.first).await, None));
        }
        let mut trip = Pipeline::with_capacity(2);
        let is_two = self.join(&mut trip);
        let mut replies = valkey.pipeline(&trip).await?.into_iter();
        Ok(answer(&mut replies, is_two))
    }
}

// === impl Gather ===

impl Gather {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            came: Notify::new(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Asks the server.
    ///
    /// # Errors
    /// When the trip as a whole got no answer.
    pub(super) async fn ask(&self, valkey: &Valkey, ask: Ask) -> Answer {
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.under_way);
        let mut ask = Some(ask);
        if others > 0
            && let Some(answer) = self.join(&mut ask)
        {
            return answer.await.unwrap_or(Err(Error::GivenUp));
        }
        match ask {
            Some(ask) => Box::pin(ask.alone(valkey)).await,
            None => Err(Error::GivenUp),
        }
    }

    /// A place in the next trip; `None`, and the ask stays where it is, when nobody gathers.
    fn join(&self, ask: &mut Option<Ask>) -> Option<oneshot::Receiver<Answer>> {
        let mut waiting = self.waiting();
        if !waiting.is_served {
            return None;
        }
        let ask = ask.take()?;
        let (told, answer) = oneshot::channel();
        waiting.asks.push((ask, told));
        let is_first = waiting.asks.len() == 1;
        drop(waiting);
        if is_first {
            self.came.notify_one();
        }
        Some(answer)
    }

    /// Sends what was gathered until the process stops.
    pub(super) async fn run(&self, valkey: &Valkey, shutdown: Shutdown) {
        let _served = Serves::begin(self);
        let mut trips = FuturesUnordered::new();
        let mut answers: VecDeque<Told> = VecDeque::new();
        loop {
            if trips.len() < TRIPS_MAX {
                let asks = self.take();
                if !asks.is_empty() {
                    trips.push(together(valkey, asks));
                }
            }
            // Sends what was taken, before anybody is told.
            while let Some(Some(answered)) = trips.next().now_or_never() {
                answers.extend(answered);
            }
            if !answers.is_empty() {
                for (told, answer) in answers.drain(..PORTION.min(answers.len())) {
                    let _ = told.send(answer);
                }
                // Those who can run now will ask, too, before this goes on.
                tokio::task::yield_now().await;
                continue;
            }
            let next = async {
                tokio::select! {
                    Some(answered) = trips.next(), if !trips.is_empty() => answers.extend(answered),
                    () = self.came.notified(), if trips.len() < TRIPS_MAX => {
                        tokio::task::yield_now().await;
                    }
                }
            };
            if shutdown.unless(next).await.is_none() {
                return;
            }
        }
    }

    fn take(&self) -> Vec<(Ask, oneshot::Sender<Answer>)> {
        let mut waiting = self.waiting();
        match waiting.asks.len() > ASKS_MAX {
            true => waiting.asks.drain(..ASKS_MAX).collect(),
            false => std::mem::take(&mut waiting.asks),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, asks may be gathered.
struct Serves<'a>(&'a Gather);

impl<'a> Serves<'a> {
    fn begin(gather: &'a Gather) -> Self {
        gather.waiting().is_served = true;
        Self(gather)
    }
}

impl Drop for Serves<'_> {
    fn drop(&mut self) {
        // Who waits is told by the drop of its place.
        *self.0.waiting() = Waiting::default();
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The next replies of a trip.
fn answer(replies: &mut impl Iterator<Item = Reply>, is_two: bool) -> (Reply, Option<Reply>) {
    let mut next = || {
        let missing = || Err(ratebox_valkey::Error::answer("an answer to each command"));
        replies.next().unwrap_or_else(missing)
    };
    let first = next();
    (first, is_two.then(next))
}

async fn together(valkey: &Valkey, asks: Vec<(Ask, oneshot::Sender<Answer>)>) -> Vec<Told> {
    let mut trip = Pipeline::with_capacity(asks.len() * 2);
    let join = |(ask, told): (Ask, _)| (ask.join(&mut trip), told);
    let waiting: Vec<(bool, oneshot::Sender<Answer>)> = asks.into_iter().map(join).collect();
    let waiting = waiting.into_iter();
    match valkey.pipeline(&trip).await {
        Ok(replies) => {
            let mut replies = replies.into_iter();
            let with = |(is_two, told)| (told, Ok(answer(&mut replies, is_two)));
            waiting.map(with).collect()
        }
        Err(error) => {
            let with = |(_, told)| (told, Err(error.clone().into()));
            waiting.map(with).collect()
        }
    }
}
