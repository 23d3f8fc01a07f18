//! Small appends that come at the same time travel together.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use ratebox_kit::{Message, Stopwatch, id};
use ratebox_stream::{Admin as _, Append, EntryId, Error, Log as _, RedisLog, StreamName};
use ratebox_testkit::{RedisOptions, RedisServer};
use ratebox_valkey::{Settings, Valkey};

const CALLERS: usize = 64;
const ROUNDS: usize = 20;

fn log_on(server: &RedisServer) -> RedisLog {
    RedisLog::new(Valkey::lazy(&Settings::new(server.url())).unwrap())
}

fn append(stream: &StreamName, name: &str) -> [Append; 1] {
    [Append::new(stream.clone(), Message::new(name, "x"))]
}

async fn append_one(log: &RedisLog, stream: &StreamName, name: &str) -> Result<EntryId, Error> {
    log.append(&append(stream, name)).await.remove(0)
}

/// Connections that the server took so far.
fn connections(server: &RedisServer) -> u64 {
    let info = server.command(&["INFO", "stats"]).unwrap();
    let info = info.as_str().unwrap();
    let line = info
        .lines()
        .find_map(|it| it.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_a_few_connections_and_each_gets_its_own_answer() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let (log, stream) = (log_on(&server), StreamName::new("t"));
    let wrong = StreamName::new("a-text");
    server.command(&["SET", wrong.as_str(), "text"]).unwrap();
    let before = connections(&server);
    let callers = (0..CALLERS).map(|caller| {
        let (log, stream, wrong) = (&log, &stream, &wrong);
        async move {
            let mut answered = Vec::new();
            for round in 0..ROUNDS {
                let name = format!("{caller}-{round}");
                let refused = append_one(log, wrong, &name).await;
                assert!(refused.is_err(), "no stream: {refused:?}");
                answered.push((append_one(log, stream, &name).await.unwrap(), name));
            }
            answered
        }
    });
    let mut answered = join_all(callers).await.concat();
    // One more is the question itself.
    let dialled = connections(&server) - before - 1;
    assert!(dialled <= 4, "{dialled} connections");
    answered.sort();
    let stored = log.peek(&stream, EntryId::MIN, 2_000).await.unwrap();
    let stored: Vec<_> = stored
        .iter()
        .map(|it| (it.id, it.message_id().into_owned()))
        .collect();
    assert_eq!(stored.len(), CALLERS * ROUNDS);
    assert_eq!(stored, answered);
}

#[tokio::test]
async fn a_caller_that_gives_up_takes_nobody_with_it() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let (log, stream) = (log_on(&server), StreamName::new("t"));
    let appends: Vec<_> = (0..CALLERS)
        .map(|_| append(&stream, &id::new().to_string()))
        .collect();
    let mut calls: Vec<_> = appends.iter().map(|it| log.append(it)).collect();
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
    }
    let mut number = 0;
    calls.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    for answers in join_all(calls).await {
        assert!(answers[0].is_ok(), "{answers:?}");
    }
}

#[tokio::test]
async fn nobody_waits_twice_for_a_server_that_says_nothing() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let (log, stream) = (log_on(&server), StreamName::new("t"));
    append_one(&log, &stream, "dialled").await.unwrap();
    server.pause().unwrap();
    let watch = Stopwatch::start();
    let callers = (0..CALLERS).map(|_| append_one(&log, &stream, "m"));
    let answers = join_all(callers).await;
    let took = watch.elapsed();
    server.resume().unwrap();
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    // The answer of a trip may take five seconds.
    assert!(took < Duration::from_secs(9), "{took:?}");
    append_one(&log, &stream, "after it").await.unwrap();
}
