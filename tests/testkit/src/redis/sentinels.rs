//! A primary, its replica and three Sentinels that watch them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{START_DEADLINE, resp};
use crate::process::{Ending, Process};
use crate::wait::block_until;
use crate::{RedisOptions, RedisServer, TempDir, free_port, tools};

/// How many Sentinels there are; two of them decide.
const SENTINELS: usize = 3;
/// Time for Sentinels to find each other and the replica.
const MEET_DEADLINE: Duration = Duration::from_secs(30);

/// A primary, its replica and three Sentinels on loopback ports of their own.
#[derive(Debug)]
pub struct WatchedRedis {
    servers: [RedisServer; 2],
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

// === impl WatchedRedis ===

impl WatchedRedis {
    /// The name that the Sentinels know the primary under.
    pub const NAME: &'static str = "main";

    /// Starts all of them and waits until the replica has its data and every Sentinel knows
    /// everyone. A primary counts as down after a second of silence.
    ///
    /// # Errors
    /// When a program is missing or something does not start in time.
    pub fn start(options: RedisOptions) -> Result<Self> {
        let replica_soon = options.set("repl-diskless-sync-delay", "0");
        let primary = RedisServer::start(replica_soon.clone())?;
        let of = format!("127.0.0.1 {}", primary.port());
        let replica = RedisServer::start(replica_soon.set("replicaof", &of))?;
        if !block_until(START_DEADLINE, || is_synced(&replica)) {
            bail!("the replica did not get its data:\n{}", replica.logs());
        }
        let sentinels = (0..SENTINELS).map(|_| Sentinel::start(primary.port()));
        let watched = Self {
            sentinels: sentinels.collect::<Result<_>>()?,
            servers: [primary, replica],
        };
        if !block_until(MEET_DEADLINE, || {
            watched.sentinels.iter().all(Sentinel::knows_all)
        }) {
            bail!("the Sentinels did not find each other");
        }
        Ok(watched)
    }

    /// Where the Sentinels listen, `127.0.0.1:PORT`.
    pub fn sentinels(&self) -> Vec<String> {
        let addresses = self.sentinels.iter();
        addresses
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
            .collect()
    }

    /// Has one Sentinel move the primary: when several are told, each does, and their failovers undo
    /// one another.
    ///
    /// # Errors
    /// When it is down, or cannot now: one is under way, or no replica will do yet.
    pub fn fail_over(&self) -> Result<()> {
        let sentinel = self.sentinels.first().context("no Sentinel is left")?;
        resp::command(sentinel.port, &["SENTINEL", "FAILOVER", Self::NAME])?;
        Ok(())
    }

    /// Sends one command to every Sentinel.
    ///
    /// # Errors
    /// When one is down or answers with an error.
    pub fn tell_sentinels(&self, words: &[&str]) -> Result<()> {
        for sentinel in &self.sentinels {
            resp::command(sentinel.port, words)?;
        }
        Ok(())
    }

    /// Ends the first Sentinel for good.
    pub fn lose_a_sentinel(&mut self) {
        self.sentinels.remove(0);
    }

    /// The port of the server that the Sentinels name now.
    ///
    /// # Panics
    /// When no Sentinel answers.
    pub fn primary(&self) -> u16 {
        let port = self.sentinels.iter().find_map(Sentinel::primary_port);
        port.expect("a Sentinel that answers")
    }

    /// The server on a port, whatever it is now.
    ///
    /// # Panics
    /// When it is none of the two.
    pub fn server(&mut self, port: u16) -> &mut RedisServer {
        let found = self.servers.iter_mut().find(|server| server.port() == port);
        found.expect("the port of one of the two")
    }

    /// Whether the server on a port is a replica that has all the data.
    pub fn is_synced_replica(&self, port: u16) -> bool {
        let server = self.servers.iter().find(|server| server.port() == port);
        server.is_some_and(is_synced)
    }
}

// === impl Sentinel ===

impl Sentinel {
    fn start(primary: u16) -> Result<Self> {
        let (port, folder) = (free_port(), TempDir::new()?);
        let name = WatchedRedis::NAME;
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndaemonize no\ndir {}\n\
             sentinel monitor {name} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 6000\n",
            folder.path().display()
        );
        let file = folder.join("sentinel.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(tools::redis_server()?);
        command.arg(&file).arg("--sentinel");
        let ending = Ending {
            signal: "KILL",
            remove: Some(folder.path()),
        };
        let mut process = Process::spawn(&mut command, &folder.join("log"), ending)?;
        let up = block_until(START_DEADLINE, || {
            process.exited().is_some() || resp::is_up(port)
        });
        if !up || process.exited().is_some() {
            bail!("a Sentinel did not start:\n{}", process.logs());
        }
        Ok(Self {
            port,
            _process: process,
            _folder: folder,
        })
    }

    fn ask(&self, what: &str) -> Result<Value> {
        resp::command(self.port, &["SENTINEL", what, WatchedRedis::NAME])
    }

    fn knows_all(&self) -> bool {
        let count = |what| {
            let answer = self.ask(what).ok()?;
            answer.as_array().map(Vec::len)
        };
        count("SENTINELS") == Some(SENTINELS - 1)
            && count("REPLICAS") == Some(1)
            && self.ask("CKQUORUM").is_ok()
    }

    fn primary_port(&self) -> Option<u16> {
        let address = self.ask("GET-MASTER-ADDR-BY-NAME").ok()?;
        address.get(1)?.as_str()?.parse().ok()
    }
}

fn is_synced(replica: &RedisServer) -> bool {
    let info = replica.command(&["INFO", "replication"]);
    let info = info.context("INFO").unwrap_or_default();
    info.as_str()
        .is_some_and(|info| info.contains("master_link_status:up"))
}
