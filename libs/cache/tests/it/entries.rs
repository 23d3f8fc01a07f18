//! Entries that are none, keys and values that are too large, values that cannot be written.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_cache::{Cache, Cause, Codec, Early, Error, Limits, Lookup, Policy, Raw, Tier};
use ratebox_testkit::RedisServer;

use crate::ground::{Node, Origin, Place, steady};

const HOUR: Duration = Duration::from_secs(3_600);

/// Writes nothing it is given.
struct Refuses;

impl Codec<u64> for Refuses {
    fn id(&self) -> u8 {
        99
    }

    fn encode(&self, _value: &u64) -> Result<Vec<u8>, Cause> {
        Err(Arc::new(std::io::Error::other("no")))
    }

    fn decode(&self, _bytes: &[u8]) -> Result<u64, Cause> {
        Err(Arc::new(std::io::Error::other("no")))
    }
}

#[tokio::test]
async fn vk_03_whatever_lies_at_a_key_is_a_value_of_ours_or_a_miss() {
    let place = Place::shared();
    let server = RedisServer::shared().unwrap();
    let origin = Origin::default();
    let node = place.node(steady(HOUR), &origin).await;
    let long = "RBC\u{1}".repeat(100);
    for garbage in [
        "__nil__",
        "{\"value\":{\"id\":1}}",
        "",
        "RBC",
        "RBC\u{0}",
        &long,
    ] {
        origin.write("k");
        let key = place.key("e:{.rows:k}");
        server.command(&["SET", &key, garbage]).unwrap();
        let other = place.node(steady(HOUR), &origin).await;
        assert_eq!(other.cache.get("k").await.unwrap(), Lookup::Miss);
        let version = origin.version("k");
        assert_eq!(other.read("k", Duration::ZERO).await.unwrap(), version);
        let third = place.node(steady(HOUR), &origin).await;
        let kept = third.cache.get("k").await.unwrap();
        assert_eq!(kept, Lookup::Value(Arc::new(version)), "it is replaced");
    }
    let list = place.key("e:{.rows:list}");
    server.command(&["RPUSH", &list, "a"]).unwrap();
    assert_eq!(node.cache.get("list").await.unwrap(), Lookup::Miss);
    assert_eq!(node.read("list", Duration::ZERO).await.unwrap(), 0);
    let other = place.node(steady(HOUR), &origin).await;
    let kept = other.cache.get("list").await.unwrap();
    assert_eq!(kept, Lookup::Value(Arc::new(0)), "it is replaced");
    // Nor is it a reason to doubt what else is in memory.
    assert_eq!(node.cache.stats().tier_errors, 0);
}

#[tokio::test]
async fn what_lies_in_the_place_of_a_count_is_replaced_and_keeps_nobody_from_a_change() {
    let place = Place::shared();
    let server = RedisServer::shared().unwrap();
    let origin = Origin::default();
    let policy = Policy {
        tags: vec!["t".to_owned()],
        ..steady(HOUR)
    };
    let count = place.key("t:#t");
    for (put, garbage) in [
        ("SET", "abc"),
        ("SET", "1.5"),
        ("SET", "99999999999999999999"),
        ("RPUSH", "1"),
    ] {
        let lay = || {
            server.command(&["DEL", &count]).unwrap();
            server.command(&[put, &count, garbage]).unwrap();
        };
        lay();
        let node = place.node(policy.clone(), &origin).await;
        let version = origin.write("k");
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
        let other = place.node(policy.clone(), &origin).await;
        let kept = other.cache.get("k").await.unwrap();
        assert_eq!(kept, Lookup::Value(Arc::new(version)), "{put} {garbage}");
        lay();
        let version = origin.write("k");
        node.cache.invalidate_tag("t").await.unwrap();
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
        assert!(!node.tier.has_untold() && !node.tier.is_away());
    }
}

#[tokio::test]
async fn what_another_codec_wrote_is_a_miss() {
    let tier = Tier::memory(1 << 20);
    let raw: Cache<str, Bytes> = Cache::builder("rows", &tier).build_with(Raw).unwrap();
    raw.set("k", Bytes::from_static(b"7")).await.unwrap();
    let node = Node::alone(tier, steady(HOUR));
    assert_eq!(node.cache.get("k").await.unwrap(), Lookup::Miss);
}

#[tokio::test]
async fn a_value_that_cannot_be_written_is_answered_and_not_kept() {
    let tier = Tier::memory(1 << 20);
    let cache: Cache<str, u64> = Cache::builder("rows", &tier).build_with(Refuses).unwrap();
    for n in 0..2 {
        let load = move || async move { Ok::<_, Infallible>(n) };
        assert_eq!(
            cache.get_or_load("k", load).await.unwrap(),
            Some(Arc::new(n))
        );
    }
    assert_eq!(cache.stats().fills_failed, 2);
    assert!(matches!(cache.set("k", 1).await, Err(Error::Encode(_))));
}

#[tokio::test]
async fn a_key_of_10_kb_and_a_value_of_10_mb_are_answered_and_not_kept() {
    let place = Place::shared();
    let node = place.node(steady(HOUR), &Origin::default()).await;
    let key = "k".repeat(10_000);
    node.origin.write(&key);
    for _ in 0..2 {
        assert_eq!(node.read(&key, Duration::ZERO).await.unwrap(), 1);
    }
    assert_eq!(node.origin.loads(), 2);
    assert!(matches!(
        node.cache.set(&key, 1).await,
        Err(Error::KeyTooLong { bytes: 10_000, .. })
    ));
    node.cache.invalidate(&key).await.unwrap();

    let large: Cache<str, Bytes> = Cache::builder("large", &node.tier).build_with(Raw).unwrap();
    let value = Bytes::from(vec![7; 10_000_000]);
    for _ in 0..2 {
        let value = value.clone();
        let load = || async { Ok::<_, Infallible>(value) };
        let read = large.get_or_load("v", load).await.unwrap().unwrap();
        assert_eq!(read.len(), 10_000_000);
    }
    assert_eq!(large.stats().loads, 2);
    let error = large.set("v", value).await.unwrap_err();
    assert!(matches!(
        error,
        Error::TooLarge {
            bytes: 10_000_000,
            ..
        }
    ));
}

#[tokio::test]
async fn memory_stays_within_its_bytes() {
    let tier = Tier::memory(16 << 20);
    let mut limits = ratebox_cache::Limits::default();
    limits.memory.bytes_max = 100_000;
    for eviction in [
        ratebox_cache::Eviction::Frequency,
        ratebox_cache::Eviction::Recency,
    ] {
        limits.memory.eviction = eviction;
        let builder = Cache::builder("rows", &tier).limits(limits.clone());
        let cache: Cache<u64, Bytes> = builder.build_with(Raw).unwrap();
        for n in 0..2_000_u64 {
            let load = || async { Ok::<_, Infallible>(Bytes::from(vec![0; 500])) };
            cache.get_or_load(&n, load).await.unwrap();
            assert!(cache.stats().memory_bytes <= 100_000);
        }
        assert!(cache.stats().memory_values > 50);
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_a_sentence() {
    let tier = Tier::none();
    for name in ["", "a:b", "a{b}", "ü"] {
        let built = Cache::<str, u64>::builder(name, &tier).build();
        assert!(matches!(built, Err(Error::Settings { .. })), "{name}");
    }
    let built = |policy: &Policy, loads_max| {
        let limits = Limits {
            loads_max,
            ..Limits::default()
        };
        let builder = Cache::<str, u64>::builder("rows", &tier).policy(policy.clone());
        match builder.limits(limits).build() {
            Err(Error::Settings { what }) => what,
            Err(error) => panic!("{error}"),
            Ok(_) => String::new(),
        }
    };
    let check = |word: &str, change: &dyn Fn(&mut Policy)| {
        let mut policy = Policy::default();
        change(&mut policy);
        let what = built(&policy, 1);
        assert_eq!(what.is_empty(), word.is_empty(), "{word}: {what}");
        assert!(what.contains(word), "{word}: {what}");
    };
    assert!(built(&Policy::default(), 0).contains("one load"));
    check("", &|_| {});
    check("lease", &|it| it.lease = Duration::from_millis(9));
    check("", &|it| it.lease = Duration::from_millis(10));
    check("16 tags", &|it| it.tags = vec!["t".to_owned(); 17]);
    check("", &|it| it.tags = vec!["t".to_owned(); 16]);
    for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        check("jitter", &|it| it.jitter = jitter);
        check("share", &|it| it.early = Early::Share(jitter));
    }
    for share in [0.0, 1.0] {
        check("", &|it| it.jitter = share);
        check("", &|it| it.early = Early::Share(share));
    }
    for beta in [-0.1, f64::NAN, f64::INFINITY] {
        check("chance", &|it| it.early = Early::Chance(beta));
    }
    check("", &|it| it.early = Early::Chance(2.0));
}
