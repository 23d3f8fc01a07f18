//! Orders to consumers that run, and the batches they work on at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{DeadLetterClass, Stopwatch};
use ratebox_stream::conformance::{Bed, Letters, done};
use ratebox_stream::{
    Control, Entry, Error, Handler, Lane, Lanes, Outcome, Policy, Progress, Scaling,
};
use ratebox_testkit::wait_until;

use crate::running::{Gate, PATIENCE, Running, memory, redis};

fn control(bed: &Bed) -> Control {
    Control::new(bed.delivery.clone().unwrap(), Lanes::of(&bed.stream))
}

/// Works for ever on a message called `stuck`; reports that it began.
struct Stuck {
    progress: Progress,
    done: AtomicUsize,
}

#[async_trait]
impl Handler for Stuck {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        for entry in &batch {
            if entry.message_id() == "id-stuck" {
                let report = self.progress.report("id-stuck", "began");
                report.await.unwrap();
                std::future::pending::<()>().await;
            }
        }
        self.done.fetch_add(batch.len(), Ordering::SeqCst);
        batch.into_iter().map(done).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_work_is_stopped_from_anywhere_and_costs_no_neighbour() {
    for bed in [memory(), redis()] {
        let (log, letters) = (bed.delivery.clone().unwrap(), Letters::new());
        bed.append(Lane::Normal, &["a", "stuck", "b"]).await;
        let consumer = bed.consumer("a", &letters, bed.policy()).await;
        let handler = Arc::new(Stuck {
            progress: Progress::new(log.clone(), Lanes::of(&bed.stream)),
            done: AtomicUsize::new(0),
        });
        let running = Running::run(consumer.with_dispatcher(log), handler.clone());
        let control = control(&bed);
        wait_until(PATIENCE, "it is in work", || async {
            control.progress("id-stuck").await.unwrap().as_deref() == Some("began")
        })
        .await;
        control.cancel("id-stuck").await.unwrap();
        let watch = Stopwatch::start();
        wait_until(PATIENCE, "it is stopped", || async {
            letters.kept().len() == 1
        })
        .await;
        assert!(watch.elapsed() < Duration::from_secs(6));
        let letter = letters.kept().remove(0);
        assert_eq!(letter.class, DeadLetterClass::Cancelled);
        assert_eq!(
            (&*letter.message_id, &*letter.code),
            ("id-stuck", "operator.cancelled")
        );
        wait_until(PATIENCE, "its neighbours are done", || async {
            handler.done.load(Ordering::SeqCst) == 2 && bed.pending("g").await == 0
        })
        .await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_consumer_notices_a_pause_and_its_end_within_about_a_second() {
    for bed in [memory(), redis()] {
        let log = bed.delivery.clone().unwrap();
        let consumer = bed.consumer("a", &Letters::new(), bed.policy()).await;
        let gate = Gate::new(100);
        let running = Running::run(consumer.with_dispatcher(log), gate.clone());
        let control = control(&bed);
        for round in 1..=2 {
            control.pause(None, None).await.unwrap();
            let watch = Stopwatch::start();
            wait_until(PATIENCE, "it pauses", || async {
                running.consumer.is_paused_by_order()
            })
            .await;
            assert!(watch.elapsed() < Duration::from_secs(5));
            // A read that waited when the order came may still bring this one; it is not started.
            bed.append(Lane::Normal, &["x"]).await;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            assert_eq!(gate.started(), round - 1);
            assert!(control.resume(None).await.unwrap());
            wait_until(PATIENCE, "it goes on", || async { gate.done() == round }).await;
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn orders_are_bounded_and_the_thousand_and_first_is_refused() {
    for bed in [memory(), redis()] {
        let control = control(&bed);
        let time = Duration::from_secs(60);
        for number in 0..1_000 {
            control
                .cancel_for(&format!("m{number}"), time)
                .await
                .unwrap();
        }
        let error = control.pause(None, None).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        // One that stands may be given anew.
        control.cancel_for("m7", time).await.unwrap();
        assert!(control.uncancel("m8").await.unwrap());
        control.pause(None, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_batches_at_work_changes_while_the_consumer_runs() {
    let bed = memory();
    let policy = Policy {
        batch_max: 1,
        batches_in_flight: 1,
        ..bed.policy()
    };
    bed.append_many(Lane::Normal, 20).await;
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    let gate = Gate::new(0);
    let running = Running::run(consumer, gate.clone());
    let starts = |count| {
        let gate = gate.clone();
        wait_until(PATIENCE, "batches start", move || {
            let gate = gate.clone();
            async move { gate.started() == count }
        })
    };
    starts(1).await;
    running.consumer.set_batches_in_flight(4);
    starts(4).await;
    running.consumer.set_batches_in_flight(2);
    gate.open.add_permits(2);
    wait_until(PATIENCE, "two end", || async { gate.done() == 2 }).await;
    gate.open.add_permits(1);
    // Of four at work three have ended: one slot of two is free.
    starts(5).await;
    assert_eq!(running.consumer.batches_in_flight(), 2);
    gate.open.add_permits(100);
    wait_until(PATIENCE, "all are done", || async { gate.done() == 20 }).await;
    running.stop().await;
}

/// Takes its time, and remembers how many entries it got.
#[derive(Default)]
struct Slow {
    of_entry: Duration,
    batches: Mutex<Vec<usize>>,
}

#[async_trait]
impl Handler for Slow {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        self.batches.lock().unwrap().push(batch.len());
        tokio::time::sleep(self.of_entry * u32::try_from(batch.len()).unwrap()).await;
        batch.into_iter().map(done).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_backlog_more_batches_run_and_without_one_fewer() {
    let bed = memory();
    let policy = Policy {
        batch_max: 1,
        scaling: Some(Scaling { min: 1, max: 5 }),
        ..bed.policy()
    };
    bed.append_many(Lane::Normal, 2_000).await;
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    let of_entry = Duration::from_millis(10);
    let slow = Arc::new(Slow {
        of_entry,
        ..Slow::default()
    });
    assert_eq!(consumer.batches_in_flight(), 1);
    let running = Running::run(consumer, slow);
    wait_until(PATIENCE, "it grows", || async {
        running.consumer.batches_in_flight() >= 4
    })
    .await;
    wait_until(PATIENCE, "it shrinks when all is done", || async {
        running.consumer.batches_in_flight() == 1
    })
    .await;
    wait_until(PATIENCE, "all are settled", || async {
        bed.pending("g").await == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_is_read_ahead_no_more_than_it_gets_done_in_time() {
    let bed = memory();
    let policy = Policy {
        batch_max: 100,
        batches_in_flight: 1,
        batch_time: Some(Duration::from_millis(50)),
        ..bed.policy()
    };
    bed.append_many(Lane::Normal, 200).await;
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    let slow = Arc::new(Slow {
        of_entry: Duration::from_millis(5),
        ..Slow::default()
    });
    let running = Running::run(consumer, slow.clone());
    wait_until(PATIENCE, "all are read", || async {
        slow.batches.lock().unwrap().iter().sum::<usize>() == 200
    })
    .await;
    running.stop().await;
    let batches = slow.batches.lock().unwrap().clone();
    // Two batches were read before anything was known.
    assert!(batches.len() > 4, "{batches:?}");
    assert!(
        batches.iter().skip(2).all(|size| *size <= 15),
        "{batches:?}"
    );
}
