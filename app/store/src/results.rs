//! What a batch of verdicts leaves behind: items, their errors, responses, finished requests.
//!
//! A [`Batch`] gathers columns while the worker judges; each kind of row is one statement.

use std::sync::Arc;

use ratebox_db::{Column, Sql, Statement};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::Result;

/// A request that has reached its verdict.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The request.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// Where it came from.
    pub source: String,
    /// `validate`, `check` or `import`.
    pub action: &'static str,
    /// Its lane's word.
    pub lane: &'static str,
    /// The rules it was judged by.
    pub profile: &'static str,
    /// Items in it.
    pub item_count: u32,
    /// The client's own reference.
    pub external_ref: Option<String>,
    /// The client's batch.
    pub batch_id: Option<String>,
    /// `success`, `partial` or `error`.
    pub state: &'static str,
    /// The response envelope.
    pub response: String,
    /// When it was accepted, as far as is known.
    pub accepted_at: Timestamp,
}

/// One judged item.
#[derive(Clone, Debug)]
pub struct ItemRow {
    /// Derived from request and position.
    pub id: Uuid,
    /// Its request.
    pub request_id: Uuid,
    /// Its position, from 0.
    pub item_no: u32,
    /// The item as it came.
    pub payload: String,
    /// Where it came from.
    pub source: String,
    /// DONE or not.
    pub done: bool,
    /// The verdict as JSON.
    pub result: Option<String>,
    /// The violated rules as a JSON list.
    pub error: Option<String>,
    /// E.164, when the phone could be read.
    pub phone: Option<String>,
    /// Normalised account, when it could be read.
    pub bank_account: Option<String>,
    /// Look-up key of the e-mail, when it could be read.
    pub email: Option<String>,
    /// 0.05…0.95.
    pub confidence: f64,
    /// Whose it is.
    pub owner: String,
    /// The entry it came in.
    pub stream_id: String,
    /// Failed attempts before this one.
    pub retry_count: u32,
}

const ITEMS: Sql = Sql {
    postgres: "INSERT INTO raw_items (id, request_id, item_no, payload, source, status, result,
            error, phone, bank_account, email, profile, confidence, owner, stream_id, retry_count,
            ruleset, consumer_group, consumer_name, processing_started_at,
            processing_completed_at, created_at, updated_at)
        SELECT *, $17, $18, $19, $20::timestamptz, $21::timestamptz, $21::timestamptz,
            $21::timestamptz
        FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::jsonb[], $5::text[], $6::text[],
            $7::jsonb[], $8::jsonb[], $9::text[], $10::text[], $11::text[], $12::text[],
            $13::real[], $14::text[], $15::text[], $16::int[])
        ON CONFLICT (id) DO NOTHING",
    sqlite: "INSERT INTO raw_items (id, request_id, item_no, payload, source, status, result,
            error, phone, bank_account, email, profile, confidence, owner, stream_id, retry_count,
            ruleset, consumer_group, consumer_name, processing_started_at,
            processing_completed_at, created_at, updated_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
            ?19, ?20, ?21, ?21, ?21)
        ON CONFLICT (id) DO NOTHING",
};

const ERRORS: Sql = Sql {
    postgres: "INSERT INTO raw_item_errors
            (item_id, error_no, error_code, field, message, occurred_at)
        SELECT *, $6::timestamptz
        FROM unnest($1::uuid[], $2::smallint[], $3::int[], $4::text[], $5::text[])
        ON CONFLICT (item_id, error_no) DO NOTHING",
    sqlite: "INSERT INTO raw_item_errors
            (item_id, error_no, error_code, field, message, occurred_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (item_id, error_no) DO NOTHING",
};

const RESPONSES: Sql = Sql {
    postgres: "INSERT INTO validation_responses (id, owner, status, response, created_at)
        SELECT *, $5::timestamptz FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        ON CONFLICT (id) DO NOTHING",
    sqlite: "INSERT INTO validation_responses (id, owner, status, response, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING",
};

/// Finishes our own requests and makes the rows of foreign ones.
const REQUESTS: Sql = Sql {
    postgres: "INSERT INTO validation_requests (id, owner, source, action, lane, profile,
            item_count, external_ref, batch_id, state, accepted_at, finished_at)
        SELECT *, $12::timestamptz FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
            $5::text[], $6::text[], $7::int[], $8::text[], $9::text[], $10::text[],
            $11::timestamptz[])
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = NULL,
            profile = excluded.profile, finished_at = excluded.finished_at",
    sqlite: "INSERT INTO validation_requests (id, owner, source, action, lane, profile,
            item_count, external_ref, batch_id, state, accepted_at, finished_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = NULL,
            profile = excluded.profile, finished_at = excluded.finished_at",
};

pub(crate) const STATEMENTS: &[Sql] = &[ITEMS, ERRORS, RESPONSES, REQUESTS];

/// Rows of one transaction, column by column.
#[derive(Debug)]
pub struct Batch {
    ruleset: &'static str,
    group: Arc<str>,
    consumer: Arc<str>,
    started_at: Timestamp,
    items: Items,
    errors: Errors,
    requests: Vec<Finished>,
}

#[derive(Debug, Default)]
struct Items {
    id: Vec<Uuid>,
    request_id: Vec<Uuid>,
    item_no: Vec<i64>,
    payload: Vec<Option<String>>,
    source: Vec<String>,
    status: Vec<String>,
    result: Vec<Option<String>>,
    error: Vec<Option<String>>,
    phone: Vec<Option<String>>,
    bank_account: Vec<Option<String>>,
    email: Vec<Option<String>>,
    profile: Vec<String>,
    confidence: Vec<f64>,
    owner: Vec<String>,
    stream_id: Vec<String>,
    retry_count: Vec<i64>,
}

#[derive(Debug, Default)]
struct Errors {
    item_id: Vec<Uuid>,
    error_no: Vec<i64>,
    code: Vec<i64>,
    field: Vec<Option<String>>,
    message: Vec<String>,
}

impl Batch {
    /// A batch without rows, judged by `ruleset` since `started_at`.
    pub fn new(
        ruleset: &'static str,
        group: Arc<str>,
        consumer: Arc<str>,
        started_at: Timestamp,
    ) -> Self {
        let (items, errors) = (Items::default(), Errors::default());
        Self {
            ruleset,
            group,
            consumer,
            started_at,
            items,
            errors,
            requests: Vec::new(),
        }
    }

    /// Adds an item judged by the rules of `profile`.
    pub fn item(&mut self, row: ItemRow, profile: &'static str) {
        let it = &mut self.items;
        it.id.push(row.id);
        it.request_id.push(row.request_id);
        it.item_no.push(row.item_no.into());
        it.payload.push(Some(row.payload));
        it.source.push(row.source);
        it.status
            .push(if row.done { "success" } else { "error" }.to_owned());
        it.result.push(row.result);
        it.error.push(row.error);
        it.phone.push(row.phone);
        it.bank_account.push(row.bank_account);
        it.email.push(row.email);
        it.profile.push(profile.to_owned());
        it.confidence.push(row.confidence);
        it.owner.push(row.owner);
        it.stream_id.push(row.stream_id);
        it.retry_count.push(row.retry_count.into());
    }

    /// Adds a violated rule of an item.
    pub fn error(&mut self, item: Uuid, no: usize, code: u16, field: Option<&str>, message: &str) {
        let it = &mut self.errors;
        it.item_id.push(item);
        it.error_no.push(i64::try_from(no).unwrap_or(i64::MAX));
        it.code.push(code.into());
        it.field.push(field.map(ToOwned::to_owned));
        it.message.push(message.to_owned());
    }

    /// Adds a finished request with its response.
    pub fn request(&mut self, finished: Finished) {
        self.requests.push(finished);
    }

    /// The statements that keep everything, to run in one transaction with the inbox marks.
    ///
    /// # Errors
    /// Never for a batch that was filled through its methods.
    pub fn into_statements(self, now: Timestamp) -> Result<Vec<Statement>> {
        let (responses, requests) = finish(self.requests, now)?;
        let errors = vec![
            Column::Uuid(self.errors.item_id),
            Column::Int(self.errors.error_no),
            Column::Int(self.errors.code),
            Column::MaybeText(self.errors.field),
            Column::Text(self.errors.message),
        ];
        let constants = vec![
            self.ruleset.into(),
            self.group.as_ref().into(),
            self.consumer.as_ref().into(),
            self.started_at.into(),
            now.into(),
        ];
        Ok(vec![
            requests,
            ITEMS.rows(self.items.into_columns(), constants)?,
            ERRORS.rows(errors, vec![now.into()])?,
            responses,
        ])
    }
}

impl Items {
    fn into_columns(self) -> Vec<Column> {
        vec![
            Column::Uuid(self.id),
            Column::Uuid(self.request_id),
            Column::Int(self.item_no),
            Column::Json(self.payload),
            Column::Text(self.source),
            Column::Text(self.status),
            Column::Json(self.result),
            Column::Json(self.error),
            Column::MaybeText(self.phone),
            Column::MaybeText(self.bank_account),
            Column::MaybeText(self.email),
            Column::Text(self.profile),
            Column::Float(self.confidence),
            Column::Text(self.owner),
            Column::Text(self.stream_id),
            Column::Int(self.retry_count),
        ]
    }
}

/// The statements for responses and requests.
fn finish(requests: Vec<Finished>, now: Timestamp) -> Result<(Statement, Statement)> {
    let ids: Vec<Uuid> = requests.iter().map(|it| it.id).collect();
    let owners: Vec<String> = requests.iter().map(|it| it.owner.clone()).collect();
    let states: Vec<String> = requests.iter().map(|it| it.state.to_owned()).collect();
    let words = |of: fn(&Finished) -> &'static str| {
        Column::Text(requests.iter().map(|it| of(it).to_owned()).collect())
    };
    let columns = vec![
        Column::Uuid(ids.clone()),
        Column::Text(owners.clone()),
        Column::Text(requests.iter().map(|it| it.source.clone()).collect()),
        words(|it| it.action),
        words(|it| it.lane),
        words(|it| it.profile),
        Column::Int(requests.iter().map(|it| it.item_count.into()).collect()),
        Column::MaybeText(requests.iter().map(|it| it.external_ref.clone()).collect()),
        Column::MaybeText(requests.iter().map(|it| it.batch_id.clone()).collect()),
        Column::Text(states.clone()),
        Column::Time(requests.iter().map(|it| it.accepted_at).collect()),
    ];
    let finished = REQUESTS.rows(columns, vec![now.into()])?;
    let bodies = requests.into_iter().map(|it| it.response).collect();
    let columns = vec![
        Column::Uuid(ids),
        Column::Text(owners),
        Column::Text(states),
        Column::Text(bodies),
    ];
    Ok((RESPONSES.rows(columns, vec![now.into()])?, finished))
}
