//! The process that WCACHE measures: hits and guards, one after the other, and what they cost.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::FutureExt as _;
use ratebox_cache::{
    Breaker, BreakerSettings, Cache, Limiter, Limits, Policy, Raw, Tier, ValkeyTier, WhenAway,
};
use ratebox_kit::{Clock, Quota, Stopwatch, Tasks};
use ratebox_valkey::{Settings, Valkey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::proc;
use crate::report::rounded;

/// Everything that a case may tell.
pub(crate) const FIGURES: [&str; 13] = [
    "ops",
    "held",
    "ops_per_s",
    "cpu_us_per_op",
    "bare_map_us_per_op",
    "bare_get_per_s",
    "share_of_bare",
    "share_p25",
    "share_p75",
    "limiter_us",
    "breaker_us",
    "limiter_shared_p50_ms",
    "limiter_shared_p99_ms",
];

/// Keys of the input.
const KEYS: u64 = 100_000;
/// How many of them lie in a memory that is capped.
const CAPPED: u64 = 20_000;
/// Reads by which a capped memory learns which keys are worth a place.
const LEARNT: usize = 1_000_000;
/// What a value weighs there: its key, itself, and what the library reckons for all else.
const WEIGHT: u64 = 10 + VALUE_BYTES as u64 + 128;
/// Keys that are read from the server.
const TIER_KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 256;
const HITS: usize = 4_000_000;
const GUARDED: u64 = 2_000_000;
const SHARED: usize = 10_000;
/// Readers at once.
const CLIENTS: usize = 64;
/// Short, and many: what else the machine does hits both of a pair alike, or one of many pairs.
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: usize = 51;
const HOUR: Duration = Duration::from_secs(3_600);

type Told = Vec<(&'static str, Value)>;
type Values = Cache<String, Bytes>;

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
            [redis_url, "l1", keys] => capped(redis_url, keys).await,
            [redis_url, "l1-all", keys] => all(redis_url, keys).await,
            [redis_url, "l2", _] => tier(redis_url).await,
            [redis_url, "guards", _] => guards(redis_url).await,
            _ => bail!("unknown words"),
        }
    })?;
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

fn cpu_us_per(count: u64, before: f64) -> f64 {
    (proc::cpu_s(std::process::id()) - before) / count as f64 * 1e6
}

fn cpu_s() -> f64 {
    proc::cpu_s(std::process::id())
}

async fn open(valkey: &Valkey, memory_bytes: u64, tasks: &Tasks) -> Result<Values> {
    let tier = Tier::valkey(valkey, &ValkeyTier::default(), tasks)?;
    let mut limits = Limits::default();
    limits.memory.bytes_max = memory_bytes;
    let cache = Cache::builder("shop", &tier)
        .policy(Policy::ttl(HOUR))
        .limits(limits)
        .tasks(tasks)
        .build_with(Raw)?;
    let waited = Stopwatch::start();
    while !tier.is_watching() {
        ensure!(waited.elapsed() < HOUR, "the server is not heard");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(cache)
}

async fn get(cache: &Values, key: &String) -> Result<()> {
    let load = || async { Ok::<_, Infallible>(Bytes::from(vec![7; VALUE_BYTES])) };
    let value = cache.get_or_load(key, load).await?;
    ensure!(value.is_some_and(|value| value.len() == VALUE_BYTES));
    Ok(())
}

fn names(count: u64) -> Vec<String> {
    (0..count).map(|key| format!("item:{key}")).collect()
}

/// Reads all these keys, many at a time.
async fn read(cache: &Values, names: &Arc<Vec<String>>, order: &Arc<Vec<usize>>) -> Result<()> {
    let mut loads = JoinSet::new();
    for client in 0..CLIENTS {
        let (cache, names, order) = (cache.clone(), Arc::clone(names), Arc::clone(order));
        loads.spawn(async move {
            for key in order.iter().skip(client).step_by(CLIENTS) {
                get(&cache, names.get(*key).context("no such key")?).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    loads.join_all().await.into_iter().collect()
}

/// Fills the cache with many loads at a time.
async fn fill(cache: &Values, names: &Arc<Vec<String>>) -> Result<()> {
    let order = Arc::new((0..names.len()).collect());
    read(cache, names, &order).await
}

/// The keys of the input, in its order.
fn order(keys: &str) -> Result<Vec<usize>> {
    let bytes = std::fs::read(keys).context("the keys")?;
    let words = bytes.chunks_exact(4);
    let order = words.map(|word| {
        let number = |sum, byte: &u8| sum << 8 | u64::from(*byte);
        (word.iter().rev().fold(0, number) % KEYS) as usize
    });
    Ok(order.collect())
}

/// Hits in a memory with places for a fifth of the keys, in the order of the input: those of its
/// reads that find their key there once the memory has learnt.
async fn capped(redis_url: &str, keys: &str) -> Result<Told> {
    let tasks = Tasks::new();
    let valkey = Valkey::connect(&Settings::new(redis_url)).await?;
    let cache = open(&valkey, CAPPED * WEIGHT, &tasks).await?;
    let (names, mut order) = (Arc::new(names(KEYS)), order(keys)?);
    let learnt = Arc::new(order.iter().copied().take(LEARNT).collect());
    for _ in 0..2 {
        read(&cache, &names, &learnt).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What is in memory is there at once; a read that has to wait for the server is given up.
    let is_held = |name| get(&cache, name).now_or_never().is_some();
    let held: Vec<bool> = names.iter().map(is_held).collect();
    order.retain(|key| held.get(*key) == Some(&true));
    let count = held.iter().filter(|is_held| **is_held).count();
    let share = count as f64 / CAPPED as f64;
    ensure!((0.9..=1.1).contains(&share), "{count} keys are held");
    let mut told = hits(&cache, &names, &order).await?;
    told.push(("held", json!(count)));
    Ok(told)
}

/// Hits in a memory that has all keys, in the order of the input.
async fn all(redis_url: &str, keys: &str) -> Result<Told> {
    let tasks = Tasks::new();
    let valkey = Valkey::connect(&Settings::new(redis_url)).await?;
    let cache = open(&valkey, 256 << 20, &tasks).await?;
    let names = Arc::new(names(KEYS));
    // What was filled is read from the server once more before it stays, and a change of another key
    // that shares its number may keep it out once.
    for _ in 0..3 {
        fill(&cache, &names).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut told = hits(&cache, &names, &order(keys)?).await?;
    told.push(("held", json!(KEYS)));
    Ok(told)
}

/// What a hit takes, one after the other; beside it what the bare map takes for the same reads.
async fn hits(cache: &Values, names: &[String], order: &[usize]) -> Result<Told> {
    let bare_us = bare(names, order)?;
    let before = cache.stats();
    let (watch, cpu) = (Stopwatch::start(), cpu_s());
    for key in order.iter().cycle().take(HITS) {
        if let Some(name) = names.get(*key) {
            get(cache, name).await?;
        }
    }
    let (took, cpu) = (watch.elapsed().as_secs_f64(), cpu_us_per(HITS as u64, cpu));
    let hits = cache.stats().memory_hits - before.memory_hits;
    ensure!(hits == HITS as u64, "{hits} of {HITS} were hits in memory");
    Ok(vec![
        ("ops", json!(HITS)),
        ("ops_per_s", json!(rounded(HITS as f64 / took, 0))),
        ("cpu_us_per_op", json!(rounded(cpu, 3))),
        ("bare_map_us_per_op", json!(rounded(bare_us, 3))),
    ])
}

/// The same reads of the map that the cache's memory is made of, with nothing around it: what the
/// machine's memory takes in any case.
fn bare(names: &[String], order: &[usize]) -> Result<f64> {
    let map = quick_cache::sync::Cache::<Box<str>, Arc<Bytes>>::new(2 * names.len());
    for key in order {
        let name = names.get(*key).context("no such key")?.as_str();
        if map.peek(name).is_none() {
            let value = Bytes::from(vec![7; VALUE_BYTES]);
            map.insert(name.into(), Arc::new(value));
        }
    }
    let cpu = cpu_s();
    for key in order.iter().cycle().take(HITS) {
        if let Some(name) = names.get(*key) {
            let value = map.get(name.as_str());
            ensure!(value.is_some_and(|value| value.len() == VALUE_BYTES));
        }
    }
    Ok(cpu_us_per(HITS as u64, cpu))
}

/// Hits on the server, in turns with bare `GET`s of the same keys by the same client.
async fn tier(redis_url: &str) -> Result<Told> {
    let tasks = Tasks::new();
    let valkey = Valkey::connect(&Settings::new(redis_url)).await?;
    let cache = open(&valkey, 0, &tasks).await?;
    let names = Arc::new(names(TIER_KEYS));
    fill(&cache, &names).await?;
    let (mut shares, mut all_ours, mut all_bare, mut cpu_us) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let bare = {
            let (valkey, names) = (valkey.clone(), Arc::clone(&names));
            rate(move |at| {
                let (valkey, names) = (valkey.clone(), Arc::clone(&names));
                async move {
                    let key = names.get(at).context("no such key")?;
                    let mut get = redis::cmd("GET");
                    get.arg(["cache:e:{.shop:", key, "}"].concat());
                    let value: Option<Bytes> = valkey.query_as(&get).await?;
                    ensure!(value.is_some(), "the key is not there");
                    Ok(())
                }
            })
            .await?
        };
        let cpu = cpu_s();
        let ours = {
            let (cache, names) = (cache.clone(), Arc::clone(&names));
            rate(move |at| {
                let (cache, names) = (cache.clone(), Arc::clone(&names));
                async move { get(&cache, names.get(at).context("no such key")?).await }
            })
            .await?
        };
        cpu_us.push(cpu_us_per(ours.0, cpu));
        shares.push(ours.1 / bare.1);
        all_ours.push(ours.1);
        all_bare.push(bare.1);
    }
    let stats = cache.stats();
    ensure!(stats.loads == TIER_KEYS, "{} loads", stats.loads);
    let quarter = |values: &mut Vec<f64>, number: usize| {
        values.sort_by(f64::total_cmp);
        let at = (values.len() - 1) * number / 4;
        values.get(at).copied().unwrap_or(f64::NAN)
    };
    let mut share = |number| json!(rounded(quarter(&mut shares, number), 3));
    let (p25, share, p75) = (share(1), share(2), share(3));
    Ok(vec![
        ("ops_per_s", json!(rounded(quarter(&mut all_ours, 2), 0))),
        ("cpu_us_per_op", json!(rounded(quarter(&mut cpu_us, 2), 2))),
        (
            "bare_get_per_s",
            json!(rounded(quarter(&mut all_bare, 2), 0)),
        ),
        ("share_of_bare", share),
        ("share_p25", p25),
        ("share_p75", p75),
    ])
}

/// Calls with so many at once: how many, and how many a second.
async fn rate<F, Fut>(call: F) -> Result<(u64, f64)>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let (done, watch) = (Arc::new(AtomicU64::new(0)), Stopwatch::start());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (call, done) = (call.clone(), Arc::clone(&done));
        clients.spawn(async move {
            let mut at = client * 7_919;
            while watch.elapsed() < ROUND {
                at = (at + 104_729) % TIER_KEYS as usize;
                call(at).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    clients
        .join_all()
        .await
        .into_iter()
        .collect::<Result<()>>()?;
    let count = done.load(Ordering::Relaxed);
    Ok((count, count as f64 / watch.elapsed().as_secs_f64()))
}

/// The limiter in this process and on the server, and a closed breaker.
async fn guards(redis_url: &str) -> Result<Told> {
    let valkey = Valkey::connect(&Settings::new(redis_url)).await?;
    let quota = Quota {
        burst: 1_000_000_000,
        window: Duration::from_secs(1),
    };
    let callers: Vec<String> = (0..1_000).map(|n| format!("a:caller-{n}")).collect();
    let limiter = Limiter::local(quota, Clock::system());
    let cpu = cpu_s();
    for caller in callers.iter().cycle().take(GUARDED as usize) {
        ensure!(limiter.take(caller).await.allowed);
    }
    let limiter_us = cpu_us_per(GUARDED, cpu);
    let breaker = Breaker::new("origin", BreakerSettings::default(), Clock::system());
    let cpu = cpu_s();
    for _ in 0..GUARDED {
        let called = breaker.call(async { Ok::<_, Infallible>(()) }, |_| true);
        ensure!(called.await.is_ok());
    }
    let breaker_us = cpu_us_per(GUARDED, cpu);
    let shared = Limiter::shared(
        valkey.separate(),
        "bench:rate:".to_owned(),
        quota,
        WhenAway::Refuse,
        Clock::system(),
    );
    let mut latencies = Vec::with_capacity(SHARED);
    for caller in callers.iter().cycle().take(SHARED) {
        let watch = Stopwatch::start();
        ensure!(shared.take(caller).await.allowed);
        latencies.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let value = latencies.get(latencies.len() * percent / 100);
        json!(rounded(value.copied().unwrap_or(f64::NAN), 3))
    };
    Ok(vec![
        ("limiter_us", json!(rounded(limiter_us, 3))),
        ("breaker_us", json!(rounded(breaker_us, 3))),
        ("limiter_shared_p50_ms", at(50)),
        ("limiter_shared_p99_ms", at(99)),
    ])
}
