//! What people do: look, tell, and decide. Every deed is recorded with who and why.

use std::sync::Arc;

use bytes::Bytes;
use ratebox_kit::{Timestamp, id};
use serde::Serialize;

use super::Engine;
use super::runner::SIGNAL;
use super::start::Order;
use crate::journal::store::{Count, Filter, Head, Letter, Posted, Stored};
use crate::machine::{Deed, Machine};
use crate::record::note;
use crate::view::View;
use crate::{Error, Kind, Record, Result, SagaId};

/// Who does something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    who: String,
    why: String,
}

impl By {
    /// Both go into the journal.
    pub fn new(who: &str, why: &str) -> Self {
        Self {
            who: note(who),
            why: note(why),
        }
    }

    /// Who.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Why.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// A saga's head and all its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The head as it is now.
    pub head: Head,
    /// Its records, by number.
    pub records: Vec<Record>,
}

// === impl Engine ===

impl Engine {
    /// Tells a saga something that one of its steps waits for, now or later. The value must be
    /// what the step reads.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`], [`Error::Json`], or when the journal is away.
    pub async fn signal<T>(&self, saga: SagaId, name: &str, value: &T, who: &str) -> Result<()>
    where
        T: Serialize + Sync,
    {
        let payload = serde_json::to_vec(value).map_err(Error::Json)?;
        let by = By::new(who, "");
        let letter = self.letter(saga, SIGNAL, name, Some(payload.into()), &by);
        self.post(letter).await
    }

    /// Approves or refuses a step that waits for it.
    ///
    /// # Errors
    /// As [`Engine::signal`].
    pub async fn approve(&self, saga: SagaId, step: &str, yes: bool, by: &By) -> Result<()> {
        let payload = Bytes::from_static(if yes { b"true" } else { b"false" });
        self.post(self.letter(saga, SIGNAL, step, Some(payload), by))
            .await
    }

    /// Has a step that waits for an operator tried again, or its undo.
    ///
    /// # Errors
    /// [`Error::Refused`] when the step does not wait for an operator.
    pub async fn retry(&self, saga: SagaId, step: &str, by: &By) -> Result<()> {
        self.order(saga, Kind::Revived, step, None, by).await
    }

    /// Leaves a step out that waits for an operator, or its undo. A saga whose undo was left out
    /// ends as failed, never as rolled back.
    ///
    /// # Errors
    /// [`Error::Refused`] when that is not possible: others need the step's result.
    pub async fn skip(&self, saga: SagaId, step: &str, by: &By) -> Result<()> {
        self.order(saga, Kind::LeftOut, step, None, by).await
    }

    /// Gives the result of a step that waits for an operator. For a failed undo: says that its
    /// effect was taken back by hand; the result is then ignored.
    ///
    /// # Errors
    /// [`Error::Refused`] when the step does not wait for an operator.
    pub async fn supply(
        &self,
        saga: SagaId,
        step: &str,
        result: &serde_json::Value,
        by: &By,
    ) -> Result<()> {
        let result = Bytes::from(result.to_string());
        self.order(saga, Kind::Supplied, step, Some(result), by)
            .await
    }

    /// Stops a saga and has it undone. A completed one is undone, too.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no way back.
    pub async fn cancel(&self, saga: SagaId, by: &By) -> Result<()> {
        self.order(saga, Kind::Cancelled, "", None, by).await
    }

    /// As [`Engine::cancel`]: the word of the predecessor.
    ///
    /// # Errors
    /// As [`Engine::cancel`].
    pub async fn compensate(&self, saga: SagaId, by: &By) -> Result<()> {
        self.cancel(saga, by).await
    }

    /// Lets a saga go on that is parked as a whole: its definition is here now.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is not.
    pub async fn resume(&self, saga: SagaId, by: &By) -> Result<()> {
        self.order(saga, Kind::Resumed, "", None, by).await
    }

    /// Ends a parked saga as failed, with whatever effects are left.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is not parked.
    pub async fn abandon(&self, saga: SagaId, by: &By) -> Result<()> {
        self.order(saga, Kind::Abandoned, "", None, by).await
    }

    /// Starts a new saga with the same input that keeps what was done before `step` and runs
    /// `step` and all after it anew. Steps run under the new saga's keys.
    ///
    /// # Errors
    /// [`Error::NoSuchStep`]; [`Error::NotRegistered`] when the definition is not here.
    pub async fn fork(&self, saga: SagaId, step: &str, by: &By) -> Result<SagaId> {
        let stored = self.stored(saga).await?;
        let plan = self.plan_of(&stored.head)?;
        let node = plan.find(step).ok_or_else(|| Error::NoSuchStep {
            step: step.to_owned(),
        })?;
        let again = plan.downstream(node);
        let is_kept = |record: &Record| {
            let is_outcome = matches!(record.kind, Kind::Done | Kind::Skipped | Kind::Supplied);
            let at = plan.find(&record.step);
            is_outcome && at.is_some_and(|at| !again.contains(&at))
        };
        let kept = stored.records.into_iter().filter(is_kept);
        let records = (0..)
            .zip(kept)
            .map(|(seq, record)| Record { seq, ..record });
        let order = Order {
            id: SagaId::new(),
            key: None,
            parent: None,
            input: stored.head.input,
            records: records.collect(),
        };
        tracing::info!(saga.id = %saga, step, by.who, by.why, "a saga is forked");
        self.start_plan(&plan, order).await
    }

    /// A saga's head and all its records.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`], or when the journal is away.
    pub async fn history(&self, saga: SagaId) -> Result<History> {
        let stored = self.stored(saga).await?;
        Ok(History {
            head: stored.head,
            records: stored.records,
        })
    }

    /// A saga with its steps, as it stands now or stood at a time.
    ///
    /// # Errors
    /// [`Error::NoSuchSaga`], also when it was started after that time; [`Error::NotRegistered`]
    /// when its definition is not here.
    pub async fn view(&self, saga: SagaId, at: Option<Timestamp>) -> Result<View> {
        let stored = self.stored(saga).await?;
        let plan = self.plan_of(&stored.head)?;
        View::of(&plan, stored, at)
    }

    /// Sagas, by id, ascending.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Head>> {
        self.0.store.list(filter).await
    }

    /// How many sagas there are, by definition and status.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn counts(&self) -> Result<Vec<Count>> {
        self.0.store.counts().await
    }

    /// The saga that has a key.
    ///
    /// # Errors
    /// When the journal is away.
    pub async fn find(&self, definition: &str, key: &str) -> Result<Option<SagaId>> {
        self.0.store.find(definition, key).await
    }

    /// Deletes up to `limit` sagas that ended before a time, and has them archived before that if
    /// there is an archive; returns how many. The engine does it by itself, too (`keep_ended`).
    ///
    /// # Errors
    /// When the journal or the archive is away; then none of them is deleted.
    pub async fn delete_ended(&self, before: Timestamp, limit: usize) -> Result<usize> {
        let sagas = self.0.store.ended(before, limit).await?;
        if sagas.is_empty() {
            return Ok(0);
        }
        if let Some(archive) = &self.0.archive {
            let mut stored = self.0.store.load(&sagas).await?;
            stored.sort_unstable_by_key(|it| it.head.id);
            archive.keep(&stored).await?;
        }
        self.0.store.delete(&sagas).await?;
        Ok(sagas.len())
    }

    /// Posts an order, if it is possible now.
    pub(super) async fn order(
        &self,
        saga: SagaId,
        kind: Kind,
        step: &str,
        payload: Option<Bytes>,
        by: &By,
    ) -> Result<()> {
        let stored = self.stored(saga).await?;
        let plan = self.plan_of(&stored.head)?;
        let deed = Deed {
            kind,
            step: step.into(),
            payload: payload.clone(),
            who: Some(by.who.clone()),
            why: by.why.clone(),
        };
        let machine = Machine::folded(plan, stored.head.input, &stored.records);
        machine.allows(&deed).map_err(|why| Error::Refused {
            why: why.to_owned(),
        })?;
        let letter = self.letter(saga, kind.as_str(), step, payload, by);
        self.post(letter).await
    }

    fn letter(
        &self,
        saga: SagaId,
        verb: &str,
        subject: &str,
        payload: Option<Bytes>,
        by: &By,
    ) -> Letter {
        Letter {
            id: id::new(),
            saga,
            verb: verb.to_owned(),
            subject: note(subject),
            payload,
            who: by.who.clone(),
            why: by.why.clone(),
            at: self.now(),
        }
    }

    /// Posts a letter, and has it read at once where that is possible.
    async fn post(&self, letter: Letter) -> Result<()> {
        let id = letter.saga;
        if self.0.store.post(&letter).await? == Posted::NoSuchSaga {
            return Err(Error::NoSuchSaga { id });
        }
        if self.0.lives.tell(&letter) {
            return Ok(());
        }
        let is_own = match self.take_up(id).await {
            // It is kept, and read by whoever has the saga.
            Err(Error::NotJoined { .. }) => false,
            taken => taken?,
        };
        if !is_own {
            self.0.store.ring().await;
        }
        Ok(())
    }

    async fn stored(&self, id: SagaId) -> Result<Stored> {
        let mut stored = self.0.store.load(&[id]).await?;
        stored.pop().ok_or(Error::NoSuchSaga { id })
    }

    fn plan_of(&self, head: &Head) -> Result<Arc<crate::definition::plan::Plan>> {
        self.plan(&head.definition, &head.hash)
            .ok_or_else(|| Error::NotRegistered {
                name: head.definition.to_string(),
            })
    }
}
