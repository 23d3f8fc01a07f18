//! A tier on Redis or Valkey.
//!
//! Entries and pushes share one connection per server, so an entry that is read after another's
//! change was answered is read after that change was heard ([`ratebox_valkey::Observer`]).

mod ear;
mod gather;
mod replica;
mod script;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use ratebox_kit::Tasks;
use ratebox_valkey::{Call, Valkey};
use redis::{Cmd, FromRedisValue, Pipeline, RedisWrite, ToRedisArgs, Value, cmd};
use uuid::Uuid;

use super::{Ensured, Opened, Store, Taken, Tier, Usage, watch};
use crate::Error;
use crate::entry::{STAMP_AT, STAMP_LEN};
use crate::view::View;
use ear::Ear;
use gather::{Ask, Gather};
use replica::Replica;

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
    /// A replica of the server: it serves the names that it has as they are known to be. A change by
    /// another process is seen in what it serves when it is heard, as in this process' memory. For
    /// one server, no cluster.
    pub replica: Option<Valkey>,
}

impl Default for ValkeyTier {
    fn default() -> Self {
        Self {
            prefix: "cache:".to_owned(),
            timeout: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            replica: None,
        }
    }
}

/// A key of the server by its parts, which are written where they are sent from.
#[derive(Clone, Copy)]
struct Key<'a>([&'a str; 4]);

pub(crate) struct OnValkey {
    valkey: Valkey,
    prefix: String,
    gather: Gather,
    replica: Option<Arc<Replica>>,
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
        let replica = settings.replica.clone().map(|replica| {
            let replica = Replica::new(replica, settings.timeout, Arc::clone(&view));
            Arc::new(replica)
        });
        let store = Arc::new(OnValkey {
            valkey: valkey.tracked(&prefixes, ear, settings.timeout),
            prefix: settings.prefix.clone(),
            gather: Gather::new(),
            replica: replica.clone(),
        });
        let tier = Self {
            store: Some(Arc::clone(&store) as Arc<dyn Store>),
            view,
            repairs: Arc::default(),
            recent: Arc::default(),
        };
        let (reads, stop) = (Arc::clone(&store), tasks.shutdown());
        tasks.spawn("cache trips", async move {
            reads.gather.run(&reads.valkey, stop).await;
        });
        if let Some(replica) = replica {
            let (reads, stop) = (Arc::clone(&replica), tasks.shutdown());
            tasks.spawn("cache replica reads", async move { reads.run(stop).await });
            let (primary, stop) = (valkey.clone(), tasks.shutdown());
            tasks.spawn("cache replica", async move {
                replica.follow(&primary, stop).await;
            });
        }
        let watched = tier.clone();
        let (shutdown, heartbeat) = (tasks.shutdown(), settings.heartbeat);
        tasks.spawn("cache watch", async move {
            watch::run(&watched, store.as_ref(), heartbeat, shutdown).await;
        });
        Ok(tier)
    }
}

// === impl Key ===

impl Key<'_> {
    fn len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut arg = out.writer_for_next_arg();
        for part in self.0 {
            // Writing to memory does not fail.
            let _ = arg.write_all(part.as_bytes());
        }
    }
}

// === impl OnValkey ===

impl OnValkey {
    fn entry(&self, name: &str) -> String {
        self.entry_key(name).0.concat()
    }

    fn lease(&self, name: &str) -> String {
        self.lease_key(name).0.concat()
    }

    /// All keys of a name lie in one slot. The dot keeps the braces from being empty.
    fn entry_key<'a>(&'a self, name: &'a str) -> Key<'a> {
        Key([&self.prefix, "e:{.", name, "}"])
    }

    fn lease_key<'a>(&'a self, name: &'a str) -> Key<'a> {
        Key([&self.prefix, "l:{.", name, "}"])
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
        let entry_key = self.entry(name);
        if let Some(replica) = &self.replica
            && replica.may_serve(name)
            && let Some(entry) = replica.get(&entry_key).await
        {
            return Ok(entry);
        }
        get(&self.gather, &self.valkey, &entry_key).await
    }

    /// `NOLOOP` does not cover scripts: fills are echoed.
    fn is_far(&self) -> bool {
        true
    }

    async fn open(&self, name: &str, token: Uuid, lease: Duration) -> Result<Opened, Error> {
        // Plain commands, as in `take`.
        let (entry_key, lease_key) = (self.entry_key(name), self.lease_key(name));
        let mut set = sized("SET", 6, lease_key.len() + token.as_bytes().len());
        set.arg(lease_key).arg(token.as_bytes());
        set.arg("NX").arg("PX").arg(ms(lease));
        let mut get = sized("GET", 2, entry_key.len());
        get.arg(entry_key);
        let ask = Ask::two(set, get);
        let (taken, entry_told) = self.gather.ask(&self.valkey, ask).await?;
        let missing = || Err(ratebox_valkey::Error::answer("two answers"));
        let entry = entry_told.unwrap_or_else(missing);
        let entry = entry.map_or_else(not_ours, entry_in)?;
        let is_ours = match taken {
            Ok(taken) => taken != Value::Nil,
            // A server that is full has values still.
            Err(_) if entry.is_some() => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Opened { entry, is_ours })
    }

    async fn stamps(&self, names: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        let mut pipe = Pipeline::with_capacity(names.len());
        for name in names {
            let entry_key = self.entry_key(name);
            let mut stamp = sized("GETRANGE", 4, entry_key.len());
            stamp.arg(entry_key);
            stamp.arg(STAMP_AT).arg(STAMP_AT + STAMP_LEN - 1);
            pipe.add_command(stamp);
        }
        let answers = self.valkey.pipeline(&pipe).await?;
        answers.into_iter().map(stamp_in).collect()
    }

    async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut pipe = redis::pipe();
        for name in names {
            pipe.cmd("GET").arg(self.entry(name));
        }
        let answers = self.valkey.pipeline(&pipe).await?;
        let entries = answers.into_iter().map(|answer| match answer {
            Ok(value) => entry_in(value),
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
        let (taken, stamp, left) = (next()? != Value::Nil, stamp_in(next())?, next()?);
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
        if entry.len() <= GATHERED_MAX {
            let (entry_key, lease_key) = (self.entry_key(name), self.lease_key(name));
            let bytes = HASH_LEN + entry_key.len() + lease_key.len() + entry.len();
            let mut fill = sized("EVALSHA", 8, bytes + token.as_bytes().len());
            fill.arg(script::FILL.hash()).arg(2);
            fill.arg(entry_key).arg(lease_key);
            fill.arg(token.as_bytes()).arg(&entry[..]).arg(ms(life));
            match self.gather.ask(&self.valkey, Ask::one(fill)).await?.0 {
                Err(ratebox_valkey::Error::Command { code, .. }) if code == "NOSCRIPT" => {}
                filled => return read(filled?),
            }
        }
        let call = script::FILL.call();
        let call = call.key(&self.entry(name)).key(&self.lease(name));
        let call = call.arg(token.as_bytes()).arg(&entry[..]).arg(ms(life));
        Box::pin(self.run(call)).await
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
        let counts = answers.into_iter().map(|answer| match answer {
            // What is no count is none.
            Ok(value) => Ok(u64::from_redis_value(value).ok()),
            Err(error) => not_ours(error).map(|_| None),
        });
        counts.collect()
    }

    async fn ensure(&self, tags: &[String], life: Duration) -> Result<Vec<Ensured>, Error> {
        let ensured = tags.iter().map(async |tag| {
            let call = script::ENSURE.call().key(&self.count(tag));
            let call = call.arg(count_life_ms(life));
            let (count, is_told): (u64, bool) = self.run(call).await?;
            Ok(Ensured { count, is_told })
        });
        try_join_all(ensured).await
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

/// A larger entry goes to the server alone, so that others do not wait behind it.
const GATHERED_MAX: usize = 16 * 1024;

/// Length of a script's hash.
const HASH_LEN: usize = 40;

/// Room for the longest word of a command that is no key and no value, and its number of arguments.
const WORDS_LEN: usize = 40;

/// A command with room for so many arguments and so many bytes of keys and values.
fn sized(verb: &str, args: usize, bytes: usize) -> Cmd {
    let mut command = Cmd::with_capacity(args, bytes + WORDS_LEN);
    command.arg(verb);
    command
}

fn read_of(key: &str) -> Cmd {
    let mut get = sized("GET", 2, key.len());
    get.arg(key);
    get
}

/// Reads an entry in company of what else is asked.
async fn get(gather: &Gather, valkey: &Valkey, key: &str) -> Result<Option<Bytes>, Error> {
    let (told, _) = gather.ask(valkey, Ask::one(read_of(key))).await?;
    told.map_or_else(not_ours, entry_in)
}

fn entry_in(value: Value) -> Result<Option<Bytes>, Error> {
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

/// The stamp of an entry; that of what is no entry is empty, as if nothing were there.
fn stamp_in(told: Result<Value, ratebox_valkey::Error>) -> Result<Vec<u8>, Error> {
    let entry = told.map_or_else(not_ours, entry_in)?;
    Ok(entry.map(Vec::from).unwrap_or_default())
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Error> {
    let read = T::from_redis_value(value);
    read.map_err(|_| ratebox_valkey::Error::answer(std::any::type_name::<T>()).into())
}
