//! What a failed entry becomes: a later copy of itself, or a dead letter. Pure.

use bytes::Bytes;
use ratebox_kit::Timestamp;

use crate::{Entry, FieldName, GroupName, Policy, field};

/// Fields that a retry carries and the sender did not write.
const OURS: [&str; 6] = [
    field::ATTEMPT,
    field::HISTORY,
    field::FIRST_ENTRY,
    field::GROUP,
    field::FIRST_FAILED,
    field::SNOOZES,
];

/// Whether one more failure with this code still leaves a retry.
pub(crate) fn has_retry_left(entry: &Entry, policy: &Policy, code: &str) -> bool {
    entry.attempt() < policy.retries(code).max
}

/// The fields of the copy that comes again without having failed.
pub(crate) fn snooze_fields(entry: &Entry, group: &GroupName) -> Vec<(FieldName, Bytes)> {
    let first_failed = entry.first_failed_ms();
    again_fields(
        entry,
        group,
        entry.attempt(),
        first_failed,
        entry.snoozes().saturating_add(1),
    )
}

/// The fields of the copy that comes again: the sender's, then ours with the attempt raised.
pub(crate) fn retry_fields(
    entry: &Entry,
    group: &GroupName,
    failed_at: Timestamp,
) -> Vec<(FieldName, Bytes)> {
    let first_failed = entry
        .first_failed_ms()
        .unwrap_or(failed_at.as_millisecond());
    let attempt = entry.attempt().saturating_add(1);
    again_fields(entry, group, attempt, Some(first_failed), entry.snoozes())
}

/// The sender's fields, then ours.
fn again_fields(
    entry: &Entry,
    group: &GroupName,
    attempt: u32,
    first_failed_ms: Option<i64>,
    snoozes: u32,
) -> Vec<(FieldName, Bytes)> {
    let mut fields = sender_fields(entry);
    let mut add = |name: &str, value: String| fields.push((name.into(), Bytes::from(value)));
    if entry.field(field::ID).is_none() {
        add(field::ID, entry.message_id().into_owned());
    }
    if attempt > 0 {
        add(field::ATTEMPT, attempt.to_string());
    }
    add(field::FIRST_ENTRY, entry.first_entry().to_string());
    add(field::GROUP, group.to_string());
    if let Some(first_failed_ms) = first_failed_ms {
        add(field::FIRST_FAILED, first_failed_ms.to_string());
    }
    if snoozes > 0 {
        add(field::SNOOZES, snoozes.to_string());
    }
    if let Some(history) = entry.field(field::HISTORY) {
        fields.push((field::HISTORY.into(), history.clone()));
    }
    fields
}

/// The fields that a retry of ours carries beside the sender's.
pub(crate) fn our_fields(entry: &Entry) -> Vec<(FieldName, Bytes)> {
    let is_ours = |name: &FieldName| OURS.contains(&&**name) || **name == *field::ID;
    let fields = entry.fields.iter().filter(|(name, _)| is_ours(name));
    fields.cloned().collect()
}

/// The fields as the sender wrote them: without what retries added.
pub(crate) fn sender_fields(entry: &Entry) -> Vec<(FieldName, Bytes)> {
    let derived_id = format!("{}/{}", entry.first_stream(), entry.first_entry());
    // One that was not believed would be, beside the first entry that the copy names.
    let is_carried = entry.first_stream() != entry.stream.as_str();
    let ours = |name: &str, value: &Bytes| {
        OURS.contains(&name)
            || (name == field::FIRST_STREAM && !is_carried)
            || (name == field::ID && value[..] == *derived_id.as_bytes())
    };
    entry
        .fields
        .iter()
        .filter(|(name, value)| !ours(name, value))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryId, Lane, StreamName};

    fn again(entry: &Entry, at_ms: i64) -> Entry {
        let at = Timestamp::from_millisecond(at_ms).unwrap();
        let fields = retry_fields(entry, &GroupName::new("g"), at);
        let id = entry.id.next();
        Entry {
            stream: entry.stream.clone(),
            lane: entry.lane,
            id,
            deliveries: 1,
            fields,
        }
    }

    #[test]
    fn a_retry_keeps_id_first_entry_and_first_failure_and_counts_up() {
        let fields = vec![("data".into(), Bytes::from_static(b"\xff\x00"))];
        let stream = StreamName::new("s");
        let first = Entry {
            stream,
            lane: Lane::Low,
            id: EntryId::new(5, 0),
            deliveries: 1,
            fields,
        };
        let third = again(&again(&first, 100), 200);
        assert_eq!(third.attempt(), 2);
        assert_eq!(third.message_id(), first.message_id());
        assert_eq!(third.first_entry(), first.id);
        assert_eq!(third.first_failed_ms(), Some(100));
        assert_eq!(third.only_for(), Some("g"));
        assert_eq!(sender_fields(&third), first.fields);
    }

    #[test]
    fn a_retry_is_the_same_message_whatever_its_sender_says_came_first() {
        for (id, stream, expected) in [
            ("4-0", "s", "s/4-0"),
            ("4-0", "t", "t/4-0"),
            ("5-0", "t", "s/5-0"),
            ("9-0", "t", "s/5-0"),
            ("nothing", "t", "s/5-0"),
        ] {
            let first = Entry {
                stream: StreamName::new("s"),
                lane: Lane::Low,
                id: EntryId::new(5, 0),
                deliveries: 1,
                fields: vec![
                    (field::FIRST_ENTRY.into(), Bytes::from(id)),
                    (field::FIRST_STREAM.into(), Bytes::from(stream)),
                ],
            };
            let mut third = again(&again(&first, 100), 200);
            // Retries come much later.
            third.id = EntryId::new(9_000, 0);
            assert_eq!(first.message_id(), expected);
            assert_eq!(third.message_id(), expected);
            third.fields.retain(|(name, _)| *name != field::ID);
            assert_eq!(
                third.message_id(),
                expected,
                "also without the id it was given"
            );
        }
    }
}
