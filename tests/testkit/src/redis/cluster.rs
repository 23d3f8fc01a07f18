//! A cluster of own servers, whose slots can be moved and whose nodes can be killed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::wait::block_until;
use crate::{RedisOptions, RedisServer, free_port};

/// Primaries of a cluster.
const PRIMARIES: usize = 3;
/// Slots of a cluster.
const SLOTS: usize = 16_384;
/// Time for nodes to find each other and agree.
const MEET_DEADLINE: Duration = Duration::from_secs(30);

/// Whether primaries have someone to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// Nobody.
    None,
    /// One each.
    OneEach,
}

/// Three primaries, each with a third of the slots; their replicas come after them.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

// === impl RedisCluster ===

impl RedisCluster {
    /// Starts the nodes and waits until all of them call the cluster fine. A node counts as down
    /// after a second and a half of silence. With TLS the nodes speak it with each other, too.
    ///
    /// # Errors
    /// When the program is missing or something does not start in time.
    pub fn start(options: &RedisOptions, replicas: Replicas) -> Result<Self> {
        let count = match replicas {
            Replicas::None => PRIMARIES,
            Replicas::OneEach => PRIMARIES * 2,
        };
        let mut nodes = Vec::with_capacity(count);
        let mut buses = Vec::with_capacity(count);
        for _ in 0..count {
            let bus = free_port().to_string();
            let options = options
                .clone()
                .set("cluster-enabled", "yes")
                .set("cluster-port", &bus)
                .set("cluster-node-timeout", "1500")
                .set("repl-diskless-sync-delay", "0");
            let options = match options.has_tls() {
                true => options
                    .set("tls-cluster", "yes")
                    .set("tls-replication", "yes"),
                false => options,
            };
            nodes.push(RedisServer::start(options)?);
            buses.push(bus);
        }
        let cluster = Self { nodes };
        cluster.join(&buses)?;
        cluster.replicate()?;
        Ok(cluster)
    }

    /// The address of the first node.
    pub fn url(&self) -> String {
        self.nodes.first().map(RedisServer::url).unwrap_or_default()
    }

    /// The port for TLS of every node, in the same order.
    pub fn tls_ports(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().filter_map(RedisServer::tls_port)
    }

    /// The port of every node, primaries first as they were at the start.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().map(RedisServer::port)
    }

    /// Every node, primaries first as they were at the start.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The place among the nodes of the primary that owns the slot of `key` now.
    ///
    /// # Errors
    /// When no node can be asked, or nobody owns the slot.
    pub fn owner_of(&self, key: &str) -> Result<usize> {
        let slot = self.slot_of(key)?;
        let up = self.nodes.iter().find(|node| node.pid().is_some());
        let ranges = up
            .context("a node that is up")?
            .command(&["CLUSTER", "SLOTS"])?;
        let ranges = ranges.as_array().cloned().unwrap_or_default();
        let at = |range: &Value, index: usize| range.get(index).and_then(Value::as_u64);
        let range = ranges
            .iter()
            .find(|range| at(range, 0) <= Some(slot) && Some(slot) <= at(range, 1));
        let port = range.and_then(|range| at(range.get(2)?, 1));
        let owner = self.nodes.iter();
        let mut owner = owner.map(|node| Some(u64::from(node.port())));
        owner
            .position(|one| one == port)
            .with_context(|| format!("nobody owns slot {slot}"))
    }

    /// Starts to move the slot of `key` to another node: from now on, keys that the old owner
    /// lacks are asked for there.
    ///
    /// # Errors
    /// When a node refuses.
    pub fn begin_move(&self, key: &str, to: usize) -> Result<()> {
        let (slot, from) = (self.slot_of(key)?.to_string(), self.owner_of(key)?);
        let (from_id, to_id) = (self.id(from)?, self.id(to)?);
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id];
        self.node(to)?.command(&importing)?;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id];
        self.node(from)?.command(&migrating)?;
        Ok(())
    }

    /// Carries the keys of a slot that is on its way, and makes the new owner known.
    ///
    /// # Errors
    /// When a node refuses.
    pub fn end_move(&self, key: &str, to: usize) -> Result<()> {
        let (slot, from) = (self.slot_of(key)?.to_string(), self.owner_of(key)?);
        let (source, target) = (self.node(from)?, self.node(to)?);
        let port = target.port().to_string();
        let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"])?;
        for key in keys.as_array().into_iter().flatten() {
            let key = key.as_str().context("a key")?;
            source.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"])?;
        }
        let id = self.id(to)?;
        for node in [target, source] {
            node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id])?;
        }
        Ok(())
    }

    fn node(&self, index: usize) -> Result<&RedisServer> {
        self.nodes.get(index).context("a node of that number")
    }

    fn id(&self, index: usize) -> Result<String> {
        let id = self.node(index)?.command(&["CLUSTER", "MYID"])?;
        Ok(id.as_str().context("an id")?.to_owned())
    }

    fn slot_of(&self, key: &str) -> Result<u64> {
        let up = self.nodes.iter().find(|node| node.pid().is_some());
        let slot = up.context("a node that is up")?;
        let slot = slot.command(&["CLUSTER", "KEYSLOT", key])?;
        slot.as_u64().context("a slot")
    }

    /// Gives each primary its slots and introduces everyone to the first.
    fn join(&self, buses: &[String]) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            let epoch = (index + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            if index < PRIMARIES {
                let first = (SLOTS * index / PRIMARIES).to_string();
                let last = (SLOTS * (index + 1) / PRIMARIES - 1).to_string();
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
            }
        }
        let first = self.node(0)?;
        for (node, bus) in self.nodes.iter().zip(buses).skip(1) {
            let port = node.tls_port().unwrap_or(node.port()).to_string();
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])?;
        }
        let count = format!("cluster_known_nodes:{}\r", self.nodes.len());
        self.agree(
            &|node| says(node, &["CLUSTER", "INFO"], &count),
            "find each other",
        )?;
        let fine = "cluster_state:ok";
        self.agree(
            &|node| says(node, &["CLUSTER", "INFO"], fine),
            "call it fine",
        )
    }

    fn replicate(&self) -> Result<()> {
        for (index, replica) in self.nodes.iter().enumerate().skip(PRIMARIES) {
            let primary = self.id(index - PRIMARIES)?;
            replica.command(&["CLUSTER", "REPLICATE", &primary])?;
        }
        let primaries = self.nodes.iter().take(PRIMARIES);
        let ports: Vec<u16> = primaries.map(RedisServer::port).collect();
        let synced = |node: &RedisServer| {
            ports.contains(&node.port())
                || says(node, &["INFO", "replication"], "master_link_status:up")
        };
        self.agree(&synced, "get their data")
    }

    fn agree(&self, holds: &dyn Fn(&RedisServer) -> bool, what: &str) -> Result<()> {
        if !block_until(MEET_DEADLINE, || self.nodes.iter().all(holds)) {
            bail!("the nodes of the cluster did not {what}");
        }
        Ok(())
    }
}

fn says(node: &RedisServer, words: &[&str], text: &str) -> bool {
    let answer = node.command(words).unwrap_or_default();
    answer.as_str().is_some_and(|answer| answer.contains(text))
}
