//! Own servers for one test, and questions to their database.

use ratebox_testkit::{
    PostgresOptions, PostgresServer, Ratebox, RateboxOptions, RedisOptions, RedisServer,
};
use serde_json::{Value, json};

/// A Redis (or Valkey) and a PostgreSQL of its own.
pub(crate) struct Place {
    pub(crate) redis: RedisServer,
    pub(crate) postgres: PostgresServer,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(RedisOptions::default())
    }

    pub(crate) fn valkey() -> Self {
        Self::with(RedisOptions::valkey())
    }

    pub(crate) fn redis_8() -> Self {
        Self::with(RedisOptions::redis_8())
    }

    fn with(options: RedisOptions) -> Self {
        Self::of(options, PostgresOptions::default())
    }

    pub(crate) fn of(redis: RedisOptions, postgres: PostgresOptions) -> Self {
        Self {
            redis: RedisServer::start(redis).unwrap(),
            postgres: PostgresServer::start_with(postgres).unwrap(),
        }
    }

    /// Options of a role on these servers, with short waits so that faults heal quickly.
    pub(crate) fn on(&self, options: RateboxOptions) -> RateboxOptions {
        options
            .redis(&self.redis.url())
            .postgres(&self.postgres.dsn())
            .env("RATEBOX_RELAY__POLL_MS", "100")
            .env("RATEBOX_RELAY__REPUBLISH_EVERY_MS", "1000")
            .env("RATEBOX_RELAY__LEASE_MS", "3000")
            .env("RATEBOX_WORKER__CLAIM_IDLE_MS", "1500")
            .env("RATEBOX_WORKER__HEARTBEAT_MS", "400")
            .env("RATEBOX_WORKER__CLAIM_EVERY_MS", "200")
            .env("RATEBOX_WORKER__RETRY_FIRST_MS", "50")
    }

    pub(crate) async fn up(&self) -> Ratebox {
        ready(Ratebox::up(|it| self.on(it).arg("--no-sample")).unwrap()).await
    }

    pub(crate) fn worker(&self) -> Ratebox {
        Ratebox::worker(|it| self.on(it)).unwrap()
    }

    pub(crate) fn relay(&self) -> Ratebox {
        Ratebox::relay(|it| self.on(it)).unwrap()
    }

    /// One number from the database, such as `count(*) FROM raw_items`.
    pub(crate) fn count(&self, what: &str) -> i64 {
        let sql = format!("SET search_path = ratebox; SELECT {what}");
        self.postgres
            .sql(&sql)
            .unwrap()
            .split_whitespace()
            .last()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// A token made on the command line, in tables made on the command line.
    pub(crate) fn token(&self) -> String {
        let migrated = self.on(RateboxOptions::new("migrate")).run().unwrap();
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        let made = self
            .on(RateboxOptions::new("token"))
            .args(["create", "--owner", "me", "--name", "test", "--json"])
            .args(["--scope", "admin", "--limit-per-minute", "1000000"])
            .run()
            .unwrap();
        assert_eq!(made.code, Some(0), "{made:?}");
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn ready(mut ratebox: Ratebox) -> Ratebox {
    ratebox.wait_ready().await.unwrap();
    ratebox
}

/// A request of `n` items: the first one good, every third without a bank account.
pub(crate) fn request(n: usize) -> Value {
    let item = |i: usize| {
        let mut item =
            json!({ "name": "Nguyễn Văn An", "phone": format!("09123456{:02}", i % 100) });
        if i % 3 != 2 {
            item["bank_account"] = json!("12345678901");
        }
        item
    };
    json!({ "items": (0..n).map(item).collect::<Vec<_>>() })
}
