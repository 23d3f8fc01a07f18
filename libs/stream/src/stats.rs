//! Every metric of this crate.

use ratebox_kit::DeadLetterClass;

use crate::StreamName;

/// Entries delivered to this process for the first time.
pub const READ: &str = "ratebox_stream_read_total";
/// Entries acknowledged after their commit.
pub const ACKED: &str = "ratebox_stream_acked_total";
/// Entries set aside for a retry.
pub const RETRIED: &str = "ratebox_stream_retried_total";
/// Entries that became dead letters, by class.
pub const DEAD_LETTERS: &str = "ratebox_stream_dead_letters_total";
/// Entries handed back untouched.
pub const RELEASED: &str = "ratebox_stream_released_total";
/// Entries taken over from consumers that went silent.
pub const CLAIMED: &str = "ratebox_stream_claimed_total";
/// Due retries put back onto their lanes.
pub const PROMOTED: &str = "ratebox_stream_promoted_total";
/// Times that inflow stopped because what the handler needs was away.
pub const PAUSES: &str = "ratebox_stream_pauses_total";
/// Entries that another consumer took while they were held here.
pub const LEASES_LOST: &str = "ratebox_stream_leases_lost_total";
/// Calls of the log that failed, by what was called.
pub const ERRORS: &str = "ratebox_stream_errors_total";
/// Handler calls that panicked.
pub const PANICS: &str = "ratebox_stream_handler_panics_total";
/// Groups made anew because the stream was lost or emptied. Alert on any.
pub const GROUPS_RECREATED: &str = "ratebox_stream_groups_recreated_total";
/// Entries held by this process: queued, in work or parked.
pub const HELD: &str = "ratebox_stream_held";
/// Partitions that this process owns, those included that it hands over.
pub const PARTITIONS_OWNED: &str = "ratebox_stream_partitions_owned";
/// Partitions that this process took.
pub const PARTITIONS_TAKEN: &str = "ratebox_stream_partitions_taken_total";
/// Partitions whose lease another got while it was held here. Alert on any.
pub const PARTITIONS_LOST: &str = "ratebox_stream_partitions_lost_total";
/// Messages that wait behind another of their key, by partition.
pub const IN_LINE: &str = "ratebox_stream_in_line";
/// Entries that wait aside for a limit.
pub const ASIDE: &str = "ratebox_stream_aside";
/// Messages let onto their lanes from the rooms of their owners.
pub const ADMITTED: &str = "ratebox_stream_admitted_total";
/// Seconds that a batch took in the handler.
pub const BATCH_SECONDS: &str = "ratebox_stream_batch_seconds";
/// Entries that vanished from a stream before they were acknowledged. Alert on any.
pub const MESSAGES_LOST: &str = "messages_lost_total";

/// Tells the recorder what each metric means.
pub fn describe_metrics() {
    metrics::describe_counter!(READ, "Entries delivered for the first time");
    metrics::describe_counter!(ACKED, "Entries acknowledged after their commit");
    metrics::describe_counter!(RETRIED, "Entries set aside for a retry");
    metrics::describe_counter!(DEAD_LETTERS, "Entries that became dead letters");
    metrics::describe_counter!(RELEASED, "Entries handed back untouched");
    metrics::describe_counter!(CLAIMED, "Entries taken over from silent consumers");
    metrics::describe_counter!(PROMOTED, "Due retries put back onto their lanes");
    metrics::describe_counter!(PAUSES, "Times inflow stopped for a missing dependency");
    metrics::describe_counter!(LEASES_LOST, "Held entries that another consumer took");
    metrics::describe_counter!(ERRORS, "Calls of the log that failed");
    metrics::describe_counter!(PANICS, "Handler calls that panicked");
    metrics::describe_counter!(GROUPS_RECREATED, "Groups made anew after a loss");
    metrics::describe_gauge!(HELD, "Entries held by this process");
    metrics::describe_gauge!(PARTITIONS_OWNED, "Partitions owned by this process");
    metrics::describe_counter!(PARTITIONS_TAKEN, "Partitions that this process took");
    metrics::describe_counter!(PARTITIONS_LOST, "Partitions whose lease another got");
    metrics::describe_gauge!(IN_LINE, "Messages that wait behind another of their key");
    metrics::describe_gauge!(ASIDE, "Entries that wait aside for a limit");
    metrics::describe_counter!(ADMITTED, "Messages let onto their lanes from rooms");
    metrics::describe_histogram!(BATCH_SECONDS, metrics::Unit::Seconds, "Time in the handler");
    metrics::describe_counter!(MESSAGES_LOST, "Entries that vanished unacknowledged");
}

pub(crate) fn count(name: &'static str, stream: &StreamName, by: usize) {
    if by > 0 {
        metrics::counter!(name, "stream" => stream.to_string()).increment(by as u64);
    }
}

pub(crate) fn dead_letter(stream: &StreamName, class: DeadLetterClass) {
    metrics::counter!(DEAD_LETTERS, "stream" => stream.to_string(), "class" => class.as_str())
        .increment(1);
}

pub(crate) fn failed(stream: &StreamName, call: &'static str) {
    metrics::counter!(ERRORS, "stream" => stream.to_string(), "call" => call).increment(1);
}
