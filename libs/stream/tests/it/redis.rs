//! The log on Redis 7.0.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{EntryId, RedisLog, StreamName};
use ratebox_testkit::RedisServer;
use ratebox_valkey::{Settings, Valkey};

ratebox_stream::conformance!(bed);

async fn bed() -> Bed {
    on(RedisServer::shared().unwrap().url())
}

/// A bed on any server.
pub(crate) fn on(url: &str) -> Bed {
    let valkey = Valkey::lazy(&Settings::new(url)).unwrap();
    let log = Arc::new(RedisLog::new(valkey.clone()));
    Bed::new(log.clone(), log, Arc::new(Saboteur(valkey)), Waits::Really)
}

struct Saboteur(Valkey);

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
