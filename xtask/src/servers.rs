//! The servers that one run of the tests shares, and how its processes learn of them.

use anyhow::Result;
use ratebox_testkit::{PostgresServer, RedisOptions, RedisServer, tools};

/// Redis, Redis 8, Valkey and PostgreSQL on free ports; stopped on drop.
#[derive(Debug)]
pub(crate) struct Servers {
    redis: RedisServer,
    redis_8: RedisServer,
    valkey: RedisServer,
    postgres: PostgresServer,
}

impl Servers {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            redis: RedisServer::start_shared(RedisOptions::default())?,
            redis_8: RedisServer::start_shared(RedisOptions::redis_8())?,
            valkey: RedisServer::start_shared(RedisOptions::valkey())?,
            postgres: PostgresServer::start()?,
        })
    }

    /// The variables that `ratebox-testkit` reads in place of starting servers of its own.
    pub(crate) fn environment(&self) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![
            ("RATEBOX_TEST_REDIS_URL", self.redis.url()),
            ("RATEBOX_TEST_REDIS8_URL", self.redis_8.url()),
            ("RATEBOX_TEST_VALKEY_URL", self.valkey.url()),
            ("RATEBOX_TEST_POSTGRES_DSN", self.postgres.dsn()),
            (
                tools::VALKEY_SERVER,
                tools::valkey_server()?.display().to_string(),
            ),
        ])
    }
}
