//! Sagas: looked at, foreseen, and ordered about. Works beside the engine that runs them or in a
//! process without one: an order is a letter in the journal, read by whoever owns the saga.

mod filter;
mod view;

use std::collections::HashMap;
use std::time::Duration;

use ratebox_kit::Timestamp;
use ratebox_saga::{Count, Desk, DryRun, Head, Outcome, Outline, Sent, Status, Stored, View};
use ratebox_store::{Deed, NewDeed, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{By, Error, Result};

pub use filter::SagaFilter;
pub use filter::SagaStates;
pub use ratebox_saga::Order as SagaOrder;
pub use ratebox_saga::Outcome as SagaOutcome;
pub use view::saga_counts;
pub use view::saga_definition;
pub use view::saga_foreseen;
pub use view::saga_head;
pub use view::saga_ordered;
pub use view::saga_shown;

/// Deeds that are shown with a saga.
const DEEDS_MAX: u32 = 50;
/// Sagas that one call orders about.
const BULK_MAX: usize = 1_000;

/// What operators do with sagas. Cheap to clone.
#[derive(Clone)]
pub struct Sagas {
    desk: Desk,
    store: Store,
    journal: JournalIn,
}

/// Where the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalIn {
    /// In the store's database: an order and its line in the audit log are one transaction.
    Store,
    /// Elsewhere: the line is written first, so that no order is without one.
    Elsewhere,
}

/// A saga with all that is known of it.
#[derive(Clone, Debug)]
pub struct SagaSeen {
    /// Its head, records and unanswered letters.
    pub stored: Stored,
    /// Its steps; `None` when nobody ever told the journal its definition.
    pub view: Option<View>,
    /// Orders and looks, newest first.
    pub deeds: Vec<Deed>,
}

/// What a definition would take.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The definition.
    pub outline: Outline,
    /// What each step is taken to take.
    pub takes: HashMap<String, Duration>,
    /// What comes of it.
    pub dry_run: DryRun,
}

/// What an order about many came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkOutcome {
    /// Sagas that match.
    pub matched: usize,
    /// Orders that were posted.
    pub posted: usize,
    /// Sagas that did not take it, with the reason.
    pub refused: Vec<(Uuid, String)>,
    /// Where to go on, when there may be more.
    pub next: Option<Uuid>,
}

// === impl Sagas ===

impl Sagas {
    /// The sagas of a desk; deeds are written into `store`.
    pub fn new(desk: Desk, store: Store, journal: JournalIn) -> Self {
        Self {
            desk,
            store,
            journal,
        }
    }

    /// Sagas that match, oldest first, at most `max`; pass the last one's id as
    /// [`SagaFilter::after`] for the next page.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn list(&self, filter: &SagaFilter, max: usize) -> Result<Vec<Head>> {
        Ok(self.desk.list(&filter.with_limit(max)).await?)
    }

    /// How many sagas there are, by definition and status.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn counts(&self) -> Result<Vec<Count>> {
        Ok(self.desk.counts().await?)
    }

    /// One saga, as it stands or stood at a time, with the letters that it still has and the deeds
    /// that were done by then.
    ///
    /// # Errors
    /// When there is no such saga, or was none at that time; when the journal or the store is away.
    /// Where a saga stood before its head was last written cannot be told without its definition.
    pub async fn show(&self, id: Uuid, at: Option<Timestamp>) -> Result<SagaSeen> {
        let mut stored = self.desk.stored(ratebox_saga::SagaId(id)).await?;
        let is_as_now = at.is_none_or(|at| stored.head.updated_at <= at);
        let view = match self.desk.view(stored.clone(), at).await {
            Ok(view) => Some(view),
            Err(ratebox_saga::Error::NotRegistered { .. }) if is_as_now => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(view) = &view {
            stored.head.clone_from(&view.head);
        }
        if let Some(at) = at {
            stored.records.retain(|it| it.at <= at);
            stored.letters.retain(|it| it.at <= at);
        }
        let subject = id.to_string();
        let before = at.map(ratebox_kit::id::lowest_at);
        let deeds = self.store.deeds(Some(&subject), before, DEEDS_MAX).await?;
        Ok(SagaSeen {
            stored,
            view,
            deeds,
        })
    }

    /// One saga as a Mermaid flow chart with its states and durations.
    ///
    /// # Errors
    /// When there is no such saga, or nobody told the journal its definition.
    pub async fn graph(&self, id: Uuid) -> Result<String> {
        let stored = self.desk.stored(ratebox_saga::SagaId(id)).await?;
        Ok(self.desk.view(stored, None).await?.mermaid())
    }

    /// Definitions, the latest first.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn definitions(&self, name: Option<&str>, max: usize) -> Result<Vec<Outline>> {
        Ok(self.desk.outlines(name, max).await?)
    }

    /// The latest definition of a name.
    ///
    /// # Errors
    /// When there is none, or the journal is away.
    pub async fn definition(&self, name: &str) -> Result<Outline> {
        let found = self.desk.outlines(Some(name), 1).await?.pop();
        found.ok_or_else(|| Error::UnknownDefinition {
            name: name.to_owned(),
        })
    }

    /// Critical path, time and width of a definition, with what its steps took lately; `takes`
    /// says otherwise.
    ///
    /// # Errors
    /// When there is no such definition, it has no such step, or the journal is away.
    pub async fn simulate(&self, name: &str, takes: HashMap<String, Duration>) -> Result<Foreseen> {
        let outline = self.definition(name).await?;
        let is_step = |step: &&String| outline.steps().any(|it| it == step.as_str());
        if let Some(step) = takes.keys().find(|it| !is_step(it)) {
            let step = step.clone();
            return Err(ratebox_saga::Error::NoSuchStep { step }.into());
        }
        let mut typical = self.desk.typical(&outline).await?;
        typical.extend(takes);
        Ok(Foreseen {
            dry_run: outline.dry_run(&typical),
            takes: typical,
            outline,
        })
    }

    /// Orders something, and waits up to `patience` until the saga's owner has read it.
    ///
    /// # Errors
    /// When the saga does not take the order now; then nothing is written.
    pub async fn order(
        &self,
        id: Uuid,
        order: &SagaOrder,
        by: &By,
        patience: Duration,
    ) -> Result<Outcome> {
        let sent = self.post(id, order, by).await?;
        Ok(self.desk.settled(&sent, patience).await?)
    }

    async fn post(&self, id: Uuid, order: &SagaOrder, by: &By) -> Result<Sent> {
        let who = ratebox_saga::By::new(by.actor(), by.reason());
        let saga = ratebox_saga::SagaId(id);
        let sent = self.desk.prepare(saga, order, &who).await?;
        let deed = deed(&sent, order, by);
        match self.journal {
            JournalIn::Store => {
                let statement = self.store.audit(&[deed])?;
                let mut tx = self.store.begin().await?;
                self.desk.send_in(&mut tx, &sent).await?;
                let committed = tx.commit_after(vec![statement]).await;
                committed.map_err(ratebox_store::Error::from)?;
                self.desk.rung().await;
            }
            JournalIn::Elsewhere => {
                self.store.record_deed(deed).await?;
                self.desk.send(&sent).await?;
            }
        }
        Ok(sent)
    }

    /// Tries every parked step again of the sagas that match, or has the sagas cancelled or
    /// abandoned. Each is an order of its own; nobody is waited for. Sagas that are not parked are
    /// passed over, but for a cancellation.
    ///
    /// # Errors
    /// [`Error::TooWide`] for a cancellation or an abandonment of sagas of any definition, key and
    /// parent. When the journal or the store is away; what was posted before stays so.
    pub async fn order_many(
        &self,
        filter: &SagaFilter,
        order: Many,
        max: usize,
        by: &By,
    ) -> Result<BulkOutcome> {
        if order != Many::Retry && !filter.is_narrow() {
            return Err(Error::TooWide);
        }
        let max = max.min(BULK_MAX);
        let heads = self.list(filter, max).await?;
        let mut outcome = BulkOutcome {
            matched: heads.len(),
            next: heads
                .last()
                .filter(|_| heads.len() == max)
                .map(|it| it.id.0),
            ..BulkOutcome::default()
        };
        for head in heads {
            for order in self.orders_for(&head, order).await? {
                match self.post(head.id.0, &order, by).await {
                    Ok(_) => outcome.posted += 1,
                    Err(Error::Saga(error)) if !error.is_retryable() => {
                        outcome.refused.push((head.id.0, error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(outcome)
    }

    async fn orders_for(&self, head: &Head, order: Many) -> Result<Vec<SagaOrder>> {
        let is_parked = head.status == Status::Parked;
        match order {
            Many::Cancel => return Ok(vec![SagaOrder::Cancel]),
            Many::Retry | Many::Abandon if !is_parked => return Ok(Vec::new()),
            Many::Abandon => return Ok(vec![SagaOrder::Abandon]),
            Many::Retry => {}
        }
        let seen = self.show(head.id.0, None).await?;
        let steps = seen.view.map_or_else(Vec::new, |it| it.steps);
        let parked = steps
            .into_iter()
            .filter(|it| it.state == ratebox_saga::StepState::Parked);
        let orders: Vec<SagaOrder> = parked
            .map(|it| SagaOrder::Retry { step: it.name })
            .collect();
        // Parked as a whole.
        Ok(match orders.is_empty() {
            true => vec![SagaOrder::Resume],
            false => orders,
        })
    }

    /// Writes into the audit log that somebody sees what a saga carries as it is. Call it before
    /// showing.
    ///
    /// # Errors
    /// When the store is away: then nothing may be shown.
    pub async fn note_unmasking(&self, id: Uuid, by: &By) -> Result<()> {
        let deed = NewDeed {
            actor: by.actor(),
            action: "payload.unmask",
            subject: id.to_string(),
            reason: by.reason(),
            detail: None,
        };
        Ok(self.store.record_deed(deed).await?)
    }
}

/// What can be ordered about many sagas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// Every parked step is tried again.
    Retry,
    /// Each is undone.
    Cancel,
    /// Each parked one is ended as it is.
    Abandon,
}

/// The line of an order in the audit log: never what it carries.
fn deed<'a>(sent: &Sent, order: &SagaOrder, by: &'a By) -> NewDeed<'a> {
    let detail: Value = match order.subject() {
        "" => json!({ "letter": sent.letter() }),
        step => json!({ "letter": sent.letter(), "step": step }),
    };
    NewDeed {
        actor: by.actor(),
        action: action(order),
        subject: sent.saga.to_string(),
        reason: by.reason(),
        detail: Some(detail.to_string()),
    }
}

fn action(order: &SagaOrder) -> &'static str {
    match order {
        SagaOrder::Retry { .. } => "saga.retry",
        SagaOrder::Skip { .. } => "saga.skip",
        SagaOrder::Supply { .. } => "saga.supply",
        SagaOrder::Cancel => "saga.cancel",
        SagaOrder::Resume => "saga.resume",
        SagaOrder::Abandon => "saga.abandon",
        SagaOrder::Approve { .. } => "saga.approve",
        SagaOrder::Signal { .. } => "saga.signal",
    }
}
