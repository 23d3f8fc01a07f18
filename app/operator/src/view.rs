//! Letters and streams as JSON: the same for HTTP, command line and files.

use ratebox_kit::Attempt;
use ratebox_store::{Deed, LetterHead, StoredLetter};
use ratebox_stream::{GroupInfo, StreamInfo};
use serde_json::{Value, json};

use crate::payload::fields_json;
use crate::{Payload, Shown, StreamSeen};

/// A letter without its bytes.
pub fn letter_head(head: &LetterHead) -> Value {
    json!({
        "id": head.id,
        "message_id": head.message_id,
        "stream": head.stream,
        "entry_id": head.entry_id,
        "lane": head.lane,
        "group": head.group,
        "class": head.class.as_str(),
        "code": head.code,
        "error": head.error,
        "fail_count": head.fail_count,
        "first_failed_at": head.first_failed_at,
        "last_failed_at": head.last_failed_at,
        "consumer": head.consumer,
        "replay_count": head.replay_count,
        "same_reason": head.same_reason,
        "replayed_at": head.replayed_at,
        "request_id": head.request_id,
        "owner": head.owner,
        "edited": head.edited,
        "bytes": head.bytes,
        "state": head.state.as_str(),
    })
}

/// A letter with its attempts and its fields.
pub fn letter_whole(letter: &StoredLetter, payload: Payload) -> Value {
    let mut value = letter_head(&letter.head);
    let edited = letter.edited.as_ref();
    let parts = [
        ("attempts", letter.attempts.iter().map(attempt).collect()),
        ("fields", fields_json(&letter.fields, payload)),
        (
            "edited_fields",
            edited.map_or(Value::Null, |fields| fields_json(fields, payload)),
        ),
    ];
    if let Value::Object(object) = &mut value {
        object.extend(parts.map(|(name, part)| (name.to_owned(), part)));
    }
    value
}

/// The same as a line of a file, which says whether it can be imported.
pub(crate) fn letter_line(letter: &StoredLetter, payload: Payload) -> Value {
    let mut value = letter_whole(letter, payload);
    if let Value::Object(object) = &mut value {
        let masked = payload != Payload::Plain;
        object.insert("masked".to_owned(), masked.into());
    }
    value
}

/// A letter with what was done to it.
pub fn letter_shown(shown: &Shown, payload: Payload) -> Value {
    let mut value = letter_whole(&shown.letter, payload);
    if let Value::Object(object) = &mut value {
        let deeds = shown.deeds.iter().map(deed).collect();
        object.insert("deeds".to_owned(), deeds);
    }
    value
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "at": attempt.at, "consumer": attempt.consumer, "code": attempt.code,
        "error": attempt.error,
    })
}

pub(crate) fn deed(deed: &Deed) -> Value {
    let detail = deed.detail.as_deref();
    let detail = detail.and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "at": deed.at, "actor": deed.actor, "action": deed.action, "reason": deed.reason,
        "detail": detail,
    })
}

/// A stream with its groups.
pub fn stream_json(seen: &StreamSeen) -> Value {
    let lane = seen.lane.map(|lane| lane.as_str());
    let Some(info) = &seen.info else {
        return json!({ "name": seen.name.as_str(), "lane": lane, "exists": false });
    };
    let groups = info.groups.iter().map(|group| group_json(info, group));
    json!({
        "name": seen.name.as_str(),
        "lane": lane,
        "exists": true,
        "length": info.length,
        "appended": info.appended,
        "bytes": seen.bytes,
        "first": info.first.map(|id| id.to_string()),
        "last": info.last.to_string(),
        "groups": groups.collect::<Vec<_>>(),
    })
}

fn group_json(stream: &StreamInfo, group: &GroupInfo) -> Value {
    json!({
        "name": group.name.as_str(),
        "consumers": group.consumers.len(),
        "pending": group.pending,
        "oldest_pending": group.oldest_pending.map(|id| id.to_string()),
        "lag": group.lag,
        "last_delivered": group.last_delivered.to_string(),
        "is_owed": group.is_owed(stream),
        "idle_ms": group.idle().map(|idle| idle.as_millis() as u64),
    })
}

/// The members of all groups of a stream.
pub fn consumers_json(seen: &StreamSeen) -> Vec<Value> {
    let groups = seen.info.iter().flat_map(|info| &info.groups);
    let members = groups.flat_map(|group| group.consumers.iter().map(move |it| (group, it)));
    members
        .map(|(group, member)| {
            json!({
                "stream": seen.name.as_str(),
                "group": group.name.as_str(),
                "name": member.name.as_str(),
                "pending": member.pending,
                "idle_ms": member.idle.as_millis() as u64,
            })
        })
        .collect()
}
