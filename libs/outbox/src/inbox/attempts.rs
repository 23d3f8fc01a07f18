//! Attempts that failed, and messages that were given up.
//!
//! A failure is counted when a handler returns it. A handler that kills its process returns
//! nothing, so from the second delivery on an attempt is counted before it begins.

use ratebox_db::Committed;
use ratebox_kit::{Message, MessageId};
use uuid::Uuid;

use super::consumer::Consumer;
use super::handled::{Handled, Outcome, Parked};
use super::received::Received;
use super::{Failure, sql};
use crate::text::{reason, storable};
use crate::{Error, Result, bundle, stats};

/// What is told of a message whose handler never returned.
const DIED: &str = "every attempt ended with its process";

impl Consumer {
    /// Messages that were given up, oldest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn parked(&self, limit: u32) -> Result<Vec<Parked>> {
        let values = vec![self.name.as_str().into(), limit.into()];
        let rows = self.db().query(sql::PARKED.with(values)).await?;
        let read = |row: &ratebox_db::Row| {
            Ok(Parked {
                event_id: row.get(0)?,
                topic: row.get(1)?,
                event_type: row.get::<Option<String>>(2)?.unwrap_or_default(),
                attempts: row.get(3)?,
                last_error: row.get(4)?,
                parked_at: row.get(5)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Takes a message out of the parked ones, to be handled again: it counts as new, however
    /// old it is. `None` when it is not parked. Whoever loses it before it is handled loses it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn release(&self, event_id: Uuid) -> Result<Option<Received>> {
        let mut tx = self.db().begin().await?;
        let values = vec![self.name.as_str().into(), event_id.into()];
        let rows = tx.query(sql::RELEASE.with(values)).await?;
        tx.commit().await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let headers: Option<String> = row.get(3)?;
        let message = Message {
            id: MessageId(row.get(0)?),
            headers: bundle::headers_of(headers.unwrap_or_default().as_bytes())?,
            body: row.get(4)?,
        };
        let event_type: Option<String> = row.get(2)?;
        let topic: String = row.get(1)?;
        Ok(Some(
            Received::new(topic, message).of_type(event_type.unwrap_or_default()),
        ))
    }

    /// Counts an attempt before it begins; answers when there have been too many.
    pub(super) async fn begin_attempt<T>(
        &self,
        received: &Received,
        id: Uuid,
    ) -> Result<Option<Handled<T>>> {
        let (attempts, is_parked, proof) = self.charge(received, id, 1, None).await?;
        if is_parked {
            let outcome = Outcome::Parked;
            return Ok(Some(Handled { outcome, proof }));
        }
        if attempts > self.attempts_max && !self.had_effect(id).await? {
            return self.park(received, id, DIED).await.map(Some);
        }
        Ok(None)
    }

    /// A message whose acknowledgements get lost comes again and again, and has had its effect.
    async fn had_effect(&self, id: Uuid) -> Result<bool> {
        let values = vec![self.name.as_str().into(), id.into()];
        let marks = self.db().query(sql::RESULT.with(values)).await?;
        Ok(!marks.is_empty())
    }

    /// A handler that returned a failure.
    pub(super) async fn failed<T>(
        &self,
        received: &Received,
        id: Uuid,
        failure: Failure,
    ) -> Result<Handled<T>> {
        if failure.is_outage() {
            if received.deliveries > 1 {
                self.charge(received, id, -1, None).await?;
            }
            return Err(failure.into());
        }
        let why = failure.text();
        if matches!(failure, Failure::Reject(_)) {
            return self.park(received, id, &why).await;
        }
        // A later delivery was counted when it began.
        let count = i64::from(received.deliveries <= 1);
        let (attempts, _, _) = self.charge(received, id, count, Some(&why)).await?;
        if attempts >= self.attempts_max {
            return self.park(received, id, &why).await;
        }
        Err(Error::Handler { attempts, why })
    }

    /// Gives a message up and keeps it.
    pub(super) async fn park<T>(
        &self,
        received: &Received,
        id: Uuid,
        why: &str,
    ) -> Result<Handled<T>> {
        // What an attempt said before the last ones died tells more than that they died.
        let said = (why != DIED).then_some(why);
        self.charge(received, id, 0, said).await?;
        let message = &received.message;
        let message_id = match message.id.0.as_str() {
            // Known by the same UUID when it is released.
            unstorable if unstorable.contains('\0') => id.to_string(),
            plain => plain.to_owned(),
        };
        let values = vec![
            self.name.as_str().into(),
            id.into(),
            message_id.into(),
            bundle::headers_text(&message.headers).into(),
            message.body.clone().into(),
            reason(why).into(),
        ];
        let (_, proof) = self.db().run(vec![sql::PARK.with(values)]).await?;
        stats::parked(&self.name, &received.event_type);
        tracing::error!(event.id = %id, consumer = self.name, "a message was given up and parked");
        let outcome = Outcome::Parked;
        Ok(Handled { outcome, proof })
    }

    async fn charge(
        &self,
        received: &Received,
        id: Uuid,
        attempts: i64,
        why: Option<&str>,
    ) -> Result<(u32, bool, Committed)> {
        let values = vec![
            self.name.as_str().into(),
            id.into(),
            storable(&received.topic).into_owned().into(),
            storable(&received.event_type).into_owned().into(),
            attempts.into(),
            why.map(reason).into(),
        ];
        let mut tx = self.db().begin().await?;
        let rows = tx.query(sql::CHARGE.with(values)).await?;
        let proof = tx.commit().await?;
        let (attempts, is_parked) = match rows.first() {
            Some(row) => (row.get::<i64>(0)?, row.get(1)?),
            None => (0, false),
        };
        Ok((u32::try_from(attempts).unwrap_or(0), is_parked, proof))
    }
}
