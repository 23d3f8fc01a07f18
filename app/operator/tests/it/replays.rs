//! Replays: the same message again, counted, paced, and never lost between the two stores.

use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{DeadLetter, DeadLetters, Stopwatch};
use ratebox_operator::{ReplayOutcome, ReplayPlan, Wanted};
use ratebox_store::{
    CACHE_WRITERS, DeadLetterFilter, LetterState, LetterStates, Refusal, ReplayOrder, State,
};
use ratebox_stream::{Append, Lane};
use uuid::Uuid;

use crate::ward::{Mood, Ward, both, by};

pub(crate) fn one(id: Uuid) -> Wanted {
    Wanted::Ids(vec![id])
}

pub(crate) fn plan(wanted: Wanted) -> ReplayPlan {
    ReplayPlan {
        wanted,
        max: 1_000,
        per_second: 1_000,
        force: false,
        dry_run: false,
        time_max: None,
    }
}

pub(crate) async fn again(ward: &Ward, wanted: Wanted, force: bool) -> ReplayOutcome {
    let plan = ReplayPlan {
        force,
        ..plan(wanted)
    };
    ward.letters.replay(&plan, &by(), |_| {}).await.unwrap()
}

#[tokio::test]
async fn a_replayed_letter_is_judged_and_its_request_waits_meanwhile() {
    for ward in both().await {
        let id = ward.request("ann").await;
        ward.work(Mood::Stumble("x")).await;
        let state = async || ward.store.status(id, None).await.unwrap().unwrap().state;
        assert_eq!(state().await, State::Dead);
        let letter = ward.letter().await.id;
        let outcome = again(&ward, one(letter), false).await;
        assert_eq!(
            (outcome.replayed, outcome.published),
            (1, 1),
            "{}",
            ward.name
        );
        assert_eq!(state().await, State::Queued, "{}", ward.name);
        let unfinished = ward
            .store
            .unfinished_before(
                "normal",
                ward.store.clock().now() + Duration::from_secs(60),
                9,
            )
            .await
            .unwrap();
        assert_eq!(unfinished.len(), 1, "its body is kept until the verdict");
        let now = ward.letter().await;
        assert_eq!((now.state, now.replay_count), (LetterState::Replayed, 1));
        assert_eq!(ward.store.dead_letter_count().await.unwrap(), 0);
        // What is on its way is not sent again by accident.
        let outcome = again(&ward, one(letter), false).await;
        assert_eq!(outcome.refusals, [(letter, Refusal::OnItsWay)]);
        ward.work(Mood::Cure).await;
        let cured = ward.doctor.cured.lock().unwrap().clone();
        assert_eq!(cured.len(), 1);
        assert_eq!(cured[0].0, id.to_string());
        // Twice is once: the inbox knows the message.
        again(&ward, one(letter), true).await;
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 1);
    }
}

#[tokio::test]
async fn a_foreign_message_keeps_its_fields_and_its_identity() {
    for ward in both().await {
        let low = ward.sub.lanes.stream(Lane::Low).clone();
        let fields = vec![
            ("phone".to_owned(), Bytes::from_static(b"0909123456")),
            ("raw".to_owned(), Bytes::from_static(b"\x00\xff\n")),
            ("phone".to_owned(), Bytes::from_static(b"twice")),
        ];
        ward.append(Append::verbatim(low, fields.clone())).await;
        ward.work(Mood::Stumble("x")).await;
        let before = ward.letter().await;
        for round in 1..=2 {
            again(&ward, one(before.id), false).await;
            ward.work(Mood::Stumble(["y", "z"][round - 1])).await;
            let letter = ward.letter().await;
            assert_eq!(letter.replay_count as usize, round, "{}", ward.name);
            assert_eq!(letter.message_id, before.message_id);
            assert_eq!(
                (letter.entry_id, &*letter.lane),
                (before.entry_id.clone(), "low")
            );
        }
        let shown = ward.letters.show(before.id).await.unwrap();
        assert_eq!(shown.letter.fields, fields, "{}", ward.name);
        assert_eq!(shown.letter.attempts.len(), 9, "three tries, thrice");
        again(&ward, one(before.id), false).await;
        ward.work(Mood::Cure).await;
        assert_eq!(ward.doctor.cured.lock().unwrap()[0].1[..3], fields);
    }
}

#[tokio::test]
async fn a_letter_that_dies_again_for_the_same_reason_needs_force() {
    for ward in both().await {
        ward.request("ann").await;
        ward.work(Mood::Refuse("same")).await;
        let letter = ward.letter().await.id;
        for _ in 0..2 {
            assert_eq!(again(&ward, one(letter), false).await.replayed, 1);
            ward.work(Mood::Refuse("same")).await;
        }
        let stuck = ward.letter().await;
        assert_eq!((stuck.state, stuck.same_reason), (LetterState::Stuck, 2));
        let outcome = again(&ward, one(letter), false).await;
        assert_eq!(
            outcome.refusals,
            [(letter, Refusal::Stuck)],
            "{}",
            ward.name
        );
        let all = Wanted::Matching(DeadLetterFilter::default());
        let outcome = again(&ward, all.clone(), false).await;
        assert_eq!(
            (outcome.matched, outcome.replayed, outcome.refused),
            (1, 0, 1)
        );
        let dry = ReplayPlan {
            dry_run: true,
            ..plan(all)
        };
        let would = ward.letters.replay(&dry, &by(), |_| {}).await.unwrap();
        assert_eq!((would.replayed, would.refused), (0, 1));
        assert_eq!(again(&ward, one(letter), true).await.replayed, 1);
        // Another reason counts anew, but three replays are enough in any case.
        ward.work(Mood::Refuse("other")).await;
        let letter = ward.letter().await;
        assert_eq!((letter.same_reason, letter.replay_count), (0, 3));
        assert_eq!(letter.state, LetterState::Stuck);
    }
}

/// One of each kind: it waits, it is stuck, it is on its way, it is judged, it is a queued write.
async fn one_of_each_kind(ward: &Ward) {
    ward.request("stuck").await;
    ward.work(Mood::Refuse("same")).await;
    let stuck = ward.letter().await.id;
    for _ in 0..2 {
        again(ward, one(stuck), false).await;
        ward.work(Mood::Refuse("same")).await;
    }
    let newest = async || {
        let any = DeadLetterFilter {
            states: LetterStates::Any,
            ..DeadLetterFilter::default()
        };
        ward.letters.list(&any, 1).await.unwrap().remove(0)
    };
    let judged = ward.request("judged").await;
    ward.work(Mood::Refuse("same")).await;
    again(ward, one(newest().await.id), false).await;
    ward.work(Mood::Cure).await;
    let verdict = ratebox_db::Sql {
        postgres: "UPDATE validation_requests SET state = 'success', body = NULL WHERE id = $1",
        sqlite: "UPDATE validation_requests SET state = 'success', body = NULL WHERE id = ?1",
    };
    let verdict = verdict.with(vec![judged.into()]);
    ward.store.db().execute(verdict).await.unwrap();
    ward.request("on its way").await;
    ward.work(Mood::Refuse("same")).await;
    again(ward, one(newest().await.id), false).await;
    ward.work(Mood::Cure).await;
    ward.request("waits").await;
    ward.work(Mood::Refuse("same")).await;
    let waits = newest().await;
    for number in 0..2 {
        let write = DeadLetter {
            message_id: format!("write {number}"),
            stream: "cache:writes".to_owned(),
            entry_id: format!("{number}-0"),
            lane: "normal".to_owned(),
            fields: Vec::new(),
            class: waits.class,
            error: "refused".to_owned(),
            code: "same".to_owned(),
            fail_count: 1,
            first_failed_at: waits.first_failed_at,
            last_failed_at: waits.last_failed_at,
            consumer: "w".to_owned(),
            group: CACHE_WRITERS.to_owned(),
            attempts: Vec::new(),
        };
        ward.store.keep(&[write]).await.unwrap();
    }
}

#[tokio::test]
async fn a_dry_run_says_what_the_run_does_with_letters_of_every_kind() {
    for ward in both().await {
        one_of_each_kind(&ward).await;
        for (states, force, expected) in [
            (LetterStates::Stuck, false, (1, 0, 1)),
            (LetterStates::Replayed, false, (2, 0, 2)),
            (LetterStates::Any, false, (6, 1, 5)),
            // The one that waited is on its way from here on, and the stuck one later.
            (LetterStates::Replayed, true, (3, 3, 0)),
            (LetterStates::Dead, false, (3, 0, 3)),
            (LetterStates::Stuck, true, (1, 1, 0)),
            (LetterStates::Dead, true, (2, 0, 2)),
            (LetterStates::Any, true, (6, 4, 2)),
        ] {
            let filter = DeadLetterFilter {
                states,
                ..DeadLetterFilter::default()
            };
            let mut wish = ReplayPlan {
                force,
                dry_run: true,
                ..plan(Wanted::Matching(filter))
            };
            let figures = async |wish: &ReplayPlan| {
                let done = ward.letters.replay(wish, &by(), |_| {}).await.unwrap();
                (done.matched, done.replayed, done.refused)
            };
            let would = figures(&wish).await;
            wish.dry_run = false;
            let does = figures(&wish).await;
            assert_eq!(would, does, "{}: {states:?}, {force}", ward.name);
            assert_eq!(would, expected, "{}: {states:?}, {force}", ward.name);
        }
    }
}

#[tokio::test]
async fn a_letter_that_is_named_twice_counts_once() {
    for ward in both().await {
        ward.request("ann").await;
        ward.work(Mood::Refuse("a")).await;
        let letter = ward.letter().await.id;
        let twice = Wanted::Ids(vec![letter, letter]);
        let dry = ReplayPlan {
            dry_run: true,
            ..plan(twice.clone())
        };
        let would = ward.letters.replay(&dry, &by(), |_| {}).await.unwrap();
        assert_eq!(
            (would.matched, would.replayed, would.refused),
            (1, 1, 0),
            "{}",
            ward.name
        );
        let done = again(&ward, twice, false).await;
        assert_eq!(
            (done.matched, done.replayed, done.refused),
            (1, 1, 0),
            "{}",
            ward.name
        );
        let deeds = ward.store.deeds(None, None, 100).await.unwrap();
        let replays = deeds
            .iter()
            .filter(|it| it.action.starts_with("dead_letter.replay"));
        assert_eq!(replays.count(), 1, "{}", ward.name);
    }
}

#[tokio::test]
async fn many_are_replayed_by_filter_at_a_pace_after_a_dry_run() {
    for ward in both().await {
        for _ in 0..30 {
            ward.request("ann").await;
        }
        ward.work(Mood::Refuse("a")).await;
        ward.request("ann").await;
        ward.work(Mood::Refuse("b")).await;
        let filter = DeadLetterFilter {
            code: Some("a".to_owned()),
            ..DeadLetterFilter::default()
        };
        let mut wish = plan(Wanted::Matching(filter.clone()));
        wish.dry_run = true;
        let would = ward.letters.replay(&wish, &by(), |_| {}).await.unwrap();
        assert_eq!((would.matched, would.replayed, would.refused), (30, 30, 0));
        assert_eq!(would.sample.len(), 10);
        assert_eq!(ward.store.dead_letter_count().await.unwrap(), 31);
        wish.dry_run = false;
        wish.max = 10;
        let some = ward.letters.replay(&wish, &by(), |_| {}).await.unwrap();
        assert_eq!((some.matched, some.replayed), (30, 10), "{}", ward.name);
        assert!(some.next.is_some(), "what is left is told");
        wish.max = 1_000;
        wish.per_second = 40;
        let (watch, mut told) = (Stopwatch::start(), Vec::new());
        let rest = ward
            .letters
            .replay(&wish, &by(), |done| told.push(done))
            .await
            .unwrap();
        assert_eq!((rest.replayed, rest.next), (20, None));
        assert!(
            watch.elapsed() >= Duration::from_millis(450),
            "{:?}",
            watch.elapsed()
        );
        assert!(told.len() >= 2 && told.is_sorted());
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 30, "{}", ward.name);
        assert_eq!(ward.store.dead_letter_count().await.unwrap(), 1);
        wish.per_second = 0;
        let refused = ward.letters.replay(&wish, &by(), |_| {}).await.unwrap_err();
        assert_eq!(refused.code(), "value.out_of_range");
        let replayed = DeadLetterFilter {
            states: LetterStates::Replayed,
            ..DeadLetterFilter::default()
        };
        assert_eq!(ward.letters.list(&replayed, 100).await.unwrap().len(), 30);
    }
}

/// As if the process died before the commit: the letter is still there. After it: the event is in
/// the outbox. There is nothing between.
#[tokio::test]
async fn a_replay_that_is_dropped_before_its_commit_changes_nothing() {
    for ward in both().await {
        ward.request("ann").await;
        ward.work(Mood::Refuse("a")).await;
        let before = ward.letter().await;
        let order = ReplayOrder {
            ids: vec![before.id],
            actor: "cli:test",
            reason: "a test",
            force: false,
        };
        let replaying = ward.store.begin_replay(&order).await.unwrap();
        assert_eq!(replaying.letters.len(), 1);
        drop(replaying);
        assert_eq!(ward.letter().await, before, "{}", ward.name);
        let (sent, committed) = (
            vec![ward.name],
            ward.store.begin_replay(&order).await.unwrap(),
        );
        committed.commit(Vec::new()).await.unwrap();
        assert_eq!(ward.letter().await.state, LetterState::Replayed, "{sent:?}");
    }
}
