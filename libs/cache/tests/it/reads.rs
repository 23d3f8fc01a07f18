//! What a reader gets: values, absence, stale ones, errors.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use ratebox_cache::{Cache, Early, Error, Loaded, Lookup, Policy, RequestScope, Tier};
use ratebox_kit::{Clock, Tasks};
use ratebox_testkit::wait_until;
use tokio::sync::oneshot;

use crate::ground::{Node, Origin, Place, SOON, settle, steady, still};

const MINUTE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

fn tiers() -> [(&'static str, Tier); 2] {
    [("none", Tier::none()), ("memory", Tier::memory(1 << 20))]
}

fn cache(tier: &Tier, policy: Policy, clock: &Clock) -> Cache<str, u64> {
    let builder = Cache::builder("rows", tier).policy(policy);
    builder.clock(clock.clone()).build().unwrap()
}

async fn get(cache: &Cache<str, u64>, key: &str, value: u64) -> u64 {
    let loaded = cache
        .get_or_load(key, move || async move { Ok::<_, Infallible>(value) })
        .await;
    *loaded.unwrap().unwrap()
}

async fn fail(cache: &Cache<str, u64>, key: &str) -> Result<u64, Error> {
    let loaded = cache
        .get_or_load(key, || async { Err::<u64, _>(io::Error::other("down")) })
        .await;
    loaded.map(|value| *value.unwrap())
}

#[tokio::test]
async fn a_value_is_loaded_once_and_again_after_its_end() {
    for (name, tier) in tiers() {
        let clock = still();
        let cache = cache(&tier, steady(MINUTE), &clock);
        assert_eq!(get(&cache, "k", 1).await, 1, "{name}");
        assert_eq!(get(&cache, "k", 2).await, 1, "{name}");
        assert_eq!(cache.get("k").await.unwrap(), Lookup::Value(Arc::new(1)));
        clock.advance(MINUTE);
        assert_eq!(cache.get("k").await.unwrap(), Lookup::Miss, "{name}");
        assert_eq!(get(&cache, "k", 3).await, 3, "{name}");
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.fills), (2, 2), "{name}");
    }
}

#[tokio::test]
async fn another_process_finds_what_one_has_loaded() {
    for place in [Place::shared(), Place::shared_valkey()] {
        let origin = Origin::default();
        let (a, b) = (
            place.node(steady(MINUTE), &origin).await,
            place.node(steady(MINUTE), &origin).await,
        );
        origin.write("k");
        assert_eq!(a.read("k", Duration::ZERO).await.unwrap(), 1);
        assert_eq!(b.read("k", Duration::ZERO).await.unwrap(), 1);
        assert_eq!(b.read("k", Duration::ZERO).await.unwrap(), 1);
        assert_eq!(origin.loads(), 1);
        assert_eq!(b.cache.stats().tier_hits, 1);
        assert_eq!(b.cache.stats().memory_hits, 1);
        // The server does not take a script's write for ours, so a fill is echoed; the value comes
        // back to memory when its stamp was seen, or when it is read from the tier.
        wait_until(SOON, "memory has it", || async {
            a.read("k", Duration::ZERO).await.unwrap();
            a.cache.stats().memory_hits > 2
        })
        .await;
        assert!(a.cache.stats().tier_hits <= 1);
        assert_eq!(origin.loads(), 1);
    }
}

#[tokio::test]
async fn absence_is_remembered_for_its_own_time() {
    for (_, tier) in tiers() {
        let clock = still();
        let policy = steady(MINUTE).negative(Duration::from_secs(5));
        let cache = cache(&tier, policy, &clock);
        let loads = Arc::new(AtomicU64::new(0));
        let read = async || {
            let loads = Arc::clone(&loads);
            let load = move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Loaded::<u64>::absent())
            };
            cache.get_or_load("nobody", load).await.unwrap()
        };
        assert_eq!((read().await, read().await), (None, None));
        assert_eq!(cache.get("nobody").await.unwrap(), Lookup::Absent);
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_secs(5));
        assert_eq!(read().await, None);
        assert_eq!(loads.load(Ordering::SeqCst), 2);
        assert_eq!(cache.stats().absent, 3);
    }
}

#[tokio::test]
async fn absence_that_is_not_to_be_remembered_is_not() {
    for (name, tier) in tiers() {
        let policy = steady(MINUTE).negative(Duration::ZERO);
        let cache = cache(&tier, policy.stale_while_revalidate(MINUTE), &still());
        cache.set_absent("k").await.unwrap();
        assert_eq!(cache.get("k").await.unwrap(), Lookup::Miss, "{name}");
        assert_eq!(get(&cache, "k", 1).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_stale_value_is_answered_at_once_and_refreshed_once_behind() {
    for (_, tier) in tiers() {
        let clock = still();
        let policy = steady(MINUTE).stale_while_revalidate(MINUTE);
        let cache = cache(&tier, policy, &clock);
        get(&cache, "k", 1).await;
        clock.advance(MINUTE);
        let readers = (0..100).map(|_| get(&cache, "k", 2));
        assert!(join_all(readers).await.iter().all(|value| *value == 1));
        wait_until(SOON, "the refresh", || async {
            cache.get("k").await.unwrap() == Lookup::Value(Arc::new(2))
        })
        .await;
        assert_eq!(cache.stats().loads, 2);
    }
}

#[tokio::test]
async fn vk_13_a_failed_refresh_serves_the_stale_value_and_is_tried_again_after_a_pause() {
    let clock = still();
    let policy = steady(MINUTE).stale_while_revalidate(MINUTE);
    let cache = cache(&Tier::memory(1 << 20), policy, &clock);
    get(&cache, "k", 1).await;
    clock.advance(MINUTE);
    for _ in 0..10 {
        assert_eq!(fail(&cache, "k").await.unwrap(), 1);
    }
    wait_until(SOON, "the refresh fails", || async {
        cache.stats().load_failures == 1
    })
    .await;
    for _ in 0..10 {
        assert_eq!(fail(&cache, "k").await.unwrap(), 1);
    }
    assert_eq!(cache.stats().loads, 2, "no try within the pause");
    clock.advance(Duration::from_secs(1));
    assert_eq!(get(&cache, "k", 3).await, 1);
    wait_until(SOON, "the refresh", || async {
        cache.get("k").await.unwrap() == Lookup::Value(Arc::new(3))
    })
    .await;
}

#[tokio::test]
async fn when_the_loader_fails_a_stale_value_stands_in_and_without_one_its_error_is_told() {
    for (_, tier) in tiers() {
        let clock = still();
        let policy = Policy {
            stale: MINUTE,
            ..steady(MINUTE)
        };
        let cache = cache(&tier, policy, &clock);
        let error = fail(&cache, "k").await.unwrap_err();
        assert!(matches!(error, Error::Load(_)) && error.is_retryable());
        get(&cache, "k", 1).await;
        clock.advance(MINUTE);
        assert_eq!(fail(&cache, "k").await.unwrap(), 1);
        clock.advance(MINUTE);
        assert!(fail(&cache, "k").await.is_err(), "past its hard end");
    }
}

/// A cache over a server that has a value past its end, which another process left there.
async fn past_its_end(policy: Policy) -> (Cache<str, u64>, [Tasks; 2]) {
    let (place, clock) = (Place::shared(), still());
    let process = async || {
        let tasks = Tasks::new();
        let tier = place.lazy_tier(&tasks);
        wait_until(SOON, "the tier hears", || async { tier.is_watching() }).await;
        (cache(&tier, policy.clone(), &clock), tasks)
    };
    let ((one, of_one), (other, of_other)) = (process().await, process().await);
    assert_eq!(get(&one, "k", 1).await, 1);
    clock.advance(MINUTE);
    (other, [of_one, of_other])
}

/// Only the first of them looks into the tier.
#[tokio::test]
async fn a_value_of_the_tier_past_its_end_stands_in_for_all_who_ask_at_once_when_a_load_fails() {
    let policy = Policy {
        stale: MINUTE,
        ..steady(MINUTE)
    };
    let (cache, _tasks) = past_its_end(policy).await;
    let readers = (0..10).map(|_| fail(&cache, "k"));
    for read in join_all(readers).await {
        assert_eq!(read.unwrap(), 1);
    }
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test]
async fn of_those_who_find_a_value_of_the_tier_past_its_end_nobody_waits_for_the_refresh() {
    let policy = Policy {
        hard_timeout: SOON * 3,
        ..steady(MINUTE).stale_while_revalidate(MINUTE)
    };
    let (cache, _tasks) = past_its_end(policy).await;
    let hangs = std::future::pending::<Result<u64, Infallible>>;
    let readers = (0..10).map(|_| cache.get_or_load("k", hangs));
    let reads = tokio::time::timeout(SOON, join_all(readers)).await;
    for read in reads.expect("nobody waits") {
        assert_eq!(read.unwrap(), Some(Arc::new(1)));
    }
    // Nor those who ask for several at once.
    let (cache, _tasks) = past_its_end(cache.policy().clone()).await;
    let load = |_: Vec<String>| std::future::pending::<Result<HashMap<String, u64>, Infallible>>();
    let many = cache.get_many_or_load(&["k"], load);
    let many = tokio::time::timeout(SOON, many).await;
    let many = many.expect("nobody waits").unwrap();
    assert_eq!(many, [Some(Arc::new(1))]);
}

/// Readers who wait for a fresh value do not each call an origin that has just failed.
#[tokio::test]
async fn a_loader_that_failed_is_called_again_after_the_pause_and_not_by_each_reader() {
    for (name, tier) in tiers() {
        let clock = still();
        let policy = Policy {
            stale: MINUTE,
            ..steady(MINUTE)
        };
        let cache = cache(&tier, policy, &clock);
        get(&cache, "k", 1).await;
        clock.advance(MINUTE);
        for _ in 0..10 {
            assert_eq!(fail(&cache, "k").await.unwrap(), 1, "{name}");
        }
        assert_eq!(cache.stats().loads, 2, "{name}: no try within the pause");
        clock.advance(Duration::from_secs(1));
        assert_eq!(get(&cache, "k", 2).await, 2, "{name}");
    }
}

/// That another is at it is no failure: who waits for fresh values waits for its fill.
#[tokio::test]
async fn a_value_past_its_end_that_another_process_refreshes_is_waited_for() {
    for soft_timeout in [None, Some(SOON)] {
        let (tier, clock) = (Tier::memory(1 << 20), still());
        let policy = Policy {
            stale: MINUTE,
            soft_timeout,
            hard_timeout: SOON,
            early: Early::Share(0.5),
            ..steady(Duration::from_secs(1))
        };
        let process = || cache(&tier, policy.clone(), &clock);
        let (one, other) = (process(), process());
        assert_eq!(get(&one, "k", 1).await, 1);
        assert_eq!(get(&other, "k", 9).await, 1);
        clock.advance(MS * 800);
        let (begin, begun) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel::<()>();
        let refreshing = one.get_or_load("k", move || async move {
            begin.send(()).unwrap();
            ended.await.unwrap();
            Ok::<_, Infallible>(2)
        });
        assert_eq!(refreshing.await.unwrap(), Some(Arc::new(1)));
        begun.await.unwrap();
        clock.advance(MS * 100);
        assert_eq!(get(&other, "k", 9).await, 1, "its refresh finds the first");
        settle().await;
        clock.advance(MS * 150);
        let ending = async {
            settle().await;
            end.send(()).unwrap();
        };
        let (read, ()) = join(get(&other, "k", 9), ending).await;
        assert_eq!(read, 2, "{soft_timeout:?}");
        assert_eq!((one.stats().loads, other.stats().loads), (2, 0));
    }
}

#[tokio::test]
async fn a_slow_loader_is_waited_for_so_long_and_fills_when_it_ends() {
    let clock = still();
    let policy = Policy {
        stale: MINUTE,
        soft_timeout: Some(MS * 10),
        hard_timeout: MS * 50,
        ..steady(MINUTE)
    };
    let node = Node::alone(Tier::memory(1 << 20), policy);
    let takes = MS * 200;
    let error = node.read("k", takes).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    wait_until(SOON, "the late fill", || async {
        node.cache.get("k").await.unwrap() != Lookup::Miss
    })
    .await;
    let cache = cache(node.cache.tier(), node.cache.policy().clone(), &clock);
    assert_eq!(get(&cache, "soft", 1).await, 1);
    clock.advance(MINUTE);
    let hangs = cache.get_or_load("soft", || async {
        tokio::time::sleep(MS * 200).await;
        Ok::<_, Infallible>(2)
    });
    assert_eq!(hangs.await.unwrap(), Some(Arc::new(1)), "stale in between");
    wait_until(SOON, "the late fill", || async {
        cache.get("soft").await.unwrap() == Lookup::Value(Arc::new(2))
    })
    .await;
}

#[tokio::test]
async fn a_loader_that_hangs_is_given_up_and_one_that_panics_is_an_error() {
    let policy = Policy {
        load_max: MS * 50,
        ..steady(MINUTE)
    };
    let node = Node::alone(Tier::memory(1 << 20), policy);
    let hangs = node
        .cache
        .get_or_load("k", std::future::pending::<Result<u64, Infallible>>);
    assert!(matches!(hangs.await, Err(Error::GivenUp)));
    let panics = node.cache.get_or_load("k", || async {
        if true {
            panic!("on purpose");
        }
        Ok::<u64, Infallible>(1)
    });
    assert!(matches!(panics.await, Err(Error::Panicked)));
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 0);
    assert!(node.tasks.failed().is_empty());
}

#[tokio::test]
async fn vk_02_all_who_miss_at_once_get_the_value_of_one_load_however_long_it_takes() {
    let node = Node::alone(Tier::memory(1 << 20), steady(MINUTE));
    node.origin.write("k");
    let readers = (0..1_000).map(|_| node.read("k", MS * 400));
    let values = join_all(readers).await;
    assert!(values.into_iter().all(|value| value.unwrap() == 1));
    assert_eq!(node.origin.loads(), 1);
}

#[tokio::test]
async fn a_reader_that_goes_away_takes_no_load_with_it() {
    let node = Node::alone(Tier::memory(1 << 20), steady(MINUTE));
    node.origin.write("k");
    let read = tokio::time::timeout(MS * 10, node.read("k", MS * 100)).await;
    assert!(read.is_err());
    assert_eq!(node.read("k", MS * 100).await.unwrap(), 1);
    assert_eq!(node.origin.loads(), 1);
}

#[tokio::test]
async fn loads_at_once_are_bounded_and_so_are_those_that_wait() {
    let limits = ratebox_cache::Limits {
        loads_max: 3,
        loads_waiting_max: 10,
        ..ratebox_cache::Limits::default()
    };
    let origin = Origin::default();
    let node = Node::with(Tier::none(), Tasks::new(), steady(MINUTE), limits, &origin);
    let keys: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let results = join_all(keys.iter().map(|key| node.read(key, MS * 50))).await;
    assert_eq!(origin.running_max(), 3);
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(Error::Overloaded)));
    assert_eq!(refused.count(), 7);
}

#[tokio::test]
async fn a_loader_may_say_how_long_its_value_lives() {
    let clock = still();
    let cache = cache(&Tier::memory(1 << 20), steady(MINUTE), &clock);
    let load = || async { Ok::<_, Infallible>(Loaded::value(1).ttl(MS * 500)) };
    cache.get_or_load("k", load).await.unwrap();
    clock.advance(MS * 499);
    assert_eq!(get(&cache, "k", 2).await, 1);
    clock.advance(MS);
    assert_eq!(get(&cache, "k", 2).await, 2);
    let load = || async { Ok::<_, Infallible>(Loaded::value(7).not_kept()) };
    cache.get_or_load("passing", load).await.unwrap();
    assert_eq!(cache.get("passing").await.unwrap(), Lookup::Miss);
}

#[tokio::test]
async fn a_value_is_loaded_early_behind_the_reader_when_the_policy_says_so() {
    let clock = still();
    let policy = Policy {
        early: Early::Share(0.8),
        ..steady(MINUTE)
    };
    let cache = cache(&Tier::memory(1 << 20), policy, &clock);
    get(&cache, "k", 1).await;
    clock.advance(MINUTE.mul_f64(0.79));
    get(&cache, "k", 2).await;
    assert_eq!(cache.stats().loads, 1);
    clock.advance(MINUTE.mul_f64(0.02));
    assert_eq!(get(&cache, "k", 2).await, 1);
    wait_until(SOON, "the refresh", || async {
        cache.get("k").await.unwrap() == Lookup::Value(Arc::new(2))
    })
    .await;
}

#[tokio::test]
async fn vk_05_a_time_to_live_of_a_second_works_every_time() {
    let place = Place::shared();
    let policy = Policy {
        jitter: 0.9,
        ..Policy::ttl(MS)
    };
    let node = place.node(policy, &Origin::default()).await;
    for n in 0..50 {
        node.read(&n.to_string(), Duration::ZERO).await.unwrap();
    }
    let stats = node.cache.stats();
    assert_eq!((stats.fills, stats.fills_failed), (50, 0));
}

#[tokio::test]
async fn vk_15_every_outcome_is_counted() {
    let node = Node::alone(Tier::memory(1 << 20), steady(MINUTE));
    for _ in 0..2 {
        node.read("k", Duration::ZERO).await.unwrap();
    }
    node.write("k").await.unwrap();
    let stats = node.cache.stats();
    assert_eq!((stats.misses, stats.memory_hits), (1, 1));
    assert_eq!((stats.loads, stats.fills), (1, 1));
    assert_eq!(stats.invalidations, 1);
    assert!((stats.hit_ratio() - 0.5).abs() < f64::EPSILON);
    assert_eq!((stats.memory_values, stats.tier_errors), (0, 0));
}

#[tokio::test]
async fn a_request_reads_the_same_value_throughout_and_the_next_one_anew() {
    let cache: Cache<str, u64> = Cache::builder("rows", &Tier::none()).build().unwrap();
    let read = async |scope: &RequestScope<u64>, value: u64| {
        let load = move || async move { Ok::<_, Infallible>(value) };
        scope.get_or_load(&cache, "k", load).await.unwrap()
    };
    let scope = RequestScope::new();
    assert_eq!(read(&scope, 1).await, Some(Arc::new(1)));
    cache.invalidate("k").await.unwrap();
    assert_eq!(read(&scope, 2).await, Some(Arc::new(1)));
    assert_eq!(read(&RequestScope::new(), 2).await, Some(Arc::new(2)));
}
