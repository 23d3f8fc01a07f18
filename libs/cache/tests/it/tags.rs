//! Tags, dependencies and the version of a whole cache.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all, join3};
use ratebox_cache::{Cache, Error, Limits, Loaded, Lookup, Policy, Raw, Tier};
use ratebox_kit::{Clock, Stopwatch};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};

use crate::ground::{Node, Origin, Place, SOON, all_tiers, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

fn tagged(tag: &str) -> Policy {
    Policy {
        tags: vec![tag.to_owned()],
        ..steady(HOUR)
    }
}

/// Loads a row whose tag only the loader knows.
async fn load(node: &Node, key: &str, tag: &str, takes: Duration) -> u64 {
    let (origin, row, tag) = (node.origin.clone(), key.to_owned(), tag.to_owned());
    let load = move || async move {
        let value = origin.read(&row, takes).await?;
        Ok::<_, std::io::Error>(Loaded::value(value).tag(tag))
    };
    *node.cache.get_or_load(key, load).await.unwrap().unwrap()
}

async fn build(cache: &Cache<str, u64>, key: &str, value: u64, on: Option<String>) -> u64 {
    let load = move || async move {
        let loaded = Loaded::value(value);
        Ok::<_, Infallible>(match on {
            Some(name) => loaded.depends_on(name),
            None => loaded,
        })
    };
    *cache.get_or_load(key, load).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_tag_takes_all_its_entries_in_every_cache_and_no_others() {
    for tier in [Tier::none(), Tier::memory(1 << 20)] {
        let other: Cache<str, u64> = Cache::builder("other", &tier).build().unwrap();
        let node = Node::alone(tier, steady(HOUR));
        let red = node.cache.with_policy(tagged("red"));
        let red_other = other.with_policy(tagged("red"));
        for (cache, key) in [
            (&red, "a"),
            (&red, "b"),
            (&node.cache, "c"),
            (&red_other, "a"),
        ] {
            build(cache, key, 1, None).await;
        }
        node.cache.invalidate_tag("red").await.unwrap();
        assert_eq!(build(&red, "a", 2, None).await, 2);
        assert_eq!(build(&red, "b", 2, None).await, 2);
        assert_eq!(build(&red_other, "a", 2, None).await, 2);
        assert_eq!(build(&node.cache, "c", 2, None).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_changes_during_a_load_leaves_no_stale_value_in_any_process() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    let tries = (0..1_000).map(async |n: u64| {
        let (key, tag) = (n.to_string(), format!("tag-{n}"));
        origin.write(&key);
        let change = async {
            tokio::time::sleep(MS * 3).await;
            let version = origin.write(&key);
            b.cache.invalidate_tag(&tag).await.unwrap();
            version
        };
        let (_, version) = join(load(&a, &key, &tag, MS * 8), change).await;
        let there = load(&a, &key, &tag, Duration::ZERO).await;
        let elsewhere = load(&b, &key, &tag, Duration::ZERO).await;
        usize::from(there < version || elsewhere < version)
    });
    let stale: usize = join_all(tries).await.into_iter().sum();
    assert_eq!(stale, 0);
}

/// A server tells of changes after it has answered all that lay in its sockets: the count of a tag may
/// overtake the news of its change, and a large answer may lie between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_overtakes_the_news_of_its_change_leaves_no_stale_value() {
    for options in [RedisOptions::default(), RedisOptions::valkey()] {
        let server = RedisServer::start(options.set("enable-debug-command", "yes")).unwrap();
        let server = Arc::new(server);
        let place = Place::at(&server.url());
        let origin = Origin::default();
        let a = place.node(steady(HOUR), &origin).await;
        let b = place.node(steady(HOUR), &origin).await;
        let large = |node: &Node| {
            let builder = Cache::<str, Bytes>::builder("large", &node.tier);
            builder.tasks(&node.tasks).build_with(Raw).unwrap()
        };
        let (large_at_a, large_at_b) = (large(&a), large(&b));
        // The server knows the scripts from here on.
        load(&a, "first", "first", MS).await;
        b.cache.invalidate_tag("first").await.unwrap();
        for round in 0..5 {
            let (key, tag) = (format!("k{round}"), format!("t{round}"));
            large_at_b
                .set(&key, Bytes::from(vec![7; 900_000]))
                .await
                .unwrap();
            origin.write(&key);
            let (loading, begun) = tokio::sync::oneshot::channel();
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let (row, rows, named) = (key.clone(), origin.clone(), tag.clone());
            let load_slowly = move || async move {
                let value = rows.version(&row);
                loading.send(()).unwrap();
                ended.await.unwrap();
                Ok::<_, Infallible>(Loaded::value(value).tag(named))
            };
            let change = async {
                begun.await.unwrap();
                origin.write(&key);
                // While the server is busy, the change, the question for the count and a large
                // answer come together in this order.
                let busy = Arc::clone(&server);
                let busy = std::thread::spawn(move || busy.command(&["DEBUG", "SLEEP", "0.2"]));
                let told = async {
                    tokio::time::sleep(MS * 40).await;
                    b.cache.invalidate_tag(&tag).await.unwrap();
                };
                let asked = async {
                    tokio::time::sleep(MS * 80).await;
                    end.send(()).unwrap();
                };
                let read = async {
                    tokio::time::sleep(MS * 120).await;
                    large_at_a.get(&key).await.unwrap();
                };
                join3(told, asked, read).await;
                busy.join().unwrap().unwrap();
            };
            let (read, ()) = join(a.cache.get_or_load(&key, load_slowly), change).await;
            read.unwrap();
            for node in [&a, &b] {
                let there = load(node, &key, &tag, MS).await;
                assert_eq!(there, 2, "round {round}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_written_or_set_goes_with_what_the_writer_names() {
    let place = Place::shared();
    for tier in [None, Some(Tier::memory(1 << 20)), Some(Tier::none())] {
        let node = match tier {
            Some(tier) => Node::alone(tier, steady(HOUR)),
            None => place.node(steady(HOUR), &Origin::default()).await,
        };
        let cache = &node.cache;
        let named = || {
            let value = Loaded::value(1).tag("red");
            value.depends_on(cache.name_of("source"))
        };
        for of_tag in [true, false] {
            let written = named();
            let write = async move { Ok::<_, Infallible>(written) };
            cache.write_through("written", write).await.unwrap();
            cache.set("set", named()).await.unwrap();
            cache.set("apart", 1).await.unwrap();
            match of_tag {
                true => cache.invalidate_tag("red").await.unwrap(),
                false => cache.invalidate("source").await.unwrap(),
            }
            for key in ["written", "set"] {
                assert_eq!(
                    cache.get(key).await.unwrap(),
                    Lookup::Miss,
                    "{key} {of_tag}"
                );
            }
            assert_ne!(cache.get("apart").await.unwrap(), Lookup::Miss);
        }
    }
}

#[tokio::test]
async fn what_is_written_lives_as_long_as_the_writer_says() {
    for tier in [Tier::memory(1 << 20), Tier::none()] {
        let node = Node::alone(tier, steady(HOUR));
        let cache = &node.cache;
        let brief = || Loaded::value(1).ttl(MS);
        let written = brief();
        let write = async move { Ok::<_, Infallible>(written) };
        cache.write_through("written", write).await.unwrap();
        cache.set("set", brief()).await.unwrap();
        cache
            .set("not kept", Loaded::value(1).not_kept())
            .await
            .unwrap();
        assert_eq!(cache.get("not kept").await.unwrap(), Lookup::Miss);
        tokio::time::sleep(MS * 5).await;
        for key in ["written", "set"] {
            assert_eq!(cache.get(key).await.unwrap(), Lookup::Miss, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_tag_reaches_the_memory_of_others_within_50_ms() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(tagged("t"), &origin).await;
    let b = place.node(tagged("t"), &origin).await;
    let mut took = Vec::new();
    for n in 0..200 {
        let key = n.to_string();
        a.read(&key, Duration::ZERO).await.unwrap();
        b.read(&key, Duration::ZERO).await.unwrap();
        let waited = Stopwatch::start();
        a.cache.invalidate_tag("t").await.unwrap();
        while b.cache.get(&key).await.unwrap() != Lookup::Miss {
            assert!(waited.elapsed() < SOON);
            tokio::task::yield_now().await;
        }
        took.push(waited.elapsed());
    }
    took.sort_unstable();
    assert!(took[197] < MS * 50, "p99 {:?}", took[197]);
}

#[tokio::test]
async fn vk_09_what_depends_on_an_entry_goes_with_it_over_several_steps() {
    let place = Place::shared();
    for tier in [None, Some(Tier::memory(1 << 20)), Some(Tier::none())] {
        let node = match tier {
            Some(tier) => Node::alone(tier, steady(HOUR)),
            None => place.node(steady(HOUR), &Origin::default()).await,
        };
        let cache = &node.cache;
        build(cache, "user", 1, None).await;
        build(cache, "orders", 1, Some(cache.name_of("user"))).await;
        build(cache, "report", 1, Some(cache.name_of("orders"))).await;
        build(cache, "apart", 1, None).await;
        cache.invalidate("user").await.unwrap();
        for key in ["user", "orders", "report"] {
            assert_eq!(cache.get(key).await.unwrap(), Lookup::Miss, "{key}");
        }
        assert_eq!(
            cache.get("apart").await.unwrap(),
            Lookup::Value(Arc::new(1))
        );
    }
}

/// Values that are made from the rows of the same key. None is kept in memory, so that the tier has to
/// say what it has.
fn cards(node: &Node) -> Cache<str, u64> {
    let mut limits = Limits::default();
    limits.memory.bytes_max = 0;
    let builder = Cache::builder("cards", &node.tier).made_from(["rows"]);
    let builder = builder.policy(tagged("cards")).limits(limits);
    builder.tasks(&node.tasks).build().unwrap()
}

#[tokio::test]
async fn what_is_made_from_other_values_is_kept_from_its_first_load_on() {
    for place in [Place::shared(), Place::shared_valkey()] {
        let node = place.node(steady(HOUR), &Origin::default()).await;
        let cards = cards(&node);
        for key in ["a", "b", "c"] {
            assert_eq!(build(&cards, key, 1, None).await, 1);
            assert_eq!(build(&cards, key, 2, None).await, 1, "the second load");
        }
        let load = |keys: Vec<String>| async move {
            let values = keys.into_iter().map(|key| (key, 1));
            Ok::<HashMap<String, u64>, Infallible>(values.collect())
        };
        for _ in 0..2 {
            cards.get_many_or_load(&["d", "e"], load).await.unwrap();
        }
        let stats = cards.stats();
        assert_eq!((stats.loads, stats.fills_refused), (4, 0));
        node.cache.invalidate("a").await.unwrap();
        node.cache.invalidate("e").await.unwrap();
        for (key, value) in [("a", 2), ("b", 1), ("d", 1), ("e", 2)] {
            assert_eq!(build(&cards, key, 2, None).await, value, "{key}");
        }
        node.cache.invalidate_all().await.unwrap();
        for key in ["a", "b", "d"] {
            assert_eq!(build(&cards, key, 3, None).await, 3, "{key}");
        }
    }
}

#[tokio::test]
async fn what_is_made_from_other_values_goes_with_them_be_they_cached_or_not() {
    for tier in [Tier::memory(1 << 20), Tier::none()] {
        let node = Node::alone(tier, steady(HOUR));
        let rows = &node.cache;
        let made: Cache<str, u64> = Cache::builder("cards", &node.tier)
            .made_from(["rows"])
            .build()
            .unwrap();
        let named: Cache<str, u64> = Cache::builder("walls", &node.tier).build().unwrap();
        for all in [true, false] {
            let write = async { Ok::<u64, Infallible>(1) };
            made.write_through("k", write).await.unwrap();
            made.set("set", 1).await.unwrap();
            build(&made, "read", 1, None).await;
            build(&named, "read", 1, Some(rows.name_of("read"))).await;
            match all {
                true => rows.invalidate_all().await.unwrap(),
                false => {
                    for key in ["k", "set", "read"] {
                        rows.invalidate(key).await.unwrap();
                    }
                }
            }
            for key in ["k", "set", "read"] {
                assert_eq!(made.get(key).await.unwrap(), Lookup::Miss, "{key} {all}");
            }
            assert_eq!(named.get("read").await.unwrap(), Lookup::Miss, "{all}");
        }
    }
    let odd = Cache::<str, u64>::builder("cards", &Tier::none()).made_from(["cards"]);
    assert!(odd.build().is_err(), "made from itself");
}

#[tokio::test]
async fn a_whole_cache_is_invalidated_in_one_step_and_others_stay() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    let other: Cache<str, u64> = Cache::builder("other", &a.tier).build().unwrap();
    build(&other, "k", 1, None).await;
    for key in ["x", "y"] {
        a.read(key, Duration::ZERO).await.unwrap();
        b.read(key, Duration::ZERO).await.unwrap();
    }
    a.cache.invalidate_all().await.unwrap();
    wait_until(SOON, "the other process hears", || async {
        b.cache.get("x").await.unwrap() == Lookup::Miss
    })
    .await;
    assert_eq!(a.cache.get("y").await.unwrap(), Lookup::Miss);
    assert_eq!(other.get("k").await.unwrap(), Lookup::Value(Arc::new(1)));
    // The entries lie there still, and are nothing.
    assert_eq!(a.read("x", Duration::ZERO).await.unwrap(), 0);
    assert_eq!(origin.loads(), 3);
}

#[tokio::test]
async fn an_entry_whose_count_was_lost_is_a_miss() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(tagged("t"), &origin).await;
    a.read("k", Duration::ZERO).await.unwrap();
    RedisServer::shared()
        .unwrap()
        .command(&["DEL", &place.key("t:#t")])
        .unwrap();
    let b = place.node(tagged("t"), &origin).await;
    assert_eq!(b.cache.get("k").await.unwrap(), Lookup::Miss);
    b.read("k", Duration::ZERO).await.unwrap();
    assert_eq!(origin.loads(), 2);
}

#[tokio::test]
async fn a_hit_in_the_shared_tier_costs_one_command() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let place = Place::at(&server.url());
    let origin = Origin::default();
    let a = place.node(tagged("t"), &origin).await;
    let b = place.node(tagged("t"), &origin).await;
    let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for key in &keys {
        a.read(key, Duration::ZERO).await.unwrap();
    }
    b.read("0", Duration::ZERO).await.unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    for key in &keys[1..] {
        b.read(key, Duration::ZERO).await.unwrap();
    }
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let stats = stats.as_str().unwrap();
    assert!(stats.contains("cmdstat_get:calls=99,"), "{stats}");
    assert!(!stats.contains("cmdstat_eval"), "{stats}");
    assert_eq!(b.cache.stats().tier_hits, 100);
}

#[tokio::test]
async fn an_entry_with_too_many_tags_is_answered_and_not_kept() {
    let node = Node::alone(Tier::memory(1 << 20), steady(HOUR));
    let load = || async {
        let tags = (0..20).map(|n| n.to_string());
        Ok::<_, Infallible>(tags.fold(Loaded::value(1), Loaded::tag))
    };
    assert_eq!(
        node.cache.get_or_load("k", load).await.unwrap(),
        Some(Arc::new(1))
    );
    assert_eq!(node.cache.get("k").await.unwrap(), Lookup::Miss);
    assert_eq!(node.cache.stats().fills_failed, 1);
}

/// A value with so many tags that nothing else has.
fn with_tags(of: &str, count: u32) -> Loaded<u64> {
    let tags = (0..count).map(|n| format!("{of}-{n}"));
    tags.fold(Loaded::value(1), Loaded::tag)
}

/// Whether a loader's value is kept. A tag that is new to a server costs a load, so it gets several.
async fn is_kept(cache: &Cache<str, u64>, key: &str, loaded: &Loaded<u64>) -> bool {
    for _ in 0..5 {
        let loaded = loaded.clone();
        let load = move || async move { Ok::<_, Infallible>(loaded) };
        cache.get_or_load(key, load).await.unwrap();
        if cache.get(key).await.unwrap() != Lookup::Miss {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn sixteen_tags_may_be_named_and_sixty_four_there_with_those_that_are_inherited() {
    let (tiers, _folder) = all_tiers(&Clock::system()).await;
    for (name, tier, tasks) in tiers {
        let node = Node::over(tier, tasks, steady(HOUR), &Origin::default());
        let cache = &node.cache;
        assert!(is_kept(cache, "most", &with_tags("t", 16)).await, "{name}");
        let more = with_tags("t", 17);
        assert!(!is_kept(cache, "more", &more).await, "{name}");
        let refused = cache.set("more", more).await;
        assert!(matches!(refused, Err(Error::Settings { .. })), "{name}");
        // Those of the policy are among them, and the same tag is one.
        let tags = (0..15).map(|n| format!("t-{n}")).collect();
        let policy = Policy {
            tags,
            ..steady(HOUR)
        };
        let wide = cache.with_policy(policy);
        assert!(is_kept(&wide, "same", &with_tags("t", 16)).await, "{name}");
        assert!(!is_kept(&wide, "own", &with_tags("u", 2)).await, "{name}");
        // What it depends on is named; what that has is not.
        for n in 0..7 {
            let source = with_tags(&format!("of-{n}"), 10);
            assert!(is_kept(cache, &n.to_string(), &source).await, "{name}");
        }
        let on = |count: u32| {
            let sources = (0..count).map(|n| cache.name_of(&n.to_string()));
            sources.fold(Loaded::value(1_u64), Loaded::depends_on)
        };
        assert!(is_kept(cache, "heir", &on(4)).await, "{name}");
        assert!(!is_kept(cache, "heir of all", &on(7)).await, "{name}");
        let refused = cache.set("heir of all", on(7)).await;
        assert!(matches!(refused, Err(Error::Settings { .. })), "{name}");
        cache.invalidate_tag("of-3-7").await.unwrap();
        assert_eq!(cache.get("heir").await.unwrap(), Lookup::Miss, "{name}");
    }
}

#[tokio::test]
async fn who_asks_after_a_tag_changed_does_not_get_a_load_from_before_it_even_if_it_is_not_kept() {
    for kept in [true, false] {
        let node = Node::alone(Tier::memory(1 << 20), tagged("t"));
        let read = async || {
            let origin = node.origin.clone();
            let load = move || async move {
                let value = origin.read("k", MS * 50).await?;
                let loaded = Loaded::value(value);
                Ok::<_, std::io::Error>(if kept { loaded } else { loaded.not_kept() })
            };
            *node.cache.get_or_load("k", load).await.unwrap().unwrap()
        };
        let late = async {
            tokio::time::sleep(MS * 20).await;
            node.origin.write("k");
            node.cache.invalidate_tag("t").await.unwrap();
            read().await
        };
        assert_eq!(join(read(), late).await, (0, 1), "kept: {kept}");
    }
}
