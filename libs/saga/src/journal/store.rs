//! The port behind the journal, and its rows.
//!
//! A store keeps three kinds of rows: processes with their leases, sagas with their records, and
//! letters to sagas. Exactly one process at a time owns a saga, and only its owner writes the
//! saga's records; everybody may post letters.

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::{Committed, Db, Tx};
use ratebox_kit::{FollowUp, Staged, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use crate::{Error, Outline, Record, Result, SagaId, Status};

/// One membership of a process: made by [`Store::join`], good until its lease ends or somebody
/// fences it. A process that lost it joins anew under another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Grows with every membership of any process, never used twice: the fencing token.
    pub epoch: i64,
}

/// When a saga that has not ended needs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Always: its owner holds it in memory.
    Live,
    /// From this time on; until then nobody need hold it.
    At(Timestamp),
    /// When a letter comes.
    Letter,
}

/// Who waits for a child saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The parent.
    pub saga: SagaId,
    /// Its step.
    pub step: String,
}

/// What is known of a saga without its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which saga.
    pub id: SagaId,
    /// The definition's name.
    pub definition: Arc<str>,
    /// The definition's version.
    pub version: u32,
    /// The definition's hash: only a process that has the same definition may run the saga.
    pub hash: Arc<str>,
    /// The caller's key; at most one saga per definition and key, for as long as it is kept.
    pub key: Option<String>,
    /// Who waits for it.
    pub parent: Option<Parent>,
    /// JSON.
    pub input: Bytes,
    /// Where it stands.
    pub status: Status,
    /// When it needs a process; without meaning once it ended.
    pub wake: Wake,
    /// The first error, never overwritten.
    pub error: Option<String>,
    /// JSON, once completed.
    pub output: Option<Bytes>,
    /// Who owns it; `None` when nobody took it up yet.
    pub owner: Option<Owner>,
    /// When it was started. Never changes.
    pub created_at: Timestamp,
    /// When its head was written last.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A saga as it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSaga {
    /// Which saga.
    pub id: SagaId,
    /// The definition's name.
    pub definition: Arc<str>,
    /// The definition's version.
    pub version: u32,
    /// The definition's hash.
    pub hash: Arc<str>,
    /// The caller's key.
    pub key: Option<String>,
    /// Who waits for it.
    pub parent: Option<Parent>,
    /// JSON.
    pub input: Bytes,
    /// [`Status::Executing`] with an owner, [`Status::Pending`] without.
    pub status: Status,
    /// When it was started.
    pub created_at: Timestamp,
    /// Records that it begins with: of the saga it was forked from. Numbered from 0.
    pub records: Vec<Record>,
}

/// What changes in a head. Fields that are `None` stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadChange {
    /// Where it stands now. An end sets `ended_at` to `at`; anything else clears it.
    pub status: Status,
    /// When it needs a process next.
    pub wake: Wake,
    /// Kept only when there is none yet: the first error is never overwritten.
    pub error: Option<String>,
    /// The saga's output.
    pub output: Option<Bytes>,
    /// When.
    pub at: Timestamp,
}

/// Growth of one saga's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Which saga; the writer owns it.
    pub saga: SagaId,
    /// Numbered on from what the saga has.
    pub records: Vec<Record>,
    /// What changes in the head; most appends change nothing there.
    pub head: Option<HeadChange>,
    /// Letters that these records answer; they are deleted.
    pub letters: Vec<Uuid>,
    /// Messages to others, sent if and only if this is kept.
    pub follow_ups: Vec<FollowUp>,
}

/// One thing to write; see [`Store::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A new saga, owned by the writer.
    Start(Box<NewSaga>),
    /// More of a saga that the writer owns.
    Append(Append),
}

/// What became of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on disk, now or since an earlier try.
    Kept,
    /// A start whose definition and key another saga has; nothing was written.
    Exists(SagaId),
    /// An append to a saga that the writer does not own (any more); nothing was written.
    NotYours,
}

/// An entry in a caller's transaction; see [`Store::write_in`].
pub struct WrittenIn {
    /// What becomes of it with the commit.
    pub written: Written,
    /// The entry's follow-ups, to be published after the commit.
    pub staged: Option<Box<dyn Staged<Committed>>>,
}

/// Something told to a saga by whoever does not own it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Makes posting repeatable: the same letter is kept once.
    pub id: Uuid,
    /// To whom.
    pub saga: SagaId,
    /// What kind of letter, as a stable word: `signal`, or an operator's deed.
    pub verb: String,
    /// The signal's name, or the step that the deed is about.
    pub subject: String,
    /// JSON: the signal's value, or a supplied result.
    pub payload: Option<Bytes>,
    /// Who sent it.
    pub who: String,
    /// Why; for the record.
    pub why: String,
    /// When it was posted.
    pub at: Timestamp,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is on disk, now or since an earlier try.
    Kept,
    /// There is no such saga.
    NoSuchSaga,
}

/// A saga with everything it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its head.
    pub head: Head,
    /// All records, by number.
    pub records: Vec<Record>,
    /// Letters that no record answers yet, oldest first.
    pub letters: Vec<Letter>,
}

/// Which sagas to list. Everything that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this definition.
    pub definition: Option<String>,
    /// In one of these statuses; empty for all.
    pub statuses: Vec<Status>,
    /// With this key.
    pub key: Option<String>,
    /// Started by this saga.
    pub parent: Option<SagaId>,
    /// Started at or after.
    pub created_from: Option<Timestamp>,
    /// Started before.
    pub created_before: Option<Timestamp>,
    /// Only ids greater than this one: the last of the page before.
    pub after: Option<SagaId>,
    /// At most so many; 0 lists nothing.
    pub limit: usize,
}

/// How many sagas of a definition are in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The definition's name.
    pub definition: String,
    /// The status.
    pub status: Status,
    /// How many.
    pub sagas: u64,
}

/// Where sagas are kept. One implementation per kind of store; all pass one conformance suite.
///
/// # What every store promises
/// - What a call reported as kept survives what the store's label says it survives (a kill of the
///   process, a power cut).
/// - Every call can be repeated after an error: the second has the effect of the first, once.
/// - Ends of leases are judged by the store's own clock alone; `at`, `due` and `until` are times of
///   the callers' clocks and only compared with each other.
/// - A call under an [`Owner`] that was fenced, or whose lease another process found ended, writes
///   nothing and fails with [`Error::Fenced`]. The check and the write are one: no fencing can come
///   between them.
/// - Nothing that a caller passes in (keys, names, notes) can make a neighbour's entry fail.
#[async_trait]
pub trait Store: Send + Sync {
    /// Takes a new membership with a lease of `lease`. `process` is a name for operators only; two
    /// processes may share it.
    async fn join(&self, process: &str, lease: Duration) -> Result<Owner>;

    /// Puts the lease's end `lease` from now. A lease that ended, but that nobody fenced, is
    /// renewed: nobody took over anything. Fails with [`Error::Fenced`] when somebody did.
    async fn renew(&self, owner: Owner, lease: Duration) -> Result<()>;

    /// Gives the membership up: its sagas can be adopted at once. Fences itself.
    async fn leave(&self, owner: Owner) -> Result<()>;

    /// Writes a batch, all of it in one commit: on return it is on disk. One answer an entry, in
    /// order; an entry that is refused ([`Written::Exists`], [`Written::NotYours`]) leaves its
    /// neighbours alone. A record whose (saga, seq) exists is left as it is: the batch may be a
    /// repetition. An end deletes the saga's remaining letters. After an error that
    /// `is_retryable`, nothing or everything may be kept, and the caller writes the same again; after
    /// any other error nothing is kept, and the caller finds the entry to blame by halving.
    ///
    /// Two entries of one batch may be about one saga; they are kept in their order.
    async fn write(&self, owner: Owner, batch: &[&Entry]) -> Result<Vec<Written>>;

    /// Fences every process whose lease has ended, then takes over up to `limit` sagas that have
    /// not ended and belong to a fenced process or to nobody, and sagas that have ended, to which
    /// a letter was posted that no process in order can read. Returns those of them that are
    /// [`Wake::Live`] or have ended, which the caller must load; the others are found by
    /// [`Store::due`] and [`Store::mail`]. `more` tells whether there may be more to adopt.
    async fn adopt(&self, owner: Owner, limit: usize) -> Result<Adopted>;

    /// Makes `owner` the owner of one saga that belongs to nobody, to a fenced process, or has
    /// ended; true when it is its owner now (or was before). An ended saga stays ended until an
    /// append says otherwise.
    async fn claim(&self, owner: Owner, saga: SagaId) -> Result<bool>;

    /// Makes `owner` the owner of one saga that is parked as a whole: its last record is
    /// [`Kind::Parked`](crate::Kind::Parked), so whoever has it lacks its definition and holds
    /// nothing of it. True when it is its owner now (or was before); false when the saga is not
    /// parked so (any more).
    async fn take_parked(&self, owner: Owner, saga: SagaId) -> Result<bool>;

    /// Up to `limit` sagas of `owner` whose [`Wake::At`] is at or before `until`, earliest first.
    /// They stay due until an append changes their wake.
    async fn due(&self, owner: Owner, until: Timestamp, limit: usize) -> Result<Vec<SagaId>>;

    /// The sagas with their records and letters; those that do not exist are left out. In no
    /// particular order.
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Stored>>;

    /// Keeps a letter. Nobody need own the saga, and it may have ended: what the letter then means
    /// is the reader's business.
    async fn post(&self, letter: &Letter) -> Result<Posted>;

    /// Up to `limit` letters to sagas of `owner` that were not yet handed to this owner, oldest
    /// first; each is handed to the same owner once. (They stay until an append deletes them, and
    /// `load` always shows them.)
    async fn mail(&self, owner: Owner, limit: usize) -> Result<Vec<Letter>>;

    /// The saga that has this key.
    async fn find(&self, definition: &str, key: &str) -> Result<Option<SagaId>>;

    /// Heads by id, ascending. A filter that fits nothing lists nothing.
    async fn list(&self, filter: &Filter) -> Result<Vec<Head>>;

    /// How many sagas there are, by definition and status; without those of which there are none.
    async fn counts(&self) -> Result<Vec<Count>>;

    /// How many sagas are parked, by definition. Cheap however many sagas there are.
    async fn parked(&self) -> Result<Vec<Count>> {
        let mut counts = self.counts().await?;
        counts.retain(|it| it.status == Status::Parked);
        Ok(counts)
    }

    /// Up to `limit` sagas that ended before a time, earliest end first.
    async fn ended(&self, before: Timestamp, limit: usize) -> Result<Vec<SagaId>>;

    /// Deletes sagas that have ended, with their records and letters; those that have not ended
    /// stay. Returns how many went. Their keys are free again.
    async fn delete(&self, sagas: &[SagaId]) -> Result<u64>;

    /// Keeps definitions without their functions, one for each name and hash.
    async fn describe(&self, outlines: &[Outline]) -> Result<()>;

    /// The definition of a name and a hash, if a process that has it ever joined.
    async fn outline(&self, name: &str, hash: &str) -> Result<Option<Outline>>;

    /// Definitions, of one name when one is given; those that were described last come first, at
    /// most `limit`.
    async fn outlines(&self, name: Option<&str>, limit: usize) -> Result<Vec<Outline>>;

    /// The database whose transactions [`Store::write_in`] can join; `None` when there is none.
    fn database(&self) -> Option<&Db> {
        None
    }

    /// Whether it takes messages to others ([`Append::follow_ups`]). Where it does not, a step that
    /// sends one fails, and a definition with lifecycle events is not registered.
    fn has_outbox(&self) -> bool {
        true
    }

    /// Puts an entry into the caller's transaction: kept if, and only if, that commits. With an
    /// owner, the owner cannot be fenced until the transaction ends. Without one, only a start is
    /// possible, and the saga belongs to nobody.
    async fn write_in(
        &self,
        _tx: &mut Tx,
        _owner: Option<Owner>,
        _entry: &Entry,
    ) -> Result<WrittenIn> {
        Err(Error::NoTransactions)
    }

    /// Wakes the processes that wait in [`Store::rung`], if the store can. Costs little, and may
    /// do nothing: whoever waits looks by itself after a while.
    async fn ring(&self) {}

    /// Completes when another process rang; never where the store cannot tell.
    async fn rung(&self) {
        std::future::pending().await
    }

    /// Puts a letter into the caller's transaction: kept if, and only if, that commits.
    async fn post_in(&self, _tx: &mut Tx, _letter: &Letter) -> Result<Posted> {
        Err(Error::NoTransactions)
    }

    /// Asks for a sign of life.
    async fn ping(&self) -> Result<()>;
}

/// What [`Store::adopt`] took over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// To be loaded now.
    pub live: Vec<SagaId>,
    /// All that changed hands, those included.
    pub sagas: usize,
    /// Whether there may be more.
    pub more: bool,
}
