//! Clients that read and change keys by chance, and the rows behind them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_cache::{Error, Loaded};
use ratebox_testkit::Stalls;

use super::history::{Call, Deed};
use crate::ground::Node;

const MS: Duration = Duration::from_millis(1);

/// Keys that many clients meet at: loads, fills and changes of one key at the same time.
const HOT_KEYS: usize = 16;

/// The others rest between changes, so that memories keep what they have.
const KEYS: usize = HOT_KEYS + 1_000;

/// Tags that loaders give, each to every so-manieth key.
const GROUPS: usize = 16;

/// Rows that only grow: when the write of each version began.
#[derive(Clone)]
pub(super) struct Rows {
    begun: Arc<Vec<Mutex<Vec<Duration>>>>,
    running: Stalls,
    loads: LoadsMay,
}

/// What loads do beside bringing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadsMay {
    Succeed,
    /// One in a hundred fails, one in a thousand takes longer than its lease.
    FailAndStall,
}

// === impl Rows ===

impl Rows {
    pub(super) fn new(loads: LoadsMay) -> Self {
        Self {
            begun: Arc::new((0..KEYS).map(|_| Mutex::default()).collect()),
            running: Stalls::watch(),
            loads,
        }
    }

    /// When the write of each version of each key began, in time that the machine was awake.
    pub(super) fn begun(&self) -> Vec<Vec<Duration>> {
        let awake = |begun: &Duration| self.running.awake(*begun);
        let of_key =
            |begun: &Mutex<Vec<Duration>>| begun.lock().unwrap().iter().map(awake).collect();
        self.begun.iter().map(of_key).collect()
    }

    /// The same call, in time that the machine was awake.
    pub(super) fn awake(&self, call: Call) -> Call {
        Call {
            began: self.running.awake(call.began),
            ended: self.running.awake(call.ended),
            ..call
        }
    }

    fn write(&self, key: usize) -> u64 {
        let mut begun = self.begun[key].lock().unwrap();
        begun.push(self.running.elapsed());
        begun.len() as u64
    }

    /// Reads a row, then takes its time to answer: what changes meanwhile is not in the answer.
    async fn read(&self, key: usize, chance: u16) -> Result<Loaded<u64>, io::Error> {
        let version = self.begun[key].lock().unwrap().len() as u64;
        let may = self.loads == LoadsMay::FailAndStall;
        match chance {
            0 if may => tokio::time::sleep(super::LEASE * 2).await,
            1..=10 if may => return Err(io::Error::other("no answer")),
            _ => tokio::time::sleep(MS * u32::from(chance % 4)).await,
        }
        Ok(Loaded::value(value(key, version)).tag(group(key)))
    }
}

/// A value says whose it is.
fn value(key: usize, version: u64) -> u64 {
    version << 16 | key as u64
}

fn group(key: usize) -> String {
    format!("group-{}", key % GROUPS)
}

/// One that does a number of things one after the other, each in one of the processes.
pub(super) struct Client {
    pub(super) nodes: Arc<Vec<Node>>,
    pub(super) rows: Rows,
    pub(super) chance: fastrand::Rng,
}

/// What a client did, and how many calls ended in an error.
#[derive(Default)]
pub(super) struct Done {
    pub(super) calls: Vec<Call>,
    pub(super) errors: usize,
}

// === impl Client ===

impl Client {
    pub(super) async fn run(mut self, operations: usize) -> Done {
        let mut done = Done::default();
        for _ in 0..operations {
            let key = match self.chance.bool() {
                true => self.chance.usize(0..HOT_KEYS),
                false => self.chance.usize(HOT_KEYS..KEYS),
            };
            let at = self.chance.usize(0..self.nodes.len());
            match self.chance.u16(0..10_000) {
                0..400 => self.invalidate(at, key, &mut done).await,
                400..410 => self.invalidate_group(at, key, &mut done).await,
                410..412 => self.invalidate_all(at, key, &mut done).await,
                412..800 => self.write_through(at, key, &mut done).await,
                800..1_000 => self.read_several(at, key, &mut done).await,
                _ => self.read(at, key, &mut done).await,
            }
        }
        done
    }

    async fn invalidate(&mut self, at: usize, key: usize, done: &mut Done) {
        let began = self.rows.running.elapsed();
        let version = self.rows.write(key);
        let told = self.nodes[at].cache.invalidate(&key.to_string()).await;
        self.wrote((at, key), began, (version, "invalidate"), &told, done);
    }

    async fn invalidate_group(&mut self, at: usize, key: usize, done: &mut Done) {
        let began = self.rows.running.elapsed();
        let version = self.rows.write(key);
        let told = self.nodes[at].cache.invalidate_tag(&group(key)).await;
        self.wrote((at, key), began, (version, "tag"), &told, done);
    }

    async fn invalidate_all(&mut self, at: usize, key: usize, done: &mut Done) {
        let began = self.rows.running.elapsed();
        let version = self.rows.write(key);
        let told = self.nodes[at].cache.invalidate_all().await;
        self.wrote((at, key), began, (version, "all"), &told, done);
    }

    fn wrote(
        &mut self,
        (node, key): (usize, usize),
        began: Duration,
        (version, by): (u64, &'static str),
        told: &Result<(), Error>,
        done: &mut Done,
    ) {
        done.errors += usize::from(told.is_err());
        done.calls.push(Call {
            node,
            key,
            began,
            ended: self.rows.running.elapsed(),
            deed: Deed::Wrote {
                version,
                others_told: told.is_ok(),
                by,
            },
        });
    }

    async fn write_through(&mut self, at: usize, key: usize, done: &mut Done) {
        let (node, rows) = (&self.nodes[at], self.rows.clone());
        let began = rows.running.elapsed();
        let write = async move {
            let written = value(key, rows.write(key));
            Ok::<_, io::Error>(Loaded::value(written).tag(group(key)))
        };
        let Ok(written) = node.cache.write_through(&key.to_string(), write).await else {
            done.errors += 1;
            return;
        };
        let others_told = node.tier.is_watching();
        done.calls.push(Call {
            node: at,
            key,
            began,
            ended: self.rows.running.elapsed(),
            deed: Deed::Wrote {
                version: *written.unwrap() >> 16,
                others_told,
                by: "write through",
            },
        });
    }

    pub(super) async fn read(&mut self, at: usize, key: usize, done: &mut Done) {
        let (rows, chance) = (self.rows.clone(), self.chance.u16(0..1_000));
        let began = rows.running.elapsed();
        let load = move || async move { rows.read(key, chance).await };
        let cache = &self.nodes[at].cache;
        match cache.get_or_load(&key.to_string(), load).await {
            Ok(value) => self.saw((at, key), began, *value.unwrap(), done),
            Err(_) => done.errors += 1,
        }
    }

    async fn read_several(&mut self, at: usize, key: usize, done: &mut Done) {
        let keys: Vec<usize> = (0..5).map(|n| (key + n * 3) % KEYS).collect();
        let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (rows, chance) = (self.rows.clone(), self.chance.u16(0..1_000));
        let began = rows.running.elapsed();
        let load = move |missing: Vec<String>| {
            let rows = rows.clone();
            async move {
                let mut loaded = HashMap::new();
                for key in missing {
                    let value = rows.read(key.parse().unwrap(), chance).await?;
                    loaded.insert(key, value);
                }
                Ok::<_, io::Error>(loaded)
            }
        };
        match self.nodes[at].cache.get_many_or_load(&texts, load).await {
            Ok(values) => {
                for (key, value) in keys.iter().zip(values) {
                    self.saw((at, *key), began, *value.unwrap(), done);
                }
            }
            Err(_) => done.errors += 1,
        }
    }

    fn saw(&self, (node, key): (usize, usize), began: Duration, value: u64, done: &mut Done) {
        let of = usize::try_from(value & 0xffff).unwrap();
        done.calls.push(Call {
            node,
            key,
            began,
            ended: self.rows.running.elapsed(),
            deed: Deed::Read {
                version: value >> 16,
                of,
            },
        });
    }

    /// Reads every key in every process.
    pub(super) async fn read_all(mut self) -> Done {
        let mut done = Done::default();
        for at in 0..self.nodes.len() {
            for key in 0..KEYS {
                self.read(at, key, &mut done).await;
            }
        }
        done
    }
}
