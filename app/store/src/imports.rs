//! Bulk imports: accepted together with the requests that they are cut into, looked up by their
//! owner, and told to stop. What the saga does with them is in `steps.rs`.

mod care;
mod codes;
mod steps;

use bytes::Bytes;
use ratebox_db::{Conflict, Insert, Row, Sql, Statement};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::requests::{RequestStatus, State};
use crate::{CodeCount, Result, Store};

pub(crate) use care::STATEMENTS as CARE;
pub use care::{ImportFilter, ImportSummary};
pub(crate) use steps::STATEMENTS as STEPS;
pub use steps::{CountedPart, FinishedPart, ImportPulse, OpenImport};

/// An import that is being accepted.
#[derive(Clone, Debug)]
pub struct NewImport {
    /// UUIDv7.
    pub id: Uuid,
    /// The account that it belongs to.
    pub owner: String,
    /// Items in it.
    pub item_count: u32,
    /// The datasets as they came, when they are cut into requests later; `None` when the requests
    /// are accepted together with the import.
    pub body: Option<Bytes>,
    /// Rules of the owner's token, for what asks for none.
    pub profile: Option<&'static str>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// When we took it.
    pub accepted_at: Timestamp,
    /// What it is, or will be, cut into.
    pub parts: Vec<NewPart>,
}

/// One request of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPart {
    /// Its number within the import, from 0.
    pub number: u32,
    /// The request.
    pub request_id: Uuid,
    /// The number of its dataset, from 0.
    pub dataset_no: u32,
    /// The dataset's name.
    pub dataset: String,
    /// Where the items come from.
    pub source: String,
    /// Items in it.
    pub item_count: u32,
}

/// What a client may know of its import.
#[derive(Clone, Debug)]
pub struct ImportStatus {
    /// The import.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// Where it stands.
    pub state: State,
    /// Items in it.
    pub item_count: u32,
    /// Why it was given up, when it was.
    pub error: Option<String>,
    /// When its owner asked for its end.
    pub cancel_asked_at: Option<Timestamp>,
    /// When it was taken.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its requests, by number.
    pub parts: Vec<PartStatus>,
}

/// How far one request of an import is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    /// The request.
    pub request_id: Uuid,
    /// The number of its dataset, from 0.
    pub dataset_no: u32,
    /// The dataset's name.
    pub dataset: String,
    /// Where the items come from.
    pub source: String,
    /// Items in it.
    pub item_count: u32,
    /// Where the request stands.
    pub state: State,
    /// Items that are DONE, as far as they are counted.
    pub done: u32,
    /// Items that are ERROR, as far as they are counted.
    pub failed: u32,
    /// How often each code was raised, by code.
    pub codes: Vec<CodeCount>,
}

/// What became of the wish to end an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It will end as cancelled; what has its verdict by then keeps it.
    Asked,
    /// It had ended before, in this state.
    Ended(State),
}

pub(crate) static INSERT: Insert = Insert::new(
    "imports",
    &[
        ("id", "uuid"),
        ("owner", "text"),
        ("item_count", "int"),
        ("body", "bytea"),
        ("profile", "text"),
        ("traceparent", "text"),
        ("state", "text"),
        ("accepted_at", "timestamptz"),
    ],
    Conflict::Fail,
);

pub(crate) static INSERT_PARTS: Insert = Insert::new(
    "import_parts",
    &[
        ("import_id", "uuid"),
        ("part_no", "int"),
        ("request_id", "uuid"),
        ("dataset_no", "int"),
        ("dataset", "text"),
        ("source", "text"),
        ("item_count", "int"),
    ],
    Conflict::Fail,
);

const STATUS: Sql = Sql {
    postgres:
        "SELECT id, owner, state, item_count, error, cancel_asked_at, accepted_at, finished_at
        FROM imports WHERE id = $1",
    sqlite: "SELECT id, owner, state, item_count, error, cancel_asked_at, accepted_at, finished_at
        FROM imports WHERE id = ?1",
};

const PARTS: Sql = Sql {
    postgres: "SELECT p.request_id, p.dataset_no, p.dataset, p.source, p.item_count,
            coalesce(q.state, p.state, 'queued'), p.done, p.failed, p.codes
        FROM import_parts p LEFT JOIN validation_requests q ON q.id = p.request_id
        WHERE p.import_id = $1 ORDER BY p.part_no",
    sqlite: "SELECT p.request_id, p.dataset_no, p.dataset, p.source, p.item_count,
            coalesce(q.state, p.state, 'queued'), p.done, p.failed, p.codes
        FROM import_parts p LEFT JOIN validation_requests q ON q.id = p.request_id
        WHERE p.import_id = ?1 ORDER BY p.part_no",
};

const PART: Sql = Sql {
    postgres: "SELECT p.request_id, i.owner, p.source, coalesce(p.state, 'queued'), p.item_count,
            p.dataset, i.accepted_at, i.finished_at
        FROM import_parts p JOIN imports i ON i.id = p.import_id
        WHERE p.request_id = $1 AND i.owner = $2",
    sqlite: "SELECT p.request_id, i.owner, p.source, coalesce(p.state, 'queued'), p.item_count,
            p.dataset, i.accepted_at, i.finished_at
        FROM import_parts p JOIN imports i ON i.id = p.import_id
        WHERE p.request_id = ?1 AND i.owner = ?2",
};

/// The first wish counts; a second one changes nothing.
const ASK_CANCEL: Sql = Sql {
    postgres: "UPDATE imports SET cancel_asked_at = coalesce(cancel_asked_at, $3)
        WHERE id = $1 AND owner = $2 AND state IN ('queued', 'processing')",
    sqlite: "UPDATE imports SET cancel_asked_at = coalesce(cancel_asked_at, ?3)
        WHERE id = ?1 AND owner = ?2 AND state IN ('queued', 'processing')",
};

pub(crate) const STATEMENTS: &[Sql] = &[STATUS, PARTS, PART, ASK_CANCEL];

impl Store {
    /// The statements that keep accepted imports, to be committed with whatever is accepted
    /// together with them.
    ///
    /// # Errors
    /// Never for well-formed imports; the rows are made here.
    pub fn insert_imports(&self, imports: &[&NewImport]) -> Result<Vec<Statement>> {
        let (mut rows, mut parts) = (INSERT.rows(), INSERT_PARTS.rows());
        for it in imports {
            rows.push(it.id).push(it.owner.as_str()).push(it.item_count);
            rows.push(it.body.as_deref()).push(it.profile);
            rows.push(it.traceparent.as_deref());
            rows.push(State::Queued.as_str()).push(it.accepted_at);
            for part in &it.parts {
                parts.push(it.id).push(part.number).push(part.request_id);
                parts.push(part.dataset_no).push(part.dataset.as_str());
                parts.push(part.source.as_str()).push(part.item_count);
            }
        }
        Ok(vec![rows.into_statement()?, parts.into_statement()?])
    }

    /// Where an import stands; `None` when it is unknown or belongs to another owner.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn import_status(&self, id: Uuid, owner: &str) -> Result<Option<ImportStatus>> {
        let head = self.import_head(id).await?;
        match head.filter(|it| it.owner == owner) {
            Some(head) => Ok(Some(self.with_parts(head).await?)),
            None => Ok(None),
        }
    }

    /// As [`Store::import_status`], of anybody's import.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn import_report(&self, id: Uuid) -> Result<Option<ImportStatus>> {
        match self.import_head(id).await? {
            Some(head) => Ok(Some(self.with_parts(head).await?)),
            None => Ok(None),
        }
    }

    /// Where anybody's import stands, without a look at its parts; `None` when it is unknown.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn import_state(&self, id: Uuid) -> Result<Option<State>> {
        Ok(self.import_head(id).await?.map(|it| it.state))
    }

    async fn import_head(&self, id: Uuid) -> Result<Option<ImportStatus>> {
        let rows = self.db().query(STATUS.with(vec![id.into()])).await?;
        rows.first().map(status).transpose()
    }

    async fn with_parts(&self, mut head: ImportStatus) -> Result<ImportStatus> {
        let parts = self.db().query(PARTS.with(vec![head.id.into()])).await?;
        head.parts = parts.iter().map(part).collect::<Result<_>>()?;
        Ok(head)
    }

    /// A request of an import that has no row of its own yet: the import is still to be cut, or
    /// was cancelled before. `None` when there is none among the owner's.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn import_part(&self, request: Uuid, owner: &str) -> Result<Option<RequestStatus>> {
        let values = vec![request.into(), owner.into()];
        let rows = self.db().query(PART.with(values)).await?;
        rows.first().map(unsubmitted).transpose()
    }

    /// Asks for the end of an import; `None` when it is unknown or belongs to another owner.
    /// Whoever was told [`CancelAnswer::Asked`] is sure that it ends as cancelled.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn ask_import_cancel(&self, id: Uuid, owner: &str) -> Result<Option<CancelAnswer>> {
        let values = vec![id.into(), owner.into(), self.clock().now().into()];
        if self.db().execute(ASK_CANCEL.with(values)).await? > 0 {
            return Ok(Some(CancelAnswer::Asked));
        }
        let ended = self.import_head(id).await?.filter(|it| it.owner == owner);
        Ok(ended.map(|it| CancelAnswer::Ended(it.state)))
    }
}

fn status(row: &Row) -> Result<ImportStatus> {
    Ok(ImportStatus {
        id: row.get(0)?,
        owner: row.get(1)?,
        state: State::parse(&row.get::<String>(2)?)?,
        item_count: row.get(3)?,
        error: row.get(4)?,
        cancel_asked_at: row.get(5)?,
        accepted_at: row.get(6)?,
        finished_at: row.get(7)?,
        parts: Vec::new(),
    })
}

fn part(row: &Row) -> Result<PartStatus> {
    Ok(PartStatus {
        request_id: row.get(0)?,
        dataset_no: row.get(1)?,
        dataset: row.get(2)?,
        source: row.get(3)?,
        item_count: row.get(4)?,
        state: State::parse(&row.get::<String>(5)?)?,
        done: row.get(6)?,
        failed: row.get(7)?,
        codes: codes::read(&row.get::<String>(8)?)?,
    })
}

fn unsubmitted(row: &Row) -> Result<RequestStatus> {
    Ok(RequestStatus {
        id: row.get(0)?,
        owner: row.get(1)?,
        source: row.get(2)?,
        state: State::parse(&row.get::<String>(3)?)?,
        item_count: row.get(4)?,
        external_ref: None,
        batch_id: row.get(5)?,
        response: None,
        accepted_at: row.get(6)?,
        finished_at: row.get(7)?,
    })
}
