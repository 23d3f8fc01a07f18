//! The log on Redis 7.0.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{Admin, EntryId, Log, RedisLog, StreamName};
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
    bed_of(log.clone(), log.clone(), Saboteur(valkey)).with_delivery(log)
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
