//! What vanished from the bus is published again, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::Db;
use ratebox_kit::{Clock, Message, id};
use ratebox_store::{NewRequest, Store};
use ratebox_stream::{
    Append, ConsumerName, Entry, EntryId, GroupName, Lane, LaneQuota, Lanes, Log, MemoryLog,
    Settlement, StreamName, Subscription, Wait,
};
use ratebox_worker::Republisher;
use uuid::Uuid;

use crate::bench::Bench;

const EVERY: Duration = Duration::from_secs(30);

struct Bus {
    clock: Clock,
    store: Store,
    log: Arc<MemoryLog>,
    sub: Subscription,
    republisher: Republisher,
}

impl Bus {
    async fn new(db: Db) -> Self {
        let clock = Clock::manual(Clock::system().now());
        let store = Store::new(db, clock.clone());
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let sub = Subscription::new(
            Lanes::of(&StreamName::new("requests")),
            GroupName::new("workers"),
            ConsumerName::new("one"),
        );
        log.ensure_group(&sub).await.unwrap();
        let republisher = Republisher::new(
            store.clone(),
            log.clone(),
            log.clone(),
            sub.clone(),
            "me".to_owned(),
            EVERY,
        );
        Self {
            clock,
            store,
            log,
            sub,
            republisher,
        }
    }

    async fn accept(&self) -> Uuid {
        let request = self.request();
        let statement = self.store.insert_requests(std::slice::from_ref(&request));
        self.store.db().execute(statement.unwrap()).await.unwrap();
        request.id
    }

    fn request(&self) -> NewRequest {
        NewRequest {
            id: id::new(),
            owner: "me".to_owned(),
            source: "api".to_owned(),
            action: "validate",
            lane: "normal",
            profile: None,
            item_count: 1,
            external_ref: None,
            batch_id: None,
            body: "{\"v\":1}".into(),
            accepted_at: self.clock.now(),
        }
    }

    async fn publish(&self, request: Uuid) {
        let stream = self.sub.lanes.base().clone();
        let message = Message::new(request.to_string(), "{\"v\":1}");
        for answer in self.log.append(&[Append::new(stream, message)]).await {
            answer.unwrap();
        }
    }

    async fn read(&self) -> Vec<Entry> {
        let quota = [LaneQuota {
            lane: Lane::Normal,
            max: 2_000,
        }];
        let read = self.log.read(&self.sub, &quota, Wait::None);
        read.await.unwrap()
    }

    async fn ack(&self, id: EntryId) {
        let lane = Lane::Normal;
        let ack = [Settlement::Ack { lane, id }];
        self.log.settle(&self.sub, &ack).await.unwrap();
    }

    /// The entry fails and comes again after `wait`.
    async fn retry(&self, entry: &Entry, wait: Duration) {
        let failed_at = self.clock.now();
        let delay = [Settlement::Delay {
            entry,
            wait,
            failed_at,
        }];
        self.log.settle(&self.sub, &delay).await.unwrap();
        self.clock.advance(wait);
        assert_eq!(self.log.promote(&self.sub, 10).await.unwrap(), 1);
    }

    async fn republished(&self) -> usize {
        self.republisher.step().await.unwrap()
    }
}

/// A retry goes back on its lane under an id that is younger than the request by all its waits.
#[tokio::test]
async fn a_request_that_is_tried_again_long_after_it_was_accepted_is_not_taken_for_lost() {
    for bench in Bench::both().await {
        let bus = Bus::new(bench.store.db().clone()).await;
        let request = bus.accept().await;
        bus.publish(request).await;
        let mut entry = bus.read().await.remove(0);
        for _ in 0..4 {
            bus.retry(&entry, EVERY * 2).await;
            assert_eq!(bus.republished().await, 0, "{}: unread", bench.name);
            entry = bus.read().await.remove(0);
            assert_eq!(bus.republished().await, 0, "{}: pending", bench.name);
        }
        bus.ack(entry.id).await;
        bus.clock.advance(EVERY * 2);
        assert_eq!(bus.republished().await, 1, "{}: lost", bench.name);
        let again = bus.read().await;
        assert_eq!(again[0].message_id(), request.to_string());
    }
}

/// After an outage of the bus, the relay publishes what was accepted meanwhile.
#[tokio::test]
async fn requests_that_came_late_to_the_bus_are_not_taken_for_lost() {
    for bench in Bench::both().await {
        let bus = Bus::new(bench.store.db().clone()).await;
        let mut requests = Vec::new();
        for _ in 0..1_201 {
            requests.push(bus.accept().await);
        }
        bus.clock.advance(EVERY * 4);
        let (lost, late) = requests.split_at(600);
        for request in late {
            bus.publish(*request).await;
        }
        assert_eq!(bus.republished().await, lost.len(), "{}", bench.name);
        assert_eq!(bus.republished().await, 0, "{}", bench.name);
        let read = bus.read().await;
        assert_eq!(read.len(), requests.len(), "{}: each once", bench.name);
    }
}

/// As many as a predecessor hands over at once.
#[tokio::test]
async fn a_large_backlog_comes_back_in_rounds_and_not_faster_than_it_is_worked_on() {
    const ROUND: usize = 10_000;
    for bench in Bench::both().await {
        let bus = Bus::new(bench.store.db().clone()).await;
        let requests: Vec<NewRequest> = (0..ROUND + 250).map(|_| bus.request()).collect();
        for some in requests.chunks(1_000) {
            let statement = bus.store.insert_requests(some).unwrap();
            bus.store.db().execute(statement).await.unwrap();
        }
        bus.clock.advance(EVERY * 4);
        assert_eq!(bus.republished().await, ROUND, "{}", bench.name);
        assert_eq!(bus.republished().await, 100, "{}: a go", bench.name);
        let mut read = 0;
        loop {
            let entries = bus.read().await;
            if entries.is_empty() {
                break;
            }
            read += entries.len();
            for entry in &entries {
                bus.ack(entry.id).await;
            }
        }
        assert_eq!(read, ROUND + 100, "{}", bench.name);
        assert_eq!(bus.republished().await, 150, "{}: the rest", bench.name);
        assert_eq!(bus.republished().await, 0, "{}", bench.name);
    }
}

/// A copy that another group tries again is no entry of the workers.
#[tokio::test]
async fn a_retry_of_another_group_does_not_keep_a_lost_request_from_being_published() {
    for bench in Bench::both().await {
        let bus = Bus::new(bench.store.db().clone()).await;
        let mut others = bus.sub.clone();
        others.group = GroupName::new("audit");
        bus.log.ensure_group(&others).await.unwrap();
        let request = bus.accept().await;
        bus.publish(request).await;
        let ours = bus.read().await.remove(0);
        let quota = [LaneQuota {
            lane: Lane::Normal,
            max: 1,
        }];
        let theirs = bus.log.read(&others, &quota, Wait::None).await.unwrap();
        let delay = [Settlement::Delay {
            entry: &theirs[0],
            wait: EVERY * 2,
            failed_at: bus.clock.now(),
        }];
        bus.log.settle(&others, &delay).await.unwrap();
        bus.ack(ours.id).await;
        bus.clock.advance(EVERY * 2);
        assert_eq!(bus.log.promote(&others, 10).await.unwrap(), 1);
        assert_eq!(bus.republished().await, 1, "{}", bench.name);
    }
}
