//! A tier that is away, full, slow or read-only: the origin answers, and nothing stale comes back.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use ratebox_cache::{Error, Limits, Lookup, Policy, Tier, ValkeyTier};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_testkit::{Fsync, RedisOptions, RedisServer, TcpProxy, wait_until};
use ratebox_valkey::{Settings as ValkeySettings, Valkey};

use crate::ground::{Node, Origin, Place, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

async fn started() -> (RedisServer, Node, Origin) {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let origin = Origin::default();
    let node = Place::at(&server.url()).node(steady(HOUR), &origin).await;
    (server, node, origin)
}

async fn back(node: &Node) {
    let waited = Stopwatch::start();
    wait_until(SOON, "the recovery", || async {
        node.tier.is_watching() && !node.tier.is_away()
    })
    .await;
    let waited = waited.elapsed();
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn vk_01_a_tier_that_is_down_at_start_costs_nobody_an_answer() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    server.kill9();
    let tasks = Tasks::new();
    let tier = Place::at(&server.url()).lazy_tier(&tasks);
    let limits = Limits {
        loads_max: 8,
        ..Limits::default()
    };
    let origin = Origin::default();
    let node = Node::with(tier, tasks, steady(HOUR), limits, &origin);
    let keys: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let reads = join_all(keys.iter().map(|key| node.read(key, MS * 5))).await;
    assert!(reads.iter().all(Result::is_ok));
    assert!(origin.running_max() <= 8, "{}", origin.running_max());
    server.restart().unwrap();
    back(&node).await;
    node.read("k", Duration::ZERO).await.unwrap();
    let loads = origin.loads();
    node.read("k", Duration::ZERO).await.unwrap();
    assert_eq!(origin.loads(), loads, "it caches again");
}

#[tokio::test]
async fn what_changed_while_the_tier_was_down_is_not_stale_when_it_comes_back_with_its_data() {
    let (mut server, node, origin) = started().await;
    for key in ["a", "b"] {
        origin.write(key);
        node.read(key, Duration::ZERO).await.unwrap();
    }
    // The file is written once a second.
    tokio::time::sleep(MS * 1_200).await;
    for round in 0..3 {
        server.kill9();
        wait_until(SOON, "the loss", || async { node.tier.is_away() }).await;
        let version = origin.write("a");
        let error = node.cache.invalidate("a").await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(node.read("a", Duration::ZERO).await.unwrap(), version);
        server.restart().unwrap();
        back(&node).await;
        assert_eq!(
            node.read("a", Duration::ZERO).await.unwrap(),
            version,
            "{round}"
        );
    }
    let loads = origin.loads();
    assert_eq!(node.read("b", Duration::ZERO).await.unwrap(), 1);
    assert_eq!(origin.loads(), loads, "what did not change is there still");
}

/// Once its tasks have ended nobody else tells it any more.
#[tokio::test]
async fn what_a_process_could_not_tell_it_can_tell_when_its_tasks_have_ended() {
    let options = RedisOptions::default().fsync(Fsync::Always);
    let mut server = RedisServer::start(options).unwrap();
    let (place, origin) = (Place::at(&server.url()), Origin::default());
    let node = place.node(steady(HOUR), &origin).await;
    let other = place.node(steady(HOUR), &origin).await;
    origin.write("k");
    for node in [&node, &other] {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    }
    assert!(!node.tier.has_untold());
    server.kill9();
    origin.write("k");
    for _ in 0..2 {
        node.cache.invalidate("k").await.unwrap_err();
        assert_eq!(node.tier.untold(), 1);
    }
    node.tier.tell_untold().await.unwrap_err();
    assert!(node.tasks.join(SOON).await.is_empty());
    assert_eq!(node.tier.untold(), 1, "the stop forgets nothing");
    server.restart().unwrap();
    back(&other).await;
    wait_until(SOON, "the tier to be told", || async {
        node.tier.tell_untold().await.is_ok()
    })
    .await;
    assert!(!node.tier.has_untold());
    wait_until(SOON, "the other process to read it", || async {
        other.read("k", Duration::ZERO).await.unwrap() == 2
    })
    .await;
}

#[tokio::test]
async fn of_more_tags_than_are_remembered_others_are_told_that_all_that_is_tagged_changed() {
    let options = RedisOptions::default().fsync(Fsync::Always);
    let mut server = RedisServer::start(options).unwrap();
    let (place, origin) = (Place::at(&server.url()), Origin::default());
    let policy = Policy {
        tags: vec!["t7".to_owned()],
        ..steady(HOUR)
    };
    let node = place.node(policy.clone(), &origin).await;
    let other = place.node(policy, &origin).await;
    origin.write("k");
    for node in [&node, &other] {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    }
    server.kill9();
    origin.write("k");
    let tags: Vec<String> = (0..=10_000).map(|n| format!("t{n}")).collect();
    node.cache.invalidate_tags(&tags).await.unwrap_err();
    assert_eq!(node.tier.untold(), 1);
    server.restart().unwrap();
    back(&node).await;
    assert!(!node.tier.has_untold());
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 2);
    wait_until(SOON, "the other process to read it", || async {
        other.read("k", Duration::ZERO).await.unwrap() == 2
    })
    .await;
}

#[tokio::test]
async fn a_change_whose_maker_waits_no_longer_is_told_all_the_same() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let (place, origin) = (Place::at(&server.url()), Origin::default());
    let node = place.node(steady(HOUR), &origin).await;
    let other = place.node(steady(HOUR), &origin).await;
    origin.write("k");
    for node in [&node, &other] {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    }
    server.pause().unwrap();
    origin.write("k");
    let told = tokio::time::timeout(MS * 50, node.cache.invalidate("k"));
    assert!(told.await.is_err(), "its maker has gone");
    assert_eq!(node.tier.untold(), 1);
    server.resume().unwrap();
    wait_until(SOON, "the tier to be told", || async {
        !node.tier.has_untold()
    })
    .await;
    for node in [&node, &other] {
        wait_until(SOON, "it to be read anew", || async {
            node.read("k", Duration::ZERO).await.unwrap() == 2
        })
        .await;
    }
}

/// How a value is replaced.
#[derive(Clone, Copy, Debug)]
enum Change {
    Invalidated,
    WrittenThrough,
    Set,
}

async fn change(node: &Node, key: &str, how: Change) {
    let version = node.origin.write(key);
    let written = async move { Ok::<_, std::io::Error>(version) };
    match how {
        Change::Invalidated => node.cache.invalidate(key).await.unwrap(),
        Change::WrittenThrough => drop(node.cache.write_through(key, written).await.unwrap()),
        Change::Set => node.cache.set(key, version).await.unwrap(),
    }
}

/// As when a replica takes over that had not heard of the change yet, or a server comes back from a
/// file that lacks its last second.
#[tokio::test]
async fn a_change_that_the_server_has_lost_is_told_once_more_after_the_link_was_lost() {
    for how in [Change::Invalidated, Change::WrittenThrough, Change::Set] {
        let server = RedisServer::start(RedisOptions::default()).unwrap();
        let proxy = TcpProxy::to(server.port()).unwrap();
        let place = Place::at(&proxy.url(&server.url()));
        let origin = Origin::default();
        let node = place.node(steady(HOUR), &origin).await;
        let other = place.by(&server.url()).node(steady(HOUR), &origin).await;
        origin.write("k");
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
        let (entry, old) = (place.key("e:{.rows:k}"), place.key("old"));
        server.command(&["COPY", &entry, &old]).unwrap();
        change(&node, "k", how).await;
        // What was lost once is lost twice here: it is told each time.
        for _ in 0..2 {
            proxy.cut();
            wait_until(SOON, "the loss", || async { !node.tier.is_watching() }).await;
            server.command(&["COPY", &old, &entry, "REPLACE"]).unwrap();
            wait_until(SOON, "the old value to be there again", || async {
                other.read("k", Duration::ZERO).await.unwrap() == 1
            })
            .await;
            proxy.resume();
            back(&node).await;
            assert!(!node.tier.has_untold(), "{how:?}");
            assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 2, "{how:?}");
            wait_until(SOON, "the other process to read it", || async {
                other.read("k", Duration::ZERO).await.unwrap() == 2
            })
            .await;
        }
    }
}

/// Changes that are made while the tier is told what it missed are told, too, and not remembered: else
/// there would be more of them each time.
#[tokio::test]
async fn a_tier_that_is_back_is_believed_though_changes_go_on_faster_than_it_answers() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let place = Place::at(&proxy.url(&server.url()));
    let node = place.node(steady(HOUR), &Origin::default()).await;
    proxy.cut();
    wait_until(SOON, "the loss", || async { node.tier.is_away() }).await;
    let (cache, tasks) = (node.cache.clone(), Tasks::new());
    let shutdown = tasks.shutdown();
    tasks.spawn("changes", async move {
        for turn in 1_u64.. {
            if !shutdown.sleep(MS).await {
                return;
            }
            // An error while the tier is away. Some wait for it no longer.
            let patience = if turn % 25 == 0 { MS } else { SOON };
            let _ = tokio::time::timeout(patience, cache.invalidate("k")).await;
        }
    });
    wait_until(SOON, "a change", || async { node.tier.has_untold() }).await;
    proxy.delay(MS * 10);
    back(&node).await;
    assert!(tasks.join(SOON).await.is_empty());
}

/// Nobody looks at a tier in memory, so nothing but the one who leaves can say that it is behind.
#[tokio::test]
async fn nobody_believes_a_tier_that_was_not_told_as_the_maker_of_a_change_waits_no_longer() {
    let tier = Tier::memory(1 << 20).deaf_to_changes();
    let node = Node::alone(tier, steady(HOUR));
    node.origin.write("k");
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    node.origin.write("k");
    let told = node.cache.invalidate("k").now_or_never();
    assert!(told.is_none(), "its maker has gone");
    assert_eq!(node.tier.untold(), 1);
    for _ in 0..2 {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 2);
    }
    assert_eq!(node.origin.loads(), 3, "nothing is kept meanwhile");
}

#[tokio::test]
async fn what_is_kept_while_the_tier_is_away_goes_with_its_key_and_with_its_tags() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let origin = Origin::default();
    let policy = Policy {
        tags: vec!["t".to_owned()],
        away_ttl: HOUR,
        ..steady(HOUR)
    };
    let node = Place::at(&server.url()).node(policy, &origin).await;
    drop(server);
    wait_until(SOON, "the loss", || async { node.tier.is_away() }).await;
    for by_tag in [true, false] {
        let version = origin.write("k");
        for _ in 0..2 {
            assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
        }
        let told = match by_tag {
            true => node.cache.invalidate_tag("t").await,
            false => node.cache.invalidate("k").await,
        };
        assert!(told.is_err(), "nobody else hears of it");
    }
    let version = origin.write("k");
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    assert_eq!(origin.loads(), 3, "it is kept");
}

#[tokio::test]
async fn a_frozen_tier_is_given_up_within_its_timeout() {
    let (server, node, origin) = started().await;
    origin.write("k");
    server.pause().unwrap();
    let waited = Stopwatch::start();
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    assert!(
        waited.elapsed() < Duration::from_secs(2),
        "{:?}",
        waited.elapsed()
    );
    wait_until(SOON, "it is away", || async { node.tier.is_away() }).await;
    let waited = Stopwatch::start();
    for _ in 0..100 {
        node.read("k", Duration::ZERO).await.unwrap();
    }
    assert!(waited.elapsed() < Duration::from_secs(1));
    server.resume().unwrap();
    back(&node).await;
}

/// A frozen server takes connections and says nothing: to dial it is to wait.
#[tokio::test]
async fn no_reader_waits_for_a_frozen_tier_to_be_dialled() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let tasks = Tasks::new();
    let settings = ValkeySettings {
        connect_timeout: Duration::from_secs(30),
        ..ValkeySettings::new(server.url().as_str())
    };
    let valkey = Valkey::lazy(&settings).unwrap();
    let settings = ValkeyTier {
        timeout: MS * 300,
        heartbeat: MS * 100,
        ..ValkeyTier::default()
    };
    let tier = Tier::valkey(&valkey, &settings, &tasks).unwrap();
    let origin = Origin::default();
    origin.write("k");
    let node = Node::over(tier, tasks, steady(HOUR), &origin);
    for _ in 0..3 {
        back(&node).await;
        node.cache.invalidate("k").await.unwrap();
        server.pause().unwrap();
        let waited = Stopwatch::start();
        while waited.elapsed() < Duration::from_secs(3) {
            let one = Stopwatch::start();
            assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
            assert!(
                one.elapsed() < Duration::from_secs(2),
                "{:?}",
                one.elapsed()
            );
        }
        server.resume().unwrap();
    }
}

#[tokio::test]
async fn a_slow_tier_slows_misses_and_no_hits() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let place = Place::at(&proxy.url(&server.url()));
    let node = place.node(steady(HOUR), &Origin::default()).await;
    proxy.delay(MS * 50);
    node.read("k", Duration::ZERO).await.unwrap();
    wait_until(SOON, "memory has it", || async {
        node.read("k", Duration::ZERO).await.unwrap();
        node.cache.stats().memory_hits > 2
    })
    .await;
    let waited = Stopwatch::start();
    for _ in 0..1_000 {
        node.read("k", Duration::ZERO).await.unwrap();
    }
    assert!(waited.elapsed() < MS * 100, "{:?}", waited.elapsed());
    assert_eq!(node.origin.loads(), 1);
}

#[tokio::test]
async fn a_full_tier_keeps_nothing_new_and_invalidates_still() {
    let policy = Policy {
        tags: vec!["t".to_owned()],
        ..steady(HOUR)
    };
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let origin = Origin::default();
    let place = Place::at(&server.url());
    let node = place.node(policy.clone(), &origin).await;
    let other = place.node(policy, &origin).await;
    for key in ["by-key", "by-tag"] {
        origin.write(key);
        node.read(key, Duration::ZERO).await.unwrap();
        other.read(key, Duration::ZERO).await.unwrap();
    }
    server
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    origin.write("new");
    assert_eq!(node.read("new", Duration::ZERO).await.unwrap(), 1);
    origin.write("by-tag");
    node.cache.invalidate_tag("t").await.unwrap();
    assert_eq!(node.read("by-tag", Duration::ZERO).await.unwrap(), 2);
    assert_eq!(node.write("by-key").await.unwrap(), 2);
    assert_eq!(node.read("by-key", Duration::ZERO).await.unwrap(), 2);
    wait_until(SOON, "the other process hears", || async {
        other.read("by-key", Duration::ZERO).await.unwrap() == 2
            && other.read("by-tag", Duration::ZERO).await.unwrap() == 2
    })
    .await;
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .unwrap();
    wait_until(SOON, "it caches again", || async {
        node.read("new", Duration::ZERO).await.unwrap();
        node.cache.get("new").await.unwrap() != Lookup::Miss
    })
    .await;
}

#[tokio::test]
async fn a_read_only_replica_keeps_nothing_and_costs_nobody_an_answer() {
    let (server, node, origin) = started().await;
    origin.write("k");
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    origin.write("k");
    assert!(node.cache.invalidate("k").await.is_err());
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 2);
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    back(&node).await;
    assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 2);
}

#[tokio::test]
async fn a_loader_that_fails_while_the_tier_is_away_gives_a_value_that_is_at_hand_or_its_error() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let origin = Origin::default();
    let policy = Policy {
        stale: HOUR,
        ..steady(HOUR)
    };
    let node = Place::at(&server.url()).node(policy, &origin).await;
    origin.write("k");
    wait_until(SOON, "memory has it", || async {
        node.read("k", Duration::ZERO).await.unwrap();
        node.cache.stats().memory_hits > 2
    })
    .await;
    drop(server);
    wait_until(SOON, "the loss", || async { node.tier.is_away() }).await;
    origin.write("k");
    assert_eq!(
        node.read("k", Duration::ZERO).await.unwrap(),
        2,
        "doubtful is no answer"
    );
    origin.fail(true);
    assert_eq!(
        node.read("k", Duration::ZERO).await.unwrap(),
        1,
        "better than none"
    );
    let error = node.read("other", Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Load(_)));
}
