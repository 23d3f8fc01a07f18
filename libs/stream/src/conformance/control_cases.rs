//! Cases for what ends, postpones or stops the work on an entry: deadlines, snoozes, rules of
//! retries, timeouts, and the orders of operators.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Backoff, DeadLetterClass, Message};

use super::bed::{Bed, Judge, Letters, body, done, retry};
use crate::{
    Cancelled, Consumer, Control, Dispatch, Entry, Expired, GroupName, Handler, Lane, Lanes,
    Outcome, Policy, Producer, Progress, RetryRule, Step,
};

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);

fn lanes(bed: &Bed) -> Lanes {
    Lanes::of(&bed.stream)
}

fn control(bed: &Bed) -> Control {
    Control::new(bed.delivery(), lanes(bed))
}

fn message(id: &str) -> Message {
    Message::new(format!("id-{id}"), id.to_owned())
}

/// Sends two messages of which the first expires soon, and waits until it has.
async fn send_one_that_expires(bed: &Bed) {
    let producer = Producer::new(bed.delivery(), lanes(bed));
    let deadline = bed.clock.now().saturating_add(SOON).unwrap();
    let late = Dispatch::new(message("late")).expires_at(deadline);
    producer.send(late).await.unwrap();
    let in_time = bed.clock.now().saturating_add(LONG).unwrap();
    let good = Dispatch::new(message("good")).expires_at(in_time);
    producer.send(good).await.unwrap();
    bed.pass(SOON + Duration::from_millis(50)).await;
}

/// Nobody works on what is of no use any more, and nothing of it is lost.
pub async fn what_comes_after_its_deadline_is_a_dead_letter_of_its_own_class(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    send_one_that_expires(&bed).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    bed.drain(&consumer, &judge).await;
    assert_eq!(judge.seen(), ["good"]);
    let kept = letters.kept();
    assert_eq!((kept.len(), kept[0].class), (1, DeadLetterClass::Expired));
    assert_eq!(
        (kept[0].message_id.as_str(), kept[0].code.as_str()),
        ("id-late", "message.expired")
    );
    assert_eq!((kept[0].fail_count, consumer.held()), (0, 0));
}

/// Where nobody wants letters of it, and where nobody wants deadlines.
pub async fn what_is_too_late_is_dropped_or_offered_where_the_policy_says_so(bed: Bed) {
    let cases = [
        (Expired::Drop, vec!["good"]),
        (Expired::Offer, vec!["late", "good"]),
    ];
    for (expired, seen) in cases {
        let letters = Letters::new();
        let policy = Policy {
            expired,
            ..bed.policy()
        };
        let consumer = bed.consumer("a", &letters, policy).await;
        send_one_that_expires(&bed).await;
        let judge = Judge::new(|entry| Some(done(entry)));
        bed.drain(&consumer, &judge).await;
        assert_eq!(
            (judge.seen(), letters.kept().len()),
            (seen.iter().map(|it| (*it).to_owned()).collect(), 0)
        );
        assert_eq!((bed.pending("g").await, consumer.held()), (0, 0));
    }
}

/// Any number of times, before and after a failure.
pub async fn a_snoozed_entry_comes_again_and_spends_no_attempt(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        retry_max: 1,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append(Lane::High, &["x"]).await;
    let judge = Judge::new(|entry: Entry| {
        let wait = Duration::from_millis(20);
        Some(match (entry.attempt(), entry.snoozes()) {
            (0, 0..3) => Outcome::Snooze { entry, wait },
            (0, 3) => retry(entry),
            (1, 3) => Outcome::Snooze { entry, wait },
            (1, 4) => done(entry),
            other => panic!("attempt and snoozes are {other:?}"),
        })
    });
    bed.drain(&consumer, &judge).await;
    assert_eq!((judge.seen().len(), letters.kept().len()), (6, 0));
    assert_eq!((bed.pending("g").await, consumer.held()), (0, 0));
}

/// The same failure costs one message more tries than another.
pub async fn every_code_has_its_own_retries(bed: Bed) {
    let letters = Letters::new();
    let soon = Backoff {
        first: Duration::from_millis(10),
        max: Duration::from_millis(10),
    };
    let policy = Policy {
        retry_rules: vec![
            RetryRule::new("http.503", 5, soon),
            RetryRule::new("http.*", 0, soon),
        ],
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append(Lane::Normal, &["http.503", "http.404", "other"])
        .await;
    let judge = Judge::new(|entry: Entry| {
        let (code, error) = (body(&entry), "on purpose".to_owned());
        Some(Outcome::Retry { entry, error, code })
    });
    bed.drain(&consumer, &judge).await;
    let mut kept: Vec<(String, u32)> = letters
        .kept()
        .into_iter()
        .map(|letter| (letter.code, letter.fail_count))
        .collect();
    kept.sort_unstable();
    let expected = [("http.404", 1), ("http.503", 6), ("other", 4)];
    assert_eq!(kept, expected.map(|(code, count)| (code.to_owned(), count)));
}

/// Never ends for `slow`; says so when it did.
struct Sleepy {
    woke: AtomicBool,
    judge: Judge<fn(Entry) -> Option<Outcome>>,
}

impl Sleepy {
    fn new() -> Self {
        let judge: fn(Entry) -> Option<Outcome> = |entry| Some(done(entry));
        Self {
            woke: AtomicBool::new(false),
            judge: Judge::new(judge),
        }
    }
}

#[async_trait]
impl Handler for Sleepy {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        if batch.iter().any(|entry| body(entry) == "slow") {
            tokio::time::sleep(LONG).await;
            self.woke.store(true, Ordering::SeqCst);
        }
        self.judge.handle(batch).await
    }
}

/// Two tries, then a letter; the call is gone, so nothing late can come of it.
pub async fn a_handler_that_runs_beyond_its_time_has_failed(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        handler_timeout: Some(Duration::from_millis(50)),
        retry_max: 1,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append(Lane::Normal, &["slow"]).await;
    let sleepy = Sleepy::new();
    bed.drain(&consumer, &sleepy).await;
    let kept = letters.kept();
    assert_eq!((kept.len(), kept[0].fail_count), (1, 2));
    assert_eq!(
        (kept[0].class, kept[0].code.as_str()),
        (DeadLetterClass::Transient, "handler.timed_out")
    );
    assert!(!sleepy.woke.load(Ordering::SeqCst));
    assert_eq!((bed.pending("g").await, consumer.held()), (0, 0));
}

/// Who was in its batch gets a chance without it.
pub async fn nothing_dies_of_a_slow_neighbour(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        handler_timeout: Some(Duration::from_millis(50)),
        retry_max: 0,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append(Lane::Normal, &["a", "slow", "b"]).await;
    let sleepy = Sleepy::new();
    bed.drain(&consumer, &sleepy).await;
    let kept = letters.kept();
    let ids: Vec<&str> = kept.iter().map(|it| it.message_id.as_str()).collect();
    assert_eq!(
        (ids, sleepy.judge.seen()),
        (vec!["id-slow"], vec!["a".to_owned(), "b".to_owned()])
    );
}

async fn follower(bed: &Bed, letters: &std::sync::Arc<Letters>) -> Consumer {
    let consumer = bed.consumer("a", letters, bed.policy()).await;
    consumer.with_dispatcher(bed.delivery())
}

/// From anywhere, for all groups or one; a pause with a time ends by itself.
pub async fn a_pause_holds_until_it_ends_or_is_resumed(bed: Bed) {
    let letters = Letters::new();
    let consumer = follower(&bed, &letters).await;
    let control = control(&bed);
    let judge = Judge::new(|entry| Some(done(entry)));
    let (g, h) = (GroupName::new("g"), GroupName::new("h"));
    bed.append(Lane::Normal, &["first"]).await;
    for group in [None, Some(&g)] {
        control.pause(group, None).await.unwrap();
        assert_eq!(consumer.step(&judge).await.unwrap(), Step::Idle);
        assert!(consumer.is_paused_by_order() && judge.seen().is_empty());
        assert!(control.resume(group).await.unwrap());
        assert!(!control.resume(group).await.unwrap());
    }
    control.pause(Some(&h), None).await.unwrap();
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Did(1));
    bed.append(Lane::Normal, &["second"]).await;
    control.pause(None, Some(SOON)).await.unwrap();
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Idle);
    let orders = control.orders().await.unwrap();
    let names: Vec<&str> = orders.pauses().iter().map(|it| it.name.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["pause", "pause/h"]);
    assert!(
        orders
            .pauses()
            .iter()
            .any(|it| it.left.is_some_and(|left| left <= SOON))
    );
    bed.pass(SOON + Duration::from_millis(50)).await;
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Did(1));
    assert_eq!(judge.seen(), ["first", "second"]);
}

/// Waiting for its time, on the stream, or waiting for a retry.
pub async fn a_message_is_cancelled_wherever_it_waits(bed: Bed) {
    let letters = Letters::new();
    let consumer = follower(&bed, &letters).await;
    let control = control(&bed);
    let producer = Producer::new(bed.delivery(), lanes(&bed));
    producer.send_after(message("later"), LONG).await.unwrap();
    let found = control.cancel("id-later").await.unwrap();
    assert_eq!(found, Cancelled::Scheduled);
    assert!(control.orders().await.unwrap().cancelled().is_empty());
    assert_eq!(producer.scheduled(0, 9).await.unwrap(), []);
    bed.append(Lane::Normal, &["failing"]).await;
    let judge = Judge::new(|entry: Entry| {
        Some(if body(&entry) == "failing" {
            retry(entry)
        } else {
            done(entry)
        })
    });
    while judge.seen().is_empty() {
        consumer.step(&judge).await.unwrap();
    }
    bed.append(Lane::Low, &["unwanted", "wanted"]).await;
    for id in ["id-failing", "id-unwanted", "id-mistake"] {
        assert_eq!(control.cancel(id).await.unwrap(), Cancelled::Ordered);
    }
    assert!(control.uncancel("id-mistake").await.unwrap());
    bed.append(Lane::Normal, &["mistake"]).await;
    bed.drain(&consumer, &judge).await;
    let mut kept: Vec<_> = letters
        .kept()
        .into_iter()
        .map(|letter| (letter.message_id, letter.class, letter.fail_count))
        .collect();
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    let class = DeadLetterClass::Cancelled;
    let expected = [("id-failing", class, 1), ("id-unwanted", class, 0)];
    assert_eq!(
        kept,
        expected.map(|(id, class, count)| (id.to_owned(), class, count))
    );
    let mut seen = judge.seen();
    seen.sort_unstable();
    assert_eq!(seen, ["failing", "mistake", "wanted"]);
}

/// Small, replaced by the next, gone after its time.
pub async fn progress_is_kept_for_a_while(bed: Bed) {
    let control = control(&bed);
    let progress = Progress::new(bed.delivery(), lanes(&bed)).keep_for(SOON);
    assert_eq!(control.progress("m").await.unwrap(), None);
    for value in ["1 of 3", "2 of 3: ü"] {
        progress.report("m", value).await.unwrap();
    }
    let seen = control.progress("m").await.unwrap();
    assert_eq!(seen.as_deref(), Some("2 of 3: ü"));
    assert_eq!(progress.last("m").await.unwrap(), seen);
    assert_eq!(control.progress("other").await.unwrap(), None);
    assert!(progress.report("m", &"x".repeat(5_000)).await.is_err());
    bed.pass(SOON + Duration::from_millis(50)).await;
    assert_eq!(control.progress("m").await.unwrap(), None);
}

/// What a handler dropped comes back to it; what was handed back meanwhile stays free.
pub async fn getting_an_entry_back_leaves_what_was_handed_back_alone(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    bed.append(Lane::Normal, &["dropped", "released"]).await;
    let entries = bed.read(&a, 2).await;
    let release = crate::Settlement::Release {
        lane: Lane::Normal,
        id: entries[1].id,
        deliveries: 1,
        to: crate::HandTo::WhoeverWaits,
    };
    bed.log.settle(&a, &[release]).await.unwrap();
    let ids = [entries[0].id];
    let claim = async |sub, scope| {
        let claimed = bed
            .log
            .claim(sub, Lane::Normal, crate::EntryId::MIN, scope, 9);
        let entries = claimed.await.unwrap().entries;
        entries
            .iter()
            .map(|it| (body(it), it.deliveries))
            .collect::<Vec<_>>()
    };
    let back = claim(&a, crate::ClaimScope::These(&ids)).await;
    assert_eq!(back, [("dropped".to_owned(), 1)]);
    let free = claim(&b, crate::ClaimScope::Idle(bed.idle())).await;
    assert_eq!(free, [("released".to_owned(), 1)]);
    assert!(claim(&b, crate::ClaimScope::These(&ids)).await.is_empty());
}

/// Its owner has the last copy and may still save it; who claims must not tell it as lost.
pub async fn what_vanished_is_not_given_up_while_its_owner_works_on_it(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    let ids = bed.append(Lane::Normal, &["saved", "lost", "fine"]).await;
    let entries = bed.read(&a, 3).await;
    for id in &ids[..2] {
        bed.sabotage.lose_entry(&bed.stream, *id).await;
    }
    let claim = async || {
        let scope = crate::ClaimScope::Idle(bed.idle());
        let claim = bed
            .log
            .claim(&b, Lane::Normal, crate::EntryId::MIN, scope, 9);
        claim.await.unwrap()
    };
    let early = claim().await;
    assert!(early.vanished.is_empty() && early.entries.is_empty());
    assert_eq!(bed.pending("g").await, 3);
    let wait = Duration::from_millis(10);
    let snooze = crate::Settlement::Snooze {
        entry: &entries[0],
        wait,
    };
    bed.log.settle(&a, &[snooze]).await.unwrap();
    bed.pass(bed.idle()).await;
    let late = claim().await;
    assert_eq!(late.vanished, ids[1..2]);
    let claimed: Vec<_> = late
        .entries
        .iter()
        .map(|it| (body(it), it.deliveries))
        .collect();
    assert_eq!(claimed, [("fine".to_owned(), 2)]);
    assert_eq!(bed.log.promote(&b, 9).await.unwrap(), 1);
    assert_eq!(body(&bed.read(&b, 9).await[0]), "saved");
}
