//! Cases for the consumer on top of a log: outcomes, lanes, shutdown.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{DeadLetterClass, Message};
use tokio::sync::Notify;

use super::bed::{Bed, Judge, Letters, bodies, body, done, retry};
use crate::{Append, ClaimScope, Consumer, EntryId, Lane, Outcome, Policy, Step};

/// One try and three retries, then the letter with the sender's own bytes.
pub async fn a_failed_entry_is_retried_and_then_a_dead_letter_with_its_bytes(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    let message = Message::new("m1", vec![0xff, 0x00]).with_header("source", "api");
    let append = Append::new(bed.stream.clone(), message);
    let first = bed.log.append(&[append]).await.remove(0).unwrap();
    let tries = std::sync::atomic::AtomicU32::new(0);
    let judge = Judge::new(|entry: crate::Entry| {
        if body_is_text(&entry) {
            return Some(done(entry));
        }
        let attempt = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(entry.attempt(), attempt);
        Some(retry(entry))
    });
    let judge = Bytes(judge);
    bed.append(Lane::Normal, &["good"]).await;
    bed.drain(&consumer, &judge).await;
    let kept = letters.kept();
    assert_eq!(kept.len(), 1);
    let letter = &kept[0];
    assert_eq!(letter.class, DeadLetterClass::Transient);
    assert_eq!(
        (letter.message_id.as_str(), letter.entry_id.as_str()),
        ("m1", &*first.to_string())
    );
    assert_eq!((letter.fail_count, letter.code.as_str()), (4, "test.retry"));
    let names: Vec<_> = letter
        .fields
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["data", "rb-id", "source"]);
    assert_eq!(&letter.fields[0].1[..], [0xff, 0x00]);
    assert_eq!(consumer.held(), 0);
    let views = bed
        .admin
        .peek(&bed.other("dlq"), EntryId::MIN, 5)
        .await
        .unwrap();
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].field("class").unwrap(), "transient");
    assert!(views[0].field("data").unwrap().is_empty());
}

fn body_is_text(entry: &crate::Entry) -> bool {
    entry
        .field("data")
        .is_some_and(|data| std::str::from_utf8(data).is_ok())
}

/// A judge of entries whose body is no text.
struct Bytes<F>(Judge<F>);

#[async_trait::async_trait]
impl<F: Fn(crate::Entry) -> Option<Outcome> + Send + Sync> crate::Handler for Bytes<F> {
    async fn handle(&self, batch: Vec<crate::Entry>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for entry in batch {
            outcomes.extend(self.0.judge(entry));
        }
        outcomes
    }
}

/// No retry for what can never succeed.
pub async fn a_dead_outcome_is_final_at_once(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    bed.append(Lane::High, &["bad"]).await;
    let judge = Judge::new(|entry| {
        let (error, code) = ("not JSON".to_owned(), "envelope.malformed".to_owned());
        Some(Outcome::Dead {
            entry,
            class: DeadLetterClass::Malformed,
            error,
            code,
        })
    });
    bed.drain(&consumer, &judge).await;
    let kept = letters.kept();
    assert_eq!((kept.len(), judge.seen().len()), (1, 1));
    assert_eq!(
        (kept[0].class, kept[0].lane.as_str()),
        (DeadLetterClass::Malformed, "high")
    );
    assert_eq!(kept[0].fail_count, 1);
}

/// An entry that takes three consumers down is buried by the next; its neighbours are done.
pub async fn poison_is_buried_once_and_costs_no_neighbour(bed: Bed) {
    let letters = Letters::new();
    bed.append(Lane::Normal, &["a", "killer", "b", "c"]).await;
    // Each consumer dies with the first batch that holds the killer: what it held stays pending.
    for life in 0..3 {
        let consumer = bed
            .consumer(&format!("life-{life}"), &letters, bed.policy())
            .await;
        bed.pass(bed.idle()).await;
        let judge = Judge::new(|entry| {
            if body(&entry) == "killer" {
                None
            } else {
                Some(done(entry))
            }
        });
        die_on(&consumer, &judge, life).await;
    }
    let survivor = bed.consumer("survivor", &letters, bed.policy()).await;
    bed.pass(bed.idle()).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    bed.drain(&survivor, &judge).await;
    let kept = letters.kept();
    assert_eq!(kept.len(), 1, "letters: {kept:?}");
    assert_eq!(
        (kept[0].class, kept[0].message_id.as_str()),
        (DeadLetterClass::Poison, "id-killer")
    );
    assert_eq!(kept[0].fail_count, 3);
    assert!(!judge.seen().contains(&"killer".to_owned()));
    assert_eq!(bed.pending("g").await, 0);
}

/// Steps like a process that dies in the handler: a batch with the killer is never settled.
async fn die_on(consumer: &Consumer, judge: &dyn crate::Handler, life: usize) {
    let met = Notify::new();
    let mortal = Mortal { judge, met: &met };
    for _ in 0..20 {
        // A pending future that is dropped is as good as a process that died.
        tokio::select! {
            step = consumer.step(&mortal) => drop(step.unwrap()),
            () = met.notified() => return,
        }
    }
    panic!("life {life} never met the killer");
}

struct Mortal<'a> {
    judge: &'a dyn crate::Handler,
    met: &'a Notify,
}

#[async_trait::async_trait]
impl crate::Handler for Mortal<'_> {
    async fn handle(&self, batch: Vec<crate::Entry>) -> Vec<Outcome> {
        if batch.iter().any(|entry| body(entry) == "killer") {
            self.met.notify_one();
            std::future::pending::<()>().await;
        }
        self.judge.handle(batch).await
    }
}

/// The batch is offered again entry by entry.
pub async fn a_panic_costs_only_the_entry_that_panics(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        retry_max: 1,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append(Lane::Normal, &["a", "bomb", "b"]).await;
    let judge = Judge::new(|entry| {
        assert_ne!(body(&entry), "bomb", "a panic on purpose");
        Some(done(entry))
    });
    bed.drain(&consumer, &judge).await;
    let kept = letters.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].message_id.as_str(), kept[0].code.as_str()),
        ("id-bomb", "handler.panicked")
    );
    assert_eq!(kept[0].fields[0].1, "bomb");
    let seen = judge.seen();
    assert!(seen.contains(&"a".to_owned()) && seen.contains(&"b".to_owned()));
}

/// Forgetting an entry is a failure of the handler, not a loss.
pub async fn an_entry_without_an_outcome_counts_as_failed(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        retry_max: 0,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append(Lane::Normal, &["a", "forgotten"]).await;
    let judge = Judge::new(|entry| (body(&entry) != "forgotten").then(|| done(entry)));
    bed.drain(&consumer, &judge).await;
    let kept = letters.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].message_id.as_str(), kept[0].code.as_str()),
        ("id-forgotten", "handler.no_outcome")
    );
}

/// 6 : 3 : 1 while all lanes have work, and a full batch for a lane that is alone.
pub async fn lanes_share_a_batch_by_weight(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        batch_max: 100,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    for lane in Lane::ALL {
        bed.append_many(lane, 150).await;
    }
    let judge = Judge::new(|entry| Some(done(entry)));
    assert_eq!(consumer.step(&judge).await.unwrap(), Step::Did(100));
    let seen = judge.seen();
    let of = |lane: &str| seen.iter().filter(|body| body.starts_with(lane)).count();
    assert_eq!((of("high"), of("normal"), of("low")), (60, 30, 10));
    bed.drain(&consumer, &judge).await;
    assert_eq!(judge.seen().len(), 450);
}

/// The low lane always progresses.
pub async fn a_flood_of_urgent_entries_starves_nobody(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        batch_max: 10,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    bed.append_many(Lane::Low, 5).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    for _ in 0..12 {
        bed.append_many(Lane::High, 10).await;
        bed.append_many(Lane::Normal, 10).await;
        consumer.step(&judge).await.unwrap();
    }
    let low = judge
        .seen()
        .iter()
        .filter(|body| body.starts_with("low"))
        .count();
    assert_eq!(low, 5);
}

/// A stopping consumer keeps nothing from the others.
pub async fn what_was_not_started_is_handed_back(bed: Bed) {
    let letters = Letters::new();
    let policy = Policy {
        batch_max: 2,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &letters, policy).await;
    for lane in Lane::ALL {
        bed.append_many(lane, 1).await;
    }
    let judge = Judge::new(|entry| Some(done(entry)));
    consumer.step(&judge).await.unwrap();
    bed.append_many(Lane::Normal, 4).await;
    // Two of the four are parked by a handler that is not ready for them.
    let later = Judge::new(|entry| {
        let (error, code) = ("away".to_owned(), "db.away".to_owned());
        Some(Outcome::Pause { entry, error, code })
    });
    for _ in 0..3 {
        bed.pass(Duration::from_millis(25)).await;
        consumer.step(&later).await.unwrap();
    }
    assert!(consumer.held() > 0);
    consumer.hand_back().await;
    assert_eq!(consumer.held(), 0);
    let other = bed.member("b").await;
    let mut taken = Vec::new();
    for lane in Lane::ALL {
        let scope = ClaimScope::Idle(bed.idle());
        let claimed = bed
            .log
            .claim(&other, lane, EntryId::MIN, scope, 10)
            .await
            .unwrap();
        assert!(claimed.entries.iter().all(|entry| entry.deliveries == 1));
        taken.extend(bodies(&claimed.entries));
    }
    assert!(!taken.is_empty());
}

/// Other groups have seen the message already.
pub async fn a_retry_of_one_group_is_not_repeated_for_another(bed: Bed) {
    let letters = Letters::new();
    let consumer = bed.consumer("a", &letters, bed.policy()).await;
    let other = bed.member_of("h", "b").await;
    let log = Arc::clone(&bed.log);
    let other = Consumer::new(
        log,
        Arc::clone(&letters) as _,
        other,
        bed.policy(),
        bed.clock.clone(),
    );
    bed.append(Lane::Normal, &["x"]).await;
    let once = Judge::new(|entry: crate::Entry| {
        Some(if entry.attempt() == 0 {
            retry(entry)
        } else {
            done(entry)
        })
    });
    bed.drain(&consumer, &once).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    while other.step(&judge).await.unwrap() != Step::Idle {}
    assert_eq!((once.seen().len(), judge.seen()), (2, vec!["x".to_owned()]));
    assert_eq!(bed.pending("h").await, 0);
}
