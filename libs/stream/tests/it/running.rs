//! The consumer as it runs in production: tasks, heartbeat, shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, Stopwatch, Tasks};
use ratebox_stream::conformance::{Bed, Letters, done};
use ratebox_stream::{
    ClaimScope, Consumer, Entry, EntryId, Handler, Lane, Log, MemoryLog, Outcome, Policy,
};
use ratebox_testkit::{RedisServer, wait_until};
use tokio::sync::Semaphore;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a permit with each batch; counts entries and batches at work.
pub(crate) struct Gate {
    pub(crate) open: Semaphore,
    started: AtomicUsize,
    done: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Gate {
    pub(crate) fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Semaphore::new(permits),
            started: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        })
    }

    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Handler for Gate {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        self.started.fetch_add(batch.len(), Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(batch.len(), Ordering::SeqCst);
        batch.into_iter().map(done).collect()
    }
}

pub(crate) struct Running {
    pub(crate) consumer: Arc<Consumer>,
    tasks: Tasks,
}

impl Running {
    pub(crate) async fn start(
        bed: &Bed,
        name: &str,
        policy: Policy,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let consumer = bed.consumer(name, &Letters::new(), policy).await;
        Self::run(consumer, handler)
    }

    pub(crate) fn run(consumer: Consumer, handler: Arc<dyn Handler>) -> Self {
        let consumer = Arc::new(consumer);
        let tasks = Tasks::new();
        let (running, of) = (Arc::clone(&consumer), tasks.clone());
        tasks.spawn("consumer", async move { running.run(handler, &of).await });
        Self { consumer, tasks }
    }

    /// Asks it to stop, without waiting.
    pub(crate) fn ask_to_stop(&self) {
        self.tasks.stop();
    }

    pub(crate) async fn stop(&self) {
        assert_eq!(self.tasks.join(PATIENCE).await, Vec::<String>::new());
        assert_eq!(self.tasks.failed(), Vec::<String>::new());
    }
}

/// A log in memory on the machine's clock.
pub(crate) fn memory() -> Bed {
    let log = Arc::new(MemoryLog::new(Clock::system()));
    crate::memory::with(log, ratebox_stream::conformance::Waits::Really)
}

pub(crate) fn redis() -> Bed {
    crate::redis::on(RedisServer::shared().unwrap().url())
}

/// A read that waits asks for a few entries; as many may be the beginning of more, and where no more
/// came the next read waits, with no rest in between that an entry would have to sit out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_after_a_read_that_got_all_it_asked_for_is_met_at_once() {
    const COUNT: usize = 50;
    const MS: Duration = Duration::from_millis(1);
    let bed = memory();
    let policy = Policy {
        batch_max: 16,
        claim_every: Duration::from_secs(600),
        block: MS * 500,
        ..bed.policy()
    };
    let gate = Gate::new(COUNT);
    let running = Running::start(&bed, "a", policy, gate.clone()).await;
    let mut waited = Vec::new();
    for count in 1..=COUNT {
        // The reads after the last entry are over, and so would a rest not be.
        tokio::time::sleep(MS * 2).await;
        let watch = Stopwatch::start();
        bed.append(Lane::Normal, &["one"]).await;
        while gate.done() < count {
            tokio::task::yield_now().await;
        }
        waited.push(watch.elapsed());
    }
    waited.sort_unstable();
    let median = waited[COUNT / 2];
    assert!(median < MS * 4, "{median:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_worked_on_in_batches_of_which_two_run_at_once() {
    for bed in [memory(), redis()] {
        let policy = Policy {
            batch_max: 50,
            batches_in_flight: 2,
            claim_every: Duration::from_secs(1),
            ..bed.policy()
        };
        let gate = Gate::new(0);
        for lane in Lane::ALL {
            bed.append_many(lane, 300).await;
        }
        let running = Running::start(&bed, "a", policy, gate.clone()).await;
        wait_until(PATIENCE, "two batches run", || async {
            gate.started() >= 100
        })
        .await;
        assert_eq!(gate.most_running.load(Ordering::SeqCst), 2);
        gate.open.add_permits(1_000);
        wait_until(PATIENCE, "all are done", || async { gate.done() == 900 }).await;
        assert!(gate.most_running.load(Ordering::SeqCst) <= 2);
        bed.append(Lane::Normal, &["late"]).await;
        wait_until(PATIENCE, "a late one is done", || async {
            gate.done() == 901
        })
        .await;
        wait_until(PATIENCE, "all are settled", || async {
            bed.pending("g").await == 0
        })
        .await;
        running.stop().await;
        assert_eq!(running.consumer.held(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_beside_work_is_one_batch_though_its_first_entry_wakes_the_reader() {
    for bed in [memory(), redis()] {
        let policy = Policy {
            batch_max: 500,
            batches_in_flight: 2,
            ..bed.policy()
        };
        let gate = Gate::new(0);
        let running = Running::start(&bed, "a", policy, gate.clone()).await;
        bed.append(Lane::Normal, &["first"]).await;
        let is_first = || async { gate.started() == 1 };
        wait_until(PATIENCE, "the first is in work", is_first).await;
        // Only one more batch can begin.
        bed.append_many(Lane::Normal, 15).await;
        let is_all = || async { gate.started() == 16 };
        wait_until(PATIENCE, "the burst is in work", is_all).await;
        gate.open.add_permits(10);
        wait_until(PATIENCE, "all are done", || async { gate.done() == 16 }).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_what_is_in_work_and_hands_back_the_rest() {
    for bed in [memory(), redis()] {
        let policy = Policy {
            batch_max: 4,
            batches_in_flight: 1,
            ..bed.policy()
        };
        let gate = Gate::new(0);
        for lane in Lane::ALL {
            bed.append_many(lane, 4).await;
        }
        let running = Running::start(&bed, "a", policy, gate.clone()).await;
        wait_until(PATIENCE, "a batch is in work", || async {
            gate.started() > 0
        })
        .await;
        running.tasks.stop();
        gate.open.add_permits(1);
        running.stop().await;
        let finished = gate.done();
        assert_eq!(
            finished,
            gate.started(),
            "nothing is started after the stop"
        );
        // Whatever was read is either settled or free for the next claim, uncounted.
        let next = bed.member("b").await;
        let mut free = 0;
        for (lane, stream) in next.lanes.iter() {
            let scope = ClaimScope::Idle(bed.idle());
            let claimed = bed
                .log
                .claim(&next, lane, EntryId::MIN, scope, 10)
                .await
                .unwrap();
            assert!(claimed.entries.iter().all(|entry| entry.deliveries == 1));
            let info = bed.admin.info(stream).await.unwrap().unwrap();
            assert_eq!(info.groups[0].pending, claimed.entries.len() as u64);
            free += claimed.entries.len() as u64 + info.groups[0].lag.unwrap();
        }
        assert_eq!(free as usize, 12 - finished);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_every_thread_keeps_its_entries() {
    struct Blocks(AtomicUsize);

    #[async_trait]
    impl Handler for Blocks {
        async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
            // Longer than the idle time, and no await: the runtime's threads are gone.
            std::thread::sleep(Duration::from_millis(3_500));
            self.0.fetch_add(batch.len(), Ordering::SeqCst);
            batch.into_iter().map(done).collect()
        }
    }

    let bed = redis();
    let heartbeat = Duration::from_millis(200);
    let policy = Policy {
        batch_max: 1,
        heartbeat,
        ..bed.policy()
    };
    bed.append(Lane::Normal, &["a", "b"]).await;
    // Another process looks for entries to claim all the while.
    let url = RedisServer::shared().unwrap().url().to_owned();
    // Shorter than the handler takes, and long enough for a heart on a machine that is busy.
    let (sub, idle) = (bed.member("thief").await, Duration::from_millis(2_500));
    let stolen = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let thief = crate::redis::on(&url);
        let mut stolen = 0;
        runtime.block_on(async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let scope = ClaimScope::Idle(idle);
                let claim = thief.log.claim(&sub, Lane::Normal, EntryId::MIN, scope, 10);
                stolen += claim.await.unwrap().entries.len();
            }
        });
        stolen
    });
    let handler = Arc::new(Blocks(AtomicUsize::new(0)));
    let running = Running::start(&bed, "a", policy, handler.clone()).await;
    wait_until(PATIENCE, "both are done", || async {
        handler.0.load(Ordering::SeqCst) == 2
    })
    .await;
    running.stop().await;
    assert_eq!(stolen.join().unwrap(), 0);
    assert_eq!(bed.pending("g").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_consumer_takes_over_from_one_that_died() {
    for bed in [memory(), redis()] {
        bed.append_many(Lane::Normal, 20).await;
        let dead = bed.member("dead").await;
        assert_eq!(bed.read(&dead, 20).await.len(), 20);
        let gate = Gate::new(1_000);
        let policy = Policy {
            claim_every: Duration::from_millis(50),
            ..bed.policy()
        };
        let running = Running::start(&bed, "a", policy, gate.clone()).await;
        let low = bed.append_many(Lane::Low, 5).await;
        wait_until(PATIENCE, "all are done", || async {
            gate.done() == 20 + low.len()
        })
        .await;
        running.stop().await;
        assert_eq!(bed.pending("g").await, 0);
    }
}

#[tokio::test]
async fn a_log_in_memory_wakes_a_waiting_reader_at_once() {
    let log = MemoryLog::new(Clock::system());
    let watch = ratebox_kit::Stopwatch::start();
    let stream = ratebox_stream::StreamName::new("s");
    let append = async {
        tokio::task::yield_now().await;
        let message = ratebox_kit::Message::new("m", "x");
        log.append(&[ratebox_stream::Append::new(stream.clone(), message)])
            .await;
    };
    let (tail, ()) = tokio::join!(log.tail(&stream, None, 1, PATIENCE), append);
    assert_eq!(tail.unwrap().entries.len(), 1);
    // Not after the wait that it was given.
    assert!(watch.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn a_consumer_whose_policy_cannot_work_takes_nothing_and_says_so() {
    let bed = memory();
    bed.append(Lane::Normal, &["one"]).await;
    let policy = Policy {
        deliveries_max: 0,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    let refused = consumer.check().unwrap_err().to_string();
    assert!(refused.contains("deliveries_max"), "{refused}");
    let gate = Gate::new(1);
    // It returns although nobody asks it to stop.
    let tasks = Tasks::new();
    let run = consumer.run(gate.clone(), &tasks);
    tokio::time::timeout(PATIENCE, run).await.unwrap();
    assert_eq!((gate.started(), consumer.held()), (0, 0));
}
