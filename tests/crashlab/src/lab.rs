//! The servers and processes of a run, and what is done to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ratebox_kit::Stopwatch;
use ratebox_stream::{EntryId, Lanes, StreamName};
use ratebox_testkit::{
    Fsync, PostgresServer, Ratebox, RateboxOptions, RedisOptions, RedisServer, TempDir,
};
use serde_json::Value;

use crate::checker::Evidence;
use crate::faults::{Fault, Script};
use crate::one_effect::{GROUP, Plan, STREAM};
use crate::{evidence, producer, sink};

/// Which waits the workers are set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Short ones, so that a minute holds many recoveries.
    Short,
    /// Those of the settings as they are shipped.
    Default,
}

/// A worker, and what must be remembered of it.
pub struct Member {
    /// Its configured name; the one on the bus has a random part behind it.
    pub name: String,
    /// The process.
    pub process: Ratebox,
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

/// A Redis, a PostgreSQL, a relay and as many workers as are added.
pub struct Lab {
    /// The bus.
    pub redis: RedisServer,
    /// The store.
    pub postgres: PostgresServer,
    /// The living workers.
    pub members: Vec<Member>,
    /// Last words of workers that ended by themselves or panicked.
    pub(crate) fallen: Vec<String>,
    pub(crate) faults: Faults,
    pub(crate) folder: TempDir,
    waits: Waits,
    relay: Option<Ratebox>,
    started: usize,
    sent: u64,
}

// === impl Lab ===

impl Lab {
    /// Starts the servers and a relay, and lays the counting sink.
    ///
    /// # Errors
    /// When a server or the binary is missing or does not start.
    pub fn start(waits: Waits) -> Result<Self> {
        // What Redis confirms is on disk: nothing that was confirmed may be lost by a kill.
        let redis = RedisServer::start(RedisOptions::default().fsync(Fsync::Always))?;
        let mut lab = Self {
            redis,
            postgres: PostgresServer::start()?,
            members: Vec::new(),
            fallen: Vec::new(),
            faults: Faults::default(),
            folder: TempDir::new()?,
            waits,
            relay: None,
            started: 0,
            sent: 0,
        };
        let migrated = lab.on(RateboxOptions::new("migrate")).run()?;
        if migrated.code != Some(0) {
            bail!("the tables could not be made: {migrated:?}");
        }
        sink::lay(&lab.postgres)?;
        lab.relay = Some(Ratebox::relay(|options| lab.on(options))?);
        Ok(lab)
    }

    /// Where the sender writes down what it does.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    /// Being killed from outside thirty times in a minute looks like poison; that is another test's
    /// business.
    fn on(&self, options: RateboxOptions) -> RateboxOptions {
        let options = options
            .redis(&self.redis.url())
            .postgres(&self.postgres.dsn())
            .env("RATEBOX_BUS__ANSWERS_MAX", "100000000");
        if self.waits == Waits::Default {
            return options;
        }
        options
            .env("RATEBOX_RELAY__POLL_MS", "200")
            .env("RATEBOX_RELAY__LEASE_MS", "3000")
            .env("RATEBOX_WORKER__CLAIM_IDLE_MS", "1500")
            .env("RATEBOX_WORKER__HEARTBEAT_MS", "400")
            .env("RATEBOX_WORKER__HAND_BACK_AFTER_MS", "1500")
            .env("RATEBOX_WORKER__CLAIM_EVERY_MS", "200")
            .env("RATEBOX_WORKER__DELIVERIES_MAX", "100")
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// When the binary is missing.
    pub fn add_worker(&mut self) -> Result<()> {
        self.add_worker_with(|options| options)
    }

    /// Starts a worker with options of its own, such as another way to the servers.
    ///
    /// # Errors
    /// When the binary is missing.
    pub fn add_worker_with(
        &mut self,
        with: impl FnOnce(RateboxOptions) -> RateboxOptions,
    ) -> Result<()> {
        let name = format!("w{}", self.started);
        self.started += 1;
        let own = |it| with(self.on(it).env("CONSUMER_NAME", name.as_str()));
        let process = Ratebox::worker(own)?;
        self.members.push(Member {
            name,
            process,
            saw_postgres_die: false,
        });
        Ok(())
    }

    /// Puts so many more messages on the bus, none of them twice on purpose.
    ///
    /// # Errors
    /// When the bus refuses one for good.
    pub async fn send(&mut self, messages: u64) -> Result<()> {
        self.sent += messages;
        let plan = Plan {
            messages,
            per_second: u64::MAX,
            duplicates: 0.0,
            ..Plan::new(self.sent)
        };
        producer::send_all(plan, self.redis.url(), &self.journal(), Arc::default()).await
    }

    /// Messages that were sent with [`Lab::send`].
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages that have an effect; none while the database is away.
    pub fn effects(&self) -> Option<u64> {
        sink::effects(&self.postgres)
    }

    /// Entries that a worker of this configured name has and did not acknowledge.
    pub fn pending_of(&self, name: &str) -> u64 {
        let words = ["XINFO", "CONSUMERS", STREAM, GROUP];
        let consumers = self.redis.command(&words).unwrap_or_default();
        let mut consumers = consumers.as_array().into_iter().flatten();
        let its = consumers.find_map(|consumer| {
            let is_its = value(consumer, "name")?
                .as_str()?
                .starts_with(&format!("{name}-"));
            is_its
                .then(|| value(consumer, "pending")?.as_u64())
                .flatten()
        });
        its.unwrap_or(0)
    }

    /// What the run left.
    ///
    /// # Errors
    /// When a server cannot be asked.
    pub async fn evidence(&self) -> Result<Evidence> {
        evidence::gather(self).await
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

    /// Writes down a worker that ended by itself or panicked.
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
            let group = group.with_context(|| format!("{stream} has no group"))?;
            owed += value(group, "pending")
                .and_then(Value::as_u64)
                .context("a group without a count")?;
            let newest = ["XREVRANGE", stream, "+", "-", "COUNT", "1"];
            let newest = self.redis.command(&newest)?;
            let read = value(group, "last-delivered-id").and_then(id);
            let newest = newest.get(0).and_then(|entry| id(entry.get(0)?));
            owed += u64::from(newest > read);
        }
        Ok(owed)
    }

    /// Waits until nothing is owed by the workers and by the relay.
    ///
    /// # Errors
    /// When that takes too long; the message says what is owed and what the workers said last.
    pub async fn calm(&mut self, deadline: Duration) -> Result<()> {
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

/// A value of a flat list of names and values.
fn value<'a>(flat: &'a Value, wanted: &str) -> Option<&'a Value> {
    let mut pairs = flat.as_array()?.chunks(2);
    pairs.find_map(|pair| (pair.first()? == wanted).then(|| pair.last())?)
}

fn id(text: &Value) -> Option<EntryId> {
    text.as_str()?.parse().ok()
}
