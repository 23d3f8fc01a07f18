//! Who owns which slots, as the nodes tell it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::select_ok;
use ratebox_kit::Stopwatch;
use redis::aio::ConnectionLike as _;
use redis::{FromRedisValue as _, Value, cmd};
use tokio::sync::Mutex;

use crate::endpoint::Dialer;
use crate::settings::Address;
use crate::slot::SLOTS;
use crate::source::short;
use crate::valkey::answered;
use crate::{Error, Settings};

/// Least time between two questions for the plan, so that an outage does not flood the cluster.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// Nodes that are asked at once; the first answer counts.
const ASKED_MAX: usize = 8;

/// Who owns which slots; shared by all links of a handle.
pub(crate) struct Plan {
    dialer: Dialer,
    seeds: Vec<Arc<Address>>,
    connect_timeout: Duration,
    known: RwLock<Arc<Owners>>,
    outdated: AtomicBool,
    asking: Mutex<Option<Asked>>,
    running: Stopwatch,
}

/// How the last question went.
struct Asked {
    at: Duration,
    error: Option<Error>,
}

/// The owners at one moment.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Ranges without overlap, by their first slot.
    ranges: Vec<Range>,
    primaries: Vec<Arc<Address>>,
}

#[derive(Debug)]
struct Range {
    first: u16,
    last: u16,
    node: Arc<Address>,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn new(settings: &Settings, more: &[Address]) -> Result<Self, Error> {
        let dialer = Dialer::new(settings)?;
        let wrong = |what: &str| Error::Url {
            what: what.to_owned(),
        };
        let home = dialer.address();
        let home = home.ok_or_else(|| wrong("a cluster has hosts; a socket file has none"))?;
        if dialer.database() != 0 {
            return Err(wrong("a cluster has only database 0"));
        }
        let seeds = std::iter::once(home).chain(more.iter().cloned());
        Ok(Self {
            dialer,
            seeds: seeds.map(Arc::new).collect(),
            connect_timeout: settings.connect_timeout,
            known: RwLock::default(),
            outdated: AtomicBool::new(true),
            asking: Mutex::new(None),
            running: Stopwatch::start(),
        })
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Something was not where the plan says.
    pub(crate) fn outdated(&self) {
        self.outdated.store(true, Ordering::Relaxed);
    }

    /// The plan as it was last told.
    pub(crate) fn known(&self) -> Arc<Owners> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The plan, asked for again when it is outdated. While somebody else asks, the old one
    /// serves; only the very first question is waited for by all.
    pub(crate) async fn owners(&self) -> Result<Arc<Owners>, Error> {
        let known = self.known();
        let is_first = known.primaries.is_empty();
        if !is_first && !self.outdated.load(Ordering::Relaxed) {
            return Ok(known);
        }
        let mut asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(_) if is_first => self.asking.lock().await,
            Err(_) => return Ok(known),
        };
        let paused = |asked: &Asked| self.running.elapsed() < asked.at + ASK_PAUSE;
        if let Some(asked) = asking.as_ref().filter(|asked| paused(asked)) {
            return match &asked.error {
                Some(error) if is_first => Err(error.clone()),
                _ => Ok(self.known()),
            };
        }
        let told = self.ask().await;
        let at = self.running.elapsed();
        let error = told.as_ref().err().cloned();
        *asking = Some(Asked { at, error });
        match told {
            Ok(owners) => {
                let owners = Arc::new(owners);
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&owners);
                self.outdated.store(false, Ordering::Relaxed);
                Ok(owners)
            }
            Err(error) if is_first => Err(error),
            Err(_) => Ok(known),
        }
    }

    /// Asks the nodes that are known, and those of the settings.
    async fn ask(&self) -> Result<Owners, Error> {
        let known = self.known();
        let mut nodes: Vec<&Arc<Address>> = Vec::new();
        for node in self.seeds.iter().chain(&known.primaries) {
            if nodes.len() < ASKED_MAX && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let asked = nodes.into_iter().map(|node| Box::pin(self.ask_one(node)));
        let (owners, _) = select_ok(asked).await?;
        Ok(owners)
    }

    async fn ask_one(&self, node: &Address) -> Result<Owners, Error> {
        let timeout = self.connect_timeout;
        let endpoint = self.dialer.at(node)?;
        let mut connection = endpoint.dial(short(timeout), timeout).await?;
        let mut slots = cmd("CLUSTER");
        slots.arg("SLOTS");
        let answer = connection.req_packed_command(&slots).await;
        let answer = answer
            .map_err(|error| Error::from_redis(&error, timeout))
            .and_then(answered)?;
        let owners = Owners::read(answer, node).ok_or_else(|| Error::answer("CLUSTER SLOTS"))?;
        if owners.primaries.is_empty() {
            return Err(Error::Unavailable {
                code: "CLUSTERDOWN".to_owned(),
            });
        }
        Ok(owners)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seeds.first() {
            Some(seed) => write!(f, "cluster of {seed}"),
            None => f.write_str("cluster"),
        }
    }
}

// === impl Owners ===

impl Owners {
    /// The primary of a slot; any for `None`.
    pub(crate) fn of(&self, slot: Option<u16>) -> Result<Arc<Address>, Error> {
        let node = match slot {
            None => self.primaries.first(),
            Some(slot) => {
                let after = self.ranges.partition_point(|range| range.first <= slot);
                let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
                range
                    .filter(|range| slot <= range.last)
                    .map(|range| &range.node)
            }
        };
        node.cloned().ok_or_else(|| Error::Unavailable {
            code: "CLUSTERDOWN".to_owned(),
        })
    }

    /// Every node that owns slots.
    pub(crate) fn primaries(&self) -> &[Arc<Address>] {
        &self.primaries
    }

    /// `[[first, last, [host, port, …], …], …]`, as the node `asked` told it.
    fn read(answer: Value, asked: &Address) -> Option<Self> {
        let mut owners = Self::default();
        for range in Vec::<Value>::from_redis_value(answer).ok()? {
            let mut parts = Vec::<Value>::from_redis_value(range).ok()?.into_iter();
            let first = u16::from_redis_value(parts.next()?).ok()?;
            let last = u16::from_redis_value(parts.next()?).ok()?;
            if first > last || last >= SLOTS {
                return None;
            }
            let mut node = Vec::<Value>::from_redis_value(parts.next()?)
                .ok()?
                .into_iter();
            let host = Option::<String>::from_redis_value(node.next()?).ok()?;
            let port = u16::from_redis_value(node.next()?).ok()?;
            // A node that does not know its own address leaves it out.
            let host = host.filter(|host| !host.is_empty() && host != "?");
            let address = Arc::new(Address {
                host: host.unwrap_or_else(|| asked.host.clone()),
                port,
            });
            let same = owners.primaries.iter().find(|one| **one == address);
            let node = same.cloned().unwrap_or_else(|| {
                owners.primaries.push(Arc::clone(&address));
                address
            });
            owners.ranges.push(Range { first, last, node });
        }
        owners.ranges.sort_by_key(|range| range.first);
        Some(owners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn slots_are_found_in_their_ranges() {
        let asked = "asked:7".parse().unwrap();
        let answer = Value::Array(vec![
            range(9_000, 16_383, text("b"), 2),
            range(0, 4_000, text(""), 1),
            range(4_001, 8_000, Value::Nil, 1),
        ]);
        let owners = Owners::read(answer, &asked).unwrap();
        let of = |slot| owners.of(slot).map(|node| node.to_string());
        assert_eq!(of(Some(0)).unwrap(), "asked:1");
        assert_eq!(of(Some(8_000)).unwrap(), "asked:1");
        assert_eq!(of(Some(16_383)).unwrap(), "b:2");
        assert!(of(Some(8_500)).unwrap_err().is_retryable());
        assert!(of(None).is_ok());
        assert_eq!(owners.primaries().len(), 2);
        let wrong = Value::Array(vec![range(0, 20_000, text("a"), 1)]);
        assert!(Owners::read(wrong, &asked).is_none());
    }
}
