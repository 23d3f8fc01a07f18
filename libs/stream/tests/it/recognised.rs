//! Appends whose answer gets lost: stored once on Redis 8, perhaps twice on 7.0.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Message, id};
use ratebox_stream::{Append, EntryId, Error, Lanes, Log as _, Producer, RedisLog, StreamName};
use ratebox_testkit::{RedisCluster, RedisOptions, RedisServer, Replicas, TcpProxy, wait_until};
use ratebox_valkey::{Ability, Settings, Valkey};
use serde_json::json;

use crate::running::PATIENCE;

/// Long enough to see on the server what the client does not know yet.
const DELAY: Duration = Duration::from_millis(500);

fn valkey(url: &str) -> Valkey {
    Valkey::lazy(&Settings {
        response_timeout: PATIENCE,
        ..Settings::new(url)
    })
    .unwrap()
}

fn stream() -> StreamName {
    StreamName::new(format!("t_{}", id::hex(&id::random_bytes::<6>())))
}

fn append(stream: &StreamName, name: &str) -> Append {
    Append::new(stream.clone(), Message::new(name, "x")).recognised()
}

fn length(server: &RedisServer, stream: &StreamName) -> u64 {
    let length = server.command(&["XLEN", stream.as_str()]).unwrap();
    length.as_u64().unwrap()
}

/// Appends two messages over a link that breaks when the server has them and the client does not
/// know. Returns the answers, and what is stored in the end.
async fn cut_before_the_answer(options: RedisOptions) -> (Vec<Result<EntryId, Error>>, u64) {
    let server = RedisServer::start(options).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let valkey = valkey(&proxy.url(&server.url()));
    valkey.has(Ability::IdempotentAdd).await;
    let (log, stream) = (RedisLog::new(valkey), stream());
    proxy.delay(DELAY);
    let appends = [append(&stream, "a"), append(&stream, "b")];
    let has_them = || async { length(&server, &stream) == 2 };
    let cut = async {
        wait_until(PATIENCE, "the server has them", has_them).await;
        proxy.cut_once();
    };
    let (answers, ()) = tokio::join!(log.append(&appends), cut);
    (answers, length(&server, &stream))
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_stored_once_and_answered() {
    let (answers, stored) = cut_before_the_answer(RedisOptions::redis_8()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(stored, 2);
}

#[tokio::test]
async fn on_redis_7_an_append_whose_answer_is_lost_is_an_error_and_may_be_stored() {
    let (answers, stored) = cut_before_the_answer(RedisOptions::default()).await;
    let is_lost = |answer: &Result<EntryId, Error>| matches!(answer, Err(Error::Connection(_)));
    assert!(answers.iter().all(is_lost), "{answers:?}");
    assert_eq!(stored, 2, "whoever appends again doubles them");
}

#[tokio::test]
async fn another_process_that_appends_the_same_message_gets_the_first_ones_entry() {
    for (server, copies) in [
        (RedisServer::shared_redis_8().unwrap(), 1),
        (RedisServer::shared().unwrap(), 2),
    ] {
        let stream = stream();
        // More than the server remembers of one producer.
        let names: Vec<String> = (0..500).map(|number| format!("m-{number}")).collect();
        let appends: Vec<Append> = names.iter().map(|it| append(&stream, it)).collect();
        let mut ids = Vec::new();
        for _ in 0..2 {
            let log = RedisLog::new(valkey(server.url()));
            let answers = log.append(&appends).await.into_iter();
            ids.push(answers.collect::<Result<Vec<_>, _>>().unwrap());
        }
        assert_eq!(ids[0] == ids[1], copies == 1);
        let length = server.command(&["XLEN", stream.as_str()]).unwrap();
        assert_eq!(length, json!(copies * 500));
    }
}

#[tokio::test]
async fn what_is_appended_again_on_purpose_is_stored_again() {
    let stream = stream();
    let server = RedisServer::shared_redis_8().unwrap();
    let log = Arc::new(RedisLog::new(valkey(server.url())));
    let once = append(&stream, "m");
    let again = Append::new(stream.clone(), Message::new("m", "x"));
    for append in [once, again.clone(), again] {
        assert!(log.append(&[append]).await.iter().all(Result::is_ok));
    }
    let lanes = Lanes::of(&stream);
    for producer in [
        Producer::new(log.clone(), lanes.clone()),
        Producer::new(log, lanes).recognised(),
    ] {
        for _ in 0..2 {
            producer.send(Message::new("n", "x")).await.unwrap();
        }
    }
    let length = server.command(&["XLEN", stream.as_str()]).unwrap();
    assert_eq!(length, json!(3 + 2 + 1));
}

#[tokio::test]
async fn an_older_server_that_takes_over_stores_each_message_once() {
    let mut server = RedisServer::start(RedisOptions::redis_8()).unwrap();
    let valkey = valkey(&server.url());
    let (log, stream) = (RedisLog::new(valkey.clone()), stream());
    assert!(valkey.has(Ability::IdempotentAdd).await);
    server.replace(RedisOptions::default()).unwrap();
    let appends = [append(&stream, "a"), append(&stream, "b")];
    let is_stored = || async { log.append(&appends).await.iter().all(Result::is_ok) };
    wait_until(PATIENCE, "the older server has them", is_stored).await;
    assert_eq!(length(&server, &stream), 2);
    assert!(!valkey.has(Ability::IdempotentAdd).await);
}

#[tokio::test]
async fn a_cluster_knows_messages_again_wherever_their_stream_is() {
    let cluster = RedisCluster::start(&RedisOptions::redis_8(), Replicas::None).unwrap();
    let valkey = crate::topologies::on(&cluster);
    assert!(valkey.has(Ability::IdempotentAdd).await);
    let log = RedisLog::new(valkey);
    let streams: Vec<StreamName> = (0..20).map(|_| stream()).collect();
    let appends: Vec<Append> = streams.iter().map(|it| append(it, "m")).collect();
    let first: Vec<EntryId> = log
        .append(&appends)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let again = log.append(&appends).await.into_iter();
    assert_eq!(again.map(Result::unwrap).collect::<Vec<_>>(), first);
}
