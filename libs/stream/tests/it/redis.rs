//! The log on Redis 7.0.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{Admin, EntryId, Lane, Log, RedisLog, Retention, StreamName};
use ratebox_testkit::RedisServer;
use ratebox_valkey::{Settings, Valkey};

ratebox_stream::conformance!(bed);

async fn bed() -> Bed {
    on(RedisServer::shared().unwrap().url())
}

/// A bed on any server.
pub(crate) fn on(url: &str) -> Bed {
    let valkey = Valkey::lazy(&Settings::new(url)).unwrap();
    with(valkey)
}

/// A bed on any connection.
pub(crate) fn with(valkey: Valkey) -> Bed {
    let log = Arc::new(RedisLog::new(valkey.clone()));
    bed_of(log.clone(), log.clone(), Saboteur(valkey)).with_dispatcher(log)
}

/// A bed of parts that are not one log.
pub(crate) fn bed_of(log: Arc<dyn Log>, admin: Arc<dyn Admin>, saboteur: Saboteur) -> Bed {
    Bed::new(log, admin, Arc::new(saboteur), Waits::Really)
}

/// Deletes as an administrator may.
pub(crate) struct Saboteur(pub(crate) Valkey);

#[async_trait]
impl Sabotage for Saboteur {
    async fn lose_entry(&self, stream: &StreamName, id: EntryId) {
        let mut delete = redis::cmd("XDEL");
        delete.arg(stream.as_str()).arg(id.to_string());
        self.0.query(&delete).await.unwrap();
    }

    async fn lose_stream(&self, stream: &StreamName) {
        let mut delete = redis::cmd("DEL");
        delete.arg(stream.as_str());
        self.0.query(&delete).await.unwrap();
    }
}

#[tokio::test]
async fn a_trim_of_more_than_the_server_takes_away_at_once_goes_on_to_the_end() {
    const COUNT: usize = 25_000;
    let bed = bed().await;
    for _ in 0..COUNT / 1_000 {
        bed.append_many(Lane::Normal, 1_000).await;
    }
    let kept = bed.append(Lane::Normal, &["kept"]).await;
    let retention = Retention {
        max_age: None,
        max_len: Some(1),
    };
    let mut removed = 0;
    while removed < COUNT as u64 {
        let trimmed = bed.admin.trim(&bed.stream, retention).await.unwrap();
        assert!(trimmed.removed > 0, "{removed} are gone so far");
        removed += trimmed.removed;
    }
    assert_eq!(removed, COUNT as u64);
    let left = bed.admin.peek(&bed.stream, EntryId::MIN, 10).await.unwrap();
    assert_eq!(left.iter().map(|it| it.id).collect::<Vec<_>>(), kept);
}
