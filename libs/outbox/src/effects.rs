//! Fills the ports of a handler's transaction: [`Inbox`] marks its messages, [`Outbox`] carries
//! what it sends to others. Nothing here knows who handles messages.

use std::collections::HashSet;

use async_trait::async_trait;
use ratebox_db::{Committed, Tx};
use ratebox_kit::{FollowUp, FollowUps, Marks, MessageId, PortError};

use crate::{Event, Inbox, Outbox, Staged};

#[async_trait]
impl Marks<Tx> for Inbox {
    async fn mark(
        &self,
        tx: &mut Tx,
        messages: &[MessageId],
    ) -> Result<HashSet<MessageId>, PortError> {
        let ids: Vec<_> = messages.iter().map(MessageId::to_uuid).collect();
        let new = Inbox::mark(self, tx, &ids).await;
        let new = new.map_err(|error| PortError::new("the inbox could not mark", error))?;
        let pairs = messages.iter().zip(ids);
        Ok(pairs
            .filter(|(_, id)| new.contains(id))
            .map(|(message, _)| message.clone())
            .collect())
    }
}

#[async_trait]
impl FollowUps<Tx, Committed> for Outbox {
    async fn add(
        &self,
        tx: &mut Tx,
        messages: Vec<FollowUp>,
    ) -> Result<Box<dyn ratebox_kit::Staged<Committed>>, PortError> {
        let refused =
            |error: crate::Error| PortError::new("the outbox could not take a message", error);
        let events = messages.into_iter().map(event).collect();
        let (statement, staged) = self.stage(events).map_err(refused)?;
        let added = tx.execute(statement).await;
        added.map_err(|error| refused(error.into()))?;
        let outbox = self.clone();
        Ok(Box::new(Waiting { outbox, staged }))
    }
}

/// Events in a transaction that has yet to commit, with their outbox.
struct Waiting {
    outbox: Outbox,
    staged: Staged,
}

#[async_trait]
impl ratebox_kit::Staged<Committed> for Waiting {
    async fn publish(self: Box<Self>, proof: &Committed) {
        self.outbox.publish(self.staged, proof).await;
    }
}

fn event(message: FollowUp) -> Event {
    Event {
        id: message.id,
        topic: message.topic,
        key: message.key,
        headers: message.headers,
        body: message.body,
        about: None,
    }
}
