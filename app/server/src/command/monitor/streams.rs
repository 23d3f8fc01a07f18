//! Streams and their groups, as text and as JSON.

use std::fmt::Write as _;

use ratebox_stream::{EntryId, GroupInfo, StreamInfo};
use serde_json::{Value, json};

use super::super::figures::{grouped, span};
use super::Section;

/// A stream by its name, with what is known of it.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// As it stands; `None` when it does not exist.
    pub info: Section<Option<StreamInfo>>,
}

/// A longer name pushes its line to the right; the formatter takes no width beyond 65,535.
const WIDTH_MAX: usize = 100;

/// Length, first and last entry of each stream.
pub fn streams_text(text: &mut String, streams: &[StreamReport]) {
    let widths = streams.iter().map(|it| it.name.chars().count());
    let width = widths.max().unwrap_or(0).min(WIDTH_MAX);
    for StreamReport { name, info } in streams {
        let _ = match info {
            Ok(Some(info)) => writeln!(
                text,
                "  {name:<width$}  length {:>9}  first {:<18}  last {}",
                grouped(info.length),
                first(info),
                last(info)
            ),
            Ok(None) => writeln!(text, "  {name:<width$}  does not exist"),
            Err(why) => writeln!(text, "  {name:<width$}  {why}"),
        };
    }
}

/// Groups and consumers of each stream.
pub fn groups_text(text: &mut String, streams: &[StreamReport]) {
    let mut any = false;
    for StreamReport { name, info } in streams {
        for group in info.iter().flatten().flat_map(|info| &info.groups) {
            any = true;
            group_text(text, name, group);
        }
    }
    if !any {
        text.push_str("  no groups\n");
    }
}

fn group_text(text: &mut String, stream: &str, group: &GroupInfo) {
    let lag = group.lag.map_or_else(|| "unknown".to_owned(), grouped);
    let _ = writeln!(
        text,
        "  {} on {stream}: consumers {}, pending {}, lag {lag}, last delivered {}",
        group.name,
        group.consumers.len(),
        grouped(group.pending),
        id(group.last_delivered)
    );
    for consumer in &group.consumers {
        let (pending, idle) = (grouped(consumer.pending), span(consumer.idle));
        let _ = writeln!(
            text,
            "    {:<28} pending {pending:>7}  idle {idle}",
            consumer.name.as_str()
        );
    }
}

/// The same for scripts.
pub fn streams_json(streams: &[StreamReport]) -> Value {
    let one = |it: &StreamReport| match &it.info {
        Ok(Some(info)) => json!({
            "name": it.name, "exists": true, "length": info.length, "appended": info.appended,
            "first": info.first.map(|id| id.to_string()), "last": info.last.to_string(),
            "groups": info.groups.iter().map(group_json).collect::<Vec<_>>(),
        }),
        Ok(None) => json!({ "name": it.name, "exists": false }),
        Err(why) => json!({ "name": it.name, "error": why }),
    };
    streams.iter().map(one).collect()
}

fn group_json(group: &GroupInfo) -> Value {
    let consumers: Vec<Value> = group
        .consumers
        .iter()
        .map(|it| {
            let idle_ms = u64::try_from(it.idle.as_millis()).unwrap_or(u64::MAX);
            json!({ "name": it.name.as_str(), "pending": it.pending, "idle_ms": idle_ms })
        })
        .collect();
    json!({
        "name": group.name.as_str(),
        "last_delivered": group.last_delivered.to_string(),
        "pending": group.pending,
        "oldest_pending": group.oldest_pending.map(|id| id.to_string()),
        "lag": group.lag,
        "consumers": consumers,
    })
}

fn first(info: &StreamInfo) -> String {
    info.first.map_or_else(|| "-".to_owned(), id)
}

fn last(info: &StreamInfo) -> String {
    id(info.last)
}

fn id(id: EntryId) -> String {
    if id == EntryId::MIN {
        "-".to_owned()
    } else {
        id.to_string()
    }
}
