//! Stream mode: a batch of submissions is one pipelined append, and nothing else.
//!
//! No row stands behind the 202, only the bus; what the bus may lose is the loss window. The
//! requests of one call are appended side by side: should some of them fail, the call is refused
//! although others are on the bus, and a client that repeats it without a key gets those twice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_kit::{Causes, Clock, Message};
use ratebox_stream::{Append, Error, Lanes, Log};
use uuid::Uuid;

use super::queue::{Ticket, refuse_all};
use super::{Accepted, EntryRef, Outcome, Parcel, Refusal, Submission};
use crate::idempotency::{IdempotencyKeys, Key, Record};
use crate::problem::denial;

/// Keeps batches on the bus.
pub(crate) struct Streamed {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) lanes: Lanes,
    pub(crate) clock: Clock,
    /// Without it, submissions with a key are refused.
    pub(crate) keys: Option<Arc<dyn IdempotencyKeys>>,
    pub(crate) keys_kept: Duration,
    pub(crate) key_in_progress_max: Duration,
}

/// A ticket that is to be appended, and what its key is kept as.
struct Ready {
    ticket: Ticket,
    claim: Option<Box<(Key, Record)>>,
}

/// What a claim of a key came to.
enum Turn {
    /// Append it; the record is to be completed after.
    Append(Option<Box<(Key, Record)>>),
    /// There is an outcome already.
    Over(Outcome),
}

impl Streamed {
    pub(crate) async fn take(&self, tickets: Vec<Ticket>) {
        let ready = self.claim_all(tickets).await;
        let mut appends = Vec::with_capacity(ready.len());
        for parcel in ready.iter().flat_map(|it| &it.ticket.submission.parcels) {
            appends.push(self.append_of(parcel));
        }
        if appends.is_empty() {
            return;
        }
        let mut answers = self.log.append(&appends).await.into_iter();
        let mut places = appends.into_iter().map(|append| append.stream);
        let mut failed = Vec::new();
        let mut taken = Vec::new();
        for it in ready {
            let mut first = None;
            let mut error = None;
            for _ in &it.ticket.submission.parcels {
                let (stream, answer) = (places.next(), answers.next());
                match (stream, answer) {
                    (Some(stream), Some(Ok(id))) => {
                        first = first.or(Some(EntryRef { stream, id }));
                    }
                    (_, Some(Err(why))) => error = Some(why),
                    // A log that answers for fewer than it was asked is broken.
                    (None, _) | (_, None) => error = error.or(Some(missing())),
                }
            }
            match error {
                None => taken.push((it, first)),
                Some(error) => failed.push((it.ticket, error)),
            }
        }
        refuse(failed);
        self.answer_all(taken).await;
    }

    /// Claims the keys of a batch; tickets that have an outcome by that are answered.
    async fn claim_all(&self, tickets: Vec<Ticket>) -> Vec<Ready> {
        if tickets.iter().all(|ticket| ticket.submission.key.is_none()) {
            let ready = |ticket| Ready {
                ticket,
                claim: None,
            };
            return tickets.into_iter().map(ready).collect();
        }
        let turns = join_all(tickets.iter().map(|ticket| self.claim(&ticket.submission))).await;
        let mut ready = Vec::with_capacity(tickets.len());
        for (mut ticket, turn) in tickets.into_iter().zip(turns) {
            match turn {
                Turn::Append(claim) => {
                    if let Some(claim) = &claim {
                        take_up(&mut ticket.submission, &claim.1);
                    }
                    ready.push(Ready { ticket, claim });
                }
                Turn::Over(Err(refusal @ (Refusal::BusDown | Refusal::Failed))) => {
                    refuse_all(vec![ticket], refusal);
                }
                Turn::Over(outcome) => ticket.answer(outcome),
            }
        }
        ready
    }

    async fn claim(&self, submission: &Submission) -> Turn {
        let Some(key) = &submission.key else {
            return Turn::Append(None);
        };
        let Some(keys) = &self.keys else {
            return Turn::Over(Err(Refusal::BusDown));
        };
        let record = Record {
            fingerprint: key.fingerprint.clone(),
            ids: submission.parcels.iter().map(|parcel| parcel.id).collect(),
            answer: submission.answer.clone(),
            entry: None,
            claimed_at_ms: self.clock.now_ms(),
        };
        match keys
            .keep_if_absent(&key.name(), &text(&record), self.keys_kept)
            .await
        {
            Ok(None) => Turn::Append(Some(Box::new((key.clone(), record)))),
            Ok(Some(theirs)) => self.earlier(key, &theirs),
            Err(error) => {
                tracing::error!(cause = %Causes(&error), "an idempotency key could not be claimed");
                Turn::Over(Err(Refusal::BusDown))
            }
        }
    }

    /// What an earlier claim of the same key means.
    fn earlier(&self, key: &Key, theirs: &str) -> Turn {
        let Ok(record) = serde_json::from_str::<Record>(theirs) else {
            return Turn::Over(Err(Refusal::Failed));
        };
        if record.fingerprint != key.fingerprint {
            return Turn::Over(Err(Refusal::KeyMismatch));
        }
        if let Some(entry) = &record.entry {
            return Turn::Over(Ok(Accepted {
                id: record.ids.first().copied().unwrap_or_default(),
                entry: EntryRef::parse(entry, &self.lanes),
                answer: record.answer,
                replayed: true,
            }));
        }
        let age_ms = self.clock.now_ms().saturating_sub(record.claimed_at_ms);
        if u128::try_from(age_ms).is_ok_and(|age| age > self.key_in_progress_max.as_millis()) {
            return Turn::Append(Some(Box::new((key.clone(), record))));
        }
        Turn::Over(Err(Refusal::KeyInProgress))
    }

    fn append_of(&self, parcel: &Parcel) -> Append {
        let id = parcel
            .id
            .hyphenated()
            .encode_lower(&mut Uuid::encode_buffer())
            .to_owned();
        let mut message = Message::new(id, parcel.body.clone());
        message.headers = parcel.headers();
        Append::new(self.lanes.stream(parcel.lane()).clone(), message).recognised()
    }

    /// Completes the records of keys, then answers: an answer that was given can be repeated.
    async fn answer_all(&self, taken: Vec<(Ready, Option<EntryRef>)>) {
        let complete = taken.iter().filter_map(|(it, entry)| {
            let (key, record) = it.claim.as_deref()?;
            let record = Record {
                entry: entry.as_ref().map(ToString::to_string),
                ..record.clone()
            };
            Some(self.complete(key, record))
        });
        join_all(complete).await;
        for (it, entry) in taken {
            it.ticket.taken(entry);
        }
    }

    async fn complete(&self, key: &Key, record: Record) {
        let Some(keys) = &self.keys else { return };
        if let Err(error) = keys.keep(&key.name(), &text(&record), self.keys_kept).await {
            // The request is on the bus; a repetition appends it again under the same ids.
            tracing::warn!(cause = %Causes(&error), "the outcome of an idempotency key was not kept");
        }
    }
}

/// Gives a submission the ids and the answer that an earlier claim of its key had.
fn take_up(submission: &mut Submission, record: &Record) {
    if record.ids.len() != submission.parcels.len() || record.ids.first() == Some(&submission.id())
    {
        return;
    }
    for (parcel, id) in submission.parcels.iter_mut().zip(&record.ids) {
        parcel.rename(*id);
    }
    submission.answer.clone_from(&record.answer);
}

fn text(record: &Record) -> String {
    serde_json::to_string(record).expect("texts and ids are JSON")
}

fn missing() -> Error {
    Error::Refused {
        what: "an append without an answer".to_owned(),
        source: None,
    }
}

/// Says once, for the whole batch, why.
fn refuse(failed: Vec<(Ticket, Error)>) {
    let Some((_, error)) = failed.first() else {
        return;
    };
    let submissions = failed.len();
    tracing::error!(cause = %Causes(error), submissions, "submissions could not be appended and were refused");
    let (away, broken): (Vec<_>, Vec<_>) = failed
        .into_iter()
        .partition(|(_, error)| error.is_retryable() || denial(error).is_some());
    for (batch, refusal) in [(away, Refusal::BusDown), (broken, Refusal::Failed)] {
        if !batch.is_empty() {
            refuse_all(
                batch.into_iter().map(|(ticket, _)| ticket).collect(),
                refusal,
            );
        }
    }
}
