//! What stands beside reading and changing: events, warming, changes held until a commit, choice of
//! what makes room, the end of a process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use ratebox_cache::{Cache, Changes, Event, Eviction, Limits, Lookup, Policy, Raw, Tier, Warmed};
use ratebox_kit::Tasks;
use ratebox_testkit::{unique_name, wait_until};

use crate::ground::{Origin, Place, SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn whoever_listens_hears_what_happens_to_keys_in_order() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&heard);
    let tier = Tier::memory(1 << 20);
    let name = unique_name("told");
    let builder = Cache::builder(name.clone(), &tier).policy(steady(HOUR));
    let cache: Cache<str, u64> = builder
        .listener(move |event: &Event<'_>| {
            note.lock().unwrap().push(format!("{event:?}"));
        })
        .build()
        .unwrap();
    for _ in 0..2 {
        let load = || async { Ok::<_, Infallible>(42) };
        cache.get_or_load("k", load).await.unwrap();
    }
    cache.invalidate("k").await.unwrap();
    cache.invalidate_tag("t").await.unwrap();
    let load = || async { Err::<u64, _>(std::io::Error::other("no")) };
    cache.get_or_load("k", load).await.unwrap_err();
    let heard = heard.lock().unwrap().clone();
    let gone = format!("Invalidated {{ name: \"{name}:k\" }}");
    let expected = [
        "Miss { key: \"k\" }",
        "Kept { key: \"k\", bytes: 2 }",
        "MemoryHit { key: \"k\" }",
        &gone,
        "TagInvalidated { tag: \"#t\" }",
        "Miss { key: \"k\" }",
    ];
    assert_eq!(heard[..6], expected);
    assert!(heard[6].starts_with("LoadFailed { key: \"k\""), "{heard:?}");
}

/// Loads that are counted in the origin.
fn loader(
    origin: &Origin,
) -> impl Fn(
    Vec<String>,
) -> futures_util::future::BoxFuture<'static, Result<HashMap<String, u64>, std::io::Error>>
+ Clone
+ Send
+ Sync
+ 'static {
    let origin = origin.clone();
    move |keys| {
        let origin = origin.clone();
        Box::pin(async move {
            let mut values = HashMap::new();
            for key in keys {
                let value = origin.read(&key, Duration::ZERO).await?;
                values.insert(key, value);
            }
            Ok(values)
        })
    }
}

#[tokio::test]
async fn processes_that_warm_together_load_each_key_once() {
    let place = Place::shared();
    let origin = Origin::default();
    let (a, b) = (
        place.node(steady(HOUR), &origin).await,
        place.node(steady(HOUR), &origin).await,
    );
    let keys: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (of_a, of_b) = join(
        a.cache.warm(&keys, 100, loader(&origin)),
        b.cache.warm(&keys, 100, loader(&origin)),
    )
    .await;
    let all = Warmed {
        keys: 1_000,
        failed: 0,
    };
    assert_eq!((of_a.unwrap(), of_b.unwrap()), (all, all));
    assert_eq!(origin.loads(), 1_000);
    // What is there is left as it is, and a failing origin stops nobody.
    origin.fail(true);
    let again = a.cache.warm(&keys[..10], 5, loader(&origin)).await.unwrap();
    assert_eq!((again.keys, again.failed), (10, 0));
    let cold = a.cache.warm(&["x", "y", "z"], 2, loader(&origin)).await;
    assert_eq!(cold.unwrap(), Warmed { keys: 0, failed: 3 });
}

#[tokio::test]
async fn changes_of_a_transaction_are_told_after_its_commit_and_not_after_a_rollback() {
    let place = Place::shared();
    let origin = Origin::default();
    let (a, b) = (
        place.node(steady(HOUR), &origin).await,
        place.node(steady(HOUR), &origin).await,
    );
    for key in ["1", "2"] {
        origin.write(key);
        assert_eq!(b.read(key, Duration::ZERO).await.unwrap(), 1);
    }
    let mut changes = Changes::new();
    assert!(changes.is_empty());
    changes.key(&a.cache, "1").key(&a.cache, "2").tag("lists");
    // The transaction is still open: everybody reads what is committed.
    assert_eq!(b.read("1", Duration::ZERO).await.unwrap(), 1);
    assert_eq!(origin.loads(), 2);
    drop(changes.clone()); // A rollback.
    assert_eq!(b.read("1", Duration::ZERO).await.unwrap(), 1);
    // It travels as an event, for whoever tells it when this process dies after its commit.
    origin.write("1");
    origin.write("2");
    let event = serde_json::to_vec(&changes).unwrap();
    let received: Changes = serde_json::from_slice(&event).unwrap();
    assert_eq!(received, changes);
    received.tell(&a.tier).await.unwrap();
    assert_eq!(a.read("1", Duration::ZERO).await.unwrap(), 2);
    wait_until(SOON, "the other hears", || async {
        b.read("2", Duration::ZERO).await.unwrap() == 2
    })
    .await;
    let mut all = Changes::new();
    all.cache("rows");
    all.tell(&a.tier).await.unwrap();
    assert_eq!(a.cache.get("1").await.unwrap(), Lookup::Miss);
}

/// How many of 100 popular keys are still in memory after so many others were read once.
async fn popular_left(eviction: Eviction) -> usize {
    let mut limits = Limits::default();
    limits.memory.bytes_max = 400 * 650;
    limits.memory.eviction = eviction;
    let builder = Cache::builder("rows", &Tier::none()).limits(limits);
    let cache: Cache<u64, Bytes> = builder
        .weigh(|value: &Bytes| value.len() as u64)
        .policy(Policy::ttl(HOUR))
        .build_with(Raw)
        .unwrap();
    let read = async |key: u64| {
        let load = || async { Ok::<_, Infallible>(Bytes::from(vec![0; 500])) };
        cache.get_or_load(&key, load).await.unwrap();
    };
    for _ in 0..20 {
        for key in 0..100 {
            read(key).await;
        }
    }
    for key in 1_000..3_000 {
        read(key).await;
    }
    let mut left = 0;
    for key in 0..100 {
        left += usize::from(cache.get(&key).await.unwrap() != Lookup::Miss);
    }
    left
}

#[tokio::test]
async fn a_run_of_keys_that_are_read_once_pushes_out_no_popular_ones_by_frequency() {
    let left = popular_left(Eviction::Frequency).await;
    assert!(left >= 90, "{left} of 100");
}

#[tokio::test]
async fn what_was_loading_when_the_process_stops_is_kept_for_the_others() {
    let place = Place::shared();
    let origin = Origin::default();
    let (a, b) = (
        place.node(steady(HOUR), &origin).await,
        place.node(steady(HOUR), &origin).await,
    );
    origin.write("k");
    let reader = tokio::time::timeout(MS * 20, a.read("k", MS * 200)).await;
    assert!(reader.is_err(), "its reader has gone");
    let late = a.tasks.join(SOON).await;
    assert!(late.is_empty(), "{late:?} did not end");
    assert_eq!(b.read("k", Duration::ZERO).await.unwrap(), 1);
    assert_eq!(origin.loads(), 1);
}

#[tokio::test]
async fn reads_that_are_gathered_when_the_process_stops_are_answered() {
    let place = Place::shared();
    let node = place.node(steady(HOUR), &Origin::default()).await;
    let keys: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let tasks: Tasks = node.tasks.clone();
    let reads = keys.iter().map(|key| node.read(key, Duration::ZERO));
    let reads = futures_util::future::join_all(reads);
    let (read, late) = join(reads, async { tasks.join(SOON).await }).await;
    assert!(late.is_empty(), "{late:?} did not end");
    assert!(read.into_iter().all(|value| value.unwrap() == 0));
}

#[cfg(all(feature = "zstd", feature = "lz4"))]
#[tokio::test]
async fn a_large_value_lies_packed_on_the_server_and_comes_back_whole() {
    use ratebox_cache::Compression;
    use ratebox_testkit::RedisServer;

    let server = RedisServer::shared().unwrap();
    let text = "the same again and again, ".repeat(1_000);
    for way in [Compression::Zstd, Compression::Lz4] {
        let place = Place::shared();
        let node = place.node(steady(HOUR), &Origin::default()).await;
        let other = place.node(steady(HOUR), &Origin::default()).await;
        let builder = Cache::builder("texts", &node.tier).compress(way, 1_024);
        let packs: Cache<str, String> = builder.build().unwrap();
        // It does not pack by itself, and reads what others packed.
        let reads: Cache<str, String> = Cache::builder("texts", &other.tier).build().unwrap();
        for (key, value) in [("long", &*text), ("short", "a few words")] {
            packs.set(key, value.to_owned()).await.unwrap();
            let found = reads.get(key).await.unwrap();
            assert_eq!(found, Lookup::Value(Arc::new(value.to_owned())));
        }
        let length = |key: &str| {
            let key = place.key(&format!("e:{{.texts:{key}}}"));
            server.command(&["STRLEN", &key]).unwrap().as_u64().unwrap()
        };
        assert!(length("long") < 2_000, "{way:?}: {}", length("long"));
        assert!(length("short") < 200);
        // Memory counts what is in it.
        assert!(reads.stats().memory_bytes > 26_000);
    }
}

#[cfg(feature = "postcard")]
#[tokio::test]
async fn a_binary_codec_is_smaller_and_bytes_that_are_not_its_own_are_a_miss() {
    use ratebox_cache::{Codec, Postcard};

    let row = (7_u64, "Ada".to_owned(), vec![1_u32, 2, 3]);
    let bytes = Postcard.encode(&row).unwrap();
    assert_eq!(bytes.len(), 9);
    let back: (u64, String, Vec<u32>) = Postcard.decode(&bytes).unwrap();
    assert_eq!(back, row);
    for cut in 0..bytes.len() {
        let read: Result<(u64, String, Vec<u32>), _> = Postcard.decode(&bytes[..cut]);
        assert!(read.is_err());
    }
    let longer = [&bytes[..], &[0]].concat();
    let read: Result<(u64, String, Vec<u32>), _> = Postcard.decode(&longer);
    assert!(read.is_err());
    let tier = Tier::memory(1 << 20);
    let cache: Cache<str, (u64, String)> =
        Cache::builder("rows", &tier).build_with(Postcard).unwrap();
    cache.set("k", (1, "Ada".to_owned())).await.unwrap();
    let json: Cache<str, (u64, String)> = Cache::builder("rows", &tier).build().unwrap();
    assert_eq!(json.get("k").await.unwrap(), Lookup::Miss, "another codec");
}
