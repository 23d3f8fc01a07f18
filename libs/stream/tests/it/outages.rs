//! Redis that is killed, comes back, comes back empty, is full or is the wrong kind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Causes, Clock, Message, Stopwatch, Tasks};
use ratebox_stream::conformance::{Bed, Letters, done};
use ratebox_stream::{
    Append, Consumer, Entry, Error, Handler, Lane, Log, Outcome, Policy, RedisLog, Settlement,
    StreamName,
};
use ratebox_testkit::{Fsync, RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Settings, Valkey};

const PATIENCE: Duration = Duration::from_secs(30);

/// Remembers how often each message was done, and when the last was.
#[derive(Default)]
struct Ledger(Mutex<HashMap<String, u32>>);

impl Ledger {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap().contains_key(id)
    }
}

#[async_trait]
impl Handler for Ledger {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let mut seen = self.0.lock().unwrap();
        for entry in &batch {
            *seen.entry(entry.message_id().into_owned()).or_default() += 1;
        }
        batch.into_iter().map(done).collect()
    }
}

fn start(
    bed: &Bed,
    sub: ratebox_stream::Subscription,
    policy: Policy,
    handler: Arc<dyn Handler>,
) -> Tasks {
    let log = Arc::clone(&bed.log);
    let consumer = Consumer::new(log, Letters::new(), sub, policy, Clock::system());
    let tasks = Tasks::new();
    let of = tasks.clone();
    tasks.spawn("consumer", async move { consumer.run(handler, &of).await });
    tasks
}

/// Appends numbered messages until told to stop; returns those that were accepted.
async fn produce(url: String, stream: StreamName, stop: Arc<AtomicBool>) -> Vec<String> {
    let log = RedisLog::new(Valkey::lazy(&Settings::new(url)).unwrap());
    let mut accepted = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let batch: Vec<Append> = (number..number + 20)
            .map(|number| {
                Append::new(
                    stream.clone(),
                    Message::new(format!("m{number}"), "x".repeat(200)),
                )
            })
            .collect();
        for (append, added) in batch.iter().zip(log.append(&batch).await) {
            if added.is_ok() {
                accepted.push(append.message.id.0.clone());
            }
        }
        number += 20;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_goes_on_within_two_seconds_and_loses_nothing() {
    let options = RedisOptions::default().fsync(Fsync::Always);
    let mut server = RedisServer::start(options).unwrap();
    let bed = crate::redis::on(&server.url());
    let sub = bed.member("a").await;
    let ledger = Arc::new(Ledger::default());
    let tasks = start(&bed, sub, bed.policy(), ledger.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let (url, stream, stopped) = (server.url(), bed.stream.clone(), stop.clone());
    let producers = Tasks::new();
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let filled = Arc::clone(&accepted);
    producers.spawn("producer", async move {
        *filled.lock().unwrap() = produce(url, stream, stopped).await;
    });
    for _ in 0..3 {
        let before = ledger.count();
        wait_until(PATIENCE, "work flows", || async {
            ledger.count() > before + 200
        })
        .await;
        server.kill9();
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.restart().unwrap();
        let (back, at_return) = (Stopwatch::start(), ledger.count());
        wait_until(PATIENCE, "work flows again", || async {
            ledger.count() > at_return
        })
        .await;
        assert!(
            back.elapsed() < Duration::from_secs(2),
            "it took {:?}",
            back.elapsed()
        );
    }
    stop.store(true, Ordering::SeqCst);
    assert!(producers.join(PATIENCE).await.is_empty());
    let accepted = std::mem::take(&mut *accepted.lock().unwrap());
    assert!(accepted.len() > 600);
    wait_until(PATIENCE, "every accepted message is done", || async {
        accepted.iter().all(|id| ledger.has(id))
    })
    .await;
    wait_until(PATIENCE, "nothing is pending", || async {
        bed.pending("g").await == 0
    })
    .await;
    assert!(tasks.join(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_empty_restart_the_group_is_made_again() {
    let options = RedisOptions::default().fsync(Fsync::NoFile);
    let mut server = RedisServer::start(options).unwrap();
    let bed = crate::redis::on(&server.url());
    let sub = bed.member("a").await;
    let ledger = Arc::new(Ledger::default());
    let tasks = start(&bed, sub, Policy::default(), ledger.clone());
    bed.append(Lane::Normal, &["before"]).await;
    wait_until(PATIENCE, "it works", || async { ledger.count() == 1 }).await;
    server.kill9();
    server.restart().unwrap();
    let back = Stopwatch::start();
    // A connection that was tried just before is refused for a moment longer than others.
    wait_until(PATIENCE, "an append is taken", || async {
        let append = Append::new(bed.stream.clone(), Message::new("after", "after"));
        bed.log.append(&[append]).await.remove(0).is_ok()
    })
    .await;
    wait_until(PATIENCE, "it works again", || async { ledger.count() == 2 }).await;
    assert!(
        back.elapsed() < Duration::from_secs(3),
        "it took {:?}",
        back.elapsed()
    );
    assert!(tasks.join(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_server_that_evicts_streams_is_refused_with_what_to_change() {
    let options = RedisOptions::default().set("maxmemory-policy", "allkeys-lru");
    let server = RedisServer::start(options).unwrap();
    let log = RedisLog::new(Valkey::lazy(&Settings::new(server.url())).unwrap());
    let error = log.check_server().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("set maxmemory-policy to noeviction"),
        "{error}"
    );
    assert!(!error.is_retryable());
    server
        .command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"])
        .unwrap();
    assert!(
        log.check_server()
            .await
            .unwrap()
            .unwrap()
            .contains("noeviction")
    );
    server
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .unwrap();
    assert_eq!(log.check_server().await.unwrap(), None);
}

#[tokio::test]
async fn a_full_server_refuses_appends_and_retries_and_loses_nothing() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::on(&server.url());
    let sub = bed.member("a").await;
    bed.append(Lane::Normal, &["x"]).await;
    let held = bed.read(&sub, 1).await;
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let append = Append::new(bed.stream.clone(), Message::new("y", "y"));
    let error = bed.log.append(&[append]).await.remove(0).unwrap_err();
    assert!(
        matches!(error, Error::Full(_)) && error.is_retryable(),
        "{error:?}"
    );
    let failed_at = Clock::system().now();
    let delay = Settlement::Delay {
        entry: &held[0],
        wait: Duration::ZERO,
        failed_at,
    };
    let error = bed.log.settle(&sub, &[delay]).await.unwrap_err();
    assert!(matches!(error, Error::Full(_)), "{error:?}");
    assert_eq!(bed.pending("g").await, 1);
    let ack = Settlement::Ack {
        lane: held[0].lane,
        id: held[0].id,
    };
    bed.log.settle(&sub, &[ack]).await.unwrap();
    assert_eq!(bed.pending("g").await, 0);
}

/// The append-only file cannot grow: the server refuses what changes anything until it can. What it
/// took before is done afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_server_is_waited_out_and_loses_nothing() {
    let options = RedisOptions::default().small_disk(8 << 20);
    let server = RedisServer::start(options).unwrap();
    let bed = crate::redis::on(&server.url());
    let ledger = Arc::new(Ledger::default());
    let tasks = start(&bed, bed.member("a").await, bed.policy(), ledger.clone());
    let accepted = Mutex::new(Vec::new());
    let append = async || {
        let id = ratebox_testkit::unique_name("m");
        let message = Message::new(id.clone(), "x".repeat(200));
        let append = Append::new(bed.stream.clone(), message);
        let appended = bed.log.append(&[append]).await.remove(0);
        appended.map(|_| accepted.lock().unwrap().push(id))
    };
    let all_done = async || {
        let accepted = accepted.lock().unwrap().clone();
        accepted.iter().all(|id| ledger.has(id)) && bed.pending("g").await == 0
    };
    for _ in 0..50 {
        append().await.unwrap();
    }
    wait_until(PATIENCE, "work is done", &all_done).await;
    server.fill_disk().unwrap();
    wait_until(PATIENCE, "appends are refused", || async {
        let Err(error) = append().await else {
            return false;
        };
        assert!(error.is_retryable(), "{error:?}");
        Causes(&error).to_string().contains("MISCONF")
    })
    .await;
    server.empty_disk().unwrap();
    wait_until(PATIENCE, "appends are taken again", || async {
        append().await.is_ok()
    })
    .await;
    wait_until(PATIENCE, "all that was accepted is done", all_done).await;
    assert!(
        accepted.lock().unwrap().len() > 51,
        "some came while it was full"
    );
    let info = server.command(&["INFO", "persistence"]).unwrap();
    let info = info.as_str().unwrap();
    assert!(info.contains("aof_last_write_status:ok"), "{info}");
    assert!(tasks.join(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn twenty_thousand_due_retries_are_promoted_in_bounded_steps() {
    let bed = crate::redis::on(RedisServer::shared().unwrap().url());
    let sub = bed.member("a").await;
    for _ in 0..10 {
        bed.append_many(Lane::Normal, 2_000).await;
        let entries = bed.read(&sub, 2_000).await;
        let failed_at = Clock::system().now();
        let delay = |entry| Settlement::Delay {
            entry,
            wait: Duration::ZERO,
            failed_at,
        };
        let delays: Vec<_> = entries.iter().map(delay).collect();
        bed.log.settle(&sub, &delays).await.unwrap();
    }
    assert_eq!(bed.pending("g").await, 0);
    assert_eq!(bed.admin.delayed(&sub).await.unwrap().count, 20_000);
    let floors = bed.admin.floor(&sub).await.unwrap();
    assert!(
        floors
            .iter()
            .all(|floor| floor.owed_from == Some(ratebox_stream::EntryId::MIN))
    );
    let (mut promoted, mut times) = (0, Vec::new());
    while promoted < 20_000 {
        let watch = Stopwatch::start();
        let step = bed.log.promote(&sub, 500).await.unwrap();
        times.push(watch.elapsed());
        assert!((1..=500).contains(&step));
        promoted += step;
    }
    // Of forty steps a busy machine may hold up some.
    times.sort_unstable();
    let most = times[times.len() * 9 / 10];
    assert!(
        most < Duration::from_millis(500),
        "nine of ten steps took {most:?}"
    );
    assert_eq!(bed.log.promote(&sub, 500).await.unwrap(), 0);
    assert_eq!(bed.read(&sub, 20_000).await.len(), 20_000);
}
