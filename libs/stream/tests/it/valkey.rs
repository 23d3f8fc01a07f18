//! The log on Valkey 8.

use ratebox_stream::conformance::Bed;
use ratebox_testkit::RedisServer;

ratebox_stream::conformance!(bed);

async fn bed() -> Bed {
    crate::redis::on(RedisServer::shared_valkey().unwrap().url())
}
