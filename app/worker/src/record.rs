//! One transaction for a batch: inbox marks, requests, items, errors, responses, answer events
//! and the consumer's figures.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use ratebox_intake::{Action, Decision, ItemResult, RULESET, Request, Status};
use ratebox_kit::Timestamp;
use ratebox_outbox::{Event, Inbox, Outbox, Staged};
use ratebox_store::{Batch, BatchCount, Committed, Error, Finished, ItemRow, Store};
use serde::Serialize;
use uuid::Uuid;

use crate::Settings;
use crate::answer;
use crate::judge::Judged;

/// Keeps batches.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) settings: Arc<Settings>,
}

/// A batch that is on disk.
pub(crate) struct Recorded {
    pub(crate) proof: Committed,
    pub(crate) answers: Staged,
    /// Requests that were new; the others had their verdict before.
    pub(crate) fresh: HashSet<Uuid>,
}

impl Recorder {
    /// Keeps everything of a batch, or nothing.
    pub(crate) async fn record(
        &self,
        batch: &[Judged],
        started_at: Timestamp,
    ) -> Result<Recorded, Error> {
        let ids: Vec<Uuid> = batch.iter().map(|it| it.task.request.request_id).collect();
        let mut tx = self.store.begin().await?;
        let fresh = self.inbox.mark(&mut tx, &ids).await.map_err(database)?;
        let now = self.store.clock().now();
        let mut rows = Rows::new(&self.settings, started_at);
        let mut seen = HashSet::with_capacity(fresh.len());
        for judged in batch {
            let id = judged.task.request.request_id;
            // Twice in one batch is a duplicate as well.
            if fresh.contains(&id) && seen.insert(id) {
                rows.add(judged, &self.settings);
            }
        }
        let (statement, answers) = self.outbox.stage(rows.events).map_err(database)?;
        let mut statements = rows.batch.into_statements(now)?;
        statements.push(statement);
        if let Some(last) = batch.last().filter(|_| rows.processed > 0) {
            statements.push(self.store.count_batch(BatchCount {
                group: &self.settings.group,
                consumer: &self.settings.consumer,
                stream: &self.settings.stream,
                processed: rows.processed,
                with_errors: rows.with_errors,
                last_entry: last.task.entry.id.to_string(),
                at: now,
            }));
        }
        let (_, proof) = tx.commit_after(statements).await?;
        Ok(Recorded {
            proof,
            answers,
            fresh,
        })
    }
}

fn database(error: ratebox_outbox::Error) -> Error {
    match error {
        ratebox_outbox::Error::Db(error) => Error::Db(error),
        ratebox_outbox::Error::Headers(_) => Error::Unreadable { what: "event" },
    }
}

/// The rows of a batch as they are gathered.
struct Rows {
    batch: Batch,
    events: Vec<Event>,
    processed: u64,
    with_errors: u64,
}

impl Rows {
    fn new(settings: &Settings, started_at: Timestamp) -> Self {
        let (group, consumer) = (
            settings.group.as_str().into(),
            settings.consumer.as_str().into(),
        );
        Self {
            batch: Batch::new(RULESET, group, consumer, started_at),
            events: Vec::new(),
            processed: 0,
            with_errors: 0,
        }
    }

    fn add(&mut self, judged: &Judged, settings: &Settings) {
        let Judged {
            task,
            profile,
            response,
        } = judged;
        let request = &task.request;
        self.processed += 1;
        self.with_errors += u64::from(response.status != Status::Success);
        // A check is answered, but not remembered as an item.
        if request.action != Action::Check {
            let entry = task.entry.id.to_string();
            for (item, result) in request.items.iter().zip(&response.results) {
                self.errors(result);
                let row = item_row(request, item.json(), result, &entry, task.entry.attempt());
                self.batch.item(row, profile.word());
            }
        }
        let body = response.to_message();
        let text = String::from_utf8(body).expect("a response is written as JSON text");
        let event = Bytes::copy_from_slice(text.as_bytes());
        self.events
            .push(answer::event(request, event, &settings.answers));
        self.batch.request(finished(
            request,
            profile.word(),
            response.status.word(),
            text,
        ));
    }

    fn errors(&mut self, result: &ItemResult) {
        for (number, error) in result.errors.iter().enumerate() {
            let field = Some(error.field.as_ref()).filter(|field| !field.is_empty());
            self.batch
                .error(result.item_id, number, error.code, field, &error.message);
        }
    }
}

fn item_row(
    request: &Request,
    payload: &str,
    result: &ItemResult,
    entry: &str,
    retry_count: u32,
) -> ItemRow {
    let normalized = &result.normalized;
    ItemRow {
        id: result.item_id,
        request_id: request.request_id,
        item_no: result.item_no,
        payload: payload.to_owned(),
        source: request.source.clone(),
        done: result.verdict == Decision::Done,
        result: Some(json(&Kept {
            verdict: result.verdict,
            warnings: &result.details.warnings,
        })),
        error: (!result.errors.is_empty()).then(|| json(&result.errors)),
        phone: normalized.phone.clone(),
        bank_account: normalized.bank_account.clone(),
        email: normalized.email.clone(),
        confidence: result.confidence.value(),
        owner: request.owner.clone(),
        stream_id: entry.to_owned(),
        retry_count,
    }
}

/// What an item's row keeps of its result. Errors and look-up values have columns of their own,
/// and the whole result is in the response.
#[derive(Serialize)]
struct Kept<'a> {
    verdict: Decision,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [ratebox_intake::ItemWarning],
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("results are always written to memory")
}

fn finished(
    request: &Request,
    profile: &'static str,
    state: &'static str,
    response: String,
) -> Finished {
    Finished {
        id: request.request_id,
        owner: request.owner.clone(),
        source: request.source.clone(),
        action: request.action.word(),
        lane: request.lane.word(),
        profile,
        item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
        external_ref: request.external_ref.clone(),
        batch_id: request.batch_id.clone(),
        state,
        response,
        accepted_at: request.accepted_at(),
    }
}
