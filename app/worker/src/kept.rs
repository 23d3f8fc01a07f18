//! What a batch leaves behind: rows of requests, items, errors and responses, answer events, and
//! what is counted and told of them once they are on disk.
//!
//! A message is read, judged and turned into rows before the next one is looked at, and what it was
//! read into is gone then: the memory of one serves the next, while it is still in the processor's cache.

use bytes::Bytes;
use ratebox_intake::{Action, Decision, ItemResult, LookupKind, Response, Status};
use ratebox_kit::Timestamp;
use ratebox_outbox::{Event, Outbox, Staged};
use ratebox_store::{Batch, Error, Finished, ItemRow, Rewrite, Stamp, Statement};
use ratebox_stream::Entry;
use serde::Serialize;

use crate::judge::{Taken, judge};
use crate::message::Message;
use crate::{Settings, answer};

/// The rows of a batch as they are gathered.
pub(crate) struct Kept<'a> {
    settings: &'a Settings,
    taken: Taken,
    batch: Batch,
    events: Vec<Event>,
    pub(crate) tally: Tally,
    /// JSON of the item that is being added.
    result: Vec<u8>,
    error: Vec<u8>,
    /// The answer that is being added.
    answer: Vec<u8>,
}

/// What is counted, and who is told, once a batch is on disk.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests, and those of them that are not all DONE.
    pub(crate) requests: u64,
    pub(crate) with_errors: u64,
    /// Items that are DONE, and those that are not.
    pub(crate) done: u64,
    pub(crate) errors: u64,
    /// How often each code was given.
    pub(crate) codes: Vec<(u16, u64)>,
    /// When each request was accepted.
    pub(crate) accepted: Vec<Timestamp>,
    /// The buckets of the values that can be looked up.
    pub(crate) buckets: Vec<u16>,
}

// === impl Kept ===

impl<'a> Kept<'a> {
    pub(crate) fn new(settings: &'a Settings, taken: Taken, rewrite: Rewrite) -> Self {
        Self {
            settings,
            taken,
            batch: Batch::new(rewrite),
            events: Vec::new(),
            tally: Tally::default(),
            result: Vec::new(),
            error: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Judges a message and adds what is to be kept of it.
    pub(crate) fn add(&mut self, entry: &Entry, message: &Message) {
        let request = &message.request;
        let (profile, response) = judge(request, self.settings, self.taken);
        self.tally.add(&response, request.accepted_at());
        // A check is answered, but not remembered as an item.
        if request.action != Action::Check {
            let origin = ItemOrigin {
                message,
                profile: profile.word(),
                entry: &entry.id.to_string(),
                attempt: entry.attempt(),
            };
            for (item, result) in request.items.iter().zip(&response.results) {
                self.tally.note(result);
                self.errors(result);
                self.item(&origin, item.json(), result);
            }
        }
        self.answer.clear();
        self.answer = response.write_message(std::mem::take(&mut self.answer));
        let text = std::str::from_utf8(&self.answer).expect("a response is written as JSON text");
        self.batch.request(&Finished {
            id: request.request_id,
            is_foreign: message.is_foreign,
            owner: &request.owner,
            source: &request.source,
            action: request.action.word(),
            lane: request.lane.word(),
            profile: profile.word(),
            item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
            external_ref: request.external_ref.as_deref(),
            batch_id: request.batch_id.as_deref(),
            state: response.status.word(),
            response: text,
            accepted_at: request.accepted_at(),
        });
        let (body, answers) = (Bytes::copy_from_slice(&self.answer), &self.settings.answers);
        self.events.push(answer::event(request, body, answers));
    }

    fn errors(&mut self, result: &ItemResult) {
        for (number, error) in result.errors.iter().enumerate() {
            let field = Some(error.field.as_ref()).filter(|field| !field.is_empty());
            self.batch
                .error(result.item_id, number, error.code, field, &error.message);
        }
    }

    fn item(&mut self, origin: &ItemOrigin<'_>, payload: &str, result: &ItemResult) {
        let (request, normalized) = (&origin.message.request, &result.normalized);
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
            profile: origin.profile,
            confidence: result.confidence.value(),
            owner: &request.owner,
            stream_id: origin.entry,
            retry_count: origin.attempt,
        });
    }

    /// The statements for everything but the inbox marks and the consumer's figures.
    pub(crate) fn into_statements(
        self,
        outbox: &Outbox,
        stamp: &Stamp<'_>,
    ) -> Result<(Vec<Statement>, Staged, Tally), Error> {
        let mut statements = self.batch.into_statements(stamp)?;
        let (events, staged) = outbox.stage(self.events).map_err(database)?;
        statements.push(events);
        Ok((statements, staged, self.tally))
    }
}

/// What the rows of a message's items have in common.
struct ItemOrigin<'a> {
    message: &'a Message,
    profile: &'static str,
    entry: &'a str,
    attempt: u32,
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

pub(crate) fn database(error: ratebox_outbox::Error) -> Error {
    match error {
        ratebox_outbox::Error::Db(error) => Error::Db(error),
        _ => Error::Unreadable { what: "event" },
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, response: &Response, accepted_at: Timestamp) {
        self.requests += 1;
        self.with_errors += u64::from(response.status != Status::Success);
        self.accepted.push(accepted_at);
        for result in &response.results {
            match result.verdict {
                Decision::Done => self.done += 1,
                Decision::Error => self.errors += 1,
            }
            for violated in &result.errors {
                match self.codes.iter_mut().find(|it| it.0 == violated.code) {
                    Some((_, count)) => *count += 1,
                    None => self.codes.push((violated.code, 1)),
                }
            }
        }
    }

    /// The values of an item that can be looked up.
    fn note(&mut self, result: &ItemResult) {
        let normalized = &result.normalized;
        let values = [
            (LookupKind::Phone, &normalized.phone),
            (LookupKind::BankAccount, &normalized.bank_account),
            (LookupKind::Email, &normalized.email),
        ];
        let there = values
            .iter()
            .filter_map(|(kind, value)| Some(kind.bucket(value.as_deref()?)));
        self.buckets.extend(there);
    }
}
