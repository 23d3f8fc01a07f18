//! What a group is behind by: our own count, not the server's, which is wrong or missing after
//! deletions; and what autoscaling needs to know.
//!
//! [`Watch`] measures now and then and publishes; one process of a fleet is enough, more do no harm.
//! A measurement looks at [`SAMPLE_MAX`] entries of a lane at most, so it costs the same at any
//! length.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Shutdown;

use crate::{EntryId, Error, Lane, Subscription, stats};

/// Entries of a lane that one measurement looks at.
pub const SAMPLE_MAX: usize = 1_000;

/// Upper bounds of the classes of ages, in seconds; one class more is for older ones.
pub const AGES_S: [u64; 7] = [1, 5, 15, 60, 300, 1_800, 7_200];

/// What a group is behind by on one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBacklog {
    /// The lane.
    pub lane: Lane,
    /// Entries that no member has read; exact, or at least so many when
    /// [`LaneBacklog::is_exact`] is false.
    pub unread: u64,
    /// Whether `unread` is exact.
    pub is_exact: bool,
    /// Delivered, not acknowledged.
    pub pending: u64,
    /// The oldest entry that is not acknowledged, read or unread.
    pub oldest: Option<EntryId>,
    /// Ids of the oldest pending entries, [`SAMPLE_MAX`] at most.
    pub pending_ids: Vec<EntryId>,
    /// The log's clock, milliseconds since 1970.
    pub now_ms: u64,
}

/// What a group is behind by on all lanes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Each lane.
    pub lanes: Vec<LaneBacklog>,
    /// Retries that wait.
    pub delayed: u64,
    /// Messages in the rooms of their owners; 0 where there are no rooms.
    pub in_rooms: u64,
    /// Members that were seen lately.
    pub members: u64,
}

/// Measures backlogs. Filled by every log of this crate.
#[async_trait]
pub trait Backlogs: Send + Sync {
    /// What the group of `sub` is behind by. A stream or group that does not exist owes nothing.
    async fn backlog(&self, sub: &Subscription) -> Result<Backlog, Error>;
}

// === impl LaneBacklog ===

impl LaneBacklog {
    /// Age of the oldest entry that is not acknowledged; zero when there is none.
    pub fn oldest_age(&self) -> Duration {
        self.oldest.map_or(Duration::ZERO, |id| self.age(id))
    }

    /// How many of the pending entries looked at are in each class of [`AGES_S`], and older.
    pub fn pending_ages(&self) -> [u64; AGES_S.len() + 1] {
        let mut classes = [0; AGES_S.len() + 1];
        for id in &self.pending_ids {
            let age_s = self.age(*id).as_secs();
            let class = AGES_S.iter().position(|bound| age_s < *bound);
            if let Some(count) = classes.get_mut(class.unwrap_or(AGES_S.len())) {
                *count += 1;
            }
        }
        classes
    }

    fn age(&self, id: EntryId) -> Duration {
        Duration::from_millis(self.now_ms.saturating_sub(id.ms))
    }
}

// === impl Backlog ===

impl Backlog {
    /// Everything that is to be done: unread, pending, waiting.
    pub fn total(&self) -> u64 {
        let lanes = self.lanes.iter().map(|lane| lane.unread + lane.pending);
        lanes.sum::<u64>() + self.delayed + self.in_rooms
    }

    /// Age of the oldest entry that is not acknowledged, on any lane.
    pub fn oldest_age(&self) -> Duration {
        let ages = self.lanes.iter().map(LaneBacklog::oldest_age);
        ages.max().unwrap_or(Duration::ZERO)
    }

    /// How many members it takes to keep the oldest entry younger than `target`: as many more as it
    /// is too old, at most twice what there are; half as many when it is younger than a quarter of
    /// the target. With anything to do it is one at least, with nothing at all none.
    pub fn wanted_members(&self, target: Duration) -> u64 {
        if self.total() == 0 {
            return 0;
        }
        let members = self.members.max(1);
        let ratio = self.oldest_age().as_secs_f64() / target.as_secs_f64().max(0.001);
        if ratio > 1.0 {
            return ((members as f64 * ratio).ceil() as u64).min(members * 2);
        }
        if ratio < 0.25 {
            return members.div_ceil(2);
        }
        members
    }
}

/// Measures a group's backlog every so often and publishes it as metrics.
pub struct Watch {
    backlogs: Arc<dyn Backlogs>,
    sub: Subscription,
    target: Duration,
}

// === impl Watch ===

impl Watch {
    /// Watches the group of `sub`; `target` is the age that the oldest entry should not exceed.
    pub fn new(backlogs: Arc<dyn Backlogs>, sub: Subscription, target: Duration) -> Self {
        Self {
            backlogs,
            sub,
            target,
        }
    }

    /// Measures and publishes once.
    ///
    /// # Errors
    /// When the log cannot be reached; the metrics stay as they were.
    pub async fn step(&self) -> Result<Backlog, Error> {
        let backlog = self.backlogs.backlog(&self.sub).await?;
        let stream = self.sub.lanes.base().to_string();
        for lane in &backlog.lanes {
            let gauge = |name: &'static str, value: f64| {
                metrics::gauge!(name, "stream" => stream.clone(), "lane" => lane.lane.as_str())
                    .set(value);
            };
            gauge(stats::LAG, lane.unread as f64);
            gauge(stats::PENDING, lane.pending as f64);
            gauge(stats::OLDEST_SECONDS, lane.oldest_age().as_secs_f64());
            let bounds = AGES_S.iter().map(ToString::to_string);
            let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
            for (bound, count) in bounds.zip(lane.pending_ages()) {
                metrics::gauge!(stats::PENDING_AGES, "stream" => stream.clone(),
                    "lane" => lane.lane.as_str(), "younger_than_s" => bound)
                .set(count as f64);
            }
        }
        let wanted = backlog.wanted_members(self.target);
        metrics::gauge!(stats::BACKLOG, "stream" => stream.clone()).set(backlog.total() as f64);
        metrics::gauge!(stats::WANTED_MEMBERS, "stream" => stream).set(wanted as f64);
        Ok(backlog)
    }

    /// Measures until the process is asked to stop.
    pub async fn run(self, every: Duration, shutdown: Shutdown) {
        while shutdown.sleep(every).await {
            if let Err(error) = self.step().await {
                stats::failed(self.sub.lanes.base(), "backlog");
                tracing::debug!(stream = %self.sub.lanes.base(), "no backlog for now: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(age_s: u64, members: u64) -> Backlog {
        let now_ms = 10_000_000;
        let oldest = EntryId::new(now_ms - age_s * 1_000, 0);
        let lane = LaneBacklog {
            lane: Lane::Normal,
            unread: 1,
            is_exact: true,
            pending: 1,
            oldest: Some(oldest),
            pending_ids: vec![oldest, EntryId::new(now_ms, 0)],
            now_ms,
        };
        Backlog {
            lanes: vec![lane],
            members,
            ..Backlog::default()
        }
    }

    #[test]
    fn members_are_wanted_by_the_age_of_the_oldest_entry() {
        let wanted =
            |age_s, members| backlog(age_s, members).wanted_members(Duration::from_secs(10));
        assert_eq!(
            Backlog::default().wanted_members(Duration::from_secs(10)),
            0
        );
        assert_eq!(wanted(0, 0), 1, "one entry wakes somebody");
        assert_eq!((wanted(8, 4), wanted(15, 4), wanted(900, 4)), (4, 6, 8));
        assert_eq!((wanted(1, 5), wanted(1, 1)), (3, 1));
    }

    #[test]
    fn ages_are_counted_by_class() {
        let lanes = backlog(20, 1).lanes;
        assert_eq!(lanes[0].pending_ages(), [1, 0, 0, 1, 0, 0, 0, 0]);
    }
}
