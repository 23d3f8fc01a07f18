//! Housekeeping: figures of the streams, groups that nobody reads any more, resolved letters.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Clock, Message};
use ratebox_store::{Store, StreamMetric};
use ratebox_stream::{
    Admin as _, Append, ConsumerName, EntryId, GroupName, Lane, LaneQuota, Lanes, Log, MemoryLog,
    Retention, Settlement, StreamName, Subscription, Wait,
};
use ratebox_worker::{Housekeeping, HousekeepingSettings};

use crate::bench::Bench;

struct Chores {
    store: Store,
    clock: Clock,
    log: Arc<MemoryLog>,
    sub: Subscription,
}

impl Chores {
    async fn new(bench: &Bench) -> Self {
        let clock = Clock::manual(Clock::system().now());
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let sub = Subscription::new(
            Lanes::of(&StreamName::new("requests")),
            GroupName::new("workers"),
            ConsumerName::new("one"),
        );
        log.ensure_group(&sub).await.unwrap();
        Self {
            store: Store::new(bench.store.db().clone(), clock.clone()),
            clock,
            log,
            sub,
        }
    }

    fn housekeeping(&self, change: impl FnOnce(&mut HousekeepingSettings)) -> Housekeeping {
        let mut settings = HousekeepingSettings::default();
        change(&mut settings);
        let (log, sub) = (self.log.clone(), self.sub.clone());
        Housekeeping::new(self.store.clone(), log, sub, "me".to_owned(), settings)
    }

    async fn append(&self, count: usize) {
        for number in 0..count {
            let message = Message::new(number.to_string(), "x");
            let stream = self.sub.lanes.base().clone();
            self.log.append(&[Append::new(stream, message)]).await;
        }
    }

    async fn read(&self, max: usize) -> Vec<EntryId> {
        let quota = [LaneQuota {
            lane: Lane::Normal,
            max,
        }];
        let read = self.log.read(&self.sub, &quota, Wait::None);
        read.await.unwrap().iter().map(|entry| entry.id).collect()
    }

    async fn ack(&self, ids: &[EntryId]) {
        let lane = Lane::Normal;
        let acks: Vec<_> = ids
            .iter()
            .map(|id| Settlement::Ack { lane, id: *id })
            .collect();
        self.log.settle(&self.sub, &acks).await.unwrap();
    }

    async fn latest(&self) -> Vec<StreamMetric> {
        let since = self.clock.now() - Duration::from_secs(90);
        self.store.latest_stream_metrics(since).await.unwrap()
    }
}

#[tokio::test]
async fn the_streams_figures_are_noted_and_forgotten_after_their_time() {
    for bench in Bench::both().await {
        let chores = Chores::new(&bench).await;
        let housekeeping = chores.housekeeping(|_| {});
        chores.append(10).await;
        housekeeping.step().await.unwrap();
        let value = |metrics: &[StreamMetric], name: &str| {
            let mut found = metrics.iter();
            let found = found.find(|it| it.metric == name && it.stream == "requests");
            found.map(|it| it.value)
        };
        let first = chores.latest().await;
        assert_eq!(value(&first, "lag"), Some(10), "{}", bench.name);
        assert_eq!(
            value(&first, "done_per_minute"),
            None,
            "nothing to compare with"
        );
        let ids = chores.read(6).await;
        chores.ack(&ids[..4]).await;
        chores.append(5).await;
        chores.clock.advance(Duration::from_secs(60));
        housekeeping.step().await.unwrap();
        let second = chores.latest().await;
        let figures = [
            ("length", 15),
            ("lag", 9),
            ("pending", 2),
            ("oldest_pending_ms", 60_000),
            ("consumers", 1),
            ("appended_per_minute", 5),
            ("done_per_minute", 4),
        ];
        for (name, expected) in figures {
            assert_eq!(
                value(&second, name),
                Some(expected),
                "{}: {name}",
                bench.name
            );
        }
        let lane = second.iter().find(|it| it.stream == "requests").unwrap();
        let tags: serde_json::Value = serde_json::from_str(&lane.tags).unwrap();
        assert_eq!(
            tags,
            serde_json::json!({ "group": "workers", "lane": "normal" })
        );
        let count = "SELECT count(*) FROM stream_processing_metrics";
        let noted = bench.count(count).await;
        chores.clock.advance(Duration::from_secs(86_400 * 8));
        housekeeping.step().await.unwrap();
        assert!(bench.count(count).await < noted, "{}", bench.name);
    }
}

#[tokio::test]
async fn a_partition_that_cannot_be_made_keeps_no_stream_from_being_trimmed() {
    let [_, bench] = Bench::both().await;
    assert_eq!(bench.name, "PostgreSQL");
    let chores = Chores::new(&bench).await;
    let housekeeping = chores.housekeeping(|it| it.retention.max_len = Some(0));
    chores.append(5).await;
    let ids = chores.read(5).await;
    chores.ack(&ids).await;
    let broken = "DROP TABLE raw_items CASCADE".to_owned();
    chores.store.db().script(broken).await.unwrap();
    housekeeping.step().await.unwrap_err();
    let stream = chores.sub.lanes.base();
    let info = chores.log.info(stream).await.unwrap().unwrap();
    assert_eq!(info.length, 0);
}

/// A group that nobody reads any more is waited for until the settings say otherwise.
#[tokio::test]
async fn an_abandoned_group_holds_a_stream_unless_it_is_given_up() {
    for bench in Bench::both().await {
        for (ignore_abandoned, left) in [(false, 10), (true, 0)] {
            let chores = Chores::new(&bench).await;
            chores.append(10).await;
            let mut dead = chores.sub.clone();
            dead.group = GroupName::new("dead");
            chores.log.ensure_group(&dead).await.unwrap();
            let ids = chores.read(10).await;
            chores.ack(&ids).await;
            let housekeeping = chores.housekeeping(|it| {
                it.retention = Retention {
                    max_age: None,
                    max_len: Some(0),
                };
                it.abandoned_after = Duration::from_secs(3600);
                it.ignore_abandoned = ignore_abandoned;
            });
            let length = async || {
                let stream = chores.sub.lanes.base();
                let info = ratebox_stream::Admin::info(&*chores.log, stream).await;
                info.unwrap().unwrap().length
            };
            housekeeping.step().await.unwrap();
            assert_eq!(length().await, 10, "not yet");
            chores.clock.advance(Duration::from_secs(3600));
            housekeeping.step().await.unwrap();
            assert_eq!(length().await, left, "{}", bench.name);
            // Another process may have the duty next.
            chores.clock.advance(Duration::from_secs(3600));
        }
    }
}
