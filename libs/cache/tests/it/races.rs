//! Changes while loads are under way: the value of a load that began before is never kept.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use ratebox_cache::Tier;
use ratebox_kit::Stopwatch;

use crate::ground::{Node, Origin, Place, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);

/// Fewer than the loads that a cache runs at once: one that waits for its turn begins after the change
/// that was to come during it.
const AT_ONCE: usize = 50;

/// How long a change by another process may take to be heard, on a machine that may stand still. What is
/// kept that should not be stays for an hour.
const HEARD_WITHIN: Duration = SOON;

/// What a read answers as soon as it has heard of a change; what its memory had at first may be from
/// before, for that long and no longer.
async fn newest(node: &Node, key: &str, version: u64) -> u64 {
    let watch = Stopwatch::start();
    loop {
        let read = node.read(key, Duration::ZERO).await.unwrap();
        if read >= version || watch.elapsed() > HEARD_WITHIN {
            return read;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Reads, changes the row while the load is under way, and reads again; answers how often the
/// second read was older than the change.
pub(crate) async fn delete_during_load(
    reader: &Node,
    writer: &Node,
    tries: usize,
    at_once: usize,
) -> usize {
    let mut stale = 0;
    let keys: Vec<String> = (0..tries)
        .map(|n| format!("{}-{n}", reader.origin.loads()))
        .collect();
    for keys in keys.chunks(at_once) {
        let tries = keys.iter().map(async |key| {
            writer.origin.write(key);
            let load = reader.read(key, Duration::from_millis(8));
            let change = async {
                tokio::time::sleep(Duration::from_millis(3)).await;
                writer.write(key).await
            };
            let (read, version) = futures_util::future::join(load, change).await;
            read.unwrap();
            let version = version.unwrap();
            // The load is over: a value that it had kept would be there for an hour. Who changed it
            // sees that at once.
            let elsewhere = writer.read(key, Duration::ZERO).await.unwrap();
            let there = match std::ptr::eq(reader, writer) {
                true => reader.read(key, Duration::ZERO).await.unwrap(),
                false => newest(reader, key, version).await,
            };
            usize::from(there < version || elsewhere < version)
        });
        stale += join_all(tries).await.into_iter().sum::<usize>();
    }
    stale
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vk_10_no_value_is_stale_after_10_000_deletes_during_a_load_in_one_process() {
    for tier in [Tier::none(), Tier::memory(64 << 20)] {
        let node = Node::alone(tier, steady(HOUR));
        assert_eq!(delete_during_load(&node, &node, 5_000, AT_ONCE).await, 0);
        // The race was there: loads ended after the change, and what they brought was not kept.
        let refused = node.cache.stats().fills_refused;
        assert!(refused > 1_000, "{refused} of 5,000 raced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vk_10_no_value_is_stale_after_10_000_deletes_during_a_load_by_another_process() {
    let place = Place::shared();
    let origin = Origin::default();
    let a = place.node(steady(HOUR), &origin).await;
    let b = place.node(steady(HOUR), &origin).await;
    assert_eq!(delete_during_load(&a, &b, 5_000, 250).await, 0);
    assert_eq!(delete_during_load(&b, &a, 5_000, 250).await, 0);
    assert!(a.cache.stats().fills_refused > 1_000, "the race was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_misses_over_two_processes_cost_one_load() {
    for place in [Place::shared(), Place::shared_valkey()] {
        let origin = Origin::default();
        origin.write("k");
        let nodes = [
            place.node(steady(HOUR), &origin).await,
            place.node(steady(HOUR), &origin).await,
        ];
        let reads = (0..1_000).map(|n| nodes[n % 2].read("k", Duration::from_millis(100)));
        let values = try_join_all(reads).await.unwrap();
        assert!(values.iter().all(|value| *value == 1));
        assert_eq!(origin.loads(), 1);
    }
}
