//! Bulk work is read in small steps, so that something urgent never waits for a whole batch of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ratebox_kit::{Clock, Timestamp};
use ratebox_stream::conformance::{Bed, Letters, Waits, done};
use ratebox_stream::{
    ClaimScope, Entry, EntryId, Handler, Lane, Lanes, MemoryLog, Outcome, Policy, Step,
};
use ratebox_testkit::wait_until;
use tokio::sync::Semaphore;

use crate::counted::Counted;
use crate::running::{PATIENCE, Running};

/// Remembers each batch: how many of the high and of the low lane.
#[derive(Default)]
struct Batches(Mutex<Vec<(usize, usize)>>);

impl Batches {
    fn last(&self) -> (usize, usize) {
        *self.0.lock().unwrap().last().unwrap()
    }
}

#[async_trait]
impl Handler for Batches {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let high = batch.iter().filter(|entry| entry.lane == Lane::High);
        let high = high.count();
        self.0.lock().unwrap().push((high, batch.len() - high));
        batch.into_iter().map(done).collect()
    }
}

async fn check(bed: Bed) {
    const BATCH: usize = 300;
    bed.append_many(Lane::Low, 4 * BATCH).await;
    let policy = Policy {
        batch_max: BATCH,
        ..bed.policy()
    };
    let consumer = bed.consumer("a", &Letters::new(), policy).await;
    let batches = Batches::default();
    let step = async || consumer.step(&batches).await.unwrap();
    assert_eq!(
        step().await,
        Step::Did(BATCH),
        "a batch is full all the same"
    );
    bed.append_many(Lane::High, 3).await;
    assert_eq!(step().await, Step::Did(3));
    assert_eq!(
        batches.last(),
        (3, 0),
        "what is urgent goes alone, and first"
    );
    assert_eq!(step().await, Step::Did(BATCH));
    assert_eq!(
        batches.last(),
        (0, BATCH),
        "what was read beside it is not lost"
    );
    while step().await != Step::Idle {}
    let sum = |sum: (usize, usize), one: &(usize, usize)| (sum.0 + one.0, sum.1 + one.1);
    let all = batches.0.lock().unwrap().iter().fold((0, 0), sum);
    assert_eq!(all, (3, 4 * BATCH));
    assert_eq!(bed.pending("g").await, 0);
}

#[tokio::test]
async fn an_urgent_entry_overtakes_bulk_work_in_memory() {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    check(crate::memory::with(log, Waits::Moves(clock))).await;
}

#[tokio::test]
async fn an_urgent_entry_overtakes_bulk_work_on_redis() {
    let server = ratebox_testkit::RedisServer::shared().unwrap();
    check(crate::redis::on(server.url())).await;
}

/// Lets entries of a lane through only with a permit for each batch.
struct Doors {
    low: Semaphore,
    high: Semaphore,
    begun: [AtomicUsize; 3],
    done: [AtomicUsize; 3],
}

impl Doors {
    fn new(low: usize, high: usize) -> Arc<Self> {
        Arc::new(Self {
            low: Semaphore::new(low),
            high: Semaphore::new(high),
            begun: Default::default(),
            done: Default::default(),
        })
    }

    fn begun(&self, lane: Lane) -> usize {
        self.begun[place(lane)].load(Ordering::SeqCst)
    }

    fn done(&self, lane: Lane) -> usize {
        self.done[place(lane)].load(Ordering::SeqCst)
    }
}

fn place(lane: Lane) -> usize {
    Lane::ALL.iter().position(|one| *one == lane).unwrap()
}

#[async_trait]
impl Handler for Doors {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        for entry in &batch {
            self.begun[place(entry.lane)].fetch_add(1, Ordering::SeqCst);
        }
        let door = match batch.iter().any(|entry| entry.lane == Lane::Low) {
            true => &self.low,
            false => &self.high,
        };
        door.acquire().await.unwrap().forget();
        for entry in &batch {
            self.done[place(entry.lane)].fetch_add(1, Ordering::SeqCst);
        }
        batch.into_iter().map(done).collect()
    }
}

/// Bulk work that never ends has all the slots that it may have.
async fn stuck(bed: &Bed, doors: &Arc<Doors>) -> Running {
    bed.append_many(Lane::Low, 100).await;
    let policy = Policy {
        batch_max: 10,
        batches_in_flight: 3,
        ..bed.policy()
    };
    let running = Running::start(bed, "a", policy, doors.clone()).await;
    wait_until(PATIENCE, "bulk work has its slots", async || {
        doors.begun(Lane::Low) >= 11
    })
    .await;
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_entry_begins_while_bulk_work_has_its_slots() {
    for bed in [
        crate::running::memory(),
        crate::running::redis(),
        crate::sqlite::on(Clock::system(), Waits::Really).await.0,
    ] {
        let doors = Doors::new(0, 1_000);
        let running = stuck(&bed, &doors).await;
        for wave in 1..=3 {
            bed.append_many(Lane::High, 2).await;
            bed.append_many(Lane::Normal, 1).await;
            wait_until(PATIENCE, "what is urgent is done", async || {
                doors.done(Lane::High) == 2 * wave && doors.done(Lane::Normal) == wave
            })
            .await;
        }
        assert_eq!(doors.done(Lane::Low), 0);
        doors.low.add_permits(1_000);
        wait_until(PATIENCE, "bulk work is done", async || {
            doors.done(Lane::Low) == 100 && bed.pending("g").await == 0
        })
        .await;
        running.stop().await;
        assert_eq!(running.consumer.held(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_entries_leave_bulk_work_a_slot_and_go_back_at_a_stop() {
    for bed in [crate::running::memory(), crate::running::redis()] {
        let doors = Doors::new(0, 0);
        let running = stuck(&bed, &doors).await;
        bed.append_many(Lane::High, 5).await;
        wait_until(PATIENCE, "an urgent batch has begun", async || {
            doors.begun(Lane::High) > 0
        })
        .await;
        let begun = doors.begun(Lane::High);
        bed.append_many(Lane::High, 5).await;
        let high = Lanes::of(&bed.stream).stream(Lane::High).clone();
        wait_until(PATIENCE, "more is read", async || {
            let info = bed.admin.info(&high).await.unwrap().unwrap();
            info.groups[0].pending > begun as u64
        })
        .await;
        assert_eq!(doors.begun(Lane::High), begun);
        // A slot that gets free goes to what is urgent; the last one never does.
        wait_until(PATIENCE, "the next urgent batch has begun", async || {
            // Bulk work may be a moment faster, once.
            if doors.low.available_permits() == 0 {
                doors.low.add_permits(1);
            }
            doors.begun(Lane::High) > begun
        })
        .await;
        bed.append_many(Lane::High, 5).await;
        wait_until(PATIENCE, "bulk work has a slot all the same", async || {
            doors.begun(Lane::Low) > doors.done(Lane::Low)
        })
        .await;
        running.ask_to_stop();
        doors.low.add_permits(1_000);
        doors.high.add_permits(1_000);
        running.stop().await;
        assert_eq!(running.consumer.held(), 0);
        let next = bed.member("b").await;
        let (mut free, mut finished) = (0, 0);
        for (lane, stream) in next.lanes.iter() {
            let scope = ClaimScope::Idle(bed.idle());
            let claimed = bed.log.claim(&next, lane, EntryId::MIN, scope, 300).await;
            let claimed = claimed.unwrap().entries;
            assert!(claimed.iter().all(|entry| entry.deliveries == 1));
            let info = bed.admin.info(stream).await.unwrap().unwrap();
            assert_eq!(info.groups[0].pending, claimed.len() as u64);
            free += claimed.len() as u64 + info.groups[0].lag.unwrap();
            finished += doors.done(lane) as u64;
            assert_eq!(doors.begun(lane), doors.done(lane));
        }
        assert_eq!(free + finished, 115);
    }
}

/// On a clock that stands still, an urgent entry came just now for ever.
#[tokio::test]
async fn bulk_work_rests_between_its_reads_once_something_urgent_came() {
    for urgent in [true, false] {
        let rests = Counted::new("ratebox_stream_bulk_rests_total");
        let _guard = metrics::set_default_local_recorder(&rests);
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let bed = crate::memory::with(log, Waits::Moves(clock));
        let doors = Doors::new(0, 1_000);
        let running = stuck(&bed, &doors).await;
        if urgent {
            bed.append_many(Lane::High, 1).await;
            wait_until(PATIENCE, "what is urgent is done", async || {
                doors.done(Lane::High) == 1
            })
            .await;
        }
        bed.append_many(Lane::Low, 4_900).await;
        doors.low.add_permits(5_000);
        wait_until(PATIENCE, "bulk work is done", async || {
            doors.done(Lane::Low) == 5_000
        })
        .await;
        running.stop().await;
        assert_eq!(rests.count() > 0, urgent, "{} rests", rests.count());
    }
}
