//! Hearing of changes by others, and not trusting what was not heard.

use std::time::Duration;

use ratebox_cache::{Lookup, Policy};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_testkit::{RedisOptions, RedisServer, TcpProxy, wait_until};

use crate::ground::{Node, Origin, Place, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

/// A server, a process in touch with it, and one that goes through a proxy.
async fn behind_a_proxy() -> (RedisServer, TcpProxy, Node, Node, Origin) {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let place = Place::at(&server.url());
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place
        .by(&proxy.url(&server.url()))
        .node(steady(HOUR), &origin)
        .await;
    (server, proxy, a, b, origin)
}

async fn is_gone(node: &Node, key: &str) {
    wait_until(SOON, "the change is heard", || async {
        node.cache.get(key).await.unwrap() == Lookup::Miss
    })
    .await;
}

#[tokio::test]
async fn changes_by_outsiders_are_heard() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let place = Place::at(&server.url());
    let node = place.node(steady(HOUR), &Origin::default()).await;
    for command in [
        vec!["DEL".to_owned(), place.key("e:{.rows:k}")],
        vec!["FLUSHALL".to_owned()],
    ] {
        node.read("k", Duration::ZERO).await.unwrap();
        node.read("k", Duration::ZERO).await.unwrap();
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        server.command(&words).unwrap();
        is_gone(&node, "k").await;
    }
    assert!(node.cache.stats().memory_hits >= 2);
}

#[tokio::test]
async fn what_was_missed_while_the_link_was_cut_is_never_answered_afterwards() {
    let (_server, proxy, a, b, origin) = behind_a_proxy().await;
    let keys: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for round in 0..5 {
        for key in &keys {
            origin.write(key);
            a.write(key).await.unwrap();
            b.read(key, Duration::ZERO).await.unwrap();
        }
        proxy.cut();
        wait_until(SOON, "the loss", || async { !b.tier.is_watching() }).await;
        let mut versions = Vec::new();
        for key in &keys {
            versions.push(a.write(key).await.unwrap());
        }
        proxy.resume();
        let back = Stopwatch::start();
        wait_until(SOON, "the recovery", || async { b.tier.is_watching() }).await;
        assert!(
            back.elapsed() < Duration::from_secs(2),
            "{:?}",
            back.elapsed()
        );
        for (key, version) in keys.iter().zip(versions) {
            let read = b.read(key, Duration::ZERO).await.unwrap();
            assert_eq!(read, version, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_link_that_is_silent_is_taken_for_lost() {
    let (_server, proxy, a, b, origin) = behind_a_proxy().await;
    origin.write("k");
    b.read("k", Duration::ZERO).await.unwrap();
    assert_eq!(b.read("k", Duration::ZERO).await.unwrap(), 1);
    proxy.black_hole();
    let version = a.write("k").await.unwrap();
    let silent = Stopwatch::start();
    wait_until(SOON, "the loss", || async { !b.tier.is_watching() }).await;
    assert!(silent.elapsed() < Duration::from_secs(2));
    assert_eq!(b.read("k", Duration::ZERO).await.unwrap(), version);
    let version = a.write("k").await.unwrap();
    proxy.resume();
    wait_until(SOON, "the recovery", || async { b.tier.is_watching() }).await;
    assert_eq!(b.read("k", Duration::ZERO).await.unwrap(), version);
}

#[tokio::test]
async fn a_process_hears_nothing_before_it_is_in_touch_and_keeps_nothing_then() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    proxy.black_hole();
    let place = Place::at(&proxy.url(&server.url()));
    let tasks = Tasks::new();
    let tier = place.lazy_tier(&tasks);
    let node = Node::over(tier, tasks, steady(HOUR), &Origin::default());
    for version in 1..4 {
        node.origin.write("k");
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    }
    assert_eq!(node.cache.stats().memory_values, 0);
}

#[tokio::test]
async fn what_a_process_filled_is_in_its_memory_a_moment_later_unless_something_changed() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let place = Place::at(&server.url());
    let origin = Origin::default();
    let policy = Policy {
        tags: vec!["t".to_owned()],
        ..steady(HOUR)
    };
    let node = place.node(policy, &origin).await;
    let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for key in &keys {
        origin.write(key);
        node.read(key, Duration::ZERO).await.unwrap();
    }
    wait_until(SOON, "all are in memory", || async {
        node.cache.stats().memory_values == 100
    })
    .await;
    let before = node.cache.stats();
    for key in &keys {
        assert_eq!(node.read(key, Duration::ZERO).await.unwrap(), 1);
    }
    let after = node.cache.stats();
    assert_eq!(after.memory_hits - before.memory_hits, 100);
    assert_eq!(after.tier_hits, before.tier_hits, "nobody asked the server");
    // A change right after a fill, by key or by tag, is never undone by that.
    for (n, key) in keys.iter().enumerate() {
        node.cache.invalidate(key).await.unwrap();
        node.read(key, Duration::ZERO).await.unwrap();
        let version = origin.write(key);
        match n % 2 {
            0 => node.cache.invalidate(key).await.unwrap(),
            _ => node.cache.invalidate_tag("t").await.unwrap(),
        }
        for _ in 0..5 {
            assert_eq!(node.read(key, MS).await.unwrap(), version);
        }
    }
}
