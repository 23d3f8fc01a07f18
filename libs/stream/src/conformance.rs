//! What every log must do, written once. A backend runs it with [`crate::conformance!`].
//!
//! Behind the feature `testing`. A case gets a [`Bed`]: a fresh log under a name of its own, a way
//! to let time pass, and a way to destroy things behind the log's back.

#![expect(
    clippy::unwrap_used,
    reason = "a suite of tests: a panic says what failed"
)]

mod bed;
mod consumer_cases;
mod fault_cases;
mod limit_cases;
mod log_cases;
mod operator_cases;
mod order_bed;
mod order_cases;
mod room_cases;

pub use bed::Bed;
pub use bed::Judge;
pub use bed::Letters;
pub use bed::Sabotage;
pub use bed::Waits;
pub use bed::done;
pub use bed::retry;
pub use order_bed::Connection;
pub use order_bed::Effects;
pub use order_bed::Fate;
pub use order_bed::OrderBed;
pub use order_bed::Process;

/// The cases, one function each; every one panics when the log misbehaves.
pub mod cases {
    pub use super::consumer_cases::*;
    pub use super::fault_cases::*;
    pub use super::limit_cases::*;
    pub use super::log_cases::*;
    pub use super::operator_cases::*;
    pub use super::order_cases::*;
    pub use super::room_cases::*;
}

/// Makes one test of every case about partitions, order and limits. Takes the path of an
/// `async fn() -> OrderBed` whose time passes by itself.
#[macro_export]
macro_rules! order_conformance {
    ($bed:path) => {
        $crate::order_conformance! { $bed =>
            a_lease_has_one_owner_until_it_ends_or_is_given_back
            members_that_left_or_died_are_not_met
            partitions_are_shared_out_evenly_and_each_has_an_owner
            a_dead_members_partitions_go_to_others_with_what_it_held
            a_stop_hands_everything_over_at_once
            a_stale_owner_neither_reads_nor_commits
            a_failing_key_holds_up_only_itself
            the_letter_of_a_dead_head_frees_its_key
            a_key_keeps_its_order_over_owners_and_retries
            more_waits_than_is_kept_in_memory
            rules_are_kept_until_they_are_removed
            a_rate_holds_over_members_that_come_go_and_die
            a_limited_key_holds_up_no_other
            caps_hold_over_members_and_come_back_from_the_dead
            a_limit_changes_while_it_holds
            who_floods_waits_behind_himself
            who_is_skipped_stays_in_his_room
            a_consumer_opens_the_door
            a_backlog_is_counted_by_ourselves
        }
    };
    ($bed:path => $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::cases::$case($bed().await).await;
            }
        )*
    };
}

/// Makes one test of every case. Takes the path of an `async fn() -> Bed`.
#[macro_export]
macro_rules! conformance {
    ($bed:path) => {
        $crate::conformance! { $bed =>
            entries_come_in_order_and_carry_their_message
            members_of_a_group_share_the_entries
            every_group_sees_every_entry
            a_read_waits_for_the_next_entry
            what_a_dead_member_held_is_claimed_after_the_idle_time
            a_heartbeat_prevents_the_claim
            a_stale_member_cannot_touch_or_settle_what_another_owns
            entries_that_were_never_seen_come_back_uncounted
            a_claim_gets_past_entries_that_are_still_worked_on
            a_pending_entry_that_vanished_is_reported_once
            a_retry_waits_outside_the_pending_list_and_keeps_its_id
            a_retry_saves_an_entry_that_vanished_while_it_was_held
            a_released_entry_is_claimed_at_once_and_uncounted
            a_group_that_does_not_exist_is_named
            tail_sees_everything_and_misses_nothing_between_calls
            a_stream_of_answers_keeps_about_what_it_is_told
            a_missing_stream_owes_nothing
            info_tells_what_is_pending_and_what_lags
            trim_keeps_what_any_group_has_not_acknowledged
            trim_by_age_keeps_the_young
            the_floor_is_the_oldest_thing_that_is_owed
            only_empty_dead_members_are_removed
            peek_looks_without_delivering
            a_failed_entry_is_retried_and_then_a_dead_letter_with_its_bytes
            a_dead_outcome_is_final_at_once
            poison_is_buried_once_and_costs_no_neighbour
            a_panic_costs_only_the_entry_that_panics
            an_entry_without_an_outcome_counts_as_failed
            a_pause_uses_up_no_attempt_and_keeps_every_entry
            letters_that_cannot_be_kept_leave_the_entry_pending
            lanes_share_a_batch_by_weight
            a_flood_of_urgent_entries_starves_nobody
            what_was_not_started_is_handed_back
            a_retry_of_one_group_is_not_repeated_for_another
            a_lost_group_is_made_again_from_the_start
            a_monster_with_too_many_fields_is_buried
        }
    };
    ($bed:path => $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::conformance::cases::$case($bed().await).await;
            }
        )*
    };
}
