//! Cases in which something beside the log is broken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Backoff, DeadLetterClass, Message};

use super::bed::{Bed, Judge, Letters, body, done};
use crate::policy::FIELDS_MAX;
use crate::{Append, Entry, Handler, Lane, Outcome, Policy, Step};

fn pause(entry: crate::Entry) -> Outcome {
    let (error, code) = ("the database is away".to_owned(), "db.away".to_owned());
    Outcome::Pause { entry, error, code }
}

/// While the database is away: no attempt, no letter, no new entries, and every entry kept.
pub async fn a_pause_uses_up_no_attempt_and_keeps_every_entry(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    bed.append_many(Lane::Normal, 5).await;
    let away = AtomicBool::new(true);
    let judge = Judge::new(|entry: crate::Entry| {
        assert_eq!((entry.attempt(), entry.deliveries), (0, 1));
        Some(if away.load(Ordering::SeqCst) {
            pause(entry)
        } else {
            done(entry)
        })
    });
    consumer.step(&judge).await.unwrap();
    assert!(consumer.is_paused());
    bed.append_many(Lane::High, 5).await;
    // Thirty seconds of outage where the clock can be moved; some offers in any case.
    for _ in 0..30 {
        bed.pass(bed.idle() / 12).await;
        consumer.beat().await;
        consumer.step(&judge).await.unwrap();
    }
    assert_eq!((consumer.held(), bed.pending("g").await), (5, 5));
    assert!(judge.seen().iter().all(|body| body.starts_with("normal")));
    away.store(false, Ordering::SeqCst);
    bed.drain(&consumer, &judge).await;
    assert!(!consumer.is_paused());
    assert!(letters.kept().is_empty());
    assert_eq!(consumer.held(), 0);
}

/// A member that alone cannot work, as one cut off from its database: others get what it holds,
/// uncounted, and it takes nothing more before its handler says that it can.
pub async fn who_cannot_work_for_long_hands_back_what_it_holds(bed: Bed) {
    let letters = Letters::new();
    let wait = bed.idle() / 4;
    let policy = || Policy {
        hand_back_after: bed.idle(),
        pause_backoff: Backoff {
            first: wait,
            max: wait,
        },
        ..bed.policy()
    };
    let cut_off = bed.consumer("a", &letters, policy()).await;
    let healthy = bed.consumer("b", &letters, policy()).await;
    bed.append_many(Lane::Normal, 5).await;
    let away = Away::default();
    away.set(true, false);
    cut_off.step(&away).await.unwrap();
    assert!(cut_off.is_paused());
    assert_eq!(cut_off.held(), 5, "at first it keeps them");
    bed.pass(bed.idle()).await;
    cut_off.beat().await;
    cut_off.step(&away).await.unwrap();
    assert_eq!(cut_off.held(), 0);
    let judge = Judge::new(|entry: crate::Entry| {
        assert_eq!((entry.attempt(), entry.deliveries), (0, 1));
        Some(done(entry))
    });
    bed.drain(&healthy, &judge).await;
    assert_eq!((judge.seen().len(), bed.pending("g").await), (5, 0));
    // While its handler says no it takes nothing; the entry that finds out goes back at once.
    bed.append_many(Lane::Normal, 5).await;
    let offers = away.offers();
    for is_ready in [false, true] {
        away.set(true, is_ready);
        bed.pass(wait).await;
        cut_off.step(&away).await.unwrap();
        let tried = usize::from(is_ready);
        assert_eq!(away.offers() - offers, tried);
        cut_off.step(&away).await.unwrap();
        assert_eq!(cut_off.held(), 0);
    }
    away.set(false, true);
    bed.pass(wait).await;
    bed.drain(&cut_off, &away).await;
    assert!(!cut_off.is_paused() && letters.kept().is_empty());
    assert_eq!(bed.pending("g").await, 0);
}

/// Pauses while what it needs is away, and tells whether it is back.
#[derive(Default)]
struct Away {
    away: AtomicBool,
    is_ready: AtomicBool,
    offers: AtomicUsize,
}

impl Away {
    fn set(&self, away: bool, is_ready: bool) {
        self.away.store(away, Ordering::SeqCst);
        self.is_ready.store(is_ready, Ordering::SeqCst);
    }

    fn offers(&self) -> usize {
        self.offers.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Handler for Away {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        self.offers.fetch_add(1, Ordering::SeqCst);
        let away = self.away.load(Ordering::SeqCst);
        let offer = |entry| if away { pause(entry) } else { done(entry) };
        batch.into_iter().map(offer).collect()
    }

    async fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }
}

/// The letter is durable before the acknowledgement, or there is no acknowledgement.
pub async fn letters_that_cannot_be_kept_leave_the_entry_pending(bed: Bed) {
    let letters = Letters::new();
    letters.set_down(true);
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    bed.append(Lane::Normal, &["bad"]).await;
    let judge = Judge::new(|entry| {
        let (error, code) = ("no".to_owned(), "test.dead".to_owned());
        Some(Outcome::Dead {
            entry,
            class: DeadLetterClass::Permanent,
            error,
            code,
        })
    });
    for _ in 0..5 {
        consumer.step(&judge).await.unwrap();
        bed.pass(Duration::from_millis(50)).await;
    }
    assert_eq!((bed.pending("g").await, consumer.held()), (1, 1));
    assert_eq!(
        judge.seen().len(),
        1,
        "the outcome stands, only its letter is tried again"
    );
    letters.set_down(false);
    bed.drain(&consumer, &judge).await;
    let kept = letters.kept();
    assert_eq!((kept.len(), kept[0].fail_count), (1, 1));
    assert_eq!(kept[0].class, DeadLetterClass::Permanent);
    assert!(!consumer.is_paused());
}

/// A server that came back empty: consume from the start of what is sent from now on.
pub async fn a_lost_group_is_made_again_from_the_start(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    bed.append(Lane::Normal, &["before"]).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    bed.drain(&consumer, &judge).await;
    for (_, stream) in crate::Lanes::of(&bed.stream).iter() {
        bed.sabotage.lose_stream(stream).await;
    }
    bed.append(Lane::Normal, &["after"]).await;
    let error = consumer.step(&judge).await.unwrap_err();
    assert!(matches!(error, crate::Error::NoGroup { .. }), "{error:?}");
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Did(1));
    assert_eq!(judge.seen(), ["before", "after"]);
}

/// Lua could not move it, so it must not be retried.
pub async fn a_monster_with_too_many_fields_is_buried(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    let mut monster = Message::new("monster", "x");
    for number in 0..FIELDS_MAX {
        monster = monster.with_header(format!("f{number}"), "v");
    }
    let ids = bed
        .log
        .append(&[Append::new(bed.stream.clone(), monster)])
        .await;
    assert!(ids.iter().all(Result::is_ok));
    bed.append(Lane::Normal, &["fine"]).await;
    let handled = AtomicUsize::new(0);
    let judge = Judge::new(|entry| {
        assert_eq!(body(&entry), "fine");
        handled.fetch_add(1, Ordering::SeqCst);
        Some(done(entry))
    });
    bed.drain(&consumer, &judge).await;
    let kept = letters.kept();
    assert_eq!((kept.len(), handled.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(kept[0].code, "entry.too_many_fields");
    assert_eq!(kept[0].fields.len(), FIELDS_MAX + 2);
}
