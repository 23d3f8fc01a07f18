//! Batches by count, bytes and time, with a decision for each message.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_kit::{Message, Stopwatch, Tasks};
use ratebox_stream::handler::{
    Batch, Decided, Failure, Gather, Idempotent, Json, NoEffects, Router, State, Worker,
};
use ratebox_stream::testing::{Ending, TestBus};
use ratebox_stream::{Append, Log, MemoryLog, Policy, StreamName};
use ratebox_testkit::wait_until;

type Sizes = Arc<Mutex<Vec<usize>>>;

async fn sizes(State(sizes): State<Sizes>, batch: Batch<Json<u32>>) -> Idempotent {
    sizes.lock().unwrap().push(batch.len());
    Idempotent::because("a test")
}

fn small_reads() -> Policy {
    Policy {
        batch_max: 3,
        batches_in_flight: 16,
        ..Policy::default()
    }
}

#[tokio::test]
async fn each_message_of_a_batch_gets_its_own_outcome() {
    async fn odd_ones_fail(batch: Batch<Json<u32>>) -> Vec<Decided> {
        let decide = |item: ratebox_stream::handler::Item<Json<u32>>| match item.value.0 {
            0 => item.failed(Failure::dead("number.zero", "zero")),
            odd if odd % 2 == 1 => item.failed(Failure::retry("number.odd", "odd")),
            _ => item.done(&NoEffects),
        };
        batch.into_iter().map(decide).collect()
    }
    let router = Router::new().on_batch("n", Gather::default(), odd_ones_fail);
    let bus = TestBus::new().worker("s", "g", router);
    let mut ids = Vec::new();
    for number in 0..6_u32 {
        ids.push(bus.send("s", "n", &number).await);
    }
    let corrupt = bus.send("s", "n", "no number").await;
    bus.run_until_idle().await;
    bus.assert_dead(&ids[0], "number.zero");
    bus.assert_dead(&corrupt, "payload.json");
    for (number, id) in ids.iter().enumerate().skip(1) {
        if number % 2 == 1 {
            bus.assert_retried(id, 1);
        } else {
            bus.assert_done(id);
        }
    }
}

#[tokio::test]
async fn a_message_that_the_handler_forgets_counts_as_failed() {
    async fn only_the_first(batch: Batch<Json<u32>>) -> Vec<Decided> {
        batch
            .into_iter()
            .take(1)
            .map(|item| item.done(&NoEffects))
            .collect()
    }
    let router = Router::new().on_batch("n", Gather::default(), only_the_first);
    let bus = TestBus::new().worker("s", "g", router);
    let (first, second) = (bus.send("s", "n", &1).await, bus.send("s", "n", &2).await);
    bus.run_until_idle().await;
    bus.assert_done(&first);
    let code = "handler.no_outcome".to_owned();
    assert_eq!(bus.outcomes(&second)[0].ending, Ending::Retry { code });
}

#[tokio::test]
async fn a_panic_of_a_batch_costs_only_the_message_that_panics_alone() {
    async fn hates_three(batch: Batch<Json<u32>>) -> NoEffects {
        assert!(batch.iter().all(|item| item.value.0 != 3), "on purpose");
        NoEffects
    }
    let router = Router::new().on_batch("n", Gather::default(), hates_three);
    let bus = TestBus::new().worker("s", "g", router);
    let mut ids = Vec::new();
    for number in 0..6_u32 {
        ids.push(bus.send("s", "n", &number).await);
    }
    bus.run_until_idle().await;
    for (number, id) in ids.iter().enumerate() {
        if number == 3 {
            bus.assert_retried(id, 1);
        } else {
            bus.assert_done(id);
        }
    }
}

#[tokio::test]
async fn a_batch_is_bounded_by_count_and_by_bytes() {
    let seen = Sizes::default();
    let by_count = Gather {
        max: 4,
        ..Gather::default()
    };
    let router = Router::with_state(Arc::clone(&seen)).on_batch("n", by_count, sizes);
    let bus = TestBus::new().worker("s", "g", router);
    for number in 0..10_u32 {
        bus.send("s", "n", &number).await;
    }
    bus.run_until_idle().await;
    assert_eq!(*seen.lock().unwrap(), [4, 4, 2]);

    let seen = Sizes::default();
    let by_bytes = Gather {
        bytes_max: 250,
        ..Gather::default()
    };
    let router = Router::with_state(Arc::clone(&seen)).on_batch("n", by_bytes, sizes);
    let bus = TestBus::new().worker("s", "g", router);
    for number in 0..4_u32 {
        // 100 bytes each, names and id included, and one that is too large for any batch.
        let width = if number == 2 { 400 } else { 85 };
        let body = format!("{number:>width$}");
        let message = Message::new(number.to_string(), body).with_header("type", "n");
        bus.send_message("s", message).await;
    }
    bus.run_until_idle().await;
    assert_eq!(*seen.lock().unwrap(), [2, 1, 1]);
}

/// A worker on a log in memory that runs as in production.
struct Running {
    log: Arc<dyn Log>,
    tasks: Tasks,
}

impl Running {
    fn start(router: Router<Sizes>) -> Self {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(ratebox_kit::Clock::system()));
        let tasks = Tasks::new();
        let worker = Worker::new(Arc::clone(&log), "s", "g", router).policy(small_reads());
        let running = tasks.clone();
        tasks.spawn("worker", async move { worker.run(&running).await });
        Self { log, tasks }
    }

    async fn send(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let message = Message::new(number.to_string(), number.to_string());
            let message = message.with_header("type", "n");
            let append = Append::new(StreamName::new("s"), message);
            self.log.append(&[append]).await.remove(0).unwrap();
        }
    }

    async fn stop(self) {
        let late = self.tasks.join(Duration::from_secs(20)).await;
        assert_eq!((late, self.tasks.failed()), (Vec::new(), Vec::new()));
    }
}

#[tokio::test]
async fn a_batch_gathers_over_several_reads_until_it_is_full() {
    let seen = Sizes::default();
    let gather = Gather {
        max: 12,
        linger: Duration::from_secs(60),
        ..Gather::default()
    };
    let router = Router::with_state(Arc::clone(&seen)).on_batch("n", gather, sizes);
    let running = Running::start(router);
    // Reads bring three at most, so a dozen takes several, and nobody waits for the minute.
    running.send(0..24).await;
    wait_until(Duration::from_secs(20), "two full batches", || async {
        seen.lock().unwrap().len() == 2
    })
    .await;
    assert_eq!(*seen.lock().unwrap(), [12, 12]);
    running.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_not_full_leaves_after_its_linger_time() {
    let seen = Sizes::default();
    let gather = Gather {
        max: 1_000,
        linger: Duration::from_millis(300),
        ..Gather::default()
    };
    let router = Router::with_state(Arc::clone(&seen)).on_batch("n", gather, sizes);
    let running = Running::start(router);
    let watch = Stopwatch::start();
    running.send(0..7).await;
    wait_until(Duration::from_secs(20), "one batch", || async {
        seen.lock().unwrap().iter().sum::<usize>() == 7
    })
    .await;
    assert!(watch.elapsed() >= Duration::from_millis(300));
    assert_eq!(*seen.lock().unwrap(), [7]);
    running.stop().await;
}
