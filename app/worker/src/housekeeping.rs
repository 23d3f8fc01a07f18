//! Keeps tables and streams in shape: partitions ahead, old marks and keys forgotten, done
//! entries trimmed, dead consumers removed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratebox_kit::{Causes, Shutdown, Timestamp};
use ratebox_outbox::{Inbox, Relay};
use ratebox_store::Store;
use ratebox_stream::{
    Admin, GroupName, GroupWatch, Retention, StreamName, Subscription, TrimOrder,
};

use crate::figures::Figures;
use crate::worker::INBOX;

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
    /// Figures of the streams.
    pub metrics_window: Duration,
    /// Dead letters whose replay led to a verdict; all others stay until an operator purges them.
    pub letters_window: Duration,
    /// Acknowledged entries.
    pub retention: Retention,
    /// Bytes of a stream, about; acknowledged entries beyond them go. `None` sets no limit.
    pub max_bytes: Option<u64>,
    /// A group that is owed something, and that nobody read for so long, is complained of.
    pub abandoned_after: Duration,
    /// Such a group no longer keeps entries from being trimmed.
    pub ignore_abandoned: bool,
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
            metrics_window: DAY * 7,
            letters_window: DAY * 30,
            retention: Retention {
                max_age: Some(DAY * 30),
                max_len: Some(100_000),
            },
            max_bytes: None,
            abandoned_after: DAY,
            ignore_abandoned: false,
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
    groups: Mutex<GroupWatch>,
    figures: Mutex<Figures>,
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
            groups: Mutex::default(),
            figures: Mutex::default(),
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
    /// When store or bus are away; the next round does what was left. When a partition cannot be
    /// made; everything else was done then.
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
        // Rows in a default partition can keep one from being made until somebody moves them: the
        // bus must not grow meanwhile.
        let partitions = self.look_after_partitions(now).await;
        self.store.forget_old(self.settings.keys_window).await?;
        self.forget_letters(now).await?;
        let inbox = Inbox::new(INBOX, self.subscription.lanes.base().as_str());
        inbox
            .forget(self.store.db(), now, self.settings.inbox_window)
            .await?;
        self.note_figures(now).await?;
        for (_, stream) in self.subscription.lanes.iter() {
            let ignored = self.given_up(stream, now).await?;
            let order = TrimOrder {
                retention: self.settings.retention,
                max_bytes: self.settings.max_bytes,
                ignored,
            };
            ratebox_stream::trim(&*self.admin, stream, &order).await?;
        }
        self.admin
            .remove_dead_consumers(&self.subscription, self.settings.consumer_idle)
            .await?;
        Ok(partitions?)
    }

    async fn look_after_partitions(&self, now: Timestamp) -> Result<(), ratebox_store::Error> {
        for complaint in self.store.partition_complaints(now).await? {
            tracing::error!(complaint, "a partition needs care");
        }
        let ahead = self.settings.months_ahead;
        self.store.ensure_partitions(now, ahead).await
    }

    async fn note_figures(
        &self,
        now: Timestamp,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut noted = Vec::new();
        for lane in self.subscription.lanes.iter() {
            if let Some(info) = self.admin.info(lane.1).await? {
                let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
                noted.extend(figures.of(lane, &info, &self.subscription, now));
            }
        }
        let before = now.checked_sub(self.settings.metrics_window);
        let before = before.unwrap_or(Timestamp::MIN);
        Ok(self.store.note_stream_metrics(&noted, before).await?)
    }

    /// The groups whose entries a trim does not wait for: the abandoned ones, where the settings
    /// give them up. Otherwise they are named in the log, and hold what they have not read.
    async fn given_up(
        &self,
        stream: &StreamName,
        now: Timestamp,
    ) -> Result<Vec<GroupName>, ratebox_stream::Error> {
        let Some(info) = self.admin.info(stream).await? else {
            return Ok(Vec::new());
        };
        let after = self.settings.abandoned_after;
        let abandoned = {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.look(stream, &info, now, after)
        };
        for group in &abandoned {
            tracing::warn!(
                %stream,
                %group,
                ignored = self.settings.ignore_abandoned,
                after_s = after.as_secs(),
                "nobody reads this group any more, and it holds the stream's entries"
            );
        }
        Ok(match self.settings.ignore_abandoned {
            true => abandoned,
            false => Vec::new(),
        })
    }

    async fn forget_letters(&self, now: Timestamp) -> Result<(), ratebox_store::Error> {
        let before = now.checked_sub(self.settings.letters_window);
        let gone = self
            .store
            .forget_resolved_letters(before.unwrap_or(Timestamp::MIN))
            .await?;
        if gone > 0 {
            tracing::info!(letters = gone, "dead letters with a verdict were forgotten");
        }
        Ok(())
    }
}
