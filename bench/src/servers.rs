//! The servers that are measured against: our own, or those of the peers' folder.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ratebox_db::{Db, PostgresSettings, Sql};
use ratebox_kit::{Secret, Stopwatch};
use ratebox_testkit::{PostgresServer, RateboxOptions, RedisOptions, RedisServer};
use serde_json::{Value, json};

use crate::beside::Peers;
use crate::resp::Resp;

/// The database of a run; made anew for each.
const DATABASE: &str = "ratebox_bench";
/// How long a rewrite of Redis's append-only file may take before a run.
const REWRITE_DEADLINE: Duration = Duration::from_secs(60);
/// Rest between preparation and measurement, as the peers have it.
const REST: Duration = Duration::from_millis(500);

/// From this size on Redis rewrites its append-only file unless it is told otherwise.
pub(crate) const REWRITE_FROM: &str = "64mb";
/// The same on a server that is set up as docs/Operating-The-Bus.md says for a busy bus.
pub(crate) const BUSY_REWRITE_FROM: &str = "1gb";

/// A running Redis and a running PostgreSQL.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) redis_url: String,
    pub(crate) redis_port: u16,
    pub(crate) redis_pid: u32,
    pub(crate) postgres_pid: u32,
    admin_dsn: String,
    admin: Db,
    _own: Option<(RedisServer, PostgresServer)>,
}

/// An empty bus and a database with nothing but our tables.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) dsn: String,
    pub(crate) db: Db,
}

impl Servers {
    /// Starts servers of our own: Redis with an append-only file synced every second and no
    /// snapshots; PostgreSQL with fsync and 200 connections, all else as it is shipped.
    ///
    /// # Errors
    /// When a program is missing (the message says what to install) or does not start.
    pub(crate) fn start() -> Result<Self> {
        let redis = RedisServer::start(RedisOptions::default())?;
        let postgres = PostgresServer::start()?;
        let pids = (redis.pid(), postgres.pid());
        let (Some(redis_pid), Some(postgres_pid)) = pids else {
            bail!("a server that was just started does not run");
        };
        let (redis_port, dsn) = (redis.port(), postgres.dsn());
        let own = Some((redis, postgres));
        Self::new((redis_port, redis_pid), (dsn, postgres_pid), own)
    }

    /// Uses the servers that the peers' scripts have started.
    ///
    /// # Errors
    /// When they cannot be reached.
    pub(crate) fn of(peers: &Peers) -> Result<Self> {
        let number = |name: &str| -> Result<u32> {
            let text = peers.variable(name)?;
            text.parse().with_context(|| format!("{name} is no number"))
        };
        let redis_port = u16::try_from(number("REDIS_PORT")?)?;
        let dsn = peers.variable("PG_DSN")?.to_owned();
        Self::new(
            (redis_port, number("REDIS_PID")?),
            (dsn, number("PG_PID")?),
            None,
        )
    }

    fn new(
        (redis_port, redis_pid): (u16, u32),
        (admin_dsn, postgres_pid): (String, u32),
        own: Option<(RedisServer, PostgresServer)>,
    ) -> Result<Self> {
        Ok(Self {
            redis_url: format!("redis://127.0.0.1:{redis_port}"),
            redis_port,
            redis_pid,
            postgres_pid,
            admin: open(&admin_dsn)?,
            admin_dsn,
            _own: own,
        })
    }

    /// Empties Redis and makes a new database with our migrations.
    ///
    /// # Errors
    /// When a server refuses or `ratebox migrate` fails.
    pub(crate) async fn fresh(&self) -> Result<Fresh> {
        self.redis()?.command(&["FLUSHALL"])?;
        let script = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
        self.admin.script(script).await?;
        self.admin
            .script(format!("CREATE DATABASE {DATABASE}"))
            .await?;
        let (base, _) = self
            .admin_dsn
            .rsplit_once('/')
            .context("the address of PostgreSQL names no database")?;
        let dsn = format!("{base}/{DATABASE}");
        let migrated = RateboxOptions::new("migrate")
            .redis(&self.redis_url)
            .postgres(&dsn)
            .run()?;
        ensure!(
            migrated.code == Some(0),
            "`ratebox migrate` failed:\n{}{}",
            migrated.stdout,
            migrated.stderr
        );
        let db = open(&dsn)?;
        Ok(Fresh { dsn, db })
    }

    /// The database of a run with more than one connection.
    ///
    /// # Errors
    /// When its address cannot be read.
    pub(crate) fn open(&self, fresh: &Fresh, connections: usize) -> Result<Db> {
        let mut settings = PostgresSettings::new(Secret::new(fresh.dsn.as_str()));
        settings.pool_max = connections;
        Ok(Db::postgres(&settings)?)
    }

    /// Lets both servers come to rest, as the peers' preparation does.
    ///
    /// # Errors
    /// When one does not.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.admin.script("CHECKPOINT".to_owned()).await?;
        let mut redis = self.redis()?;
        let watch = Stopwatch::start();
        for key in ["aof_rewrite_in_progress", "aof_rewrite_scheduled"] {
            while redis.info("persistence", key)? != "0" {
                ensure!(
                    watch.elapsed() < REWRITE_DEADLINE,
                    "Redis does not finish rewriting its file"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        tokio::time::sleep(REST).await;
        Ok(())
    }

    /// Tells Redis from which size on to rewrite its append-only file.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn rewrite_from(&self, size: &str) -> Result<()> {
        let mut redis = self.redis()?;
        redis.command(&["CONFIG", "SET", "auto-aof-rewrite-min-size", size])?;
        Ok(())
    }

    /// A plain connection to Redis.
    ///
    /// # Errors
    /// When there is no server any more.
    pub(crate) fn redis(&self) -> Result<Resp> {
        Resp::connect(self.redis_port)
    }

    /// What the servers call themselves.
    ///
    /// # Errors
    /// When one does not answer.
    pub(crate) async fn versions(&self) -> Result<Value> {
        let redis = self.redis()?.info("server", "redis_version")?;
        let rows = self.admin.query(Sql::both("SHOW server_version")).await?;
        let postgres = rows.first().context("PostgreSQL has no version")?;
        Ok(json!({"redis": redis, "postgres": postgres.get::<String>(0)?}))
    }
}

impl Fresh {
    /// The numbers of one row.
    ///
    /// # Errors
    /// When the statement fails or answers something else.
    pub(crate) async fn numbers(&self, statement: &'static str, count: usize) -> Result<Vec<i64>> {
        let rows = self.db.query(Sql::both(statement)).await?;
        let row = rows.first().context("a count has one row")?;
        Ok((0..count).map(|at| row.get(at)).collect::<Result<_, _>>()?)
    }

    /// Whether nothing waits to be published.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn outbox_is_empty(&self) -> Result<bool> {
        let counted = self
            .numbers(
                "SELECT count(*) FROM (SELECT FROM outbox LIMIT 1) AS one",
                1,
            )
            .await?;
        Ok(counted == [0])
    }
}

fn open(dsn: &str) -> Result<Db> {
    let mut settings = PostgresSettings::new(Secret::new(dsn));
    settings.pool_max = 1;
    Ok(Db::postgres(&settings)?)
}
