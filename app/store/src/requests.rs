//! Requests: accepted, looked up by their owner.

use bytes::Bytes;
use ratebox_db::{Column, Conflict, Insert, Row, Sql, Statement};
use ratebox_intake::Request;
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::{Error, Result, Store};

/// A request that is being accepted.
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// UUIDv7, the message id of its publication.
    pub id: Uuid,
    /// The account that it belongs to.
    pub owner: String,
    /// Where it came from.
    pub source: String,
    /// `validate`, `check` or `import`.
    pub action: &'static str,
    /// `high`, `normal` or `low`.
    pub lane: &'static str,
    /// Rules it asked for; `None` for the configured ones.
    pub profile: Option<String>,
    /// Items in it.
    pub item_count: u32,
    /// The client's own reference.
    pub external_ref: Option<String>,
    /// The client's batch.
    pub batch_id: Option<String>,
    /// The envelope as it will be published.
    pub body: Bytes,
    /// When we took it.
    pub accepted_at: Timestamp,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Accepted, no verdict yet.
    Queued,
    /// A retry is pending, or a part is done.
    Processing,
    /// All items are DONE.
    Success,
    /// Some items are DONE.
    Partial,
    /// No item is DONE.
    Error,
    /// It became a dead letter.
    Dead,
    /// Its owner ended it before it had a verdict.
    Cancelled,
}

// === impl NewRequest ===

impl NewRequest {
    /// The row of a request; `body` is its envelope.
    pub fn of(request: &Request, body: Bytes) -> Self {
        Self {
            id: request.request_id,
            owner: request.owner.clone(),
            source: request.source.clone(),
            action: request.action.word(),
            lane: request.lane.word(),
            profile: request.profile.map(|it| it.word().to_owned()),
            item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
            external_ref: request.external_ref.clone(),
            batch_id: request.batch_id.clone(),
            body,
            accepted_at: request.accepted_at(),
        }
    }
}

// === impl State ===

impl State {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Error => "error",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// No further change without a replay.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Processing)
    }

    /// Whether there is a response with verdicts.
    pub fn has_verdict(self) -> bool {
        matches!(self, Self::Success | Self::Partial | Self::Error)
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "queued" => Self::Queued,
            "processing" => Self::Processing,
            "success" => Self::Success,
            "partial" => Self::Partial,
            "error" => Self::Error,
            "dead" => Self::Dead,
            "cancelled" => Self::Cancelled,
            _ => return None,
        })
    }

    pub(crate) fn parse(word: &str) -> Result<Self> {
        Self::from_word(word).ok_or(Error::Unreadable {
            what: "request state",
        })
    }
}

/// What a client may know of its request.
#[derive(Clone, Debug)]
pub struct RequestStatus {
    /// The request.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// Where it came from.
    pub source: String,
    /// Where it stands.
    pub state: State,
    /// Items in it.
    pub item_count: u32,
    /// The client's own reference.
    pub external_ref: Option<String>,
    /// The client's batch.
    pub batch_id: Option<String>,
    /// The response envelope as JSON text, once there is one.
    pub response: Option<String>,
    /// When it was taken.
    pub accepted_at: Timestamp,
    /// When it reached a terminal state.
    pub finished_at: Option<Timestamp>,
}

/// How often one code was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeCount {
    /// The code.
    pub code: i64,
    /// Items that raised it.
    pub count: u64,
}

const COLUMNS: &[(&str, &str)] = &[
    ("id", "uuid"),
    ("owner", "text"),
    ("source", "text"),
    ("action", "text"),
    ("lane", "text"),
    ("profile", "text"),
    ("item_count", "int"),
    ("external_ref", "text"),
    ("batch_id", "text"),
    ("body", "bytea"),
    ("accepted_at", "timestamptz"),
    ("state", "text"),
];

pub(crate) static INSERT: Insert = Insert::new("validation_requests", COLUMNS, Conflict::Fail);
/// One that is there stays as it is.
pub(crate) static INSERT_MISSING: Insert =
    Insert::new("validation_requests", COLUMNS, Conflict::Skip);

const STATUS: Sql = Sql {
    postgres: "SELECT q.id, q.owner, q.source, q.state, q.item_count, q.external_ref, q.batch_id,
            q.accepted_at, q.finished_at,
            (SELECT r.response FROM validation_responses r WHERE r.id = q.id)
        FROM validation_requests q WHERE q.id = $1",
    sqlite: "SELECT q.id, q.owner, q.source, q.state, q.item_count, q.external_ref, q.batch_id,
            q.accepted_at, q.finished_at,
            (SELECT r.response FROM validation_responses r WHERE r.id = q.id)
        FROM validation_requests q WHERE q.id = ?1",
};

const PROCESSING: Sql = Sql {
    postgres: "UPDATE validation_requests SET state = 'processing'
        WHERE id = ANY($1::uuid[]) AND state = 'queued'",
    sqlite: "UPDATE validation_requests SET state = 'processing'
        WHERE id = ?1 AND state = 'queued'",
};

const CODES: Sql = Sql {
    postgres: "SELECT e.error_code, count(*) FROM raw_item_errors e
        WHERE e.item_id = ANY($1::uuid[]) GROUP BY e.error_code ORDER BY e.error_code",
    sqlite: "SELECT e.error_code, count(*) FROM raw_item_errors e
        WHERE e.item_id = ?1 GROUP BY e.error_code ORDER BY e.error_code",
};

pub(crate) const STATEMENTS: &[Sql] = &[STATUS, PROCESSING, CODES];

impl Store {
    /// The statement that keeps accepted requests, to be committed with their outbox rows.
    ///
    /// # Errors
    /// Never for well-formed requests; the rows are made here.
    pub fn insert_requests(&self, requests: &[NewRequest]) -> Result<Statement> {
        inserted(&INSERT, requests)
    }

    /// Where a request stands; `None` when it is unknown or belongs to another owner.
    /// `owner: None` asks for any owner's, for administrators.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn status(&self, id: Uuid, owner: Option<&str>) -> Result<Option<RequestStatus>> {
        let rows = self.db().query(STATUS.with(vec![id.into()])).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let status = read(row)?;
        Ok(Some(status).filter(|status| owner.is_none_or(|owner| owner == status.owner)))
    }

    /// Says that these requests have a retry pending.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn mark_processing(&self, requests: Vec<Uuid>) -> Result<()> {
        let statement = PROCESSING.rows(vec![Column::Uuid(requests)], Vec::new())?;
        self.db().execute(statement).await?;
        Ok(())
    }

    /// How often each code was raised by these items.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn code_counts(&self, items: Vec<Uuid>) -> Result<Vec<CodeCount>> {
        let rows = self
            .db()
            .query(CODES.rows(vec![Column::Uuid(items)], Vec::new())?)
            .await?;
        let mut counts = std::collections::BTreeMap::<i64, u64>::new();
        for row in &rows {
            // SQLite answers item by item, PostgreSQL for all of them.
            *counts.entry(row.get(0)?).or_default() += row.get::<u64>(1)?;
        }
        Ok(counts
            .into_iter()
            .map(|(code, count)| CodeCount { code, count })
            .collect())
    }
}

/// The rows of requests that wait for their verdict.
pub(crate) fn inserted(insert: &'static Insert, requests: &[NewRequest]) -> Result<Statement> {
    let mut rows = insert.rows();
    for it in requests {
        rows.push(it.id).push(it.owner.as_str());
        rows.push(it.source.as_str()).push(it.action).push(it.lane);
        rows.push(it.profile.as_deref()).push(it.item_count);
        rows.push(it.external_ref.as_deref());
        rows.push(it.batch_id.as_deref()).push(it.body.as_ref());
        rows.push(it.accepted_at).push(State::Queued.as_str());
    }
    Ok(rows.into_statement()?)
}

fn read(row: &Row) -> Result<RequestStatus> {
    Ok(RequestStatus {
        id: row.get(0)?,
        owner: row.get(1)?,
        source: row.get(2)?,
        state: State::parse(&row.get::<String>(3)?)?,
        item_count: row.get(4)?,
        external_ref: row.get(5)?,
        batch_id: row.get(6)?,
        accepted_at: row.get(7)?,
        finished_at: row.get(8)?,
        response: row.get(9)?,
    })
}
