//! Replays: the same message again, counted, paced, and never lost between the two stores.

use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::Stopwatch;
use ratebox_operator::{ReplayOutcome, ReplayPlan, Wanted};
use ratebox_store::{DeadLetterFilter, LetterState, LetterStates, Refusal, ReplayOrder, State};
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
