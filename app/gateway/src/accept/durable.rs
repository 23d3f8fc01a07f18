//! Durable mode: a batch of submissions is one commit.
//!
//! Idempotency keys (if any), request rows and outbox rows go into one transaction; its fsync
//! stands behind every 202 of the batch. A batch that the store refuses for its data is halved
//! until the one that is to blame is alone, so nobody pays for a neighbour.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Backoff, Causes};
use ratebox_outbox::{Event, Outbox, Staged};
use ratebox_store::{Claim, Committed, Error, IdempotencyKey, NewRequest, Statement, Store};
use ratebox_stream::{Lanes, field};
use tokio::sync::Notify;

use super::queue::{Ticket, refuse_all};
use super::{Accepted, Outcome, Parcel, Publisher, Refusal, Submission};

/// Tries of one commit that other transactions stand in the way of.
const TRIES_MAX: u32 = 4;
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(20),
    max: Duration::from_millis(200),
};

/// Keeps batches in the store.
pub(crate) struct Durable {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
    pub(crate) lanes: Lanes,
    pub(crate) tells_owner: bool,
    /// Told when an import was taken.
    pub(crate) imports: Arc<Notify>,
    pub(crate) publisher: Publisher,
}

/// A batch after its commit.
struct Kept {
    /// What becomes of each submission, in order; `None` for those that were kept.
    outcomes: Vec<Option<Outcome>>,
    /// What is to be published, when anything was kept.
    staged: Option<(Staged, Committed)>,
}

impl Durable {
    pub(crate) async fn take(&self, tickets: Vec<Ticket>) {
        let mut batches = vec![tickets];
        while let Some(mut batch) = batches.pop() {
            match self.keep_with_retries(&batch).await {
                Ok(kept) => {
                    if batch.iter().any(|it| it.submission.import.is_some()) {
                        self.imports.notify_one();
                    }
                    for (ticket, outcome) in batch.into_iter().zip(kept.outcomes) {
                        match outcome {
                            None => ticket.taken(None),
                            Some(outcome) => ticket.answer(outcome),
                        }
                    }
                    if let Some((staged, proof)) = kept.staged {
                        self.publisher.publish(staged, proof);
                    }
                }
                Err(error) if error.is_data() && batch.len() > 1 => {
                    let rest = batch.split_off(batch.len() / 2);
                    batches.push(rest);
                    batches.push(batch);
                }
                Err(error) => refuse(batch, &error),
            }
        }
    }

    async fn keep_with_retries(&self, batch: &[Ticket]) -> Result<Kept, Error> {
        let mut tries = 1;
        loop {
            match self.keep(batch).await {
                Err(error) if error.is_retryable() && !error.is_outage() && tries < TRIES_MAX => {
                    tokio::time::sleep(RETRY.jittered(tries)).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn keep(&self, batch: &[Ticket]) -> Result<Kept, Error> {
        let submissions = || batch.iter().map(|ticket| &ticket.submission);
        if submissions().all(|submission| submission.key.is_none()) {
            let (statements, staged) = self.statements(submissions())?;
            let (_, proof) = self.store.db().run(statements).await?;
            return Ok(Kept {
                outcomes: batch.iter().map(|_| None).collect(),
                staged: Some((staged, proof)),
            });
        }
        self.keep_with_keys(submissions().collect()).await
    }

    async fn keep_with_keys(&self, batch: Vec<&Submission>) -> Result<Kept, Error> {
        let mut keyed: Vec<(usize, IdempotencyKey)> = batch
            .iter()
            .enumerate()
            .filter_map(|(at, submission)| Some((at, self.claim_of(submission)?)))
            .collect();
        // All batches claim in one order, so that none waits for one that waits for it.
        keyed.sort_by(|(_, a), (_, b)| (&a.owner, &a.key).cmp(&(&b.owner, &b.key)));
        let (places, keys): (Vec<usize>, Vec<IdempotencyKey>) = keyed.into_iter().unzip();
        let mut tx = self.store.begin().await?;
        let claims = self.store.claim_keys(&mut tx, &keys).await?;
        let mut outcomes: Vec<Option<Outcome>> = batch.iter().map(|_| None).collect();
        for ((place, key), claim) in places.iter().zip(&keys).zip(claims) {
            outcomes[*place] = outcome_of(key, claim);
        }
        let fresh = batch
            .iter()
            .zip(&outcomes)
            .filter_map(|(submission, outcome)| outcome.is_none().then_some(*submission));
        let (statements, staged) = self.statements(fresh)?;
        if statements.is_empty() {
            tx.rollback().await?;
            return Ok(Kept {
                outcomes,
                staged: None,
            });
        }
        let (_, proof) = tx.commit_after(statements).await?;
        Ok(Kept {
            outcomes,
            staged: Some((staged, proof)),
        })
    }

    fn claim_of(&self, submission: &Submission) -> Option<IdempotencyKey> {
        let key = submission.key.as_ref()?;
        Some(IdempotencyKey {
            owner: key.owner.clone(),
            key: key.key.clone(),
            fingerprint: key.fingerprint.clone(),
            request_id: submission.id(),
            answer: submission.answer.clone(),
            created_at: self.store.clock().now(),
        })
    }

    /// The statements that keep submissions, none for none, and their events.
    fn statements<'a>(
        &self,
        submissions: impl Iterator<Item = &'a Submission>,
    ) -> Result<(Vec<Statement>, Staged), Error> {
        let (mut rows, mut events, mut imports) = (Vec::new(), Vec::new(), Vec::new());
        for submission in submissions {
            imports.extend(submission.import.as_deref());
            for parcel in &submission.parcels {
                rows.push(row(parcel));
                events.push(self.event(parcel));
            }
        }
        let (statement, staged) = self.outbox.stage(events).map_err(database)?;
        let mut statements = Vec::new();
        if !rows.is_empty() {
            statements.extend([self.store.insert_requests(&rows)?, statement]);
        }
        if !imports.is_empty() {
            statements.extend(self.store.insert_imports(&imports)?);
        }
        Ok((statements, staged))
    }

    fn event(&self, parcel: &Parcel) -> Event {
        let stream = self.lanes.stream(parcel.lane()).as_str();
        let mut event = Event::with_id(parcel.id, stream, parcel.body.clone());
        event.headers = parcel.headers();
        if self.tells_owner {
            let owner = (field::OWNER.to_owned(), parcel.owner.clone());
            event.headers.push(owner);
        }
        // The same key of two owners is two keys.
        event.key = parcel
            .key
            .as_ref()
            .map(|key| format!("{}/{key}", parcel.owner));
        event
    }
}

fn row(parcel: &Parcel) -> NewRequest {
    NewRequest {
        id: parcel.id,
        owner: parcel.owner.clone(),
        source: parcel.source.clone(),
        action: parcel.action.word(),
        lane: parcel.lane.word(),
        profile: parcel.profile.map(|profile| profile.word().to_owned()),
        item_count: parcel.item_count,
        external_ref: parcel.external_ref.clone(),
        batch_id: parcel.batch_id.clone(),
        body: parcel.body.clone(),
        accepted_at: parcel.accepted_at,
    }
}

/// What an earlier submission with the same key means for this one.
fn outcome_of(key: &IdempotencyKey, claim: Claim) -> Option<Outcome> {
    match claim {
        Claim::Mine => None,
        Claim::Theirs { fingerprint, .. } if fingerprint != key.fingerprint => {
            Some(Err(Refusal::KeyMismatch))
        }
        Claim::Theirs {
            request_id, answer, ..
        } => Some(Ok(Accepted {
            id: request_id,
            answer,
            entry: None,
            replayed: true,
        })),
    }
}

/// Says once, for the whole batch, why.
fn refuse(batch: Vec<Ticket>, error: &Error) {
    let refusal = if error.is_retryable() {
        Refusal::StoreDown
    } else if error.is_data() {
        Refusal::NotStorable
    } else {
        Refusal::Failed
    };
    let submissions = batch.len();
    tracing::error!(
        code = error.code(),
        cause = %Causes(error),
        submissions,
        "submissions could not be committed and were refused"
    );
    refuse_all(batch, refusal);
}

fn database(error: ratebox_outbox::Error) -> Error {
    match error {
        ratebox_outbox::Error::Db(error) => Error::Db(error),
        _ => Error::Unreadable { what: "event" },
    }
}
