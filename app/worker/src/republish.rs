//! Makes good what the bus lost.
//!
//! An accepted request keeps its envelope until it has a verdict. When the bus owes nothing from
//! the time at which a request was published and the request still has no verdict, its entry has
//! vanished (the stream was deleted, trimmed by others, or lost in a failover or power cut): it is
//! published again under the same message id, and the inbox takes care of what comes twice.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Message, Shutdown, Timestamp};
use ratebox_store::{Store, Unfinished};
use ratebox_stream::{Admin, Append, LaneFloor, Log, Subscription};

use crate::stats;

/// Requests that are published again in one go.
const BATCH_MAX: i64 = 500;

/// Looks for requests whose entry has vanished.
pub struct Republisher {
    store: Store,
    log: Arc<dyn Log>,
    admin: Arc<dyn Admin>,
    subscription: Subscription,
    holder: String,
    every: Duration,
}

impl Republisher {
    /// Looks every `every`; a request is left alone for as long after it was published, too.
    /// `holder` names this process: one at a time does the work.
    pub fn new(
        store: Store,
        log: Arc<dyn Log>,
        admin: Arc<dyn Admin>,
        subscription: Subscription,
        holder: String,
        every: Duration,
    ) -> Self {
        Self {
            store,
            log,
            admin,
            subscription,
            holder,
            every,
        }
    }

    /// Works until it is asked to stop.
    pub async fn run(self, shutdown: Shutdown) {
        while shutdown.sleep(self.every).await {
            match self.step().await {
                Ok(0) => {}
                Ok(count) => tracing::warn!(
                    requests = count,
                    "requests had vanished from the bus and were published again"
                ),
                Err(error) => tracing::warn!(
                    error = %Causes(error.as_ref()),
                    "could not look for requests that vanished from the bus"
                ),
            }
        }
    }

    /// One look; returns how many requests were published again.
    ///
    /// # Errors
    /// When store or bus are away; the next look finds the same.
    pub async fn step(&self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let lease = Duration::from_secs(60).max(self.every * 2);
        if !self
            .store
            .take_duty("republish", &self.holder, lease)
            .await?
        {
            return Ok(0);
        }
        // While the relay has old events to send, an unpublished request looks like a lost one.
        if ratebox_outbox::Relay::is_behind(self.store.db(), self.every).await? {
            return Ok(0);
        }
        let mut count = 0;
        for floor in self.admin.floor(&self.subscription).await? {
            count += self.lane(&floor).await?;
        }
        Ok(count)
    }

    async fn lane(
        &self,
        floor: &LaneFloor,
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let now = self.store.clock().now();
        let owed_from = floor.owed_from.map_or(now, |id| {
            let ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
            Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
        });
        let before = owed_from
            .min(now)
            .checked_sub(self.every)
            .unwrap_or(Timestamp::MIN);
        let mut count = 0;
        loop {
            let word = floor.lane.as_str();
            let lost = self
                .store
                .unfinished_before(word, before, BATCH_MAX)
                .await?;
            let appends: Vec<Append> = lost
                .iter()
                .map(|it| Append::new(floor.stream.clone(), message(it)))
                .collect();
            let full = i64::try_from(lost.len()).is_ok_and(|len| len == BATCH_MAX);
            if lost.is_empty() {
                return Ok(count);
            }
            self.store
                .mark_republished(lost.into_iter().map(|it| it.id).collect())
                .await?;
            for answer in self.log.append(&appends).await {
                answer?;
            }
            count += appends.len();
            stats::republished(appends.len());
            if !full {
                return Ok(count);
            }
        }
    }
}

fn message(lost: &Unfinished) -> Message {
    Message::new(lost.id.to_string(), lost.body.clone())
}
