//! The report as data, as text for people and as JSON for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use ratebox_intake::mask_message;
use ratebox_kit::Timestamp;
use ratebox_store::{Activity, ConsumerPerformance, ItemCounts, StreamMetric, TopError};
pub use ratebox_stream::Delayed;
use serde_json::{Value, json};

use super::super::figures::{grouped, span};
use super::streams::{StreamReport, groups_text, streams_json, streams_text};

/// What was found, or why it was not.
pub type Section<T> = Result<T, String>;

/// Everything that the report says.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// When it was made.
    pub(super) at: Timestamp,
    /// The lanes of the requests and their groups.
    pub(super) bus: Section<Vec<StreamReport>>,
    /// What waits for its retry.
    pub(super) delayed: Section<Delayed>,
    /// What the relay noted of the streams last.
    pub(super) speeds: Section<Vec<StreamMetric>>,
    /// Items by state.
    pub(super) items: Section<ItemCounts>,
    /// Consumers, the one that worked last first.
    pub(super) consumers: Section<Vec<ConsumerPerformance>>,
    /// Items of the last hour by state.
    pub(super) activity: Section<Vec<Activity>>,
    /// Frequent errors of the last hour.
    pub(super) errors: Section<Vec<TopError>>,
}

impl Report {
    /// A report that knows nothing yet.
    pub(super) fn empty(at: Timestamp) -> Self {
        Self {
            at,
            bus: Ok(Vec::new()),
            delayed: Ok(Delayed::default()),
            speeds: Ok(Vec::new()),
            items: Ok(ItemCounts::default()),
            consumers: Ok(Vec::new()),
            activity: Ok(Vec::new()),
            errors: Ok(Vec::new()),
        }
    }

    /// Says why the bus is not in the report.
    pub(super) fn without_bus(&mut self, why: &str) {
        self.bus = Err(why.to_owned());
        self.delayed = Err(why.to_owned());
    }

    /// Says why the database is not in the report.
    pub(super) fn without_database(&mut self, why: &str) {
        self.speeds = Err(why.to_owned());
        self.items = Err(why.to_owned());
        self.consumers = Err(why.to_owned());
        self.activity = Err(why.to_owned());
        self.errors = Err(why.to_owned());
    }

    /// Why there is nothing in the report; `None` when anything could be read.
    pub(super) fn unread(&self) -> Option<String> {
        let bus = match &self.bus {
            Ok(streams) if streams.iter().any(|it| it.info.is_ok()) => return None,
            Ok(streams) => streams.first()?.info.as_ref().err()?,
            Err(why) => why,
        };
        let store = self.items.as_ref().err()?;
        let others = [
            self.delayed.is_err(),
            self.speeds.is_err(),
            self.consumers.is_err(),
            self.activity.is_err(),
            self.errors.is_err(),
        ];
        let is_unread = others.into_iter().all(|is_missing| is_missing);
        is_unread.then(|| format!("{bus}; {store}"))
    }

    /// For people. The sections and their order are part of the contract.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!(
            "RATEBOX MONITOR  {}\n",
            self.at.strftime("%Y-%m-%d %H:%M:%S UTC")
        );
        section(&mut text, "STREAM INFO", &self.bus, |text, streams| {
            streams_text(text, streams);
        });
        if let Ok(delayed) = &self.delayed
            && delayed.count > 0
        {
            let next = delayed.next_in.map_or_else(|| "unknown".to_owned(), span);
            let _ = writeln!(
                text,
                "  retries waiting {}, next in {next}",
                grouped(delayed.count)
            );
        }
        speeds_text(&mut text, self.speeds.as_deref().unwrap_or_default());
        section(&mut text, "CONSUMER GROUPS", &self.bus, |text, streams| {
            groups_text(text, streams)
        });
        section(&mut text, "DATABASE STATS", &self.items, items_text);
        section(
            &mut text,
            "CONSUMER PERFORMANCE",
            &self.consumers,
            |text, consumers| {
                self.consumers_text(text, consumers);
            },
        );
        section(
            &mut text,
            "RECENT ACTIVITY (1 h)",
            &self.activity,
            |text, it| activity_text(text, it),
        );
        section(
            &mut text,
            "TOP ERRORS (1 h)",
            &self.errors,
            |text, errors| errors_text(text, errors),
        );
        text
    }

    fn consumers_text(&self, text: &mut String, consumers: &[ConsumerPerformance]) {
        for it in consumers {
            let ago = self
                .at
                .duration_since(it.last_processed_at)
                .max(jiff::SignedDuration::ZERO);
            let _ = writeln!(
                text,
                "  {:<28} processed {:>11}  error rate {:>6.2} %  last active {} ago",
                it.name,
                grouped(it.processed),
                it.error_rate_percent,
                span(ago.unsigned_abs())
            );
        }
        none_yet(text, consumers);
    }

    /// For scripts: the same sections; a section that could not be asked is `{"error": …}`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "at": self.at.to_string(),
            "streams": json_section(&self.bus, |it| streams_json(it)),
            "delayed": json_section(&self.delayed, |it| json!({ "count": it.count })),
            "speeds": json_section(&self.speeds, |it| it.iter().map(|it| json!({
                "stream": it.stream, "metric": it.metric, "value": it.value,
                "at": it.at.to_string(),
            })).collect()),
            "database": json_section(&self.items, |it| json!({
                "total": it.total, "done": it.done, "error": it.error, "pending": it.pending,
                "stream_processed": it.stream_processed,
            })),
            "consumers": json_section(&self.consumers, |it| it.iter().map(|it| json!({
                "name": it.name, "processed": it.processed,
                "error_rate_percent": it.error_rate_percent,
                "last_processed_at": it.last_processed_at.to_string(),
            })).collect()),
            "activity": json_section(&self.activity, |it| it.iter().map(|it| json!({
                "status": it.status, "count": it.count, "mean_seconds": it.mean_seconds,
            })).collect()),
            "errors": json_section(&self.errors, |it| it.iter().map(|it| json!({
                "code": it.code, "field": it.field, "count": it.count,
                "message": mask_message(&it.message),
            })).collect()),
        })
    }
}

/// How fast each lane moved in the last minute that the relay noted.
fn speeds_text(text: &mut String, speeds: &[StreamMetric]) {
    // Noted lane by lane, and read the newest first.
    let mut streams: Vec<&str> = speeds.iter().rev().map(|it| it.stream.as_str()).collect();
    streams.dedup();
    for stream in streams {
        let value = |name: &str| {
            let found = speeds
                .iter()
                .find(|it| it.stream == stream && it.metric == name);
            found.and_then(|it| u64::try_from(it.value).ok())
        };
        let Some(came) = value("appended_per_minute") else {
            continue;
        };
        let a_minute = |count| format!("{}/min", grouped(count));
        let done = value("done_per_minute").map_or_else(|| "unknown".to_owned(), a_minute);
        let oldest = value("oldest_pending_ms").map(Duration::from_millis);
        let oldest = oldest.filter(|age| !age.is_zero());
        let _ = writeln!(
            text,
            "  {stream}: in {}, done {done}, oldest pending {}",
            a_minute(came),
            oldest.map_or_else(|| "-".to_owned(), span)
        );
    }
}

fn section<T>(
    text: &mut String,
    title: &str,
    found: &Section<T>,
    say: impl FnOnce(&mut String, &T),
) {
    let _ = writeln!(text, "\n{title}");
    match found {
        Ok(found) => say(text, found),
        Err(why) => {
            let _ = writeln!(text, "  {why}");
        }
    }
}

fn items_text(text: &mut String, items: &ItemCounts) {
    let lines = [
        ("total", items.total),
        ("done", items.done),
        ("error", items.error),
        ("pending", items.pending),
        ("stream processed", items.stream_processed),
    ];
    for (name, count) in lines {
        let _ = writeln!(text, "  {name:<18} {:>12}", grouped(count));
    }
}

fn activity_text(text: &mut String, activity: &[Activity]) {
    for it in activity {
        let count = grouped(it.count);
        let _ = writeln!(
            text,
            "  {:<18} {count:>12}  {:.3} s on average",
            it.status, it.mean_seconds
        );
    }
    none_yet(text, activity);
}

fn errors_text(text: &mut String, errors: &[TopError]) {
    for it in errors {
        let (field, count) = (it.field.as_deref().unwrap_or("-"), grouped(it.count));
        let message = mask_message(&it.message);
        let _ = writeln!(text, "  {:<4} {field:<13} {count:>12}  {message}", it.code);
    }
    none_yet(text, errors);
}

fn none_yet<T>(text: &mut String, list: &[T]) {
    if list.is_empty() {
        text.push_str("  none\n");
    }
}

fn json_section<T>(found: &Section<T>, say: impl FnOnce(&T) -> Value) -> Value {
    match found {
        Ok(found) => say(found),
        Err(why) => json!({ "error": why }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratebox_stream::{ConsumerInfo, ConsumerName, EntryId, GroupInfo, GroupName, StreamInfo};

    use super::*;

    fn stream() -> StreamInfo {
        let consumer = ConsumerInfo {
            name: ConsumerName::new("worker-1"),
            pending: 2,
            idle: Duration::from_millis(1500),
        };
        let group = GroupInfo {
            name: GroupName::new("validator_workers"),
            last_delivered: EntryId::new(1_700_000_000_000, 3),
            pending: 2,
            oldest_pending: Some(EntryId::new(1_700_000_000_000, 2)),
            lag: Some(1_000),
            consumers: vec![consumer],
        };
        StreamInfo {
            length: 1_003,
            appended: 1_003,
            first: Some(EntryId::new(1_700_000_000_000, 0)),
            last: EntryId::new(1_700_000_000_009, 1),
            groups: vec![group],
        }
    }

    fn report() -> Report {
        let at: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let ago = |seconds| at.checked_sub(Duration::from_secs(seconds)).unwrap();
        Report {
            bus: Ok(vec![
                StreamReport {
                    name: "{requests}:high".to_owned(),
                    info: Ok(None),
                },
                StreamReport {
                    name: "requests".to_owned(),
                    info: Ok(Some(stream())),
                },
            ]),
            speeds: Ok(vec![StreamMetric {
                stream: "validation_requests".to_owned(),
                metric: "appended_per_minute".to_owned(),
                value: 1_200,
                at,
                tags: "{}".to_owned(),
            }]),
            delayed: Ok(Delayed {
                count: 4,
                next_in: Some(Duration::from_millis(200)),
            }),
            items: Ok(ItemCounts {
                total: 12_000,
                done: 11_000,
                error: 1_000,
                pending: 5,
                stream_processed: 120,
            }),
            consumers: Ok(vec![ConsumerPerformance {
                name: "worker-1".to_owned(),
                processed: 120,
                error_rate_percent: 8.333,
                last_processed_at: ago(90),
            }]),
            activity: Ok(vec![Activity {
                status: "success".to_owned(),
                count: 11_000,
                mean_seconds: 0.0123,
            }]),
            errors: Ok(vec![TopError {
                code: 300,
                field: Some("email".to_owned()),
                count: 7,
                message: "Invalid email format: someone@nowhere".to_owned(),
            }]),
            ..Report::empty(at)
        }
    }

    #[test]
    fn the_report_reads_like_this() {
        assert_eq!(
            report().to_text(),
            "RATEBOX MONITOR  2026-03-04 05:06:07 UTC

STREAM INFO
  {requests}:high  does not exist
  requests         length     1,003  first 1700000000000-0     last 1700000000009-1
  retries waiting 4, next in 200 ms
  validation_requests: in 1,200/min, done unknown, oldest pending -

CONSUMER GROUPS
  validator_workers on requests: consumers 1, pending 2, lag 1,000, last delivered 1700000000000-3
    worker-1                     pending       2  idle 1.5 s

DATABASE STATS
  total                    12,000
  done                     11,000
  error                     1,000
  pending                       5
  stream processed            120

CONSUMER PERFORMANCE
  worker-1                     processed         120  error rate   8.33 %  last active 1 min ago

RECENT ACTIVITY (1 h)
  success                  11,000  0.012 s on average

TOP ERRORS (1 h)
  300  email                    7  Invalid email format: s***@nowhere
"
        );
    }

    #[test]
    fn what_cannot_be_asked_is_said_in_its_place() {
        let mut report = report();
        assert_eq!(report.unread(), None);
        report.without_bus("the bus cannot be reached");
        assert_eq!(report.unread(), None, "the database could be read");
        report.without_database("the database cannot be reached");
        assert_eq!(
            report.unread().as_deref(),
            Some("the bus cannot be reached; the database cannot be reached")
        );
        let text = report.to_text();
        assert_eq!(
            text.matches("\n  the bus cannot be reached\n").count(),
            2,
            "{text}"
        );
        assert_eq!(
            text.matches("\n  the database cannot be reached\n").count(),
            4,
            "{text}"
        );
        let json = report.to_json();
        assert_eq!(json["streams"]["error"], "the bus cannot be reached");
        assert_eq!(json["delayed"]["error"], "the bus cannot be reached");
        assert_eq!(json["errors"]["error"], "the database cannot be reached");
    }

    #[test]
    fn scripts_get_the_same_figures_and_no_personal_data() {
        let json = report().to_json();
        assert_eq!(json["streams"][0]["exists"], false);
        assert_eq!(
            json["streams"][1]["groups"][0]["consumers"][0]["idle_ms"],
            1500
        );
        assert_eq!(json["database"]["total"], 12_000);
        assert!(!json.to_string().contains("someone@"));
    }
}
