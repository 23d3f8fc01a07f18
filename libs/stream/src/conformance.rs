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
mod control_cases;
mod delivery_cases;
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
    pub use super::control_cases::*;
    pub use super::delivery_cases::*;
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
            the_next_owner_counts_attempts_on
            what_is_put_off_or_too_late_keeps_its_key_in_order
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
            a_pending_entry_that_vanished_is_told_until_it_is_acknowledged
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
            trim_waits_for_every_group_but_those_given_up
            trim_by_bytes_keeps_about_so_many_and_all_that_is_owed
            a_new_group_reads_from_an_entry_on
            a_failed_entry_is_retried_and_then_a_dead_letter_with_its_bytes
            a_dead_outcome_is_final_at_once
            poison_is_buried_once_and_costs_no_neighbour
            a_panic_costs_only_the_entry_that_panics
            an_entry_without_an_outcome_counts_as_failed
            a_pause_uses_up_no_attempt_and_keeps_every_entry
            who_cannot_work_for_long_hands_back_what_it_holds
            letters_that_cannot_be_kept_leave_the_entry_pending
            lanes_share_a_batch_by_weight
            a_flood_of_urgent_entries_starves_nobody
            what_was_not_started_is_handed_back
            a_retry_of_one_group_is_not_repeated_for_another
            a_lost_group_is_made_again_from_the_start
            a_monster_with_too_many_fields_is_buried
            a_scheduled_message_comes_when_it_is_due_and_not_before
            what_is_scheduled_can_be_listed_and_taken_out
            a_message_that_is_scheduled_again_moves
            a_message_that_waits_for_its_time_is_owed
            of_messages_with_one_key_the_first_is_taken
            a_key_is_forgotten_after_its_window
            a_key_holds_for_scheduled_messages_too
            two_producers_race_and_one_message_of_a_key_is_taken
            a_full_stream_refuses_and_keeps_what_it_has
            bytes_and_the_schedule_have_limits_too
            one_call_sends_messages_of_every_kind_in_place
            what_comes_after_its_deadline_is_a_dead_letter_of_its_own_class
            what_is_too_late_is_dropped_or_offered_where_the_policy_says_so
            a_snoozed_entry_comes_again_and_spends_no_attempt
            every_code_has_its_own_retries
            a_handler_that_runs_beyond_its_time_has_failed
            nothing_dies_of_a_slow_neighbour
            a_pause_holds_until_it_ends_or_is_resumed
            a_message_is_cancelled_wherever_it_waits
            progress_is_kept_for_a_while
            getting_an_entry_back_leaves_what_was_handed_back_alone
            what_vanished_is_not_given_up_while_its_owner_works_on_it
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
