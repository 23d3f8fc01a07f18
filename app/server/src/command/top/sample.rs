//! What is looked at, and how fast it moves.

use std::time::Duration;

use ratebox_kit::{Causes, Clock, Timestamp};
use ratebox_operator::{StreamSeen, Streams};
use ratebox_store::{ConsumerPerformance, DeadLetterFilter, LetterHead, Store, TopError};
use ratebox_stream::{Control, Delayed, GroupName, Lane, Lanes};

/// What was found, or why it was not.
pub(super) type Section<T> = Result<T, String>;

/// Looks at errors only so often: they are counted over an hour.
const SLOW_EVERY: Duration = Duration::from_secs(10);
/// Newest letters that are shown.
const LETTERS: u32 = 20;

/// Asks bus and store.
pub(super) struct Sampler {
    lanes: Lanes,
    group: String,
    streams: Streams,
    control: Control,
    store: Store,
    clock: Clock,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) lanes: Section<Vec<LaneSeen>>,
    pub(super) members: Vec<Member>,
    pub(super) delayed: Section<Delayed>,
    /// Whether an operator paused the workers; `None` when it cannot be told.
    pub(super) is_paused: Option<bool>,
    pub(super) letters: Section<(u64, Vec<LetterHead>)>,
    pub(super) performance: Section<Vec<ConsumerPerformance>>,
    pub(super) errors: Section<Vec<TopError>>,
    errors_at: Timestamp,
}

/// A lane at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LaneSeen {
    pub(super) lane: Lane,
    pub(super) length: u64,
    pub(super) appended: u64,
    /// Not yet delivered to the workers' group; `None` when the server cannot tell.
    pub(super) lag: Option<u64>,
    pub(super) pending: u64,
    /// Age of the oldest entry that is not acknowledged.
    pub(super) oldest: Option<Duration>,
}

/// A member of the workers' group over all lanes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) pending: u64,
    pub(super) idle: Duration,
}

// === impl Sampler ===

impl Sampler {
    pub(super) fn new(
        control: Control,
        lanes: Lanes,
        group: String,
        streams: Streams,
        store: Store,
    ) -> Self {
        Self {
            lanes,
            group,
            streams,
            control,
            store,
            clock: Clock::system(),
        }
    }

    /// Waits, then looks at everything. Each part stands for itself.
    pub(super) async fn look(&self, before: Option<Sample>, wait: Duration) -> Sample {
        tokio::time::sleep(wait).await;
        let at = self.clock.now();
        let seen = self.see().await;
        let (errors, errors_at) = self.errors(before, at).await;
        let group = GroupName::new(&self.group);
        let delayed = self.streams.delayed(&group).await;
        let orders = self.control.orders().await;
        let performance = self.store.consumer_performance().await;
        Sample {
            at,
            lanes: seen
                .as_ref()
                .map(|seen| seen.iter().filter_map(|it| self.lane(it, at)).collect())
                .map_err(Clone::clone),
            members: members(seen.as_deref().unwrap_or_default(), &self.group),
            delayed: delayed.map_err(|error| said(&error)),
            is_paused: orders.ok().map(|it| it.is_paused(&group)),
            letters: self.letters().await,
            performance: performance.map_err(|error| said(&error)),
            errors,
            errors_at,
        }
    }

    async fn see(&self) -> Section<Vec<StreamSeen>> {
        let mut seen = Vec::new();
        for (_, stream) in self.lanes.iter() {
            let look = self.streams.look(stream).await;
            seen.push(look.map_err(|error| said(&error))?);
        }
        Ok(seen)
    }

    fn lane(&self, seen: &StreamSeen, at: Timestamp) -> Option<LaneSeen> {
        let lane = seen.lane?;
        let info = seen.info.as_ref();
        let group = info.and_then(|info| {
            let mut groups = info.groups.iter();
            groups.find(|group| group.name.as_str() == self.group)
        });
        let oldest = group.and_then(|group| group.oldest_pending);
        let age = |ms: u64| {
            let now_ms = u64::try_from(at.as_millisecond()).unwrap_or(0);
            Duration::from_millis(now_ms.saturating_sub(ms))
        };
        Some(LaneSeen {
            lane,
            length: info.map_or(0, |info| info.length),
            appended: info.map_or(0, |info| info.appended),
            lag: group.map_or(Some(0), |group| group.lag),
            pending: group.map_or(0, |group| group.pending),
            oldest: oldest.map(|id| age(id.ms)),
        })
    }

    async fn letters(&self) -> Section<(u64, Vec<LetterHead>)> {
        let both = async {
            let count = self.store.dead_letter_count().await?;
            let all = DeadLetterFilter::default();
            let newest = self.store.dead_letters(&all, LETTERS).await?;
            Ok::<_, ratebox_store::Error>((count, newest))
        };
        both.await.map_err(|error| said(&error))
    }

    async fn errors(
        &self,
        before: Option<Sample>,
        at: Timestamp,
    ) -> (Section<Vec<TopError>>, Timestamp) {
        if let Some(before) = before
            && before.errors.is_ok()
            && elapsed(before.errors_at, at) < SLOW_EVERY
        {
            return (before.errors, before.errors_at);
        }
        let errors = self.store.top_errors().await;
        (errors.map_err(|error| said(&error)), at)
    }
}

// === impl Sample ===

impl Sample {
    /// A moment at which nothing is known.
    #[cfg(test)]
    pub(super) fn unknown(at: Timestamp) -> Self {
        Self {
            at,
            lanes: Ok(Vec::new()),
            members: Vec::new(),
            delayed: Ok(Delayed::default()),
            is_paused: Some(false),
            letters: Ok((0, Vec::new())),
            performance: Ok(Vec::new()),
            errors: Ok(Vec::new()),
            errors_at: at,
        }
    }
}

// === impl LaneSeen ===

impl LaneSeen {
    /// Entries that the group is done with.
    fn done(&self) -> Option<u64> {
        Some(self.appended.saturating_sub(self.lag? + self.pending))
    }
}

/// Entries a second that came, and that were done, since the look before.
pub(super) fn rates(before: &Sample, now: &Sample, lane: Lane) -> Option<(f64, Option<f64>)> {
    let of = |sample: &Sample| {
        let lanes = sample.lanes.as_ref().ok()?;
        lanes.iter().find(|it| it.lane == lane).cloned()
    };
    let (before_lane, now_lane) = (of(before)?, of(now)?);
    let seconds = elapsed(before.at, now.at).as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let a_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let came = a_second(before_lane.appended, now_lane.appended);
    let done = before_lane.done().zip(now_lane.done());
    Some((came, done.map(|(before, now)| a_second(before, now))))
}

/// Messages a second that a consumer finished since the look before.
pub(super) fn consumer_rate(before: &Sample, now: &Sample, name: &str) -> Option<f64> {
    let of = |sample: &Sample| {
        let all = sample.performance.as_ref().ok()?;
        let found = all.iter().find(|it| it.name == name)?;
        Some(found.processed)
    };
    let seconds = elapsed(before.at, now.at).as_secs_f64();
    let done = of(now)?.saturating_sub(of(before)?);
    (seconds > 0.0).then(|| done as f64 / seconds)
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

fn members(seen: &[StreamSeen], group: &str) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let infos = seen.iter().filter_map(|seen| seen.info.as_ref());
    let groups = infos.flat_map(|info| &info.groups);
    for one in groups
        .filter(|it| it.name.as_str() == group)
        .flat_map(|group| &group.consumers)
    {
        match members.iter_mut().find(|it| it.name == one.name.as_str()) {
            Some(known) => {
                known.pending += one.pending;
                known.idle = known.idle.min(one.idle);
            }
            None => members.push(Member {
                name: one.name.to_string(),
                pending: one.pending,
                idle: one.idle,
            }),
        }
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn said(error: &(dyn std::error::Error + 'static)) -> String {
    Causes(error).to_string()
}
