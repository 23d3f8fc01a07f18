//! The port that a backend fills: a log with consumer groups.
//!
//! Eight calls; everything else (retry, claim, dead letters, lanes, shutdown) is written once on
//! top of them, in [`crate::Consumer`]. What only some need is a port of its own beside it:
//! [`crate::Dispatcher`], [`crate::Ownership`], [`crate::Limits`], [`crate::Rooms`],
//! [`crate::Backlogs`], [`crate::Admin`]. A backend is [`crate::MemoryLog`], [`crate::SqliteLog`]
//! or [`crate::RedisLog`]; each passes the suite in `conformance`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::{Message, Timestamp};

use crate::{ConsumerName, Entry, EntryId, Error, GroupName, Lane, Lanes, StreamName};

/// Who reads what: the lanes of a stream, as a member of a group.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The streams.
    pub lanes: Lanes,
    /// The group.
    pub group: GroupName,
    /// This member.
    pub consumer: ConsumerName,
}

impl Subscription {
    /// A member of `group` on the lanes.
    pub fn new(lanes: Lanes, group: GroupName, consumer: ConsumerName) -> Self {
        Self {
            lanes,
            group,
            consumer,
        }
    }
}

/// How much of a stream an append keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything, until [`crate::Admin::trim`] finds that every group is done with it.
    All,
    /// About this many entries, at least; older ones go whoever has read them. Only for streams
    /// without groups: answers, views, events.
    About(u64),
}

/// What becomes of a second append of the same message on the same stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Repeat {
    /// It is a second entry.
    #[default]
    Stored,
    /// Soon after the first, and where the log can tell, it is not stored; its answer is the id of
    /// the first.
    Recognised,
}

/// One message on its way onto a stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream (a lane's own name for a lane).
    pub stream: StreamName,
    /// What is appended: `data`, `rb-id`, then the headers as fields.
    pub message: Message,
    /// What the stream keeps.
    pub keep: Keep,
    /// Fields to append as they are, in place of the message's.
    pub verbatim: Option<Vec<(String, Bytes)>>,
    /// What becomes of a second append of it.
    pub repeat: Repeat,
}

impl Append {
    /// A message for a stream that keeps everything.
    pub fn new(stream: StreamName, message: Message) -> Self {
        Self {
            stream,
            message,
            keep: Keep::All,
            verbatim: None,
            repeat: Repeat::Stored,
        }
    }

    /// An entry of exactly these fields, as one that is replayed or imported: names and bytes as
    /// they were, nothing added.
    pub fn verbatim(stream: StreamName, fields: Vec<(String, Bytes)>) -> Self {
        let mut append = Self::new(stream, Message::new("", Bytes::new()));
        append.verbatim = Some(fields);
        append
    }

    /// A message as it asks to be appended: field by field, or as the fields that it carries.
    pub fn carried(stream: StreamName, message: Message) -> Self {
        match message.verbatim_fields() {
            Some(fields) => {
                let mut append = Self::verbatim(stream, fields);
                append.message.id = message.id;
                append
            }
            None => Self::new(stream, message),
        }
    }

    /// The same for a message that may be appended again because an answer got lost, be it by another
    /// process: its id must be its own. A log that can tell does not store it twice within a minute
    /// and some ten thousand of such appends of a stream, and repeats the append itself when the
    /// connection breaks. Elsewhere this changes nothing.
    ///
    /// Not for a message that is appended again on purpose, as one whose entry was lost.
    #[must_use]
    pub fn recognised(mut self) -> Self {
        self.repeat = Repeat::Recognised;
        self
    }

    /// What it is known by, if it is to be known again.
    pub(crate) fn known_by(&self) -> Option<&str> {
        let id = self.message.id.0.as_str();
        (self.repeat == Repeat::Recognised && !id.is_empty()).then_some(id)
    }

    /// The same for a stream that keeps about `max_len` entries.
    #[must_use]
    pub fn keep_about(mut self, max_len: u64) -> Self {
        self.keep = Keep::About(max_len);
        self
    }
}

/// How many entries of a lane one read may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneQuota {
    /// The lane.
    pub lane: Lane,
    /// At most this many; at least 1.
    pub max: usize,
}

/// Which pending entries a claim takes.
#[derive(Clone, Copy, Debug)]
pub enum ClaimScope<'a> {
    /// Those of any member of the group that nobody touched for this long. Counts as a delivery.
    Idle(Duration),
    /// Those that this consumer owns but does not hold, because the answer to its read was lost
    /// or a handler dropped them. Does not count as a delivery: nobody has worked on them. The
    /// cursor is not used; asks again until fewer than `max` come.
    Own {
        /// What the consumer does hold on this lane.
        except: &'a [EntryId],
    },
    /// These, where they are this consumer's: a handler dropped them. Does not count as a
    /// delivery, and touches no other: what was handed back stays free. The cursor is not used.
    These(&'a [EntryId]),
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Now owned by the claimer.
    pub entries: Vec<Entry>,
    /// Are pending, but their entry is gone from the stream (trimmed or deleted by others): say so
    /// loudly, a message was lost. They stay pending until they are acknowledged, which is to be
    /// done once it was said: an answer that gets lost must not hide the loss.
    pub vanished: Vec<EntryId>,
    /// Where the next claim goes on; [`EntryId::MIN`] once the scan came to the end.
    pub next: EntryId,
}

/// What happens to an entry that was worked on.
#[derive(Debug)]
pub enum Settlement<'a> {
    /// Done. Takes effect whoever owns the entry: the work is committed, and a second
    /// acknowledgement changes nothing.
    Ack {
        /// Its lane.
        lane: Lane,
        /// Its id.
        id: EntryId,
    },
    /// Failed: comes again after `wait`, outside the pending list, with `rb-attempt` raised by
    /// one and `rb-id` and `rb-first-entry` kept. Only for the owner.
    Delay {
        /// The entry; its bytes move to the delayed set.
        entry: &'a Entry,
        /// From now on the server's clock.
        wait: Duration,
        /// When it failed.
        failed_at: Timestamp,
    },
    /// Not yet: comes again after `wait` like a failed one, but no attempt is used up; counted in
    /// `rb-snoozes`. Only for the owner.
    Snooze {
        /// The entry; its bytes move to the delayed set.
        entry: &'a Entry,
        /// From now on the server's clock.
        wait: Duration,
    },
    /// Dead: acknowledged, and a view of it (never its payload) appended for operators. The
    /// letter itself is kept by then. Only for the owner.
    Bury {
        /// The entry.
        entry: &'a Entry,
        /// What is shown, where; `None` when nobody looks.
        view: Option<&'a Append>,
    },
    /// Handed back untouched: the next claim of any consumer takes it, and this delivery does not
    /// count. Only for the owner.
    Release {
        /// Its lane.
        lane: Lane,
        /// Its id.
        id: EntryId,
        /// Deliveries so far, this one included.
        deliveries: u32,
        /// Whether somebody may get it before that.
        to: HandTo,
    },
}

/// Whom an entry that is handed back goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandTo {
    /// Where the log can, whoever waits for fresh entries gets it at once
    /// ([`Wait::WithReturned`]): for one that goes away.
    WhoeverWaits,
    /// Only a claim takes it: for one that stays, and would get it back at once.
    Claims,
}

/// What a read waits for when there is nothing, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It does not.
    None,
    /// Fresh entries.
    ForFresh(Duration),
    /// Where the log can, also what was handed to whoever waits ([`HandTo::WhoeverWaits`]), even while
    /// the read waits already. Such an entry is delivered as a claim delivers it. A log that cannot
    /// leaves it to the next claim.
    WithReturned(Duration),
}

// === impl Wait ===

impl Wait {
    /// How long; zero for no wait.
    pub fn time(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::ForFresh(wait) | Self::WithReturned(wait) => wait,
        }
    }
}

/// What [`Log::tail`] read.
#[derive(Debug)]
pub struct Tail {
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
    /// Pass this as `after` next time, so that nothing is missed in between.
    pub next: EntryId,
}

/// A log with consumer groups. Object-safe; calls may run at the same time.
///
/// Every call ends: a server that is away is an error ([`Error::is_retryable`]), never a hang.
#[async_trait]
pub trait Log: Send + Sync {
    /// Appends all in one round trip and says of each what became of it, in order. After
    /// [`Error::Timeout`] or [`Error::Connection`] an entry may have been stored nevertheless.
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>>;

    /// Makes the group on every lane, at the **start** of the stream, and the streams with it.
    /// Does nothing where it exists.
    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error>;

    /// Takes fresh entries, at most the quota of each lane, in lane order; without a wait in one
    /// pass and one round trip. While it waits, the smallest quota holds for each lane.
    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Wait,
    ) -> Result<Vec<Entry>, Error>;

    /// Takes over pending entries of a lane, from `cursor` on, at most `max`.
    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error>;

    /// The heartbeat: tells the group that these are still worked on. Returns those that another
    /// consumer took or settled; never takes one from another.
    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error>;

    /// Settles worked-on entries, batched. May be repeated after an error: each settlement takes
    /// effect once, and one for an entry that another consumer owns by now changes nothing.
    async fn settle(&self, sub: &Subscription, settlements: &[Settlement<'_>])
    -> Result<(), Error>;

    /// Puts due retries back onto their lanes, at most `max`; returns how many.
    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error>;

    /// Reads a stream with an own cursor, without a group: everyone who tails sees everything.
    /// `None` starts after the newest entry. A missing stream is an empty one.
    ///
    /// A retry of one group comes by again; see [`Entry::only_for`].
    async fn tail(
        &self,
        stream: &StreamName,
        after: Option<EntryId>,
        max: usize,
        wait: Duration,
    ) -> Result<Tail, Error>;
}
