//! The machine's clock is set forward or back, by an administrator or a time server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Judge, Letters, Waits, done};
use ratebox_stream::{Consumer, Entry, Lane, MemoryLog, Outcome, Step};

const HOUR: i64 = 3_600;

/// A log with a clock of its own, as a server has one.
fn bed(start: Timestamp) -> Bed {
    let clock = Clock::manual(start);
    let log = Arc::new(MemoryLog::new(clock.clone()));
    crate::memory::with(log, Waits::Moves(clock))
}

fn pause(entry: Entry) -> Outcome {
    Outcome::Pause {
        entry,
        error: "the database is away".to_owned(),
        code: "db.away".to_owned(),
    }
}

#[tokio::test]
async fn a_clock_that_jumps_holds_up_neither_a_pause_nor_a_claim() {
    let start = Timestamp::from_second(1_700_000_000).unwrap();
    for jump in [-24 * HOUR, -HOUR, HOUR, 24 * HOUR] {
        let (bed, clock) = (bed(start), Clock::manual(start));
        let (sub, policy) = (bed.member("a").await, bed.policy());
        let log = Arc::clone(&bed.log);
        let consumer = Consumer::new(log, Letters::new(), sub, policy.clone(), clock.clone());
        let away = AtomicBool::new(true);
        let judge = Judge::new(|entry: Entry| {
            Some(match away.load(Ordering::SeqCst) {
                true => pause(entry),
                false => done(entry),
            })
        });
        bed.append(Lane::Normal, &["paused"]).await;
        consumer.step(&judge).await.unwrap();
        assert!(consumer.is_paused());
        away.store(false, Ordering::SeqCst);
        clock.jump(jump);
        clock.advance(policy.pause_backoff.max + Duration::from_millis(1));
        let step = consumer.step(&judge).await.unwrap();
        assert_eq!(step, Step::Did(1), "paused after a jump of {jump} s");
        // What a dead member holds is looked for as often as before.
        bed.append(Lane::Normal, &["claimed"]).await;
        let dead = bed.member("dead").await;
        assert_eq!(bed.read(&dead, 1).await.len(), 1);
        bed.pass(bed.idle()).await;
        clock.jump(-jump);
        clock.advance(policy.claim_every);
        let step = consumer.step(&judge).await.unwrap();
        assert_eq!(step, Step::Did(1), "claimed after a jump of {jump} s");
    }
}
