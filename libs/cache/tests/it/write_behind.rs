//! Writes that reach the origin later.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use ratebox_cache::{
    Apply, Cache, Error, Lookup, MemoryQueue, MemoryQueueSettings, QueuedWrite, Tier, WriteQueue,
};
use ratebox_kit::{Backoff, PortError, Tasks};
use ratebox_testkit::wait_until;
use tokio::sync::Semaphore;

use crate::ground::{SOON, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

/// Rows, and every write that reached them.
#[derive(Clone, Default)]
struct Rows {
    rows: Arc<Mutex<HashMap<String, u64>>>,
    writes: Arc<Mutex<Vec<(String, u64)>>>,
    failures: Arc<AtomicU32>,
}

fn queue(settings: MemoryQueueSettings) -> Arc<MemoryQueue> {
    Arc::new(MemoryQueue::new(MemoryQueueSettings {
        backoff: Backoff {
            first: MS,
            max: MS * 5,
        },
        ..settings
    }))
}

fn cache(queue: &Arc<MemoryQueue>) -> Cache<str, u64> {
    let builder = Cache::builder("rows", &Tier::memory(1 << 20)).policy(steady(HOUR));
    builder
        .write_queue(Arc::clone(queue) as Arc<_>)
        .build()
        .unwrap()
}

fn applier(cache: &Cache<str, u64>, rows: &Rows) -> Arc<dyn Apply> {
    let rows = rows.clone();
    Arc::new(
        cache.applier(move |write: QueuedWrite, value: Option<u64>| {
            let rows = rows.clone();
            async move {
                let failing = rows.failures.load(Ordering::SeqCst);
                if write.key == "bad" || failing > 0 {
                    rows.failures
                        .store(failing.saturating_sub(1), Ordering::SeqCst);
                    return Err(io::Error::other("refused"));
                }
                let value = value.unwrap_or(0);
                rows.writes.lock().unwrap().push((write.key.clone(), value));
                rows.rows.lock().unwrap().insert(write.key, value);
                Ok(())
            }
        }),
    )
}

fn run(queue: &Arc<MemoryQueue>, applier: &Arc<dyn Apply>, tasks: &Tasks) {
    let (queue, applier, shutdown) = (Arc::clone(queue), Arc::clone(applier), tasks.shutdown());
    tasks.spawn("writes", async move {
        queue.run(applier.as_ref(), shutdown).await
    });
}

async fn read(cache: &Cache<str, u64>, rows: &Rows, key: &str) -> Option<u64> {
    let (rows, row) = (Arc::clone(&rows.rows), key.to_owned());
    let load = move || async move { Ok::<_, io::Error>(rows.lock().unwrap().get(&row).copied()) };
    let value = cache.get_or_load(key, load).await.unwrap();
    value.map(|value| *value)
}

#[tokio::test]
async fn a_write_is_read_at_once_and_survives_the_loss_of_the_entry() {
    let queue = queue(MemoryQueueSettings::default());
    let (cache, rows) = (cache(&queue), Rows::default());
    assert_eq!(read(&cache, &rows, "k").await, None);
    cache.write_behind("k", Some(&7)).await.unwrap();
    assert_eq!(read(&cache, &rows, "k").await, Some(7));
    cache.invalidate_all().await.unwrap();
    assert_eq!(
        read(&cache, &rows, "k").await,
        Some(7),
        "the origin has it not"
    );
    let load = |_: Vec<String>| async { Ok::<HashMap<String, u64>, io::Error>(HashMap::new()) };
    cache.invalidate("k").await.unwrap();
    let many = cache.get_many_or_load(&["k", "other"], load).await.unwrap();
    assert_eq!(many, [Some(Arc::new(7)), None]);
    assert_eq!(queue.drain(applier(&cache, &rows).as_ref()).await, 0);
    cache.invalidate("k").await.unwrap();
    assert_eq!(read(&cache, &rows, "k").await, Some(7));
}

/// A row with a field that can change in place.
type User = HashMap<String, String>;

fn user(name: &str) -> User {
    HashMap::from([("name".to_owned(), name.to_owned())])
}

#[tokio::test]
async fn vk_18_a_queued_write_changes_the_origin_when_it_is_applied_and_no_value_in_place() {
    let queue = queue(MemoryQueueSettings::default());
    let builder = Cache::builder("users", &Tier::memory(1 << 20)).policy(steady(HOUR));
    let builder = builder.write_queue(Arc::clone(&queue) as Arc<_>);
    let cache: Cache<str, User> = builder.build().unwrap();
    let origin = Arc::new(Mutex::new(user("Ada")));
    let at_the_origin = || origin.lock().unwrap().clone();
    let read = async || {
        let now = at_the_origin();
        let load = || async { Ok::<_, io::Error>(now) };
        cache.get_or_load("1", load).await.unwrap().unwrap()
    };
    let (doors, row) = (Arc::new(Semaphore::new(0)), Arc::clone(&origin));
    let came = Arc::new(AtomicU32::new(0));
    let (door, comes) = (Arc::clone(&doors), Arc::clone(&came));
    let applier: Arc<dyn Apply> = Arc::new(cache.applier(move |_, value: Option<User>| {
        let (door, comes, row) = (Arc::clone(&door), Arc::clone(&comes), Arc::clone(&row));
        async move {
            comes.fetch_add(1, Ordering::SeqCst);
            door.acquire().await.unwrap().forget();
            *row.lock().unwrap() = value.unwrap();
            Ok::<_, io::Error>(())
        }
    }));
    let tasks = Tasks::new();
    run(&queue, &applier, &tasks);
    let held = read().await;
    cache.write_behind("1", Some(&user("Grace"))).await.unwrap();
    wait_until(SOON, "the write at the origin's door", || async {
        came.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(*read().await, user("Grace"), "seen before it is applied");
    assert_eq!(at_the_origin(), user("Ada"));
    assert_eq!(*held, user("Ada"), "whoever holds a value keeps it");
    doors.add_permits(1);
    wait_until(SOON, "the write is applied", || async {
        queue.waiting() == 0
    })
    .await;
    assert_eq!(at_the_origin(), user("Grace"));
    cache.invalidate("1").await.unwrap();
    assert_eq!(*read().await, user("Grace"), "from the origin");
    assert_eq!(*held, user("Ada"));
    assert!(tasks.failed().is_empty());
}

#[tokio::test]
async fn vk_08_a_write_that_fails_is_tried_again_and_its_key_keeps_its_order() {
    let queue = queue(MemoryQueueSettings::default());
    let (cache, rows) = (cache(&queue), Rows::default());
    rows.failures.store(3, Ordering::SeqCst);
    let tasks = Tasks::new();
    run(&queue, &applier(&cache, &rows), &tasks);
    for value in 1..=200 {
        for key in ["a", "b", "c"] {
            cache.write_behind(key, Some(&value)).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    wait_until(SOON, "all writes are done", || async {
        queue.waiting() == 0
    })
    .await;
    let writes = rows.writes.lock().unwrap();
    for key in ["a", "b", "c"] {
        let of_key: Vec<u64> = writes
            .iter()
            .filter(|(at, _)| at == key)
            .map(|(_, v)| *v)
            .collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
        assert_eq!(of_key.last(), Some(&200));
    }
}

#[tokio::test]
async fn vk_08_a_write_that_never_succeeds_is_kept_aside_and_holds_nobody_up() {
    let settings = MemoryQueueSettings {
        tries_max: 3,
        ..MemoryQueueSettings::default()
    };
    let queue = queue(settings);
    let (cache, rows) = (cache(&queue), Rows::default());
    let tasks = Tasks::new();
    run(&queue, &applier(&cache, &rows), &tasks);
    cache.write_behind("bad", Some(&1)).await.unwrap();
    cache.write_behind("good", Some(&2)).await.unwrap();
    assert_eq!(read(&cache, &rows, "bad").await, Some(1));
    wait_until(SOON, "the write is given up", || async {
        queue.dead().len() == 1
    })
    .await;
    let dead = queue.dead();
    assert_eq!((dead[0].write.key.as_str(), dead[0].tries), ("bad", 3));
    wait_until(SOON, "readers learn of it", || async {
        read(&cache, &rows, "bad").await.is_none()
    })
    .await;
    wait_until(SOON, "the other is done", || async { queue.waiting() == 0 }).await;
    assert_eq!(*rows.writes.lock().unwrap(), [("good".to_owned(), 2)]);
    assert!(tasks.failed().is_empty());
}

#[tokio::test]
async fn a_full_queue_refuses_new_keys_and_nothing_is_changed() {
    let settings = MemoryQueueSettings {
        keys_max: 1,
        ..MemoryQueueSettings::default()
    };
    let queue = queue(settings);
    let (cache, rows) = (cache(&queue), Rows::default());
    cache.write_behind("a", Some(&1)).await.unwrap();
    cache.write_behind("a", Some(&2)).await.unwrap();
    let refused = cache.write_behind("b", Some(&1)).await.unwrap_err();
    assert!(matches!(refused, Error::Queue(_)) && refused.is_retryable());
    assert_eq!(read(&cache, &rows, "a").await, Some(2));
    assert_eq!(read(&cache, &rows, "b").await, None);
    let without: Cache<str, u64> = Cache::builder("rows", &Tier::none()).build().unwrap();
    assert!(matches!(
        without.write_behind("a", None).await,
        Err(Error::Settings { .. })
    ));
    assert_eq!(without.get("a").await.unwrap(), Lookup::Miss);
}

/// A queue that takes its time, and cannot tell what waits.
struct Slow {
    inner: MemoryQueue,
    came: AtomicU32,
    door: Semaphore,
}

#[async_trait::async_trait]
impl WriteQueue for Slow {
    async fn append(&self, write: QueuedWrite) -> Result<(), PortError> {
        self.came.fetch_add(1, Ordering::SeqCst);
        self.door.acquire().await.unwrap().forget();
        self.inner.append(write).await
    }

    async fn newest(&self, _: &str, _: &str) -> Result<Option<QueuedWrite>, PortError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_write_whose_maker_waits_no_longer_is_known_when_the_queue_and_when_the_origin_has_it() {
    let queue = Arc::new(Slow {
        inner: MemoryQueue::new(MemoryQueueSettings::default()),
        came: AtomicU32::new(0),
        door: Semaphore::new(0),
    });
    let builder = Cache::builder("rows", &Tier::memory(1 << 20)).policy(steady(HOUR));
    let cache: Cache<str, u64> = builder
        .write_queue(Arc::clone(&queue) as Arc<_>)
        .build()
        .unwrap();
    let rows = Rows::default();
    assert_eq!(read(&cache, &rows, "k").await, None);
    let written = cache.write_behind("k", Some(&7)).now_or_never();
    assert!(written.is_none(), "its maker has gone");
    wait_until(SOON, "the write at the queue's door", || async {
        queue.came.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(cache.get("k").await.unwrap(), Lookup::Absent);
    queue.door.add_permits(1);
    wait_until(SOON, "what was there is forgotten", || async {
        cache.get("k").await.unwrap() == Lookup::Miss
    })
    .await;
    assert_eq!(queue.inner.waiting(), 1);
    assert_eq!(
        read(&cache, &rows, "k").await,
        None,
        "the queue cannot tell what waits"
    );
    let left = queue.inner.drain(applier(&cache, &rows).as_ref()).await;
    assert_eq!(left, 0);
    assert_eq!(read(&cache, &rows, "k").await, Some(7));
}
