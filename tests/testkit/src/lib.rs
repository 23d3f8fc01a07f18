//! What tests and benchmarks need around them: servers of their own on free ports, the built
//! binary as a child, a proxy that breaks connections, a small HTTP client, and waiting for a
//! condition.
//!
//! Everything that is started here ends with the test process, even when that is killed with -9.
//! Starting and stopping servers blocks the thread for some tenths of a second, which is fine in a
//! test; whatever may wait for an answer of code under test is `async`.

mod brokers;
mod certificates;
mod http;
mod json_server;
mod jwt;
mod names;
mod port;
mod postgres;
mod process;
mod proxy;
mod ratebox;
mod redis;
mod small_disk;
mod stalls;
mod temp_dir;
pub mod tools;
mod wait;

pub use brokers::BrokerKind;
pub use brokers::BrokerServer;
pub use certificates::Certificates;
pub use http::Answer;
pub use http::HttpClient;
pub use json_server::JsonServer;
pub use jwt::JwtKey;
pub use jwt::base64url;
pub use names::unique_name;
pub use port::free_port;
pub use postgres::PostgresOptions;
pub use postgres::PostgresServer;
pub use postgres::SharedPostgres;
pub use proxy::TcpProxy;
pub use ratebox::Output;
pub use ratebox::Ratebox;
pub use ratebox::RateboxOptions;
pub use redis::Fsync;
pub use redis::RedisCluster;
pub use redis::RedisOptions;
pub use redis::RedisServer;
pub use redis::Replicas;
pub use redis::SharedRedis;
pub use redis::TlsClients;
pub use redis::WatchedRedis;
pub use redis::read_reply;
pub use stalls::Stalls;
pub use temp_dir::TempDir;
pub use wait::wait_for;
pub use wait::wait_until;
