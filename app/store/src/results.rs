//! What a batch of verdicts leaves behind: items, their errors, responses, finished requests.
//!
//! A [`Batch`] gathers rows while the worker judges; each kind of row is one statement.

use ratebox_db::{Conflict, Insert, Rows, Statement};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::Result;

/// A request that has reached its verdict.
#[derive(Clone, Debug)]
pub struct Finished<'a> {
    /// The request.
    pub id: Uuid,
    /// Whether it came from a foreign producer: then it has no row yet.
    pub is_foreign: bool,
    /// Whose it is.
    pub owner: &'a str,
    /// Where it came from.
    pub source: &'a str,
    /// `validate`, `check` or `import`.
    pub action: &'static str,
    /// Its lane's word.
    pub lane: &'static str,
    /// The rules it was judged by.
    pub profile: &'static str,
    /// Items in it.
    pub item_count: u32,
    /// The client's own reference.
    pub external_ref: Option<&'a str>,
    /// The client's batch.
    pub batch_id: Option<&'a str>,
    /// `success`, `partial` or `error`.
    pub state: &'static str,
    /// The response envelope, JSON.
    pub response: &'a str,
    /// When it was accepted, as far as is known.
    pub accepted_at: Timestamp,
}

/// One judged item.
#[derive(Clone, Debug)]
pub struct ItemRow<'a> {
    /// Derived from request and position.
    pub id: Uuid,
    /// Its request.
    pub request_id: Uuid,
    /// Its position, from 0.
    pub item_no: u32,
    /// The item as it came, JSON.
    pub payload: &'a str,
    /// Where it came from.
    pub source: &'a str,
    /// DONE or not.
    pub done: bool,
    /// The verdict, JSON.
    pub result: Option<&'a str>,
    /// The violated rules, a JSON list.
    pub error: Option<&'a str>,
    /// E.164, when the phone could be read.
    pub phone: Option<&'a str>,
    /// Normalised account, when it could be read.
    pub bank_account: Option<&'a str>,
    /// Look-up key of the e-mail, when it could be read.
    pub email: Option<&'a str>,
    /// The rules it was judged by.
    pub profile: &'static str,
    /// 0.05…0.95.
    pub confidence: f64,
    /// Whose it is.
    pub owner: &'a str,
    /// The entry it came in.
    pub stream_id: &'a str,
    /// Failed attempts before this one.
    pub retry_count: u32,
}

/// What all rows of a batch have in common.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// Version of the rules.
    pub ruleset: &'a str,
    /// The consumer group.
    pub group: &'a str,
    /// The consumer.
    pub consumer: &'a str,
    /// When judging began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Timestamp,
}

/// Whether rows of this batch may exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// They do not: the statements fail with a duplicate if one does. The fast way.
    Never,
    /// They may, and stay as they are; a request's state is set again.
    Allowed,
}

macro_rules! inserts {
    ($($name:ident, $again:ident: $table:literal, $alike:literal alike $columns:expr;)+) => {
        $(static $name: Insert = Insert::new($table, $columns, Conflict::Fail).alike($alike);
        static $again: Insert = Insert::new($table, $columns, Conflict::Skip).alike($alike);)+
    };
}

inserts! {
    ITEMS, ITEMS_AGAIN: "raw_items", 7 alike &[
        ("id", "uuid"), ("request_id", "uuid"), ("item_no", "int"), ("payload", "jsonb"),
        ("source", "text"), ("status", "text"), ("result", "jsonb"), ("error", "jsonb"),
        ("phone", "text"), ("bank_account", "text"), ("email", "text"), ("profile", "text"),
        ("confidence", "real"), ("owner", "text"), ("stream_id", "text"), ("retry_count", "int"),
        ("ruleset", "text"), ("consumer_group", "text"), ("consumer_name", "text"),
        ("processing_started_at", "timestamptz"), ("processing_completed_at", "timestamptz"),
        ("created_at", "timestamptz"), ("updated_at", "timestamptz"),
    ];
    ERRORS, ERRORS_AGAIN: "raw_item_errors", 1 alike &[
        ("item_id", "uuid"), ("error_no", "smallint"), ("error_code", "int"), ("field", "text"),
        ("message", "text"), ("occurred_at", "timestamptz"),
    ];
    RESPONSES, RESPONSES_AGAIN: "validation_responses", 1 alike &[
        ("id", "uuid"), ("owner", "text"), ("status", "text"), ("response", "text"),
        ("created_at", "timestamptz"),
    ];
}

const REQUEST_COLUMNS: &[(&str, &str)] = &[
    ("id", "uuid"),
    ("owner", "text"),
    ("source", "text"),
    ("action", "text"),
    ("lane", "text"),
    ("profile", "text"),
    ("item_count", "int"),
    ("external_ref", "text"),
    ("batch_id", "text"),
    ("state", "text"),
    ("accepted_at", "timestamptz"),
    ("finished_at", "timestamptz"),
];
static FOREIGN: Insert =
    Insert::new("validation_requests", REQUEST_COLUMNS, Conflict::Fail).alike(1);
/// Finishes our own requests, and makes the rows of those that were accepted without one.
static OWN: Insert = Insert::new(
    "validation_requests",
    REQUEST_COLUMNS,
    Conflict::Update(
        "(id) DO UPDATE SET state = excluded.state, body = NULL, profile = excluded.profile,
            finished_at = excluded.finished_at",
    ),
)
.alike(1);

pub(crate) static INSERTS: [&Insert; 8] = [
    &ITEMS,
    &ITEMS_AGAIN,
    &ERRORS,
    &ERRORS_AGAIN,
    &RESPONSES,
    &RESPONSES_AGAIN,
    &FOREIGN,
    &OWN,
];

/// Rows of one transaction.
#[derive(Debug)]
pub struct Batch {
    items: Rows,
    errors: Rows,
    responses: Rows,
    foreign: Rows,
    own: Rows,
}

impl Batch {
    /// A batch without rows.
    pub fn new(rewrite: Rewrite) -> Self {
        let [foreign, items, errors, responses] = match rewrite {
            Rewrite::Never => [&FOREIGN, &ITEMS, &ERRORS, &RESPONSES],
            Rewrite::Allowed => [&OWN, &ITEMS_AGAIN, &ERRORS_AGAIN, &RESPONSES_AGAIN],
        };
        Self {
            items: items.rows(),
            errors: errors.rows(),
            responses: responses.rows(),
            foreign: foreign.rows(),
            own: OWN.rows(),
        }
    }

    /// Adds an item.
    pub fn item(&mut self, row: &ItemRow<'_>) {
        let status = if row.done { "success" } else { "error" };
        let it = &mut self.items;
        it.push(row.id).push(row.request_id).push(row.item_no);
        it.push_json(Some(row.payload))
            .push(row.source)
            .push(status);
        it.push_json(row.result).push_json(row.error);
        it.push(row.phone).push(row.bank_account).push(row.email);
        it.push(row.profile).push(row.confidence).push(row.owner);
        it.push(row.stream_id).push(row.retry_count);
    }

    /// Adds a violated rule of an item.
    pub fn error(&mut self, item: Uuid, no: usize, code: u16, field: Option<&str>, message: &str) {
        let it = &mut self.errors;
        it.push(item).push(no).push(code).push(field).push(message);
    }

    /// Adds a finished request with its response.
    pub fn request(&mut self, finished: &Finished<'_>) {
        let it = &mut self.responses;
        it.push(finished.id).push(finished.owner);
        it.push(finished.state).push(finished.response);
        let it = if finished.is_foreign {
            &mut self.foreign
        } else {
            &mut self.own
        };
        it.push(finished.id)
            .push(finished.owner)
            .push(finished.source);
        it.push(finished.action)
            .push(finished.lane)
            .push(finished.profile);
        it.push(finished.item_count).push(finished.external_ref);
        it.push(finished.batch_id).push(finished.state);
        it.push(finished.accepted_at);
    }

    /// The statements that keep everything, to run in one transaction with the inbox marks.
    ///
    /// # Errors
    /// When a value is larger than its column.
    pub fn into_statements(self, stamp: &Stamp<'_>) -> Result<Vec<Statement>> {
        let now = stamp.completed_at;
        let mut items = self.items;
        items.push_alike(stamp.ruleset).push_alike(stamp.group);
        items.push_alike(stamp.consumer);
        items.push_alike(stamp.started_at).push_alike(now);
        items.push_alike(now).push_alike(now);
        let at_once = |mut rows: Rows| {
            rows.push_alike(now);
            rows.into_statement()
        };
        Ok(vec![
            at_once(self.own)?,
            at_once(self.foreign)?,
            items.into_statement()?,
            at_once(self.errors)?,
            at_once(self.responses)?,
        ])
    }
}
