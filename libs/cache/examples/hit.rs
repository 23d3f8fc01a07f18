//! What a hit in memory costs beside the bare map below it: the same 100,000 keys, the same values, the
//! same order, in turns. The difference is what the cache adds; the rest is the machine's memory. And
//! what a look at the time adds to the bare map: the exact one is read with a fence, behind which
//! nothing is fetched ahead.
//!
//!     cargo run --release -p ratebox-cache --example hit

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use ratebox_cache::{Cache, Limits, Policy, Raw, Tier};
use ratebox_kit::{Clock, Stopwatch};

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 256;
const HITS: usize = 2_000_000;
const ROUNDS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut limits = Limits::default();
    limits.memory.bytes_max = 256 << 20;
    let cache: Cache<String, Bytes> = Cache::builder("shop", &Tier::none())
        .policy(Policy::ttl(Duration::from_secs(3_600)))
        .limits(limits)
        .build_with(Raw)?;
    let names: Vec<String> = (0..KEYS).map(|key| format!("item:{key}")).collect();
    for name in &names {
        read(&cache, name).await?;
    }
    let bare: quick_cache::sync::Cache<Box<str>, Arc<Bytes>> =
        quick_cache::sync::Cache::new(2 * KEYS);
    for name in &names {
        bare.insert(name.as_str().into(), Arc::new(value()));
    }
    let order = order();
    for round in 0..ROUNDS {
        let bare_get = |name: &String| bare.get(name.as_str()).map_or(0, |value| value.len());
        let clock = Clock::system();
        let timed = |ms: fn(&Clock) -> i64| {
            ns_each(&order, &names, |name| {
                usize::from(ms(&clock) == 0) + bare_get(name)
            })
        };
        let (exact, noted) = (timed(Clock::now_ms), timed(Clock::at_most_ms));
        let bare = ns_each(&order, &names, bare_get);
        let watch = Stopwatch::start();
        for index in &order {
            if let Some(name) = names.get(*index) {
                read(&cache, name).await?;
            }
        }
        let ours = watch.elapsed().as_nanos() / HITS as u128;
        println!(
            "round {round}: bare map {bare} ns, with the exact time {exact} ns, with the noted one \
             {noted} ns, cache {ours} ns"
        );
    }
    ensure!(cache.stats().loads == KEYS as u64, "not all were hits");
    Ok(())
}

fn value() -> Bytes {
    Bytes::from(vec![7; VALUE_BYTES])
}

async fn read(cache: &Cache<String, Bytes>, key: &String) -> Result<()> {
    let load = || async { Ok::<_, Infallible>(value()) };
    let value = cache.get_or_load(key, load).await?;
    ensure!(value.is_some_and(|value| value.len() == VALUE_BYTES));
    Ok(())
}

fn ns_each(order: &[usize], names: &[String], call: impl Fn(&String) -> usize) -> u128 {
    let watch = Stopwatch::start();
    for index in order {
        if let Some(name) = names.get(*index) {
            black_box(call(name));
        }
    }
    watch.elapsed().as_nanos() / order.len() as u128
}

/// Few keys are read often and many rarely: the n-th is read in proportion to 1/n.
fn order() -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(7);
    let spread: Vec<usize> = {
        let mut keys: Vec<usize> = (0..KEYS).collect();
        random.shuffle(&mut keys);
        keys
    };
    let draw = |random: &mut fastrand::Rng| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank below the number of keys"
        )]
        let rank = (KEYS as f64).powf(random.f64()) as usize - 1;
        rank.min(KEYS - 1)
    };
    let ranks = (0..HITS).map(|_| draw(&mut random));
    ranks.filter_map(|rank| spread.get(rank).copied()).collect()
}
