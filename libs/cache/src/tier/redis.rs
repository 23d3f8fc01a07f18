//! A tier on Redis or Valkey.
//!
//! Entries and pushes share one connection per server, so an entry that is read after another's
//! change was answered is read after that change was heard ([`ratebox_valkey::Observer`]).

mod ear;
mod gather;
mod script;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use ratebox_kit::Tasks;
use ratebox_valkey::{Call, Valkey};
use redis::{FromRedisValue, Value, cmd};
use uuid::Uuid;

use super::{Store, Taken, Tier, Usage, watch};
use crate::Error;
use crate::entry::{STAMP_AT, STAMP_LEN};
use crate::view::View;
use ear::Ear;
use gather::Gather;

/// A count lives at least so long after its last use, whatever the entries' lives: each renewal is
/// told to all processes.
const COUNT_LIFE_MIN: Duration = Duration::from_secs(24 * 3_600);

/// How a tier uses a server.
#[derive(Clone, Debug)]
pub struct ValkeyTier {
    /// Begins the name of every key. No braces: they place keys in a cluster.
    pub prefix: String,
    /// Longest wait for an answer; what is slower counts as away.
    pub timeout: Duration,
    /// How often the connection is asked for a sign of life. A dead one that looks healthy is
    /// noticed after this and one timeout.
    pub heartbeat: Duration,
}

impl Default for ValkeyTier {
    fn default() -> Self {
        Self {
            prefix: "cache:".to_owned(),
            timeout: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
        }
    }
}

pub(crate) struct OnValkey {
    valkey: Valkey,
    prefix: String,
    gather: Gather,
}

// === impl Tier ===

impl Tier {
    /// A tier on a server, over connections of its own. Succeeds while the server is away.
    ///
    /// # Errors
    /// [`Error::Settings`] when the prefix cannot be used.
    pub fn valkey(valkey: &Valkey, settings: &ValkeyTier, tasks: &Tasks) -> Result<Self, Error> {
        if settings.prefix.is_empty() || settings.prefix.contains(['{', '}']) {
            let what = "the cache's key prefix must not be empty and must hold no braces";
            return Err(Error::Settings {
                what: what.to_owned(),
            });
        }
        let view = Arc::new(View::new());
        // Until the first sign of life.
        view.lost();
        let ear = Arc::new(Ear::new(&settings.prefix, Arc::clone(&view)));
        let prefixes = ["e:", "l:", "t:"].map(|kind| format!("{}{kind}", settings.prefix));
        let prefixes = prefixes.each_ref().map(String::as_str);
        let store = Arc::new(OnValkey {
            valkey: valkey.tracked(&prefixes, ear, settings.timeout),
            prefix: settings.prefix.clone(),
            gather: Gather::new(),
        });
        let tier = Self {
            store: Some(Arc::clone(&store) as Arc<dyn Store>),
            view,
            repairs: Arc::default(),
        };
        let (reads, stop) = (Arc::clone(&store), tasks.shutdown());
        tasks.spawn("cache reads", async move {
            reads.gather.run(&reads.valkey, stop).await;
        });
        let watched = tier.clone();
        let (shutdown, heartbeat) = (tasks.shutdown(), settings.heartbeat);
        tasks.spawn("cache watch", async move {
            watch::run(&watched, store.as_ref(), heartbeat, shutdown).await;
        });
        Ok(tier)
    }
}

// === impl OnValkey ===

impl OnValkey {
    /// All keys of a name lie in one slot. The dot keeps the braces from being empty.
    fn entry(&self, name: &str) -> String {
        [&self.prefix, "e:{.", name, "}"].concat()
    }

    fn lease(&self, name: &str) -> String {
        [&self.prefix, "l:{.", name, "}"].concat()
    }

    fn count(&self, tag: &str) -> String {
        [&self.prefix, "t:", tag].concat()
    }

    async fn run<T: FromRedisValue>(&self, call: Call<'_>) -> Result<T, Error> {
        read(self.valkey.run(&call).await?)
    }

    async fn drop_entry(&self, name: &str) -> Result<(), Error> {
        let mut delete = cmd("UNLINK");
        delete.arg(self.entry(name)).arg(self.lease(name));
        self.valkey.query(&delete).await?;
        Ok(())
    }

    async fn raise(&self, tag: &str, life: Duration) -> Result<(), Error> {
        let key = self.count(tag);
        let call = script::RAISE.call().key(&key).arg(count_life_ms(life));
        match self.valkey.run(&call).await {
            Ok(_) => Ok(()),
            // Removing is allowed when memory is full. A count that is missing fits no entry.
            Err(ratebox_valkey::Error::OutOfMemory) => {
                let mut delete = cmd("UNLINK");
                delete.arg(key);
                self.valkey.query(&delete).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl Store for OnValkey {
    async fn ping(&self) -> Result<(), Error> {
        Ok(self.valkey.ping().await?)
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.gather.get(&self.valkey, self.entry(name)).await
    }

    /// `NOLOOP` does not cover scripts.
    fn echoes(&self) -> bool {
        true
    }

    async fn stamps(&self, names: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        let mut pipe = redis::pipe();
        for name in names {
            let stamp = pipe.cmd("GETRANGE").arg(self.entry(name));
            stamp.arg(STAMP_AT).arg(STAMP_AT + STAMP_LEN - 1);
        }
        let answers = self.valkey.pipeline(&pipe).await?;
        answers.into_iter().map(|answer| read(answer?)).collect()
    }

    async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut pipe = redis::pipe();
        for name in names {
            pipe.cmd("GET").arg(self.entry(name));
        }
        let answers = self.valkey.pipeline(&pipe).await?;
        let entries = answers.into_iter().map(|answer| match answer {
            Ok(value) => entry(value),
            Err(error) => not_ours(error),
        });
        entries.collect()
    }

    async fn take(
        &self,
        name: &str,
        token: Uuid,
        lease: Duration,
        seen: &[u8],
    ) -> Result<Taken, Error> {
        // Plain commands, and no script: only those are not echoed.
        let (entry_key, lease_key) = (self.entry(name), self.lease(name));
        let mut pipe = redis::pipe();
        let set = pipe.cmd("SET").arg(&lease_key).arg(token.as_bytes());
        set.arg("NX").arg("PX").arg(ms(lease));
        let stamp_end = STAMP_AT + STAMP_LEN - 1;
        let stamp = pipe.cmd("GETRANGE").arg(&entry_key);
        stamp.arg(STAMP_AT).arg(stamp_end);
        pipe.cmd("PTTL").arg(&lease_key);
        let mut answers = self.valkey.pipeline(&pipe).await?.into_iter();
        let mut next = || {
            let missing = || Err(ratebox_valkey::Error::answer("three answers"));
            answers.next().unwrap_or_else(missing)
        };
        let (taken, stamp, left) = (next()? != Value::Nil, next()?, next()?);
        let stamp: Vec<u8> = read(stamp)?;
        if !stamp.is_empty() && stamp != seen {
            if taken {
                self.give_back(name, token).await?;
            }
            if let Some(entry) = self.get(name).await? {
                return Ok(Taken::Newer(entry));
            }
            // Gone again: whoever asks once more gets the right.
            return Ok(Taken::Busy(Duration::ZERO));
        }
        let left: i64 = read(left)?;
        Ok(match taken {
            true => Taken::Ours,
            false => Taken::Busy(Duration::from_millis(left.max(0).unsigned_abs())),
        })
    }

    async fn renew(&self, name: &str, token: Uuid, lease: Duration) -> Result<bool, Error> {
        let call = script::RENEW.call().key(&self.lease(name));
        self.run(call.arg(token.as_bytes()).arg(ms(lease))).await
    }

    async fn fill(
        &self,
        name: &str,
        token: Uuid,
        entry: Bytes,
        life: Duration,
    ) -> Result<bool, Error> {
        let call = script::FILL.call();
        let call = call.key(&self.entry(name)).key(&self.lease(name));
        self.run(call.arg(token.as_bytes()).arg(&entry[..]).arg(ms(life)))
            .await
    }

    async fn give_back(&self, name: &str, token: Uuid) -> Result<(), Error> {
        let call = script::GIVE_BACK.call().key(&self.lease(name));
        self.run(call.arg(token.as_bytes())).await
    }

    async fn seize(&self, name: &str, token: Uuid, lease: Duration) -> Result<(), Error> {
        let call = script::SEIZE.call();
        let call = call.key(&self.entry(name)).key(&self.lease(name));
        self.run(call.arg(token.as_bytes()).arg(ms(lease))).await
    }

    async fn set(&self, name: &str, entry: Bytes, life: Duration) -> Result<(), Error> {
        let call = script::SET.call();
        let call = call.key(&self.entry(name)).key(&self.lease(name));
        self.run(call.arg(&entry[..]).arg(ms(life))).await
    }

    async fn remove(&self, names: &[String], tags: &[String], life: Duration) -> Result<(), Error> {
        let entries = try_join_all(names.iter().map(|name| self.drop_entry(name)));
        let counts = try_join_all(tags.iter().map(|tag| self.raise(tag, life)));
        try_join(entries, counts).await?;
        Ok(())
    }

    async fn counts(&self, tags: &[String]) -> Result<Vec<Option<u64>>, Error> {
        let mut pipe = redis::pipe();
        for tag in tags {
            pipe.cmd("GET").arg(self.count(tag));
        }
        let answers = self.valkey.pipeline(&pipe).await?;
        answers.into_iter().map(|answer| read(answer?)).collect()
    }

    async fn ensure(&self, tags: &[String], life: Duration) -> Result<Vec<u64>, Error> {
        let counts = tags.iter().map(|tag| {
            let call = script::ENSURE.call().key(&self.count(tag));
            self.run(call.arg(count_life_ms(life)))
        });
        try_join_all(counts).await
    }

    async fn usage(&self) -> Result<Usage, Error> {
        let keys: u64 = read(self.valkey.query(&cmd("DBSIZE")).await?)?;
        let mut info = cmd("INFO");
        info.arg("memory");
        let text: String = read(self.valkey.query(&info).await?)?;
        let bytes = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        Ok(Usage {
            keys,
            bytes: bytes.unwrap_or(0),
        })
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn count_life_ms(life: Duration) -> u64 {
    ms(life.saturating_mul(2).max(COUNT_LIFE_MIN))
}

fn entry(value: Value) -> Result<Option<Bytes>, Error> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(entry) => Ok(Some(entry.into())),
        _ => Err(ratebox_valkey::Error::answer("an entry").into()),
    }
}

/// A key of another type is no entry: a miss like any other garbage.
fn not_ours(error: ratebox_valkey::Error) -> Result<Option<Bytes>, Error> {
    match error {
        ratebox_valkey::Error::Command { code, .. } if code == "WRONGTYPE" => Ok(None),
        error => Err(error.into()),
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Error> {
    let read = T::from_redis_value(value);
    read.map_err(|_| ratebox_valkey::Error::answer(std::any::type_name::<T>()).into())
}
