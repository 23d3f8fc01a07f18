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
const BATCH_MAX: usize = 100;

/// Requests that are published again on a lane in one round, as long as the workers have no more than
/// that before them there; then it is one go. What vanished with a bus is back within a few rounds, and
/// the millions that a predecessor hands over do not fill the server's memory. Some seconds of work.
const ROUND_MAX: usize = 10_000;

/// The wait before the next round where one left something.
const SOON: Duration = Duration::from_secs(1);

/// With less room than this a lane has enough to do until the next regular look.
const ROOM_MIN: usize = ROUND_MAX / 2;

/// Why a round is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is time.
    Regular,
    /// The last one left something. To look once a second at all that a full lane owes would cost the
    /// bus more than the workers do, so this one passes over it.
    Soon,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Requests that were published again.
    count: usize,
    /// There was no room for all.
    is_cut: bool,
}

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
        let (mut pause, mut waited) = (self.every, Duration::ZERO);
        while shutdown.sleep(pause).await {
            waited += pause;
            let look = Look::after(waited, self.every);
            if look == Look::Regular {
                waited = Duration::ZERO;
            }
            let round = self.round(look).await;
            pause = round.as_ref().map_or(self.every, |it| it.pause(self.every));
            match round {
                Ok(Round { count: 0, .. }) => {}
                Ok(Round { count, .. }) => tracing::warn!(
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

    /// One look; returns how many requests were published again. What is left comes with the next.
    ///
    /// # Errors
    /// When store or bus are away; the next look finds the same.
    pub async fn step(&self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.round(Look::Regular).await?.count)
    }

    async fn round(&self, look: Look) -> Result<Round, Box<dyn std::error::Error + Send + Sync>> {
        let mut all = Round::default();
        if !self.has_duty().await? {
            return Ok(all);
        }
        // While the relay has old events to send, an unpublished request looks like a lost one.
        if ratebox_outbox::Relay::is_behind(self.store.db(), self.every).await? {
            return Ok(all);
        }
        for floor in self.admin.floor(&self.subscription).await? {
            let lane = self.lane(floor, look).await?;
            all.count += lane.count;
            all.is_cut |= lane.is_cut;
        }
        Ok(all)
    }

    /// Takes the duty or keeps it; false when another has it.
    async fn has_duty(&self) -> Result<bool, ratebox_store::Error> {
        let lease = Duration::from_secs(60).max(self.every * 2);
        self.store.take_duty("republish", &self.holder, lease).await
    }

    async fn lane(
        &self,
        floor: LaneFloor,
        look: Look,
    ) -> Result<Round, Box<dyn std::error::Error + Send + Sync>> {
        if look.passes_over(self.room(&floor).await?) {
            let (count, is_cut) = (0, true);
            return Ok(Round { count, is_cut });
        }
        // One tells, and each may be large.
        if self.unfinished(&floor, 1).await?.is_empty() {
            return Ok(Round::default());
        }
        // What was tried again, came late or stood in a room is on its lane under an id much younger
        // than the request, so the floor alone does not tell that it is there.
        let held = Held::on(&floor, self.admin.as_ref(), &self.subscription).await?;
        // And what went back to the schedule behind the look is known to the floor again.
        let floors = self.admin.floor(&self.subscription).await?;
        let Some(floor) = floors.into_iter().find(|it| it.lane == floor.lane) else {
            return Ok(Round::default());
        };
        let (room, mut count) = (self.room(&floor).await?, 0);
        // Each go takes its time, and the duty must not end in between.
        while count < room && self.has_duty().await? {
            let max = BATCH_MAX.min(room - count);
            let unfinished = self.unfinished(&floor, max).await?;
            let is_last = unfinished.len() < max;
            count += self.publish(&floor, unfinished, &held).await?;
            if is_last {
                let is_cut = false;
                return Ok(Round { count, is_cut });
            }
        }
        let is_cut = true;
        Ok(Round { count, is_cut })
    }

    /// How many requests may be published again on a lane now. Never none: what vanished is older
    /// than all that waits there.
    async fn room(&self, floor: &LaneFloor) -> Result<usize, ratebox_stream::Error> {
        let info = self.admin.info(&floor.stream).await?;
        let groups = info.iter().flat_map(|info| &info.groups);
        let ours = groups.filter(|group| group.name == self.subscription.group);
        let owed: u64 = ours
            .map(|group| group.lag.unwrap_or(0).saturating_add(group.pending))
            .sum();
        let owed = usize::try_from(owed).unwrap_or(usize::MAX);
        Ok(ROUND_MAX.saturating_sub(owed).max(BATCH_MAX))
    }

    /// Requests that were published before everything that the bus still owes.
    async fn unfinished(
        &self,
        floor: &LaneFloor,
        max: usize,
    ) -> Result<Vec<Unfinished>, ratebox_store::Error> {
        let now = self.store.clock().now();
        let owed_from = floor.owed_from.map_or(now, |id| {
            let ms = i64::try_from(id.ms).unwrap_or(i64::MAX);
            Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
        });
        let before = owed_from
            .min(now)
            .checked_sub(self.every)
            .unwrap_or(Timestamp::MIN);
        let (lane, max) = (floor.lane.as_str(), i64::try_from(max).unwrap_or(i64::MAX));
        self.store.unfinished_before(lane, before, max).await
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

impl Look {
    /// The one that comes so long after the last regular one.
    fn after(waited: Duration, every: Duration) -> Self {
        if waited >= every {
            Self::Regular
        } else {
            Self::Soon
        }
    }

    /// Whether a lane with so much room is left alone.
    fn passes_over(self, room: usize) -> bool {
        self == Self::Soon && room < ROOM_MIN
    }
}

impl Round {
    /// The wait behind it. What was left waits for room alone, and the workers make that soon.
    fn pause(self, every: Duration) -> Duration {
        if self.is_cut { SOON.min(every) } else { every }
    }
}

fn message(lost: &Unfinished) -> Message {
    Message::new(lost.id.to_string(), lost.body.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_waits_a_second_and_not_until_the_next_look() {
        let round = |is_cut| Round { count: 1, is_cut };
        let every = Duration::from_secs(30);
        assert_eq!(round(true).pause(every), Duration::from_secs(1));
        assert_eq!(round(false).pause(every), every);
        let often = Duration::from_millis(100);
        assert_eq!(round(true).pause(often), often);
    }

    #[test]
    fn a_full_lane_is_looked_at_when_it_is_time_and_no_more_often() {
        let (every, second) = (Duration::from_secs(30), Duration::from_secs(1));
        let looks: Vec<Look> = (1..=30).map(|it| Look::after(second * it, every)).collect();
        assert!(looks[..29].iter().all(|it| *it == Look::Soon));
        assert_eq!(looks[29], Look::Regular);
        assert!(Look::Soon.passes_over(BATCH_MAX) && !Look::Soon.passes_over(ROUND_MAX));
        assert!(!Look::Regular.passes_over(BATCH_MAX));
    }
}
