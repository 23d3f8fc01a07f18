//! Keeps tables and streams in shape: partitions ahead, old marks and keys forgotten, done
//! entries trimmed, dead consumers removed.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Causes, Shutdown};
use ratebox_outbox::{Inbox, Relay};
use ratebox_store::Store;
use ratebox_stream::{Admin, Retention, Subscription};

/// How long things are kept.
#[derive(Clone, Debug)]
pub struct HousekeepingSettings {
    /// How often it is looked after.
    pub every: Duration,
    /// Months of partitions that are made ahead.
    pub months_ahead: i32,
    /// Inbox marks; must exceed every way in which a message can come again.
    pub inbox_window: Duration,
    /// Idempotency keys.
    pub keys_window: Duration,
    /// Acknowledged entries.
    pub retention: Retention,
    /// Members of the group that did nothing for so long and own nothing are removed.
    pub consumer_idle: Duration,
}

impl Default for HousekeepingSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            every: Duration::from_secs(60),
            months_ahead: 3,
            inbox_window: DAY * 45,
            keys_window: DAY,
            retention: Retention {
                max_age: Some(DAY * 30),
                max_len: Some(100_000),
            },
            consumer_idle: Duration::from_secs(3600),
        }
    }
}

/// Does the chores.
pub struct Housekeeping {
    store: Store,
    admin: Arc<dyn Admin>,
    subscription: Subscription,
    holder: String,
    settings: HousekeepingSettings,
}

impl Housekeeping {
    /// `holder` names this process: one at a time does the work.
    pub fn new(
        store: Store,
        admin: Arc<dyn Admin>,
        subscription: Subscription,
        holder: String,
        settings: HousekeepingSettings,
    ) -> Self {
        Self {
            store,
            admin,
            subscription,
            holder,
            settings,
        }
    }

    /// Works until it is asked to stop.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            if let Err(error) = self.step().await {
                tracing::warn!(error = %Causes(error.as_ref()), "housekeeping could not be done");
            }
            if !shutdown.sleep(self.settings.every).await {
                return;
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// When store or bus are away; the next round does what was left.
    pub async fn step(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Relay::pending(self.store.db()).await?;
        let lease = self.settings.every * 3;
        if !self
            .store
            .take_duty("housekeeping", &self.holder, lease)
            .await?
        {
            return Ok(());
        }
        let now = self.store.clock().now();
        self.store
            .ensure_partitions(now, self.settings.months_ahead)
            .await?;
        for complaint in self.store.partition_complaints(now).await? {
            tracing::error!(complaint, "a partition needs care");
        }
        self.store.forget_old(self.settings.keys_window).await?;
        let inbox = Inbox::new("validator", self.subscription.lanes.base().as_str());
        inbox
            .forget(self.store.db(), now, self.settings.inbox_window)
            .await?;
        for (_, stream) in self.subscription.lanes.iter() {
            self.admin.trim(stream, self.settings.retention).await?;
        }
        self.admin
            .remove_dead_consumers(&self.subscription, self.settings.consumer_idle)
            .await?;
        Ok(())
    }
}
