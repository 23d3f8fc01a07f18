//! One transaction for a batch: inbox marks, requests, items, errors, responses, answer events
//! and the consumer's figures.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratebox_intake::RULESET;
use ratebox_kit::Timestamp;
use ratebox_outbox::{Inbox, Outbox, Staged};
use ratebox_store::{BatchCount, Committed, Error, Rewrite, Stamp, Statement, Store};
use ratebox_stream::Entry;
use uuid::Uuid;

use crate::Settings;
use crate::judge::Taken;
use crate::kept::{Kept, Tally, database};
use crate::message::Message;
use crate::slots::Slots;

/// Keeps batches.
pub(crate) struct Recorder {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) settings: Arc<Settings>,
    pub(crate) slots: Slots,
    /// The last batch had messages that were recorded before: what a process left that was killed, or
    /// what was cancelled while it waited. Where one was, more are.
    pub(crate) meets_known: AtomicBool,
}

/// A message that was read: its request's id, and the entry it came in.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) id: Uuid,
    pub(crate) entry: Entry,
}

/// A batch that is on disk.
pub(crate) struct Recorded {
    pub(crate) proof: Committed,
    pub(crate) answers: Staged,
    /// Of what was new; the others had their verdict before.
    pub(crate) tally: Tally,
}

impl Recorder {
    /// Keeps everything of a batch, or nothing. Nearly always all of it is new, so that is tried
    /// first, in one round trip; a message that was recorded before makes it fail, which costs the
    /// connection. So the inbox is asked first from then on, until a batch was all new.
    pub(crate) async fn record(
        &self,
        batch: &[Read],
        kept: Kept<'_>,
        taken: Taken,
    ) -> Result<Recorded, Error> {
        if has_twice(batch) || self.meets_known.load(Ordering::Relaxed) {
            return self.record_rest(batch, taken).await;
        }
        match self.record_new(batch, kept, taken).await {
            Err(Error::Db(error)) if error.is_duplicate() => self.record_rest(batch, taken).await,
            outcome => outcome,
        }
    }

    async fn record_new(
        &self,
        batch: &[Read],
        kept: Kept<'_>,
        taken: Taken,
    ) -> Result<Recorded, Error> {
        let now = self.store.clock().now();
        let ids: Vec<Uuid> = batch.iter().map(|it| it.id).collect();
        let claim = self.inbox.claim(&ids, now).map_err(database)?;
        let slot = self.slots.take();
        let (mut statements, answers, tally) =
            self.statements(batch, kept, (taken, now), slot.number())?;
        statements.insert(0, claim);
        let (_, proof) = self.store.db().run(statements).await?;
        self.inbox.marked(ids.len(), 0, &proof);
        Ok(Recorded {
            proof,
            answers,
            tally,
        })
    }

    /// Asks the inbox which messages are new and keeps these.
    async fn record_rest(&self, batch: &[Read], taken: Taken) -> Result<Recorded, Error> {
        let ids: Vec<Uuid> = batch.iter().map(|it| it.id).collect();
        let mut tx = self.store.begin().await?;
        let mut fresh = self.inbox.mark(&mut tx, &ids).await.map_err(database)?;
        let new = fresh.len();
        let kept = self.read_again(batch, &mut fresh, taken)?;
        let now = self.store.clock().now();
        let slot = self.slots.take();
        let (statements, answers, tally) =
            self.statements(batch, kept, (taken, now), slot.number())?;
        let (_, proof) = tx.commit_after(statements).await?;
        self.meets_known.store(new < batch.len(), Ordering::Relaxed);
        self.inbox.marked(new, batch.len() - new, &proof);
        Ok(Recorded {
            proof,
            answers,
            tally,
        })
    }

    /// The rows of those that are new. What came twice in this batch is new once.
    fn read_again(
        &self,
        batch: &[Read],
        fresh: &mut HashSet<Uuid>,
        taken: Taken,
    ) -> Result<Kept<'_>, Error> {
        let mut kept = Kept::new(&self.settings, taken, Rewrite::Allowed);
        for read in batch {
            if fresh.remove(&read.id) {
                let message = Message::read(&read.entry, &self.settings)
                    .map_err(|_| Error::Unreadable { what: "message" })?;
                kept.add(&read.entry, &message);
            }
        }
        Ok(kept)
    }

    /// Everything but the inbox marks; the count comes last, since it locks its row.
    fn statements(
        &self,
        batch: &[Read],
        kept: Kept<'_>,
        (taken, completed_at): (Taken, Timestamp),
        slot: u16,
    ) -> Result<(Vec<Statement>, Staged, Tally), Error> {
        let settings = &*self.settings;
        let stamp = Stamp {
            ruleset: RULESET,
            group: &settings.group,
            consumer: &settings.consumer,
            started_at: taken.at,
            completed_at,
        };
        let (mut statements, answers, tally) = kept.into_statements(&self.outbox, &stamp)?;
        if let Some(last) = batch.last() {
            let count = BatchCount {
                group: &settings.group,
                consumer: &settings.consumer,
                stream: &settings.stream,
                slot,
                processed: tally.requests,
                with_errors: tally.with_errors,
                suppressed: batch.len() as u64 - tally.requests,
                last_entry: last.entry.id.to_string(),
                at: completed_at,
            };
            statements.push(count.statement()?);
        }
        Ok((statements, answers, tally))
    }
}

/// Whether a request came twice in one batch.
fn has_twice(batch: &[Read]) -> bool {
    let mut ids: Vec<Uuid> = batch.iter().map(|it| it.id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair.first() == pair.last())
}
