//! Many messages in one transaction.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::consumer::Consumer;
use super::effect::Effect;
use super::handled::{Handled, Outcome};
use super::received::Received;
use crate::{Failure, Result};

impl Consumer {
    /// Handles messages together: all that are new have their effect in one call of the handler
    /// and one transaction. Answers for each message, in order. When the handler fails, every
    /// message is handled by itself, so that one that cannot be handled holds up no other; the
    /// handler must therefore be one that may be called again.
    ///
    /// Messages that come again after a failure, and such that are no JSON of an `E`, are handled
    /// by themselves at once.
    ///
    /// # Errors
    /// One a message, as [`Consumer::handle`].
    pub async fn handle_batch<E, F>(
        &self,
        received: &[Received],
        effect: F,
    ) -> Vec<Result<Handled<()>>>
    where
        E: DeserializeOwned,
        F: AsyncFn(&mut Effect, Vec<E>) -> Result<(), Failure>,
    {
        if received.len() > 1
            && received.iter().all(|it| it.deliveries <= 1)
            && let Some(handled) = self.together(received, &effect).await
        {
            return handled.into_iter().map(Ok).collect();
        }
        let mut answers = Vec::with_capacity(received.len());
        for one in received {
            let alone = async |work: &mut Effect, event: E| effect(work, vec![event]).await;
            answers.push(self.handle(one, alone).await);
        }
        answers
    }

    /// All in one transaction; `None` when it takes a closer look.
    async fn together<E, F>(&self, received: &[Received], effect: &F) -> Option<Vec<Handled<()>>>
    where
        E: DeserializeOwned,
        F: AsyncFn(&mut Effect, Vec<E>) -> Result<(), Failure>,
    {
        let mut tx = self.db().begin().await.ok()?;
        let mut fresh: HashSet<Uuid> = self
            .take(&mut tx, received)
            .await
            .ok()?
            .into_iter()
            .collect();
        let ids: Vec<Uuid> = fresh.iter().copied().collect();
        let (mut events, mut is_new) = (Vec::with_capacity(ids.len()), Vec::new());
        for one in received {
            // A message that is twice in the batch is a duplicate the second time.
            is_new.push(fresh.remove(&one.event_id()));
            if is_new.last() == Some(&true) {
                events.push(serde_json::from_slice(&one.message.body).ok()?);
            } else {
                // Parked or marked: the single way knows which.
                self.is_marked(&mut tx, one).await?;
            }
        }
        let mut work = Effect::new(tx);
        if !events.is_empty()
            && let Err(_failure) = effect(&mut work, events).await
        {
            let _ = work.tx.rollback().await;
            return None;
        }
        let clear = self.clear(ids).ok()?;
        let proof = self.commit(work, vec![clear]).await.ok()?;
        let answer = |(one, is_new): (&Received, bool)| {
            self.count(one, usize::from(is_new), usize::from(!is_new));
            Handled {
                outcome: if is_new {
                    Outcome::Processed(())
                } else {
                    Outcome::Duplicate(None)
                },
                proof: proof.clone(),
            }
        };
        Some(received.iter().zip(is_new).map(answer).collect())
    }

    async fn is_marked(&self, tx: &mut ratebox_db::Tx, one: &Received) -> Option<()> {
        let values = vec![self.name.as_str().into(), one.event_id().into()];
        let rows = tx.query(super::sql::RESULT.with(values)).await.ok()?;
        rows.first().map(drop)
    }
}
