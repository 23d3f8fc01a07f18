//! Makes good what the bus lost.
//!
//! An accepted request keeps its envelope until it has a verdict. When the bus owes nothing from
//! the time at which a request was published, the request still has no verdict and no entry of what
//! is owed carries it, its entry has vanished (the stream was deleted, trimmed by others, or lost in
//! a failover or power cut): it is published again under the same message id, and the inbox takes
//! care of what comes twice.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Message, Shutdown, Timestamp};
use ratebox_store::{Store, Unfinished};
use ratebox_stream::{Admin, Append, LaneFloor, Log, Subscription};

use crate::held::Held;
use crate::stats;

/// Requests that are published again in one go. Each may have a body of two megabytes.
const BATCH_MAX: i64 = 100;

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
            count += self.lane(floor).await?;
        }
        Ok(count)
    }

    async fn lane(
        &self,
        floor: LaneFloor,
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let unfinished = self.unfinished(&floor).await?;
        if unfinished.is_empty() {
            return Ok(0);
        }
        // What was tried again, came late or stood in a room is on its lane under an id much younger
        // than the request, so the floor alone does not tell that it is there.
        let held = Held::on(&floor, self.admin.as_ref(), &self.subscription).await?;
        // And what went back to the schedule behind the look is known to the floor again.
        let floors = self.admin.floor(&self.subscription).await?;
        let Some(floor) = floors.into_iter().find(|it| it.lane == floor.lane) else {
            return Ok(0);
        };
        let mut count = 0;
        loop {
            let unfinished = self.unfinished(&floor).await?;
            let full = i64::try_from(unfinished.len()).is_ok_and(|len| len == BATCH_MAX);
            count += self.publish(&floor, unfinished, &held).await?;
            if !full {
                return Ok(count);
            }
        }
    }

    /// Requests that were published before everything that the bus still owes.
    async fn unfinished(&self, floor: &LaneFloor) -> Result<Vec<Unfinished>, ratebox_store::Error> {
        let now = self.store.clock().now();
        let owed_from = floor.owed_from.map_or(now, |id| {
            let ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
            Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
        });
        let before = owed_from
            .min(now)
            .checked_sub(self.every)
            .unwrap_or(Timestamp::MIN);
        let lane = floor.lane.as_str();
        self.store.unfinished_before(lane, before, BATCH_MAX).await
    }

    /// Publishes those that the bus does not hold; the others count as published now.
    async fn publish(
        &self,
        floor: &LaneFloor,
        unfinished: Vec<Unfinished>,
        held: &Held,
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let ids = unfinished.iter().map(|it| it.id).collect();
        let lost = unfinished.iter().filter(|it| !held.has(it.id));
        let appends: Vec<Append> = lost
            .map(|it| Append::new(floor.stream.clone(), message(it)))
            .collect();
        self.store.mark_republished(ids).await?;
        for answer in self.log.append(&appends).await {
            answer?;
        }
        stats::republished(appends.len());
        Ok(appends.len())
    }
}

fn message(lost: &Unfinished) -> Message {
    Message::new(lost.id.to_string(), lost.body.clone())
}
