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
/// Entries whose deadline was over before a handler saw them.
pub const EXPIRED: &str = "ratebox_stream_expired_total";
/// Entries that a handler put off without failing.
pub const SNOOZED: &str = "ratebox_stream_snoozed_total";
/// Handler calls that ran beyond their time.
pub const TIMEOUTS: &str = "ratebox_stream_handler_timeouts_total";
/// Batches that may be worked on at the same time.
pub const SLOTS: &str = "ratebox_stream_batches_in_flight_max";
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
/// Times that bulk work rested for a moment, for urgent entries came.
pub const BULK_RESTS: &str = "ratebox_stream_bulk_rests_total";
/// Entries that no member of the group has read, by lane, by our own count.
pub const LAG: &str = "ratebox_stream_lag";
/// Entries delivered and not acknowledged, by lane.
pub const PENDING: &str = "ratebox_stream_pending";
/// Age of the oldest entry that is not acknowledged, by lane.
pub const OLDEST_SECONDS: &str = "ratebox_stream_oldest_pending_age_seconds";
/// The oldest pending entries by class of age, a thousand of a lane at most.
pub const PENDING_AGES: &str = "ratebox_stream_pending_ages";
/// Everything that is to be done: unread, pending, waiting for a retry or in a room.
pub const BACKLOG: &str = "ratebox_stream_backlog";
/// Members that it takes to keep the oldest entry young enough: the signal for autoscaling.
pub const WANTED_MEMBERS: &str = "ratebox_stream_wanted_members";
/// Seconds that a batch took in the handler.
pub const BATCH_SECONDS: &str = "ratebox_stream_batch_seconds";
/// Messages that handlers of a router were through with, by type and outcome.
pub const HANDLED: &str = "ratebox_stream_handled_total";
/// Seconds that a handler of a router took for a message, by type.
pub const HANDLER_SECONDS: &str = "ratebox_stream_handler_seconds";
/// Moments of jobs that this process fired.
pub const CRON_FIRED: &str = "ratebox_stream_cron_fired_total";
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
    metrics::describe_counter!(EXPIRED, "Entries that came after their deadline");
    metrics::describe_counter!(SNOOZED, "Entries put off without failing");
    metrics::describe_counter!(TIMEOUTS, "Handler calls that ran beyond their time");
    metrics::describe_gauge!(SLOTS, "Batches that may be worked on at the same time");
    metrics::describe_gauge!(HELD, "Entries held by this process");
    metrics::describe_gauge!(PARTITIONS_OWNED, "Partitions owned by this process");
    metrics::describe_counter!(PARTITIONS_TAKEN, "Partitions that this process took");
    metrics::describe_counter!(PARTITIONS_LOST, "Partitions whose lease another got");
    metrics::describe_gauge!(IN_LINE, "Messages that wait behind another of their key");
    metrics::describe_gauge!(ASIDE, "Entries that wait aside for a limit");
    metrics::describe_counter!(ADMITTED, "Messages let onto their lanes from rooms");
    metrics::describe_counter!(
        BULK_RESTS,
        "Times bulk work rested while urgent entries came"
    );
    metrics::describe_gauge!(LAG, "Entries that nobody has read");
    metrics::describe_gauge!(PENDING, "Entries delivered and not acknowledged");
    metrics::describe_gauge!(OLDEST_SECONDS, "Age of the oldest unacknowledged entry");
    metrics::describe_gauge!(PENDING_AGES, "Oldest pending entries by class of age");
    metrics::describe_gauge!(BACKLOG, "Messages that are to be done");
    metrics::describe_gauge!(WANTED_MEMBERS, "Members that the backlog asks for");
    metrics::describe_histogram!(BATCH_SECONDS, metrics::Unit::Seconds, "Time in the handler");
    metrics::describe_counter!(
        HANDLED,
        "Messages that a router's handlers were through with"
    );
    metrics::describe_histogram!(
        HANDLER_SECONDS,
        metrics::Unit::Seconds,
        "Time of a router's handler for one message"
    );
    metrics::describe_counter!(CRON_FIRED, "Moments of jobs that this process fired");
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
