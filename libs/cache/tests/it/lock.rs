//! Locks between processes, with holders that are stopped, cut off and late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ratebox_cache::{Fences, LockGuard, LockSettings, Locks, Lost};
use ratebox_db::{Db, PostgresSettings, SqliteSettings, migrate};
use ratebox_kit::{Clock, Secret, Stopwatch, Tasks};
use ratebox_testkit::{
    PostgresServer, RedisOptions, RedisServer, Stalls, TcpProxy, TempDir, unique_name, wait_until,
};
use ratebox_valkey::{Settings, Valkey};

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(10);

fn process(url: &str, prefix: &str, lease: Duration) -> Locks {
    let settings = LockSettings {
        lease,
        poll: Duration::from_millis(20),
    };
    let valkey = Valkey::lazy(&Settings::new(url)).unwrap();
    Locks::shared(valkey, prefix, settings, Clock::system(), Tasks::new())
}

fn two(lease: Duration) -> (Locks, Locks, String) {
    let url = RedisServer::shared().unwrap().url();
    let prefix = unique_name("lock:");
    (
        process(url, &prefix, lease),
        process(url, &prefix, lease),
        prefix,
    )
}

async fn held(locks: &Locks, name: &str) -> LockGuard {
    locks
        .lock(name, SOON)
        .await
        .unwrap()
        .expect("given in time")
}

#[tokio::test]
async fn one_process_at_a_time_holds_a_lock_and_fences_grow() {
    let (a, b, _) = two(LONG);
    let first = held(&a, "x").await;
    assert!(b.try_lock("x").await.unwrap().is_none());
    assert!(a.try_lock("x").await.unwrap().is_none());
    assert!(
        b.try_lock("y").await.unwrap().is_some(),
        "names do not share"
    );
    let fence = first.fence();
    assert!(first.give_back().await);
    let second = b.try_lock("x").await.unwrap().unwrap();
    assert!(second.fence() > fence);
    drop(second);
    assert!(
        held(&a, "x").await.fence() > fence + 1,
        "a dropped guard gives the lock back"
    );
}

/// Its holder died before the server's clock was set back by an hour, or before a server with another
/// clock took over.
#[tokio::test]
async fn a_lock_that_ends_further_ahead_than_any_lease_ends_after_one() {
    let (a, _, prefix) = two(Duration::from_millis(300));
    let ends = Clock::system().now().as_microsecond() + 3_600_000_000;
    let server = RedisServer::shared().unwrap();
    let (key, ends) = (format!("{prefix}x"), ends.to_string());
    server
        .command(&["HSET", &key, "token", "dead", "ends", &ends])
        .unwrap();
    assert!(a.try_lock("x").await.unwrap().is_none(), "it may live");
    assert!(held(&a, "x").await.fence() > 0);
}

#[tokio::test]
async fn a_lock_lives_longer_than_its_lease_while_it_is_held() {
    for _ in 0..20 {
        let (a, b, _) = two(Duration::from_millis(300));
        let guard = held(&a, "x").await;
        let stalls = Stalls::watch();
        let mut is_kept = true;
        while is_kept && stalls.elapsed() < Duration::from_millis(1_200) {
            is_kept = b.try_lock("x").await.unwrap().is_none() && !guard.is_lost();
        }
        if is_kept && guard.give_back().await {
            return;
        }
        // It is extended at a third of its length. What is known of a stall is known soon afterwards.
        let lost_by = stalls.elapsed();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stalled = lost_by - stalls.awake(lost_by);
        assert!(
            stalled > Duration::from_millis(100),
            "lost on a machine that stood still for {stalled:?}"
        );
    }
    panic!("the machine stood still in each of 20 tries");
}

#[tokio::test]
async fn vk_06_a_holder_that_was_cut_off_knows_it_and_does_not_free_anothers_lock() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let a = process(
        &proxy.url(&server.url()),
        "lock:",
        Duration::from_millis(400),
    );
    let b = process(&server.url(), "lock:", LONG);
    let slow = held(&a, "x").await;
    proxy.black_hole();
    let lost = Stopwatch::start();
    slow.lost().await;
    assert!(slow.is_lost());
    assert!(lost.elapsed() < Duration::from_secs(2));
    let taken = held(&b, "x").await;
    assert!(taken.fence() > slow.fence());
    proxy.resume();
    assert!(!slow.give_back().await, "it was not his any more");
    assert!(
        a.try_lock("x").await.unwrap().is_none(),
        "the other still holds it"
    );
    assert!(!taken.is_lost());
    assert!(taken.give_back().await);
}

#[tokio::test]
async fn a_holder_says_that_it_lost_the_lock_before_another_gets_it() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let a = process(
        &proxy.url(&server.url()),
        "lock:",
        Duration::from_millis(500),
    );
    let b = process(&server.url(), "lock:", Duration::from_millis(500));
    for _ in 0..3 {
        let first = held(&a, "x").await;
        proxy.black_hole();
        let second = held(&b, "x").await;
        assert!(first.is_lost());
        proxy.cut();
        proxy.resume();
        drop(first);
        drop(second);
    }
}

#[tokio::test]
async fn the_lock_of_a_lost_server_is_lost_when_another_took_it_there() {
    let (a, b, prefix) = two(Duration::from_millis(300));
    let first = held(&a, "x").await;
    let server = RedisServer::shared().unwrap();
    server.command(&["DEL", &format!("{prefix}x")]).unwrap();
    let second = held(&b, "x").await;
    assert!(
        second.fence() > first.fence(),
        "fences grow over a lost key"
    );
    tokio::time::timeout(SOON, first.lost()).await.unwrap();
    drop(first);
    assert!(a.try_lock("x").await.unwrap().is_none());
    assert!(second.give_back().await);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_nothing_held() {
    let (a, b, _) = two(LONG);
    let guard = held(&a, "x").await;
    assert!(
        b.lock("x", Duration::from_millis(60))
            .await
            .unwrap()
            .is_none()
    );
    for micros in 0..40 {
        let dropped =
            tokio::time::timeout(Duration::from_micros(micros * 50), b.try_lock("y")).await;
        drop(dropped);
    }
    guard.give_back().await;
    drop(held(&a, "x").await);
    drop(held(&a, "y").await);
}

#[tokio::test]
async fn waiters_of_one_process_are_served_in_order() {
    let url = RedisServer::shared().unwrap().url();
    for locks in [
        Locks::local(Clock::system()),
        process(url, &unique_name("lock:"), LONG),
    ] {
        let guard = held(&locks, "x").await;
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiters = tokio::task::JoinSet::new();
        let mut waiting = Vec::new();
        for number in 0..5 {
            let (locks, order) = (locks.clone(), Arc::clone(&order));
            let mut wait = Box::pin(async move {
                let guard = held(&locks, "x").await;
                order.lock().unwrap().push((number, guard.fence()));
                guard.give_back().await;
            });
            // Polled once here, each stands in line before the next comes.
            assert!(futures_util::FutureExt::now_or_never(&mut wait).is_none());
            waiting.push(wait);
        }
        waiting
            .into_iter()
            .for_each(|wait| drop(waiters.spawn(wait)));
        guard.give_back().await;
        waiters.join_all().await;
        let order = order.lock().unwrap();
        assert!(order.iter().map(|it| it.0).eq(0..5), "{order:?}");
        assert!(order.is_sorted_by_key(|it| it.1), "fences grow: {order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_contention_nobody_is_inside_together() {
    let url = RedisServer::shared().unwrap().url();
    let prefix = unique_name("lock:");
    let inside = Arc::new(AtomicU32::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let locks = process(url, &prefix, LONG);
        for _ in 0..3 {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            workers.spawn(async move {
                for _ in 0..5 {
                    let guard = held(&locks, "x").await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.give_back().await;
                }
            });
        }
    }
    workers.join_all().await;
}

#[tokio::test]
async fn work_under_a_lock_is_stopped_when_the_lock_is_lost() {
    let (a, _, prefix) = two(Duration::from_millis(300));
    let done = Locks::run(held(&a, "x").await, async { 7 }).await;
    assert_eq!(done, Ok(7));
    let guard = held(&a, "x").await;
    let server = RedisServer::shared().unwrap();
    server.command(&["DEL", &format!("{prefix}x")]).unwrap();
    let stopped = tokio::time::timeout(SOON, Locks::run(guard, std::future::pending::<()>()));
    assert_eq!(stopped.await.unwrap(), Err(Lost));
}

#[tokio::test]
async fn without_its_server_a_lock_is_an_error_and_not_given() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    // A server that is killed may have answered what its file does not have yet, and hold the lock
    // that was given back: for a lease.
    let locks = process(&server.url(), "lock:", Duration::from_secs(1));
    assert!(held(&locks, "x").await.give_back().await);
    server.kill9();
    assert!(locks.try_lock("x").await.unwrap_err().is_retryable());
    server.restart().unwrap();
    wait_until(SOON, "the lock to be given again", || async {
        matches!(locks.try_lock("x").await, Ok(Some(_)))
    })
    .await;
}

/// The server gave the lock, and the link broke before anyone heard of it; it is away a while longer.
#[tokio::test]
async fn a_lock_that_was_given_to_nobody_is_given_back_as_soon_as_the_server_is_reached() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let locks = process(&proxy.url(&server.url()), "lock:", LONG);
    assert!(held(&locks, "x").await.give_back().await);
    proxy.mute();
    let direct = Valkey::lazy(&Settings::new(server.url())).unwrap();
    let given_then_cut = async {
        wait_until(SOON, "the server to give the lock", || async {
            let held = redis::Cmd::hexists("lock:x", "token");
            direct.query_as(&held).await == Ok(true)
        })
        .await;
        proxy.cut();
    };
    let (asked, ()) = tokio::join!(locks.try_lock("x"), given_then_cut);
    assert!(asked.unwrap_err().is_retryable());
    proxy.resume();
    wait_until(SOON, "the lock to be free", || async {
        matches!(locks.try_lock("x").await, Ok(Some(_)))
    })
    .await;
}

#[tokio::test]
async fn a_write_that_comes_late_is_refused_by_its_fence() {
    let folder = TempDir::new().unwrap();
    let sqlite = SqliteSettings::new(folder.join("fences.db"));
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("fences")).unwrap();
    let postgres = PostgresSettings::new(Secret::new(dsn));
    for db in [
        Db::sqlite(&sqlite).unwrap(),
        Db::postgres(&postgres).unwrap(),
    ] {
        migrate(&db, Fences::OWNER, Fences::MIGRATIONS)
            .await
            .unwrap();
        for sql in Fences::STATEMENTS {
            db.prepare(sql).await.unwrap();
        }
        for (fence, passes) in [(7, true), (7, true), (9, true), (8, false), (10, true)] {
            let mut tx = db.begin().await.unwrap();
            assert_eq!(
                Fences::pass(&mut tx, "x", fence).await.unwrap(),
                passes,
                "{fence}"
            );
            if passes {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
        }
    }
}
