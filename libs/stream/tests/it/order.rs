//! Partitions, order of keys and limits over every backend.

use std::sync::Arc;

use ratebox_kit::Clock;
use ratebox_stream::conformance::{Bed, Connection, OrderBed, Waits};
use ratebox_stream::{Admin, Limits, Log, MemoryLog, Ownership, RedisLog};
use ratebox_testkit::RedisServer;
use ratebox_valkey::{Settings, Valkey};

mod memory {
    use super::*;

    ratebox_stream::order_conformance!(bed);

    async fn bed() -> OrderBed {
        let log = Arc::new(MemoryLog::new(Clock::system()));
        let bed = crate::memory::with(Arc::clone(&log), Waits::Really);
        OrderBed::new(bed, move || same(&log))
    }
}

mod sqlite {
    use super::*;

    ratebox_stream::order_conformance!(bed);

    async fn bed() -> OrderBed {
        let (bed, log) = crate::sqlite::on(Clock::system(), Waits::Really).await;
        OrderBed::new(bed, move || same(&log))
    }
}

mod redis {
    use super::*;

    ratebox_stream::order_conformance!(bed);

    async fn bed() -> OrderBed {
        let settings = Settings::new(RedisServer::shared().unwrap().url());
        on(settings)
    }
}

mod valkey {
    use super::*;

    ratebox_stream::order_conformance!(bed);

    async fn bed() -> OrderBed {
        let settings = Settings::new(RedisServer::shared_valkey().unwrap().url());
        on(settings)
    }
}

mod cluster {
    use super::*;

    ratebox_stream::order_conformance!(bed);

    async fn bed() -> OrderBed {
        on(crate::topologies::cluster_settings().await)
    }
}

/// A log that all processes share.
fn same<L: Log + Ownership + Limits + Admin + 'static>(log: &Arc<L>) -> Connection {
    Connection {
        log: log.clone(),
        ownership: log.clone(),
        limits: log.clone(),
        admin: log.clone(),
    }
}

/// A server to which each process has connections of its own.
pub(crate) fn on(settings: Settings) -> OrderBed {
    let connect = move || Valkey::lazy(&settings).unwrap();
    let bed: Bed = crate::redis::with(connect());
    OrderBed::new(bed, move || same(&Arc::new(RedisLog::new(connect()))))
}
