//! The streams' figures once a minute: how much waits, since when, and how fast it moves.

use std::collections::HashMap;
use std::time::Duration;

use ratebox_kit::Timestamp;
use ratebox_store::StreamMetric;
use ratebox_stream::{Lane, StreamInfo, StreamName, Subscription};
use serde_json::json;

/// Remembers the last look, for what moved since.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    before: HashMap<StreamName, Look>,
}

/// What moves, at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Timestamp,
    appended: u64,
    done: Option<u64>,
}

// === impl Figures ===

impl Figures {
    /// The figures of a lane; speeds from the second look on.
    pub(crate) fn of(
        &mut self,
        (lane, stream): (Lane, &StreamName),
        info: &StreamInfo,
        sub: &Subscription,
        at: Timestamp,
    ) -> Vec<StreamMetric> {
        let group = info.groups.iter().find(|group| group.name == sub.group);
        let lag = group.and_then(|group| group.lag);
        let pending = group.map_or(0, |group| group.pending);
        let oldest = group.and_then(|group| group.oldest_pending);
        let oldest_ms = oldest.map_or(0, |id| {
            u64::try_from(at.as_millisecond())
                .unwrap_or(0)
                .saturating_sub(id.ms)
        });
        let look = Look {
            at,
            appended: info.appended,
            done: lag.map(|lag| info.appended.saturating_sub(lag + pending)),
        };
        let before = self.before.insert(stream.clone(), look);
        let a_minute = |now: Option<u64>, of: fn(&Look) -> Option<u64>| {
            let before = before?;
            let elapsed: Duration = at.duration_since(before.at).try_into().ok()?;
            let moved = now?.saturating_sub(of(&before)?);
            per_minute(moved, elapsed)
        };
        let figures = [
            ("length", Some(info.length)),
            ("lag", lag),
            ("pending", Some(pending)),
            ("oldest_pending_ms", Some(oldest_ms)),
            ("consumers", group.map(|group| group.consumers.len() as u64)),
            (
                "appended_per_minute",
                a_minute(Some(look.appended), |it| Some(it.appended)),
            ),
            ("done_per_minute", a_minute(look.done, |it| it.done)),
        ];
        let tags = json!({ "group": sub.group.as_str(), "lane": lane.as_str() }).to_string();
        let metric = |(name, value): (&str, Option<u64>)| {
            Some(StreamMetric {
                stream: stream.to_string(),
                metric: name.to_owned(),
                value: i64::try_from(value?).unwrap_or(i64::MAX),
                at,
                tags: tags.clone(),
            })
        };
        figures.into_iter().filter_map(metric).collect()
    }
}

fn per_minute(moved: u64, elapsed: Duration) -> Option<u64> {
    let ms = elapsed.as_millis();
    let moved = u128::from(moved) * 60_000;
    u64::try_from((moved + ms / 2).checked_div(ms)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_told_by_the_minute_and_never_of_no_time() {
        assert_eq!(per_minute(90, Duration::from_secs(30)), Some(180));
        assert_eq!(per_minute(1, Duration::from_secs(120)), Some(1));
        assert_eq!(per_minute(5, Duration::ZERO), None);
    }
}
