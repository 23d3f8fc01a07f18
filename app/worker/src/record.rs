//! One transaction for a batch: inbox marks, requests, items, errors, responses, answer events
//! and the consumer's figures.

use std::collections::HashSet;
use std::sync::Arc;

use ratebox_intake::{Action, Decision, ItemResult, RULESET, Status};
use ratebox_kit::Timestamp;
use ratebox_outbox::{Event, Inbox, Outbox, Staged};
use ratebox_store::{
    Batch, BatchCount, Committed, Error, Finished, ItemRow, Rewrite, Stamp, Statement, Store,
};
use serde::Serialize;
use uuid::Uuid;

use crate::judge::Judged;
use crate::slots::Slots;
use crate::{Settings, answer};

/// Keeps batches.
pub(crate) struct Recorder {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) settings: Arc<Settings>,
    pub(crate) slots: Slots,
}

/// A batch that is on disk.
pub(crate) struct Recorded {
    pub(crate) proof: Committed,
    pub(crate) answers: Staged,
    /// Whether each message was new; the others had their verdict before.
    pub(crate) is_new: Vec<bool>,
}

impl Recorder {
    /// Keeps everything of a batch, or nothing. Nearly always all of it is new, so that is tried
    /// first, in one round trip; a message that was recorded before makes it fail.
    pub(crate) async fn record(
        &self,
        batch: &[Judged],
        started_at: Timestamp,
    ) -> Result<Recorded, Error> {
        let mut ids = Vec::with_capacity(batch.len());
        let is_new = select(batch, |id| {
            ids.push(*id);
            true
        });
        if ids.len() < batch.len() {
            return self.record_rest(batch, started_at).await;
        }
        match self.record_new(batch, (ids, is_new), started_at).await {
            Err(Error::Db(error)) if error.is_duplicate() => {
                self.record_rest(batch, started_at).await
            }
            outcome => outcome,
        }
    }

    async fn record_new(
        &self,
        batch: &[Judged],
        (ids, is_new): (Vec<Uuid>, Vec<bool>),
        started_at: Timestamp,
    ) -> Result<Recorded, Error> {
        let now = self.store.clock().now();
        let claim = self.inbox.claim(&ids, now).map_err(database)?;
        let slot = self.slots.take();
        let kept = self.rows(batch, &is_new, (started_at, now), slot.number());
        let (mut statements, answers) = kept.into_statements(&self.outbox, Rewrite::Never)?;
        statements.insert(0, claim);
        let (_, proof) = self.store.db().run(statements).await?;
        self.inbox.marked(ids.len(), 0, &proof);
        Ok(Recorded {
            proof,
            answers,
            is_new,
        })
    }

    /// Asks the inbox which messages are new and keeps these.
    async fn record_rest(
        &self,
        batch: &[Judged],
        started_at: Timestamp,
    ) -> Result<Recorded, Error> {
        let ids: Vec<Uuid> = batch.iter().map(|it| it.task.request.request_id).collect();
        let mut tx = self.store.begin().await?;
        let fresh = self.inbox.mark(&mut tx, &ids).await.map_err(database)?;
        let is_new = select(batch, |id| fresh.contains(id));
        let now = self.store.clock().now();
        let slot = self.slots.take();
        let kept = self.rows(batch, &is_new, (started_at, now), slot.number());
        let (statements, answers) = kept.into_statements(&self.outbox, Rewrite::Allowed)?;
        let (_, proof) = tx.commit_after(statements).await?;
        self.inbox
            .marked(fresh.len(), batch.len() - fresh.len(), &proof);
        Ok(Recorded {
            proof,
            answers,
            is_new,
        })
    }

    /// The rows of those that are new.
    fn rows<'a>(
        &'a self,
        batch: &'a [Judged],
        is_new: &[bool],
        (started_at, completed_at): (Timestamp, Timestamp),
        slot: u16,
    ) -> Kept<'a> {
        let settings = &*self.settings;
        let stamp = Stamp {
            ruleset: RULESET,
            group: &settings.group,
            consumer: &settings.consumer,
            started_at,
            completed_at,
        };
        let mut kept = Kept::new(stamp);
        for (judged, _) in batch.iter().zip(is_new).filter(|(_, is_new)| **is_new) {
            kept.add(judged, settings);
        }
        let suppressed = batch.len() as u64 - kept.processed;
        kept.count = batch.last().map(|last| BatchCount {
            group: &settings.group,
            consumer: &settings.consumer,
            stream: &settings.stream,
            slot,
            processed: kept.processed,
            with_errors: kept.with_errors,
            suppressed,
            last_entry: last.task.entry.id.to_string(),
            at: completed_at,
        });
        kept
    }
}

/// For each message whether it is new; twice in one batch is a duplicate as well.
fn select(batch: &[Judged], mut is_new: impl FnMut(&Uuid) -> bool) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(batch.len());
    let ids = batch.iter().map(|it| &it.task.request.request_id);
    ids.map(|id| seen.insert(*id) && is_new(id)).collect()
}

fn database(error: ratebox_outbox::Error) -> Error {
    match error {
        ratebox_outbox::Error::Db(error) => Error::Db(error),
        _ => Error::Unreadable { what: "event" },
    }
}

/// The rows of a batch as they are gathered.
struct Kept<'a> {
    batch: Batch<'a>,
    events: Vec<Event>,
    processed: u64,
    with_errors: u64,
    count: Option<BatchCount<'a>>,
    /// JSON of the item that is being added.
    result: Vec<u8>,
    error: Vec<u8>,
}

impl<'a> Kept<'a> {
    fn new(stamp: Stamp<'a>) -> Self {
        Self {
            batch: Batch::new(stamp),
            events: Vec::new(),
            processed: 0,
            with_errors: 0,
            count: None,
            result: Vec::new(),
            error: Vec::new(),
        }
    }

    /// Everything but the inbox marks; the count comes last, since it locks its row.
    fn into_statements(
        self,
        outbox: &Outbox,
        rewrite: Rewrite,
    ) -> Result<(Vec<Statement>, Staged), Error> {
        let mut statements = self.batch.into_statements(rewrite)?;
        let (events, staged) = outbox.stage(self.events).map_err(database)?;
        statements.push(events);
        if let Some(count) = self.count {
            statements.push(count.statement()?);
        }
        Ok((statements, staged))
    }

    fn add(&mut self, judged: &Judged, settings: &Settings) {
        let Judged { task, response, .. } = judged;
        let request = &task.request;
        self.processed += 1;
        self.with_errors += u64::from(response.status != Status::Success);
        // A check is answered, but not remembered as an item.
        if request.action != Action::Check {
            let entry = task.entry.id.to_string();
            for (item, result) in request.items.iter().zip(&response.results) {
                self.errors(result);
                self.item(judged, item.json(), result, &entry);
            }
        }
        let text =
            String::from_utf8(response.to_message()).expect("a response is written as JSON text");
        self.batch.request(&finished(judged, &text));
        self.events
            .push(answer::event(request, text.into(), &settings.answers));
    }

    fn errors(&mut self, result: &ItemResult) {
        for (number, error) in result.errors.iter().enumerate() {
            let field = Some(error.field.as_ref()).filter(|field| !field.is_empty());
            self.batch
                .error(result.item_id, number, error.code, field, &error.message);
        }
    }

    fn item(&mut self, judged: &Judged, payload: &str, result: &ItemResult, entry: &str) {
        let (request, normalized) = (&judged.task.request, &result.normalized);
        let verdict = ItemVerdict {
            verdict: result.verdict,
            warnings: &result.details.warnings,
        };
        let error = (!result.errors.is_empty()).then_some(&result.errors);
        self.batch.item(&ItemRow {
            id: result.item_id,
            request_id: request.request_id,
            item_no: result.item_no,
            payload,
            source: &request.source,
            done: result.verdict == Decision::Done,
            result: Some(json(&verdict, &mut self.result)),
            error: error.map(|errors| json(errors, &mut self.error)),
            phone: normalized.phone.as_deref(),
            bank_account: normalized.bank_account.as_deref(),
            email: normalized.email.as_deref(),
            profile: judged.profile.word(),
            confidence: result.confidence.value(),
            owner: &request.owner,
            stream_id: entry,
            retry_count: judged.task.entry.attempt(),
        });
    }
}

/// What an item's row keeps of its result. Errors and look-up values have columns of their own,
/// and the whole result is in the response.
#[derive(Serialize)]
struct ItemVerdict<'a> {
    verdict: Decision,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [ratebox_intake::ItemWarning],
}

fn json<'a>(value: &impl Serialize, buffer: &'a mut Vec<u8>) -> &'a str {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, value).expect("results are always written to memory");
    std::str::from_utf8(buffer).expect("JSON is text")
}

fn finished<'a>(judged: &'a Judged, response: &'a str) -> Finished<'a> {
    let request = &judged.task.request;
    Finished {
        id: request.request_id,
        is_foreign: judged.task.is_foreign,
        owner: &request.owner,
        source: &request.source,
        action: request.action.word(),
        lane: request.lane.word(),
        profile: judged.profile.word(),
        item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
        external_ref: request.external_ref.as_deref(),
        batch_id: request.batch_id.as_deref(),
        state: judged.response.status.word(),
        response,
        accepted_at: request.accepted_at(),
    }
}
