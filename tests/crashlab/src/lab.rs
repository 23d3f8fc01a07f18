//! The servers and processes of a run, and what is done to them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ratebox_kit::Stopwatch;
use ratebox_stream::{EntryId, Lanes, StreamName};
use ratebox_testkit::{
    Fsync, PostgresServer, Ratebox, RateboxOptions, RedisOptions, RedisServer, TempDir,
};
use serde_json::Value;

use crate::faults::{Fault, Script};
use crate::one_effect::STREAM;
use crate::sink;

/// Workers at any time.
const WORKERS: usize = 2;

/// A worker, and what must be remembered of it.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) process: Ratebox,
    /// The database died while it lived.
    pub(crate) saw_postgres_die: bool,
}

/// How often each fault was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Workers killed with -9.
    pub workers_killed: u64,
    /// Redis killed with -9.
    pub redis_killed: u64,
    /// Redis ended in good order.
    pub redis_restarted: u64,
    /// PostgreSQL killed with -9.
    pub postgres_killed: u64,
}

pub(crate) struct Lab {
    pub(crate) redis: RedisServer,
    pub(crate) postgres: PostgresServer,
    pub(crate) members: Vec<Member>,
    /// Last words of workers that ended by themselves or panicked.
    pub(crate) fallen: Vec<String>,
    pub(crate) faults: Faults,
    pub(crate) folder: TempDir,
    relay: Option<Ratebox>,
    started: usize,
}

// === impl Lab ===

impl Lab {
    pub(crate) fn start() -> Result<Self> {
        // What Redis confirms is on disk: nothing that was confirmed may be lost by a kill.
        let redis = RedisServer::start(RedisOptions::default().fsync(Fsync::Always))?;
        let mut lab = Self {
            redis,
            postgres: PostgresServer::start()?,
            members: Vec::new(),
            fallen: Vec::new(),
            faults: Faults::default(),
            folder: TempDir::new()?,
            relay: None,
            started: 0,
        };
        let migrated = lab.on(RateboxOptions::new("migrate")).run()?;
        if migrated.code != Some(0) {
            bail!("the tables could not be made: {migrated:?}");
        }
        sink::lay(&lab.postgres)?;
        lab.relay = Some(Ratebox::relay(|options| lab.on(options))?);
        for _ in 0..WORKERS {
            lab.add_worker()?;
        }
        Ok(lab)
    }

    /// Where the sender writes down what it does.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    /// Short waits, so that a minute holds many recoveries. Being killed from outside thirty times
    /// in a minute looks like poison; that is another test's business.
    fn on(&self, options: RateboxOptions) -> RateboxOptions {
        options
            .redis(&self.redis.url())
            .postgres(&self.postgres.dsn())
            .env("RATEBOX_RELAY__POLL_MS", "200")
            .env("RATEBOX_RELAY__LEASE_MS", "3000")
            .env("RATEBOX_WORKER__CLAIM_IDLE_MS", "1500")
            .env("RATEBOX_WORKER__HEARTBEAT_MS", "400")
            .env("RATEBOX_WORKER__CLAIM_EVERY_MS", "200")
            .env("RATEBOX_WORKER__DELIVERIES_MAX", "100")
            .env("RATEBOX_BUS__ANSWERS_MAX", "100000000")
    }

    fn add_worker(&mut self) -> Result<()> {
        let name = format!("w{}", self.started);
        self.started += 1;
        let process = Ratebox::worker(|it| self.on(it).env("CONSUMER_NAME", name.as_str()))?;
        self.members.push(Member {
            name,
            process,
            saw_postgres_die: false,
        });
        Ok(())
    }

    /// Does one fault, and heals it at once.
    pub(crate) fn strike(&mut self, fault: Fault, script: &mut Script) -> Result<()> {
        match fault {
            Fault::KillWorker => {
                let chosen = script.choose(self.members.len());
                let mut doomed = self.members.swap_remove(chosen);
                self.look_at(&mut doomed);
                doomed.process.kill9();
                self.faults.workers_killed += 1;
                self.add_worker()
            }
            Fault::KillRedis => {
                self.redis.kill9();
                self.faults.redis_killed += 1;
                self.redis.restart()
            }
            Fault::RestartRedis => {
                self.faults.redis_restarted += 1;
                self.redis.restart()
            }
            Fault::KillPostgres => {
                self.postgres.kill9();
                self.faults.postgres_killed += 1;
                for member in &mut self.members {
                    member.saw_postgres_die = true;
                }
                self.postgres.restart()
            }
        }
    }

    /// Writes down a worker that fell.
    pub(crate) fn look_at(&mut self, member: &mut Member) {
        let (ended, logs) = (member.process.exited(), member.process.logs());
        if ended.is_some() || logs.contains("panicked") {
            let last: Vec<&str> = logs.lines().rev().take(20).collect();
            let words = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            self.fallen
                .push(format!("{} ({ended:?}):\n{words}", member.name));
        }
    }

    /// The last words of the workers, for whoever must find out why nothing moves.
    pub(crate) fn said(&self) -> String {
        let logs = self.members.iter().map(|member| {
            let logs = member.process.logs();
            let last: Vec<&str> = logs.lines().rev().take(10).collect();
            format!("{}:\n{}\n", member.name, last.join("\n"))
        });
        logs.collect()
    }

    pub(crate) fn look_at_all(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        for member in &mut members {
            self.look_at(member);
        }
        self.members = members;
    }

    /// Entries that are delivered and not acknowledged, and one more for each lane that has unread
    /// ones. Not by the server's own `lag`: after a restart it may tell of entries long read.
    pub(crate) fn owed(&self) -> Result<u64> {
        let mut owed = 0;
        for (_, stream) in Lanes::of(&StreamName::new(STREAM)).iter() {
            let stream = stream.as_str();
            let groups = self.redis.command(&["XINFO", "GROUPS", stream])?;
            let group = groups.as_array().and_then(|groups| groups.first());
            let words = group.and_then(|group| group.as_array());
            let words = words.with_context(|| format!("{stream} has no group"))?;
            let value = |wanted: &str| {
                let mut pairs = words.chunks(2);
                pairs.find_map(|pair| (pair.first()? == wanted).then(|| pair.last())?)
            };
            owed += value("pending")
                .and_then(Value::as_u64)
                .context("a group without a count")?;
            let newest = ["XREVRANGE", stream, "+", "-", "COUNT", "1"];
            let newest = self.redis.command(&newest)?;
            let read = value("last-delivered-id").and_then(id);
            let newest = newest.get(0).and_then(|entry| id(entry.get(0)?));
            owed += u64::from(newest > read);
        }
        Ok(owed)
    }

    /// Waits until nothing is owed by the workers and by the relay.
    pub(crate) async fn calm(&mut self, deadline: Duration) -> Result<()> {
        let watch = Stopwatch::start();
        loop {
            let owed = self.owed();
            let unsent = sink::number(&self.postgres, "SELECT count(*) FROM ratebox.outbox");
            if matches!((&owed, &unsent), (Ok(0), Ok(0))) {
                return Ok(());
            }
            if watch.elapsed() > deadline {
                let said = self.said();
                bail!("not calm after {deadline:?}: owed {owed:?}, unsent {unsent:?}\n{said}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn id(text: &Value) -> Option<EntryId> {
    text.as_str()?.parse().ok()
}
