//! Waiting rooms before the lanes, one for each owner: who pushes a million messages waits behind
//! himself, not before others.
//!
//! A producer lets messages in through [`Rooms::enter`]. While a lane is short and nobody of the
//! owner waits, they go straight onto it. Otherwise they wait in the owner's room, and consumers
//! let them onto the lane in turns: a few of each owner, again and again, as long as the lane is
//! short. So an owner's message waits for the lane's window and for one turn of all who wait, however
//! much others have pushed. Rooms keep the order of an owner; retries do not come back to them.
//!
//! What is in a room is stored as safely as what is on a stream, but no group has seen it yet.

use async_trait::async_trait;

use crate::{Append, EntryId, Error, Lane, Subscription};

/// Entries that nobody has read yet, up to which a lane is short. Small enough to be worked off in
/// a moment, large enough to keep a fleet busy between two looks.
pub const WINDOW: usize = 2_000;

/// Messages of one owner in a turn.
pub const TURN_MAX: usize = 10;

/// Messages let onto lanes by one call.
pub const ADMIT_MAX: usize = 500;

/// How rooms let messages onto the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Unread entries up to which a lane is short ([`WINDOW`]).
    pub window: usize,
    /// Messages of one owner in a turn ([`TURN_MAX`]).
    pub turn: usize,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            window: WINDOW,
            turn: TURN_MAX,
        }
    }
}

/// One message at the door.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// The message and the lane's stream it is for.
    pub append: Append,
    /// Whose it is.
    pub owner: String,
}

/// Where a message is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// On its lane.
    Lane(EntryId),
    /// In its owner's room.
    Room,
}

/// A room with somebody in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The lane it leads to.
    pub lane: Lane,
    /// Whose it is.
    pub owner: String,
    /// Messages in it.
    pub waiting: u64,
}

/// Waiting rooms. Filled by every log of this crate.
#[async_trait]
pub trait Rooms: Send + Sync {
    /// Lets messages in; says of each where it is, in order. After [`Error::Timeout`] or
    /// [`Error::Connection`] a message may be in nevertheless. The group tells how long a lane is.
    async fn enter(
        &self,
        sub: &Subscription,
        entrants: &[Entrant],
        door: Door,
    ) -> Vec<Result<Entered, Error>>;

    /// Lets messages onto short lanes, in turns of their owners, at most `max`; none of the owners
    /// in `skip`. Returns how many.
    async fn admit(
        &self,
        sub: &Subscription,
        door: Door,
        skip: &[String],
        max: usize,
    ) -> Result<usize, Error>;

    /// Rooms with somebody in them, at most `max` of each lane.
    async fn rooms(&self, sub: &Subscription, max: usize) -> Result<Vec<Room>, Error>;
}
