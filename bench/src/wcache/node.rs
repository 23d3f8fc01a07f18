//! A process with caches of its own: this program with `node-wcache` as its first word. It does what
//! its standard input says, many things at once, and answers each on its standard output.
//! `process.rs` is the other end.
//!
//! The rows of its origin lie on the server, too, over a connection that no proxy stands before.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use ratebox_cache::{Cache, Loaded, Lookup, Policy, Tier, ValkeyTier};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_valkey::{Error as ValkeyError, Settings, Valkey};

/// The first word of the command line.
pub(crate) const WORD: &str = "node-wcache";

/// Stands where a tag is for an entry without one.
pub(super) const NO_TAG: &str = "-";

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);
/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);
/// Things that wait to be done.
const WAITING_MAX: usize = 1_024;

/// A cache, and the origin behind it.
struct Node {
    cache: Cache<str, u64>,
    origin: Origin,
}

/// Rows with versions, which only grow; the version whose change is known to all is kept beside each.
#[derive(Clone)]
struct Origin {
    valkey: Valkey,
    /// Loads that began before a change and ended after it was acknowledged.
    outrun: Arc<AtomicU64>,
}

/// Serves until its standard input ends.
///
/// # Errors
/// When the words are none of ours.
pub(crate) fn main(words: &[String]) -> Result<()> {
    let [rows_url, tier_url, nodes] = words else {
        bail!("unknown words");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(rows_url, tier_url, nodes.parse()?))
}

async fn serve(rows_url: &str, tier_url: &str, count: usize) -> Result<()> {
    let tasks = Tasks::new();
    let nodes = (0..count).map(|_| Node::open(rows_url, tier_url, &tasks));
    let nodes: Arc<Vec<Node>> = Arc::new(nodes.collect::<Result<_>>()?);
    let (lines, mut come) = tokio::sync::mpsc::channel::<String>(WAITING_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = come.recv().await {
        let nodes = Arc::clone(&nodes);
        tasks.spawn("asked", async move {
            let (id, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let answer = answer(&nodes, rest).await;
            let answer = answer.unwrap_or_else(|error| format!("!{error:#}"));
            // Nobody is left to be told when this fails.
            let _ = writeln!(std::io::stdout().lock(), "{id} {answer}");
        });
    }
    Ok(())
}

async fn answer(nodes: &[Node], line: &str) -> Result<String> {
    let (node, rest) = line.split_once(' ').context("a node and what it does")?;
    let node = nodes.get(node.parse::<usize>()?).context("no such node")?;
    let words: Vec<&str> = rest.split(' ').collect();
    Ok(match words.as_slice() {
        ["read", key, takes_ms, tag] => {
            let version = node.read(key, takes_ms.parse()?, named(tag)).await?;
            version.to_string()
        }
        ["write", key] => node.write(key).await?.to_string(),
        ["tag", key, tag] => node.write_tagged(key, tag).await?.to_string(),
        ["hold", key, tag] => node.hold(key, named(tag)).await?.to_string(),
        ["gone", key] => node.gone(key).await?,
        ["hear", whether] => node.hear(whether.parse()?).await?,
        ["sweep", keys, tag] => node.sweep(keys, named(tag)).await?,
        ["crowd", key, readers, takes_ms] => {
            node.crowd(key, readers.parse()?, takes_ms.parse()?).await?
        }
        ["figures"] => node.figures(),
        words => bail!("unknown words {words:?}"),
    })
}

/// A tag, unless it is [`NO_TAG`].
fn named(tag: &str) -> Option<&str> {
    (tag != NO_TAG).then_some(tag)
}

// === impl Node ===

impl Node {
    fn open(rows_url: &str, tier_url: &str, tasks: &Tasks) -> Result<Self> {
        let valkey = Valkey::lazy(&Settings::new(tier_url))?;
        let tier = Tier::valkey(&valkey, &ValkeyTier::default(), tasks)?;
        let policy = Policy {
            // A value that should be gone must not end by itself.
            jitter: 0.0,
            stale: Duration::ZERO,
            ..Policy::ttl(HOUR)
        };
        let builder = Cache::builder("rows", &tier).policy(policy);
        let origin = Origin {
            valkey: Valkey::lazy(&Settings::new(rows_url))?,
            outrun: Arc::default(),
        };
        Ok(Self {
            cache: builder.tasks(tasks).build()?,
            origin,
        })
    }

    /// Reads through the cache. What changes after the origin was asked is not in its answer.
    async fn read(&self, key: &str, takes_ms: u32, tag: Option<&str>) -> Result<u64> {
        let (origin, row) = (self.origin.clone(), key.to_owned());
        let tag = tag.map(str::to_owned);
        let load = move || async move {
            let loaded = Loaded::value(origin.load(&row, MS * takes_ms).await?);
            Ok::<_, ValkeyError>(match tag {
                Some(tag) => loaded.tag(tag),
                None => loaded,
            })
        };
        let value = self.cache.get_or_load(key, load).await?;
        Ok(*value.context("a row is always there")?)
    }

    /// Writes the next version, then invalidates; both are done when this answers.
    async fn write(&self, key: &str) -> Result<u64> {
        let version = self.origin.raise("row", key).await?;
        self.cache.invalidate(key).await?;
        self.origin.raise("told", key).await?;
        Ok(version)
    }

    /// The same by the tag that the entry carries.
    async fn write_tagged(&self, key: &str, tag: &str) -> Result<u64> {
        let version = self.origin.raise("row", key).await?;
        self.cache.invalidate_tag(tag).await?;
        Ok(version)
    }

    /// Reads until the value is in this process' memory.
    async fn hold(&self, key: &str, tag: Option<&str>) -> Result<u64> {
        let waited = Stopwatch::start();
        loop {
            let version = self.read(key, 0, tag).await?;
            // What is in memory is there at once; a read that has to wait for the server is given up.
            if self.cache.get(key).now_or_never().is_some() {
                return Ok(version);
            }
            ensure!(waited.elapsed() < SOON, "{key} does not stay in memory");
            tokio::time::sleep(MS).await;
        }
    }

    /// Reads again and again until the value is no longer answered.
    async fn gone(&self, key: &str) -> Result<String> {
        let waited = Stopwatch::start();
        while self.cache.get(key).await? != Lookup::Miss {
            ensure!(waited.elapsed() < SOON, "{key} is answered still");
            // A sleep would be a millisecond, and longer than what is measured.
            tokio::task::yield_now().await;
        }
        Ok("yes".to_owned())
    }

    /// Waits until changes by others are heard, or until it is known that they are not.
    async fn hear(&self, whether: bool) -> Result<String> {
        let waited = Stopwatch::start();
        let tier = self.cache.tier();
        while (tier.is_watching() && !tier.is_away()) != whether {
            ensure!(waited.elapsed() < SOON, "hearing is not {whether}");
            tokio::time::sleep(MS).await;
        }
        Ok("yes".to_owned())
    }

    /// Reads all these keys as soon as changes are heard.
    async fn sweep(&self, keys: &str, tag: Option<&str>) -> Result<String> {
        self.hear(true).await?;
        let reads = keys.split(',').map(|key| self.read(key, 0, tag));
        let read: Vec<String> = try_join_all(reads)
            .await?
            .iter()
            .map(u64::to_string)
            .collect();
        Ok(read.join(","))
    }

    /// So many readers at once; all must have the same answer.
    async fn crowd(&self, key: &str, readers: usize, takes_ms: u32) -> Result<String> {
        let reads = (0..readers).map(|_| self.read(key, takes_ms, None));
        let read = try_join_all(reads).await?;
        let one = read.first().context("nobody read")?;
        ensure!(
            read.iter().all(|version| version == one),
            "readers differ: {read:?}"
        );
        Ok(one.to_string())
    }

    /// What `process::Figures` names, in its order.
    fn figures(&self) -> String {
        let stats = self.cache.stats();
        let figures = [
            stats.fills_refused,
            self.origin.outrun.load(Ordering::Relaxed),
            stats.misses,
            stats.shared_loads,
            stats.loads,
        ];
        figures.map(|figure| figure.to_string()).join(",")
    }
}

// === impl Origin ===

impl Origin {
    /// Reads a row, then takes its time to answer.
    async fn load(&self, key: &str, takes: Duration) -> Result<u64, ValkeyError> {
        let version = self.number("GET", "row", key).await?;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if self.number("GET", "told", key).await? > version {
            self.outrun.fetch_add(1, Ordering::Relaxed);
        }
        Ok(version)
    }

    async fn raise(&self, of: &str, key: &str) -> Result<u64, ValkeyError> {
        self.number("INCR", of, key).await
    }

    async fn number(&self, command: &str, of: &str, key: &str) -> Result<u64, ValkeyError> {
        let mut asked = redis::cmd(command);
        asked.arg([of, ":", key].concat());
        let number: Option<u64> = self.valkey.query_as(&asked).await?;
        Ok(number.unwrap_or(0))
    }
}
