//! The second port of a backend: what producers and operators need and the calls of
//! [`crate::Log`] cannot give. No consumer needs it to work.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{MessageId, Timestamp};

use crate::{Bounds, Dispatch, Error, Lane, Lanes, Log, Order, Sent};

/// A message that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its id.
    pub message_id: MessageId,
    /// The lane that it goes to.
    pub lane: Lane,
    /// When it goes there, on the log's clock.
    pub due: Timestamp,
}

/// How full a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Load {
    /// Entries that the slowest group has not acknowledged: undelivered and pending. Without a
    /// group, all entries.
    pub depth: u64,
    /// Bytes that the stream takes, about; with entries that are acknowledged and not yet trimmed.
    pub bytes: u64,
    /// Messages that wait for their time, of all lanes.
    pub scheduled: u64,
}

/// What producers and operators ask of a log. Object-safe; calls may run at the same time, and
/// every call ends.
///
/// A scheduled message is kept beside the stream and costs its readers nothing. It goes onto its
/// lane with [`Log::promote`], which every consumer of the stream calls once a second.
#[async_trait]
pub trait Dispatcher: Log {
    /// Takes messages that are to wait or to be taken once, and says of each what became of it, in
    /// order. Key, schedule and stream change in one step: a message whose key is remembered is
    /// stored, and one that is stored has its key remembered.
    ///
    /// A scheduled message with the id of one that waits on the same lane takes its place.
    ///
    /// After [`Error::Timeout`] or [`Error::Connection`] a message may have been taken
    /// nevertheless.
    async fn send(&self, lanes: &Lanes, dispatches: &[Dispatch]) -> Vec<Result<Sent, Error>>;

    /// Looks at what waits for its time, next one first: at most `max`, after `skip` others. What
    /// becomes due between two calls moves the rest forward.
    async fn scheduled(
        &self,
        lanes: &Lanes,
        skip: usize,
        max: usize,
    ) -> Result<Vec<Scheduled>, Error>;

    /// Takes a message out of the schedule, on whichever lane. False when none waits under that
    /// id: it was never there, or went onto its stream already. Its key stays remembered.
    async fn unschedule(&self, lanes: &Lanes, message_id: &str) -> Result<bool, Error>;

    /// How full a lane is, as far as `limits` asks: a figure without a limit may be 0, and one
    /// beyond its limit need not be exact.
    async fn load(&self, lanes: &Lanes, lane: Lane, limits: &Bounds) -> Result<Load, Error>;

    /// Gives an order, or gives it anew: it stands for this long on the log's clock, or until it
    /// is withdrawn.
    ///
    /// [`Error::Refused`] when [`crate::ORDERS_MAX`] others stand already.
    async fn order(&self, lanes: &Lanes, name: &str, time: Option<Duration>) -> Result<(), Error>;

    /// Withdraws an order; false when it does not stand.
    async fn withdraw(&self, lanes: &Lanes, name: &str) -> Result<bool, Error>;

    /// The orders that stand.
    async fn orders(&self, lanes: &Lanes) -> Result<Vec<Order>, Error>;

    /// Keeps a small value beside a message for this long, in place of the one before.
    async fn note(
        &self,
        lanes: &Lanes,
        message_id: &str,
        value: &str,
        keep: Duration,
    ) -> Result<(), Error>;

    /// The value that is kept beside a message.
    async fn noted(&self, lanes: &Lanes, message_id: &str) -> Result<Option<String>, Error>;
}
