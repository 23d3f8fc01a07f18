//! The process that W6 measures: it reads through a cache of ours and tells what it saw.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use ratebox_cache::{Cache, Limits, Policy, Tier, ValkeyTier};
use ratebox_kit::{Clock, Stopwatch, Tasks};
use ratebox_valkey::{Settings, Valkey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::proc;
use crate::report::rounded;

/// What a load tells.
pub(crate) const FIGURES: [&str; 10] = [
    "ops_per_s",
    "ops",
    "loader_calls",
    "hit_ratio",
    "hit_p50_ms",
    "hit_p95_ms",
    "hit_p99_ms",
    "hit_max_ms",
    "cpu_us_per_op",
    "rss_mib",
];

/// Readers at once.
const CLIENTS: usize = 64;
/// How long a loader takes.
const LOAD_TAKES: Duration = Duration::from_millis(20);
/// The life of a value.
const TTL: Duration = Duration::from_secs(60);
/// Keys of the input.
const KEYS: usize = 100_000;
/// The key of the crowd, and one before it that opens the connections.
const COLD: u32 = 424_242;
const FIRST: u32 = 10_000_000;
/// A reader lets others run after this: hits in memory never wait.
const YIELD_AFTER: Duration = Duration::from_micros(200);

/// What the loader brings; the peers' have the same.
#[derive(Debug, Serialize, Deserialize)]
struct Item {
    id: u32,
    name: String,
    price: f64,
    tags: [String; 3],
    text: String,
}

/// A cache with a loader that counts.
struct Shop {
    cache: Cache<String, Item>,
    calls: Arc<AtomicU64>,
    rows: Arc<[Row]>,
    _tasks: Tasks,
}

/// What is known of the loads of one key.
#[derive(Default)]
struct Row {
    loading: AtomicU32,
    version: AtomicU32,
}

/// Does what the command line says and prints what it saw.
///
/// # Errors
/// When the words are none of ours, or the server cannot be used.
pub(crate) fn main(words: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = runtime.block_on(async {
        match words.as_slice() {
            [redis_url, case, "load", keys, seconds] => {
                load(Shop::open(redis_url, case).await?, keys, seconds.parse()?).await
            }
            [redis_url, case, "stampede", readers, start_ms] => {
                let shop = Shop::open(redis_url, case).await?;
                stampede(&shop, readers.parse()?, start_ms.parse()?).await
            }
            _ => bail!("unknown words"),
        }
    })?;
    println!("{told}");
    Ok(())
}

// === impl Shop ===

impl Shop {
    async fn open(redis_url: &str, case: &str) -> Result<Self> {
        let tasks = Tasks::new();
        let valkey = Valkey::connect(&Settings::new(redis_url)).await?;
        let tier = Tier::valkey(&valkey, &ValkeyTier::default(), &tasks)?;
        let mut limits = Limits::default();
        if case == "l2" {
            limits.memory.bytes_max = 0;
        }
        let cache = Cache::builder("shop", &tier)
            .policy(Policy::ttl(TTL))
            .limits(limits)
            .tasks(&tasks)
            .build()?;
        let waited = Stopwatch::start();
        while !tier.is_watching() {
            ensure!(waited.elapsed() < TTL, "the server is not heard");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let shop = Self {
            cache,
            calls: Arc::default(),
            rows: (0..=KEYS).map(|_| Row::default()).collect(),
            _tasks: tasks,
        };
        shop.get(FIRST).await?;
        Ok(shop)
    }

    async fn get(&self, key: u32) -> Result<Option<Arc<Item>>, ratebox_cache::Error> {
        let (rows, calls) = (Arc::clone(&self.rows), Arc::clone(&self.calls));
        let load = move || async move { Ok::<_, Infallible>(bring(&rows, &calls, key).await) };
        self.cache.get_or_load(&format!("item:{key}"), load).await
    }

    /// What is known of a key; keys outside the input share a row.
    fn row(&self, key: u32) -> &Row {
        row(&self.rows, key)
    }
}

fn row(rows: &[Row], key: u32) -> &Row {
    let at = usize::try_from(key).map_or(KEYS, |key| key.min(KEYS));
    rows.get(at).expect("there is one more row than keys")
}

async fn bring(rows: &[Row], calls: &AtomicU64, key: u32) -> Item {
    let row = row(rows, key);
    calls.fetch_add(1, Ordering::Relaxed);
    row.loading.store(1, Ordering::Relaxed);
    tokio::time::sleep(LOAD_TAKES).await;
    row.loading.store(0, Ordering::Relaxed);
    row.version.fetch_add(1, Ordering::Relaxed);
    Item {
        id: key,
        name: format!("item {key}"),
        price: f64::from(key) * 1.5,
        tags: ["a", "b", "c"].map(str::to_owned),
        text: "x".repeat(100),
    }
}

/// What all clients of a load share.
struct Load {
    shop: Shop,
    keys: Vec<u32>,
    position: AtomicU64,
    watch: Stopwatch,
    until: Duration,
    /// When somebody last let others run, in microseconds.
    yielded_us: AtomicU64,
}

// === impl Load ===

impl Load {
    /// Reads until the end; how long each hit took, and how many misses there were.
    async fn client(&self) -> Result<(Vec<f64>, u64)> {
        let (mut hits, mut misses) = (Vec::new(), 0);
        loop {
            let position = self.position.fetch_add(1, Ordering::Relaxed);
            let at = usize::try_from(position)? % self.keys.len();
            let key = self.keys.get(at).copied().unwrap_or_default();
            let row = self.shop.row(key);
            let was_loading = row.loading.load(Ordering::Relaxed) > 0;
            let version = row.version.load(Ordering::Relaxed);
            let began = self.watch.elapsed();
            let value = self.shop.get(key).await?;
            let ended = self.watch.elapsed();
            ensure!(
                value.is_some_and(|item| item.id == key),
                "another item came"
            );
            // A hit: nobody was loading the key when the read began, and nobody did meanwhile.
            let is_loading = row.loading.load(Ordering::Relaxed) > 0;
            if was_loading || is_loading || row.version.load(Ordering::Relaxed) != version {
                misses += 1;
            } else {
                hits.push((ended - began).as_secs_f64() * 1e3);
            }
            if ended > self.until {
                return Ok((hits, misses));
            }
            self.let_others_run(ended).await;
        }
    }

    async fn let_others_run(&self, now: Duration) {
        let now_us = now.as_micros() as u64;
        let last_us = self.yielded_us.load(Ordering::Relaxed);
        if now_us.saturating_sub(last_us) > YIELD_AFTER.as_micros() as u64 {
            self.yielded_us.store(now_us, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }
}

async fn load(shop: Shop, keys: &str, seconds: u64) -> Result<Value> {
    let bytes = std::fs::read(keys).context("the keys")?;
    let words = bytes.chunks_exact(4);
    let keys = words.map(|word| {
        word.iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
    });
    let before = shop.calls.load(Ordering::Relaxed);
    let load = Arc::new(Load {
        shop,
        keys: keys.collect(),
        position: AtomicU64::new(0),
        watch: Stopwatch::start(),
        until: Duration::from_secs(seconds),
        yielded_us: AtomicU64::new(0),
    });
    let (watch, cpu) = (Stopwatch::start(), proc::cpu_s(std::process::id()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let load = Arc::clone(&load);
        clients.spawn(async move { load.client().await });
    }
    let seen = clients.join_all().await;
    let took = watch.elapsed().as_secs_f64();
    let cpu = proc::cpu_s(std::process::id()) - cpu;
    let (mut hits, mut misses) = (Vec::new(), 0);
    for seen in seen {
        let (its_hits, its_misses) = seen?;
        hits.extend(its_hits);
        misses += its_misses;
    }
    let ops = hits.len() as u64 + misses;
    let calls = load.shop.calls.load(Ordering::Relaxed) - before;
    let mut told = json!({
        "ops_per_s": rounded(ops as f64 / took, 1),
        "ops": ops,
        "loader_calls": calls,
        "hit_ratio": rounded(1.0 - calls as f64 / ops as f64, 4),
        "cpu_us_per_op": rounded(cpu / ops as f64 * 1e6, 2),
        "rss_mib": rounded(proc::rss_peak_mib(std::process::id()), 1),
    });
    hits.sort_by(f64::total_cmp);
    for (key, percent) in [
        ("hit_p50_ms", 50),
        ("hit_p95_ms", 95),
        ("hit_p99_ms", 99),
        ("hit_max_ms", 100),
    ] {
        let at = (hits.len() * percent / 100).min(hits.len().saturating_sub(1));
        told[key] = rounded(hits.get(at).copied().unwrap_or(f64::NAN), 4).into();
    }
    Ok(told)
}

async fn stampede(shop: &Shop, readers: usize, start_ms: i64) -> Result<Value> {
    let left_ms = start_ms - Clock::system().now_ms();
    tokio::time::sleep(Duration::from_millis(left_ms.max(0).unsigned_abs())).await;
    let before = shop.calls.load(Ordering::Relaxed);
    let watch = Stopwatch::start();
    let read = join_all((0..readers).map(|_| shop.get(COLD))).await;
    let took = watch.elapsed().as_secs_f64();
    Ok(json!({
        "calls": shop.calls.load(Ordering::Relaxed) - before,
        "secs": rounded(took, 3),
        "errors": read.iter().filter(|read| read.is_err()).count(),
    }))
}
