//! How much a hit costs: in memory, and in the shared tier beside a bare `GET` on the same kind of
//! connection. Starts a server of its own.
//!
//!     cargo run --release -p ratebox-cache --example speed

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::join_all;
use ratebox_cache::{Cache, Limits, Policy, Raw, Tier, ValkeyTier};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_testkit::{Fsync, RedisOptions, RedisServer};
use ratebox_valkey::{Settings, Valkey};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const KEYS: u64 = 10_000;
const HITS: u64 = 3_000_000;
const AT_ONCE: usize = 64;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    memory_hits().await?;
    tier_hits().await
}

async fn read<K: std::fmt::Display + ?Sized>(cache: &Cache<K, Bytes>, key: &K) -> usize {
    let load = || async { Ok::<_, Infallible>(Bytes::from(vec![7; 256])) };
    let value = cache.get_or_load(key, load).await;
    value.ok().flatten().map_or(0, |value| value.len())
}

async fn memory_hits() -> Result<()> {
    let tier = Tier::none();
    let cache: Cache<str, Bytes> = Cache::builder("speed", &tier)
        .policy(Policy::ttl(Duration::from_secs(3_600)))
        .build_with(Raw)?;
    let keys: Vec<String> = (0..KEYS).map(|n| format!("user:{n:08}")).collect();
    for key in &keys {
        read(&cache, key.as_str()).await;
    }
    let order: Vec<usize> = (0..HITS).map(|_| fastrand::usize(..keys.len())).collect();
    for round in 0..ROUNDS {
        let region = Region::new(ALLOCATOR);
        let watch = Stopwatch::start();
        for index in &order {
            if let Some(key) = keys.get(*index) {
                read(&cache, key.as_str()).await;
            }
        }
        let took = watch.elapsed();
        let ns = took.as_nanos() / u128::from(HITS);
        let allocations = region.change().allocations;
        println!("memory hit, round {round}: {ns} ns, {allocations} allocations in {HITS} hits");
    }
    Ok(())
}

async fn tier_hits() -> Result<()> {
    let server = RedisServer::start(RedisOptions::default().fsync(Fsync::NoFile))?;
    let valkey = Valkey::lazy(&Settings::new(server.url()))?;
    let tasks = Tasks::new();
    let tier = Tier::valkey(&valkey, &ValkeyTier::default(), &tasks)?;
    let mut limits = Limits::default();
    limits.memory.bytes_max = 0;
    let cache: Cache<u64, Bytes> = Cache::builder("speed", &tier)
        .limits(limits)
        .policy(Policy::ttl(Duration::from_secs(3_600)))
        .tasks(&tasks)
        .build_with(Raw)?;
    while !tier.is_watching() {
        tokio::task::yield_now().await;
    }
    for key in 0..KEYS {
        read(&cache, &key).await;
    }
    for round in 0..ROUNDS {
        let bare = rate(|key| {
            let valkey = valkey.clone();
            async move {
                let mut get = redis::cmd("GET");
                get.arg(format!("cache:e:{{.speed:{key}}}"));
                drop(valkey.query(&get).await);
            }
        });
        let bare = bare.await;
        let ours = rate(|key| {
            let cache = cache.clone();
            async move {
                read(&cache, &key).await;
            }
        });
        let ours = ours.await;
        let share = ours * 100 / bare.max(1);
        println!("tier hit, round {round}: {ours}/s, bare GET {bare}/s: {share} %");
    }
    println!("{:?}", cache.stats());
    Ok(())
}

/// Calls a second, with so many at once.
async fn rate<F, Fut>(call: F) -> u64
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = ()>,
{
    let (done, watch) = (Arc::new(AtomicU64::new(0)), Stopwatch::start());
    let callers = (0..AT_ONCE).map(async |_| {
        while watch.elapsed() < ROUND {
            call(fastrand::u64(..KEYS)).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    join_all(callers).await;
    done.load(Ordering::Relaxed) * 1_000 / watch.elapsed_ms().max(1)
}
