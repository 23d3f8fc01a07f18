//! Writing to the origin and the cache.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use ratebox_cache::{Error, Lookup, Tier};
use ratebox_testkit::wait_until;

use crate::ground::{Node, Origin, Place, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

async fn write_through(node: &Node, key: &str, before: Duration, after: Duration) -> u64 {
    let (origin, row) = (node.origin.clone(), key.to_owned());
    let write = async move {
        tokio::time::sleep(before).await;
        let version = origin.write(&row);
        tokio::time::sleep(after).await;
        Ok::<_, io::Error>(version)
    };
    *node.cache.write_through(key, write).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_was_written_through_is_read_from_the_cache_by_all() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    b.read("k", Duration::ZERO).await.unwrap();
    assert_eq!(write_through(&a, "k", MS, MS).await, 1);
    for node in [&a, &b] {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    }
    assert_eq!(origin.loads(), 1);
    let gone = async { Ok::<Option<u64>, io::Error>(None) };
    assert_eq!(a.cache.write_through("k", gone).await.unwrap(), None);
    assert_eq!(b.cache.get("k").await.unwrap(), Lookup::Absent);
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_in_the_cache() {
    for tier in [Tier::none(), Tier::memory(1 << 20)] {
        let node = Node::alone(tier, steady(HOUR));
        node.read("k", Duration::ZERO).await.unwrap();
        // It reached the origin, and its answer was lost.
        let (origin, lost) = (node.origin.clone(), io::Error::other("lost"));
        let write = async move {
            origin.write("k");
            Err::<u64, _>(lost)
        };
        let error = node.cache.write_through("k", write).await.unwrap_err();
        assert!(matches!(error, Error::Write(_)));
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_write_goes_on_when_nobody_waits_for_it() {
    let node = Node::alone(Tier::memory(1 << 20), steady(HOUR));
    node.read("k", Duration::ZERO).await.unwrap();
    let waited = write_through(&node, "k", MS * 30, MS);
    assert!(tokio::time::timeout(MS * 5, waited).await.is_err());
    wait_until(SOON, "the write", || async {
        node.cache.get("k").await.unwrap() == Lookup::Value(Arc::new(1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_readers_in_any_order_leave_no_older_value() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    let tries = (0..500).map(async |n: u64| {
        let key = n.to_string();
        let spread = |ms: u64| MS * u32::try_from((n * 7 + ms) % 6).unwrap();
        let writes = join(
            write_through(&a, &key, spread(0), spread(3)),
            write_through(&b, &key, spread(2), spread(5)),
        );
        let reads = join(a.read(&key, spread(4)), b.read(&key, spread(1)));
        let (_, (first, second)) = join(writes, reads).await;
        assert!(first.is_ok() && second.is_ok());
        let there = a.read(&key, Duration::ZERO).await.unwrap();
        let elsewhere = b.read(&key, Duration::ZERO).await.unwrap();
        usize::from(there < 2) + usize::from(elsewhere < 2)
    });
    let stale: usize = join_all(tries).await.into_iter().sum();
    assert_eq!(stale, 0);
}

#[tokio::test]
async fn a_tag_that_changes_after_the_origin_has_a_write_takes_that_write_too() {
    let place = Place::shared();
    let origin = Origin::default();
    let tagged = ratebox_cache::Policy {
        tags: vec!["t".to_owned()],
        ..steady(HOUR)
    };
    let a = place.node(tagged.clone(), &origin).await;
    let b = place.node(tagged, &origin).await;
    let newer = async {
        tokio::time::sleep(MS * 20).await;
        origin.write("k");
        b.cache.invalidate_tag("t").await.unwrap();
    };
    join(write_through(&a, "k", MS, MS * 60), newer).await;
    for node in [&a, &b] {
        // Whichever of the two was the later one.
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_value_that_was_set_is_there_for_all_and_loads_do_not_fill_over_it() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    let set = async {
        tokio::time::sleep(MS * 10).await;
        b.cache.set("k", 9).await.unwrap();
    };
    let (old, ()) = join(a.read("k", MS * 50), set).await;
    assert_eq!(old.unwrap(), 0);
    for node in [&a, &b] {
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), 9);
    }
    b.cache.set_absent("k").await.unwrap();
    assert_eq!(b.cache.get("k").await.unwrap(), Lookup::Absent);
    let alone = Node::alone(Tier::none(), steady(HOUR));
    alone.cache.set("k", 3).await.unwrap();
    assert_eq!(alone.read("k", Duration::ZERO).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vk_16_a_writer_reads_its_own_write() {
    let place = Place::shared();
    let origin = Origin::default();
    let node = place.node(steady(HOUR), &origin).await;
    for _ in 0..500 {
        node.read("k", Duration::ZERO).await.unwrap();
        let version = node.write("k").await.unwrap();
        assert_eq!(node.read("k", Duration::ZERO).await.unwrap(), version);
    }
}
