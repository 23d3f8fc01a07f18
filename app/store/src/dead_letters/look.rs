//! Dead letters are listed, counted and inspected.

use ratebox_db::{Column, Row, Sql, Value};
use ratebox_kit::fields::{self, Fields};
use ratebox_kit::{Attempt, DeadLetterClass, Timestamp};
use uuid::Uuid;

use super::{CACHE_WRITERS, REPLAYS_MAX, SAME_REASON_MAX};
use crate::{Error, Result, Store};

/// Where a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// Waits for an operator.
    Waiting,
    /// The same, but its replays were in vain: another one must be forced.
    Stuck,
    /// Replayed; its message is on its way.
    Replayed,
    /// Its request has a verdict: since its replay, or because it had been judged before the bus
    /// gave it up; then its replays are none.
    Resolved,
}

impl LetterState {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Stuck => "stuck",
            Self::Replayed => "replayed",
            Self::Resolved => "resolved",
        }
    }
}

/// A choice of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LetterStates {
    /// All that wait for an operator, the stuck ones included.
    #[default]
    Dead,
    /// Those whose replay must be forced.
    Stuck,
    /// Those that were replayed and did not die again, and those that were judged before.
    Replayed,
    /// All.
    Any,
}

impl LetterStates {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Dead, Self::Stuck, Self::Replayed, Self::Any];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Stuck => "stuck",
            Self::Replayed => "replayed",
            Self::Any => "any",
        }
    }

    /// Reads the stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// Which letters, newest first. A field that is not set says nothing.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Only those in these states.
    pub states: LetterStates,
    /// Only this class.
    pub class: Option<DeadLetterClass>,
    /// Only this error code.
    pub code: Option<String>,
    /// Only from this stream.
    pub stream: Option<String>,
    /// Only this owner's.
    pub owner: Option<String>,
    /// Only this message.
    pub message_id: Option<String>,
    /// Only those that died at this time or later.
    pub from: Option<Timestamp>,
    /// Only those that died before this time.
    pub until: Option<Timestamp>,
    /// Only older than this letter: the cursor of the next page.
    pub before: Option<Uuid>,
}

/// A letter without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterHead {
    /// Its number in the store.
    pub id: Uuid,
    /// The message's own id.
    pub message_id: String,
    /// The stream it was read from.
    pub stream: String,
    /// Its first entry there.
    pub entry_id: String,
    /// The lane's word.
    pub lane: String,
    /// The group that gave it up; empty for letters of older versions.
    pub group: String,
    /// Why it died.
    pub class: DeadLetterClass,
    /// What the last error said.
    pub error: String,
    /// The last error's code.
    pub code: String,
    /// Deliveries or errors it took.
    pub fail_count: u32,
    /// When it failed first.
    pub first_failed_at: Timestamp,
    /// When it failed last.
    pub last_failed_at: Timestamp,
    /// Who gave up.
    pub consumer: String,
    /// How often it was replayed.
    pub replay_count: u32,
    /// Replays in a row that ended in the same class and code.
    pub same_reason: u32,
    /// When it was replayed last; when it came, where it had been judged before.
    pub replayed_at: Option<Timestamp>,
    /// Its request, where one is known.
    pub request_id: Option<Uuid>,
    /// Its owner, where one is known.
    pub owner: Option<String>,
    /// Whether a replay sends other bytes than the original ones.
    pub edited: bool,
    /// Bytes of the original fields.
    pub bytes: u64,
    /// Where it stands.
    pub state: LetterState,
}

/// A letter with everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// All but the bytes.
    pub head: LetterHead,
    /// The fields as they were on the stream when the message died first.
    pub fields: Fields,
    /// What a replay sends instead.
    pub edited: Option<Fields>,
    /// Failed tries, oldest first, over all replays; a bounded number of them.
    pub attempts: Vec<Attempt>,
}

impl StoredLetter {
    /// What a replay sends.
    pub fn to_send(&self) -> &Fields {
        self.edited.as_ref().unwrap_or(&self.fields)
    }
}

/// The columns of a head. A letter that died after its last replay is dead, whatever a worker of
/// an older version left in `state`.
macro_rules! head {
    () => {
        "id, message_id, stream, entry_id, lane, consumer_group, class, error, code, fail_count,
            first_failed_at, last_failed_at, consumer, replay_count, same_reason, replayed_at,
            request_id, owner, edited IS NOT NULL, length(fields),
            state = 'dead' OR last_failed_at > replayed_at,
            (SELECT q.state FROM validation_requests q WHERE q.id = dead_letters.request_id)"
    };
}

macro_rules! matching_postgres {
    () => {
        "($1::text IS NULL OR class = $1) AND ($2::text IS NULL OR code = $2)
          AND ($3::text IS NULL OR stream = $3) AND ($4::text IS NULL OR owner = $4)
          AND ($5::text IS NULL OR message_id = $5)
          AND ($6::timestamptz IS NULL OR last_failed_at >= $6)
          AND ($7::timestamptz IS NULL OR last_failed_at < $7)
          AND ($8::text = 'any'
            OR ($8 = 'replayed') = NOT (state = 'dead' OR last_failed_at > replayed_at))
          AND ($8 <> 'stuck' OR replay_count >= $10::int OR same_reason >= $11::int)
          AND ($9::uuid IS NULL OR id < $9)"
    };
}

macro_rules! matching_sqlite {
    () => {
        "(?1 IS NULL OR class = ?1) AND (?2 IS NULL OR code = ?2)
          AND (?3 IS NULL OR stream = ?3) AND (?4 IS NULL OR owner = ?4)
          AND (?5 IS NULL OR message_id = ?5)
          AND (?6 IS NULL OR last_failed_at >= ?6) AND (?7 IS NULL OR last_failed_at < ?7)
          AND (?8 = 'any'
            OR (?8 = 'replayed') = NOT (state = 'dead' OR coalesce(last_failed_at > replayed_at, 0)))
          AND (?8 <> 'stuck' OR replay_count >= ?10 OR same_reason >= ?11)
          AND (?9 IS NULL OR id < ?9)"
    };
}

const LIST: Sql = Sql {
    postgres: concat!(
        "SELECT ",
        head!(),
        " FROM dead_letters WHERE ",
        matching_postgres!(),
        " ORDER BY id DESC LIMIT $12"
    ),
    sqlite: concat!(
        "SELECT ",
        head!(),
        " FROM dead_letters WHERE ",
        matching_sqlite!(),
        " ORDER BY id DESC LIMIT ?12"
    ),
};

const COUNT_MATCHING: Sql = Sql {
    postgres: concat!(
        "SELECT count(*), CAST(coalesce(sum(length(fields)), 0) AS bigint) FROM dead_letters WHERE ",
        matching_postgres!()
    ),
    sqlite: concat!(
        "SELECT count(*), coalesce(sum(length(fields)), 0) FROM dead_letters WHERE ",
        matching_sqlite!()
    ),
};

/// Those of them that a replay refuses; `begin_replay` decides in the same way.
const COUNT_REFUSED: Sql = Sql {
    postgres: concat!(
        "SELECT count(*) FROM dead_letters WHERE ",
        matching_postgres!(),
        " AND (consumer_group = $12::text OR NOT ($13::boolean
            OR (coalesce(state = 'dead' OR last_failed_at > replayed_at, false)
                AND replay_count < $10 AND same_reason < $11)))"
    ),
    sqlite: concat!(
        "SELECT count(*) FROM dead_letters WHERE ",
        matching_sqlite!(),
        " AND (consumer_group = ?12 OR NOT (?13
            OR (coalesce(state = 'dead' OR last_failed_at > replayed_at, 0)
                AND replay_count < ?10 AND same_reason < ?11)))"
    ),
};

const WHOLE: Sql = Sql {
    postgres: concat!(
        "SELECT ",
        head!(),
        ", fields, edited, attempts FROM dead_letters WHERE id = ANY($1::uuid[]) ORDER BY id DESC"
    ),
    sqlite: concat!(
        "SELECT ",
        head!(),
        ", fields, edited, attempts FROM dead_letters WHERE id = ?1"
    ),
};

/// The same, kept from others until the end of the transaction.
pub(super) const WHOLE_LOCKED: Sql = Sql {
    postgres: concat!(
        "SELECT ",
        head!(),
        ", fields, edited, attempts FROM dead_letters WHERE id = ANY($1::uuid[])
            ORDER BY id DESC FOR UPDATE"
    ),
    sqlite: WHOLE.sqlite,
};

const COUNT_DEAD: Sql = Sql::both(
    "SELECT count(*) FROM dead_letters WHERE state = 'dead' OR last_failed_at > replayed_at",
);

pub(crate) const STATEMENTS: &[Sql] = &[
    LIST,
    COUNT_MATCHING,
    COUNT_REFUSED,
    WHOLE,
    WHOLE_LOCKED,
    COUNT_DEAD,
];

impl Store {
    /// Letters that match, newest first, at most `max`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        max: u32,
    ) -> Result<Vec<LetterHead>> {
        let mut values = filter.values();
        values.push(max.into());
        let rows = self.db().query(LIST.with(values)).await?;
        rows.iter().map(head).collect()
    }

    /// How many letters match, and the bytes of their fields; the cursor counts, too.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count_dead_letters(&self, filter: &DeadLetterFilter) -> Result<(u64, u64)> {
        let rows = self
            .db()
            .query(COUNT_MATCHING.with(filter.values()))
            .await?;
        let Some(row) = rows.first() else {
            return Ok((0, 0));
        };
        Ok((row.get(0)?, row.get(1)?))
    }

    /// How many of the letters that match a replay would refuse.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count_refused_letters(
        &self,
        filter: &DeadLetterFilter,
        force: bool,
    ) -> Result<u64> {
        let mut values = filter.values();
        values.push(CACHE_WRITERS.into());
        values.push(force.into());
        let rows = self.db().query(COUNT_REFUSED.with(values)).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.get(0))?)
    }

    /// Letters with their bytes, newest first; those that do not exist are left out. Ask for few
    /// at a time: a letter may have megabytes.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn whole_letters(&self, ids: Vec<Uuid>) -> Result<Vec<StoredLetter>> {
        let statement = WHOLE.rows(vec![Column::Uuid(ids)], Vec::new())?;
        let rows = self.db().query(statement).await?;
        let mut letters: Vec<StoredLetter> = rows.iter().map(whole).collect::<Result<_>>()?;
        // SQLite answers one by one.
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.head.id));
        Ok(letters)
    }

    /// One letter with its bytes.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn whole_letter(&self, id: Uuid) -> Result<Option<StoredLetter>> {
        Ok(self.whole_letters(vec![id]).await?.pop())
    }

    /// How many letters wait for an operator.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn dead_letter_count(&self) -> Result<u64> {
        let rows = self.db().query(COUNT_DEAD).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.get(0))?)
    }
}

impl DeadLetterFilter {
    fn values(&self) -> Vec<Value> {
        vec![
            self.class.map(DeadLetterClass::as_str).into(),
            self.code.clone().into(),
            self.stream.clone().into(),
            self.owner.clone().into(),
            self.message_id.clone().into(),
            self.from.into(),
            self.until.into(),
            self.states.as_str().into(),
            self.before.into(),
            REPLAYS_MAX.into(),
            SAME_REASON_MAX.into(),
        ]
    }
}

fn head(row: &Row) -> Result<LetterHead> {
    let class: String = row.get(6)?;
    let (replay_count, same_reason) = (row.get(13)?, row.get(14)?);
    let is_dead = row.get::<Option<bool>>(20)?.unwrap_or(false);
    let request: Option<String> = row.get(21)?;
    let has_verdict =
        request.is_some_and(|state| !matches!(&*state, "queued" | "processing" | "dead"));
    let state = match (is_dead, has_verdict) {
        (true, _) if replay_count >= REPLAYS_MAX || same_reason >= SAME_REASON_MAX => {
            LetterState::Stuck
        }
        (true, _) => LetterState::Waiting,
        (false, true) => LetterState::Resolved,
        (false, false) => LetterState::Replayed,
    };
    Ok(LetterHead {
        id: row.get(0)?,
        message_id: row.get(1)?,
        stream: row.get(2)?,
        entry_id: row.get(3)?,
        lane: row.get(4)?,
        group: row.get(5)?,
        class: DeadLetterClass::parse(&class).ok_or(UNREADABLE)?,
        error: row.get(7)?,
        code: row.get(8)?,
        fail_count: row.get(9)?,
        first_failed_at: row.get(10)?,
        last_failed_at: row.get(11)?,
        consumer: row.get(12)?,
        replay_count,
        same_reason,
        replayed_at: row.get(15)?,
        request_id: row.get(16)?,
        owner: row.get(17)?,
        edited: row.get(18)?,
        bytes: row.get(19)?,
        state,
    })
}

pub(super) fn whole(row: &Row) -> Result<StoredLetter> {
    let read = |bytes| fields::decode(bytes).map_err(|_| UNREADABLE);
    let edited: Option<bytes::Bytes> = row.get(23)?;
    let attempts: String = row.get(24)?;
    let mut attempts = Attempt::from_lines(&attempts);
    // A letter that was kept twice told its history twice.
    let mut seen = Vec::with_capacity(attempts.len());
    attempts.retain(|attempt| {
        let is_new = !seen.contains(attempt);
        if is_new {
            seen.push(attempt.clone());
        }
        is_new
    });
    Ok(StoredLetter {
        head: head(row)?,
        fields: read(row.get(22)?)?,
        edited: edited.map(read).transpose()?,
        attempts,
    })
}

const UNREADABLE: Error = Error::Unreadable {
    what: "dead letter",
};
