//! Several keys at once.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join, join_all};
use ratebox_cache::{Cache, Error, Limits, Lookup, Policy, Tier};
use ratebox_kit::{Clock, Tasks};
use ratebox_testkit::wait_until;

use crate::ground::{Node, Origin, Place, SOON, all_tiers, steady, still};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// The calls of a bulk loader: the keys of each.
type Calls = Arc<Mutex<Vec<Vec<String>>>>;

async fn read(
    cache: &Cache<str, u64>,
    keys: &[&str],
    calls: &Calls,
    takes: Duration,
) -> Result<Vec<Option<u64>>, Error> {
    let calls = Arc::clone(calls);
    let load = move |mut keys: Vec<String>| {
        keys.sort_unstable();
        calls.lock().unwrap().push(keys.clone());
        async move {
            tokio::time::sleep(takes).await;
            let values = keys.into_iter().filter_map(|key| {
                let value = key.parse().ok()?;
                Some((key, value))
            });
            Ok::<HashMap<String, u64>, io::Error>(values.collect())
        }
    };
    let values = cache.get_many_or_load(keys, load).await?;
    Ok(values
        .into_iter()
        .map(|value| value.map(|value| *value))
        .collect())
}

#[tokio::test]
async fn vk_14_what_is_missing_is_loaded_in_one_call_and_only_that() {
    let place = Place::shared();
    let node = place.node(steady(HOUR), &Origin::default()).await;
    let plain = [Node::alone(Tier::none(), steady(HOUR)), node];
    for node in plain {
        let calls = Calls::default();
        let cache = &node.cache;
        let first = read(cache, &["1", "2", "2", "nobody"], &calls, MS)
            .await
            .unwrap();
        assert_eq!(first, [Some(1), Some(2), Some(2), None]);
        let second = read(cache, &["nobody", "3", "1"], &calls, MS)
            .await
            .unwrap();
        assert_eq!(second, [None, Some(3), Some(1)]);
        assert_eq!(
            *calls.lock().unwrap(),
            [vec!["1", "2", "nobody"], vec!["3"]]
        );
    }
}

#[tokio::test]
async fn vk_04_what_one_strategy_noted_every_other_understands() {
    let place = Place::shared();
    let a = place.node(steady(HOUR), &Origin::default()).await;
    let b = place.node(steady(HOUR), &Origin::default()).await;
    let calls = Calls::default();
    read(&a.cache, &["7", "nobody"], &calls, MS).await.unwrap();
    assert_eq!(b.cache.get("nobody").await.unwrap(), Lookup::Absent);
    assert_eq!(b.cache.get("7").await.unwrap(), Lookup::Value(Arc::new(7)));
    let again = read(&b.cache, &["nobody", "7"], &calls, MS).await.unwrap();
    assert_eq!(again, [None, Some(7)]);
    assert_eq!(
        calls.lock().unwrap().len(),
        1,
        "absence is not loaded again"
    );
}

#[tokio::test]
async fn keys_that_somebody_loads_are_waited_for_in_this_process_and_in_others() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    let calls = Calls::default();
    let reads = (0..20).map(async |n| {
        let cache = if n % 2 == 0 { &a.cache } else { &b.cache };
        read(cache, &["1", "2", "3"], &calls, MS * 100)
            .await
            .unwrap()
    });
    let single = a.read("4", MS * 100);
    let both = read(&b.cache, &["4", "5"], &calls, MS * 10);
    origin.write("4");
    let (all, (single, _both)) = join(join_all(reads), join(single, both)).await;
    assert!(
        all.iter()
            .all(|values| *values == [Some(1), Some(2), Some(3)])
    );
    single.unwrap();
    let calls = calls.lock().unwrap();
    let loads: usize = calls
        .iter()
        .flatten()
        .filter(|key| *key < &"4".to_owned())
        .count();
    assert_eq!(loads, 3, "{calls:?}");
}

#[tokio::test]
async fn a_bulk_load_that_fails_is_an_error_and_the_next_tries_again() {
    let node = Node::alone(Tier::memory(1 << 20), steady(HOUR));
    let tries = Arc::new(AtomicU64::new(0));
    for n in 1..3 {
        let tries = Arc::clone(&tries);
        let load = move |_: Vec<String>| {
            tries.fetch_add(1, Ordering::SeqCst);
            async { Err::<HashMap<String, u64>, _>(io::Error::other("down")) }
        };
        let failed = node.cache.get_many_or_load(&["1", "2"], load).await;
        assert!(matches!(failed, Err(Error::Load(_))));
        assert_eq!(n, node.cache.stats().load_failures);
    }
    let keys: Vec<String> = (0..501).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let refused = read(&node.cache, &keys, &Calls::default(), MS).await;
    assert!(matches!(refused, Err(Error::TooManyKeys { keys: 501, .. })));
    assert_eq!(
        read(&node.cache, &keys[..500], &Calls::default(), MS)
            .await
            .unwrap()
            .len(),
        500
    );
}

#[tokio::test]
async fn when_a_bulk_load_fails_values_past_their_end_stand_in_wherever_they_lie() {
    let (tier, clock) = (Tier::memory(1 << 20), still());
    let process = || -> Cache<str, u64> {
        let policy = Policy {
            stale: HOUR,
            ..steady(HOUR)
        };
        let builder = Cache::builder("rows", &tier).policy(policy);
        builder.clock(clock.clone()).build().unwrap()
    };
    let (one, next) = (process(), process());
    let calls = Calls::default();
    read(&one, &["1", "2"], &calls, MS).await.unwrap();
    clock.advance(HOUR);
    for cache in [&one, &next] {
        let load =
            |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(io::Error::other("down")) };
        let values = cache.get_many_or_load(&["1", "2"], load).await.unwrap();
        let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
        assert_eq!(values, [Some(&1), Some(&2)]);
    }
}

/// A cache whose values may stand in for as long as they are fresh.
fn lasting(tier: &Tier, tasks: &Tasks, clock: &Clock) -> Cache<str, u64> {
    let policy = Policy {
        stale: MINUTE,
        ..steady(MINUTE)
    };
    let builder = Cache::builder("rows", tier).policy(policy);
    builder.clock(clock.clone()).tasks(tasks).build().unwrap()
}

/// Loads the keys "1" and "2" and lets them pass their end, in this process' memory.
async fn past_its_end(tier: &Tier, tasks: &Tasks, clock: &Clock) -> Cache<str, u64> {
    let cache = lasting(tier, tasks, clock);
    let calls = Calls::default();
    // A server tells of a fill as of a change: memory has it a moment later.
    wait_until(SOON, "memory has both", || async {
        let hits = cache.stats().memory_hits;
        read(&cache, &["1", "2"], &calls, MS).await.unwrap();
        cache.stats().memory_hits == hits + 2
    })
    .await;
    assert_eq!(cache.stats().loads, 1);
    clock.advance(MINUTE);
    cache
}

async fn fail(cache: &Cache<str, u64>, keys: &[&str]) -> Vec<Option<u64>> {
    let load = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(io::Error::other("down")) };
    let values = cache.get_many_or_load(keys, load).await.unwrap();
    let values = values.into_iter().map(|value| value.map(|value| *value));
    values.collect()
}

async fn fail_one(cache: &Cache<str, u64>, key: &str) -> u64 {
    let load = || async { Err::<u64, _>(io::Error::other("down")) };
    *cache.get_or_load(key, load).await.unwrap().unwrap()
}

#[tokio::test]
async fn after_a_bulk_load_that_failed_nobody_calls_the_loader_until_the_pause_is_over() {
    let clock = still();
    let (tiers, _folder) = all_tiers(&clock).await;
    for (name, tier, tasks) in &tiers {
        let cache = past_its_end(tier, tasks, &clock).await;
        for _ in 0..10 {
            let values = fail(&cache, &["1", "2"]).await;
            assert_eq!(values, [Some(1), Some(2)], "{name}");
        }
        assert_eq!(fail_one(&cache, "1").await, 1, "{name}");
        assert_eq!(cache.stats().loads, 2, "{name}: one try and no other");
        clock.advance(MS * 1_000);
        let calls = Calls::default();
        let values = read(&cache, &["1", "2"], &calls, MS).await.unwrap();
        assert_eq!(values, [Some(1), Some(2)], "{name}");
        assert_eq!(cache.stats().loads, 3, "{name}: the next try");
    }
}

#[tokio::test]
async fn the_pause_after_a_load_that_failed_holds_for_bulk_reads_and_lasts_through_them() {
    let clock = still();
    let (tiers, _folder) = all_tiers(&clock).await;
    for (name, tier, tasks) in &tiers {
        let cache = past_its_end(tier, tasks, &clock).await;
        assert_eq!(fail_one(&cache, "1").await, 1, "{name}");
        let calls = Calls::default();
        let values = read(&cache, &["1", "2"], &calls, MS).await.unwrap();
        assert_eq!(values, [Some(1), Some(2)], "{name}");
        assert_eq!(*calls.lock().unwrap(), [vec!["2"]], "{name}");
        assert_eq!(fail_one(&cache, "1").await, 1, "{name}");
        assert_eq!(cache.stats().loads, 3, "{name}");
    }
}

#[tokio::test]
async fn the_pause_goes_on_when_memory_is_trusted_no_more_and_the_tier_has_the_same() {
    for bulk in [true, false] {
        let (tier, clock) = (Tier::memory(1 << 20), still());
        let mut limits = Limits::default();
        limits.memory.trust_max = MS * 500;
        let policy = Policy {
            stale: MINUTE,
            ..steady(MINUTE)
        };
        let builder = Cache::builder("rows", &tier).policy(policy).limits(limits);
        let cache: Cache<str, u64> = builder.clock(clock.clone()).build().unwrap();
        let calls = Calls::default();
        read(&cache, &["1"], &calls, MS).await.unwrap();
        clock.advance(MINUTE);
        assert_eq!(fail_one(&cache, "1").await, 1);
        clock.advance(MS * 600);
        let value = match bulk {
            true => fail(&cache, &["1"]).await[0],
            false => Some(fail_one(&cache, "1").await),
        };
        assert_eq!(value, Some(1));
        assert_eq!(cache.stats().loads, 2, "bulk: {bulk}");
        clock.advance(MS * 400);
        assert_eq!(fail_one(&cache, "1").await, 1);
        assert_eq!(cache.stats().loads, 3, "bulk: {bulk}: the next try");
    }
}

#[tokio::test]
async fn a_bulk_load_that_hangs_begins_the_pause_when_it_is_given_up() {
    let (tier, clock) = (Tier::memory(1 << 20), still());
    let policy = Policy {
        stale: MINUTE,
        load_max: MS * 200,
        ..steady(MINUTE)
    };
    let builder = Cache::builder("rows", &tier).policy(policy);
    let cache: Cache<str, u64> = builder.clock(clock.clone()).build().unwrap();
    read(&cache, &["1"], &Calls::default(), MS).await.unwrap();
    clock.advance(MINUTE);
    let hangs = |_: Vec<String>| std::future::pending::<io::Result<HashMap<String, u64>>>();
    let values = cache.get_many_or_load(&["1"], hangs).await.unwrap();
    assert_eq!(values, [Some(Arc::new(1))]);
    assert_eq!(fail_one(&cache, "1").await, 1);
    assert_eq!(cache.stats().loads, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_during_a_bulk_load_leaves_no_stale_value() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    let tries = (0..300).map(async |n: u64| {
        let keys = [format!("a{n}"), format!("b{n}")];
        let load = |origin: Origin| {
            move |keys: Vec<String>| {
                let origin = origin.clone();
                async move {
                    let mut values = HashMap::new();
                    for key in keys {
                        values.insert(key.clone(), origin.version(&key));
                    }
                    tokio::time::sleep(MS * 8).await;
                    Ok::<_, io::Error>(values)
                }
            }
        };
        let names = [keys[0].as_str(), keys[1].as_str()];
        let reading = a.cache.get_many_or_load(&names, load(origin.clone()));
        let changing = async {
            tokio::time::sleep(MS * 3).await;
            b.write(&keys[0]).await.unwrap()
        };
        let (read, version) = join(reading, changing).await;
        read.unwrap();
        let there = a
            .cache
            .get_many_or_load(&names, load(origin.clone()))
            .await
            .unwrap();
        usize::from(**there[0].as_ref().unwrap() < version)
    });
    let stale: usize = join_all(tries).await.into_iter().sum();
    assert_eq!(stale, 0);
}
