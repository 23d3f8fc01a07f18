//! The inbox for handlers whose effects are in no database of ours.

use std::sync::Arc;

use ratebox_db::{Db, Tx};
use ratebox_kit::{Marks, MessageId};

use super::{Middleware, Next};
use crate::handler::{Delivery, Handled, IntoFailure as _, NoEffects, Proof as _};

/// Acknowledges a message without calling its handler when it was done before, and marks it once
/// it is done.
///
/// The mark follows the effect: a crash between the two repeats it. A handler whose effects are
/// in a database should take a [`crate::handler::Tx`] instead, which has no such gap.
#[derive(Clone)]
pub struct Once {
    db: Db,
    marks: Arc<dyn Marks<Tx>>,
}

// === impl Once ===

impl Once {
    /// Marks with `inbox` in `db`.
    pub fn new(db: Db, inbox: impl Marks<Tx> + 'static) -> Self {
        let marks = Arc::new(inbox);
        Self { db, marks }
    }

    /// Marks in a new transaction; whether the message is new.
    async fn mark(&self, message: &MessageId) -> Result<(Tx, bool), crate::handler::Failure> {
        let tx = self.db.begin().await;
        let mut tx = tx.map_err(|error| error.into_failure())?;
        let new = self
            .marks
            .mark(&mut tx, std::slice::from_ref(message))
            .await;
        let new = new.map_err(|error| error.into_failure())?;
        Ok((tx, new.contains(message)))
    }
}

impl Middleware for Once {
    async fn handle(&self, delivery: Delivery, next: Next) -> Handled {
        let message = delivery.meta.message_id();
        let (look, is_new) = self.mark(&message).await?;
        // Not held while the handler works: it may take long.
        look.rollback()
            .await
            .map_err(|error| error.into_failure())?;
        if !is_new {
            return Ok(NoEffects.into_committed());
        }
        let done = next.run(delivery).await?;
        let (tx, _) = self.mark(&message).await?;
        tx.commit().await.map_err(|error| error.into_failure())?;
        Ok(done)
    }
}
