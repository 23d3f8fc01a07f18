//! What the server is, and how safe entries are with it.

use std::collections::HashMap;
use std::time::Duration;

use ratebox_kit::Timestamp;
use redis::{Value, cmd, pipe};

use crate::route::Answers;
use crate::{Error, Valkey};

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// When the append-only file is forced to disk, from the safest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Appendfsync {
    /// Before each answer.
    Always,
    /// Once a second.
    Everysec,
    /// When the kernel likes.
    No,
}

/// A server as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Whose it is.
    pub flavour: Flavour,
    /// Its own version, such as `7.0.15` or `8.1.8`.
    pub version: String,
    /// What it does when memory runs out.
    pub maxmemory_policy: String,
    /// Its memory limit in bytes; 0 = none.
    pub maxmemory_bytes: u64,
    /// Memory in use, in bytes.
    pub used_memory_bytes: u64,
    /// Whether it writes an append-only file.
    pub aof_enabled: bool,
    /// When that file is forced to disk; `None` when the server does not tell (`CONFIG` denied).
    pub appendfsync: Option<Appendfsync>,
    /// Its snapshot schedule, empty = none; `None` when the server does not tell.
    pub rdb_saves: Option<String>,
    /// Bytes from which on the append-only file is rewritten when it has doubled, which holds up
    /// every command for a moment; `None` when the server does not tell.
    pub aof_rewrite_min_bytes: Option<u64>,
    /// Whether it is part of a cluster.
    pub cluster_enabled: bool,
}

// === impl ServerInfo ===

impl ServerInfo {
    /// How much of what was accepted a power cut can take: zero with `always`; one second with
    /// `everysec` (measured: 0.75 to 1.4 s); `None` when it is unknown or unbounded, as with
    /// snapshots only.
    pub fn loss_window(&self) -> Option<Duration> {
        match (self.aof_enabled, self.appendfsync?) {
            (true, Appendfsync::Always) => Some(Duration::ZERO),
            (true, Appendfsync::Everysec) => Some(Duration::from_secs(1)),
            (true, Appendfsync::No) | (false, _) => None,
        }
    }

    /// Whether it can carry streams: `Ok(None)` when it can, `Ok(Some(warning))` when it can but
    /// should be changed.
    ///
    /// # Errors
    /// [`Error::Policy`] for `allkeys-*`, which evicts whole streams.
    pub fn check_for_bus(&self) -> Result<Option<String>, Error> {
        let policy = self.maxmemory_policy.as_str();
        if policy.starts_with("allkeys-") {
            return Err(Error::Policy {
                policy: policy.to_owned(),
            });
        }
        Ok(policy.starts_with("volatile-").then(|| {
            format!(
                "maxmemory-policy is {policy}: streams are safe, but keys with an expiry are \
                 evicted under memory pressure; set it to noeviction on the bus instance"
            )
        }))
    }

    /// What two servers promise together.
    fn weaker(self, other: Self) -> Self {
        let risk = |policy: &str| match policy {
            "noeviction" => 0,
            policy if policy.starts_with("allkeys-") => 2,
            _ => 1,
        };
        let worse = risk(&other.maxmemory_policy) > risk(&self.maxmemory_policy);
        Self {
            maxmemory_policy: if worse {
                other.maxmemory_policy
            } else {
                self.maxmemory_policy
            },
            maxmemory_bytes: self.maxmemory_bytes + other.maxmemory_bytes,
            used_memory_bytes: self.used_memory_bytes + other.used_memory_bytes,
            aof_enabled: self.aof_enabled && other.aof_enabled,
            appendfsync: self
                .appendfsync
                .zip(other.appendfsync)
                .map(|(a, b)| a.max(b)),
            aof_rewrite_min_bytes: self
                .aof_rewrite_min_bytes
                .zip(other.aof_rewrite_min_bytes)
                .map(|(a, b)| a.min(b)),
            rdb_saves: self.rdb_saves.zip(other.rdb_saves).map(|(a, b)| a.min(b)),
            ..self
        }
    }

    fn read(info: &HashMap<&str, &str>, config: &HashMap<String, String>) -> Result<Self, Error> {
        let text = |name: &str| info.get(name).copied();
        let valkey = text("valkey_version");
        let version = valkey.or_else(|| text("redis_version"));
        let number = |name: &str| text(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Self {
            flavour: if valkey.is_some() {
                Flavour::Valkey
            } else {
                Flavour::Redis
            },
            version: version
                .ok_or_else(|| Error::answer("INFO with a version"))?
                .to_owned(),
            maxmemory_policy: text("maxmemory_policy").unwrap_or("").to_owned(),
            maxmemory_bytes: number("maxmemory"),
            used_memory_bytes: number("used_memory"),
            aof_enabled: text("aof_enabled") == Some("1"),
            appendfsync: match config.get("appendfsync").map(String::as_str) {
                Some("always") => Some(Appendfsync::Always),
                Some("everysec") => Some(Appendfsync::Everysec),
                Some("no") => Some(Appendfsync::No),
                Some(_) | None => None,
            },
            rdb_saves: config.get("save").cloned(),
            aof_rewrite_min_bytes: config
                .get("auto-aof-rewrite-min-size")
                .and_then(|bytes| bytes.parse().ok()),
            cluster_enabled: text("cluster_enabled") == Some("1"),
        })
    }
}

// === impl Valkey ===

impl Valkey {
    /// Asks the server what it is. `CONFIG` may be denied; what it would tell is `None` then. Of a
    /// cluster, the weakest in each respect is told, and the sum of the memory.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        let mut asked = pipe();
        asked.add_command(cmd("INFO"));
        for name in ["appendfsync", "save", "auto-aof-rewrite-min-size"] {
            asked.cmd("CONFIG").arg("GET").arg(name);
        }
        let mut servers = self.everywhere(&asked).await?.into_iter().map(one_server);
        let first = servers.next().ok_or_else(|| Error::answer("INFO"))??;
        servers.try_fold(first, |weakest, server| Ok(weakest.weaker(server?)))
    }

    /// The time on the server's clock.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_time(&self) -> Result<Timestamp, Error> {
        let (seconds, micros): (i64, i32) = self.query_as(&cmd("TIME")).await?;
        let time = Timestamp::new(seconds, micros.saturating_mul(1000));
        time.map_err(|_| Error::answer("TIME as seconds and microseconds"))
    }
}

/// One server, from its answers to `INFO` and `CONFIG GET`.
fn one_server(answers: Answers) -> Result<ServerInfo, Error> {
    let mut answers = answers.into_iter();
    let info = answers.next().ok_or_else(|| Error::answer("INFO"))??;
    let info: String =
        redis::from_redis_value(info).map_err(|_| Error::answer("INFO as a text"))?;
    let config = answers.flatten().filter_map(map_of).flatten().collect();
    ServerInfo::read(&pairs(&info), &config)
}

fn map_of(value: Value) -> Option<HashMap<String, String>> {
    redis::from_redis_value(value).ok()
}

fn pairs(info: &str) -> HashMap<&str, &str> {
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(policy: &str, aof: bool, appendfsync: Option<Appendfsync>) -> ServerInfo {
        ServerInfo {
            flavour: Flavour::Redis,
            version: "7.0.15".to_owned(),
            maxmemory_policy: policy.to_owned(),
            maxmemory_bytes: 0,
            used_memory_bytes: 0,
            aof_enabled: aof,
            appendfsync,
            rdb_saves: None,
            aof_rewrite_min_bytes: None,
            cluster_enabled: false,
        }
    }

    #[test]
    fn the_loss_window_follows_from_the_persistence_settings() {
        let window = |aof, fsync| server("noeviction", aof, fsync).loss_window();
        assert_eq!(
            window(true, Some(Appendfsync::Always)),
            Some(Duration::ZERO)
        );
        assert_eq!(
            window(true, Some(Appendfsync::Everysec)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(window(true, Some(Appendfsync::No)), None);
        assert_eq!(window(false, Some(Appendfsync::Everysec)), None);
        assert_eq!(window(true, None), None);
    }

    #[test]
    fn a_server_that_evicts_streams_is_refused_and_told_what_to_change() {
        let error = server("allkeys-lru", true, None)
            .check_for_bus()
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("set maxmemory-policy to noeviction")
        );
        let warning = server("volatile-lru", true, None).check_for_bus().unwrap();
        assert!(warning.unwrap().contains("noeviction"));
        assert_eq!(server("noeviction", true, None).check_for_bus(), Ok(None));
    }
}
