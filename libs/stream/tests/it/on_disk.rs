//! Appends that are answered when they are on the server's disk.

use std::time::Duration;

use ratebox_kit::{Message, id};
use ratebox_stream::{Append, EntryId, Error, Log as _, RedisLog, StreamName};
use ratebox_testkit::{Fsync, RedisOptions, RedisServer};
use ratebox_valkey::{Settings, Valkey};
use serde_json::json;

const COUNT: usize = 50;

/// Appends to a server that syncs as told, and says what is stored and how often was waited.
async fn append(options: RedisOptions, wait: Duration) -> (Vec<Result<EntryId, Error>>, String) {
    let server = RedisServer::start(options).unwrap();
    let valkey = Valkey::lazy(&Settings::new(server.url())).unwrap();
    let log = RedisLog::new(valkey).on_disk(wait).unwrap();
    let stream = StreamName::new(format!("t_{}", id::hex(&id::random_bytes::<6>())));
    let message = |number| Message::new(format!("m-{number}"), "x");
    let appends: Vec<Append> = (0..COUNT)
        .map(|number| Append::new(stream.clone(), message(number)))
        .collect();
    let answers = log.append(&appends).await;
    let length = server.command(&["XLEN", stream.as_str()]).unwrap();
    assert_eq!(length, json!(COUNT), "all are stored, whatever the answer");
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let stats = stats.as_str().unwrap().to_owned();
    (answers, stats)
}

#[tokio::test]
async fn an_append_is_answered_when_the_disk_has_it_and_a_batch_waits_once() {
    for options in [
        RedisOptions::redis_8(),
        RedisOptions::redis_8().fsync(Fsync::Always),
        RedisOptions::valkey(),
    ] {
        let (answers, stats) = append(options, Duration::from_secs(20)).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(stats.contains("cmdstat_waitaof:calls=1,"), "{stats}");
    }
}

#[tokio::test]
async fn what_no_disk_has_in_time_is_an_error_that_says_it_is_stored() {
    let never = RedisOptions::redis_8().set("appendfsync", "no");
    let without_file = RedisOptions::redis_8().fsync(Fsync::NoFile);
    let too_old = RedisOptions::default();
    for (options, may_pass) in [(never, true), (without_file, false), (too_old, false)] {
        let (answers, _) = append(options, Duration::from_millis(50)).await;
        for answer in answers {
            let error = answer.unwrap_err();
            let is_it = matches!(&error, Error::NotOnDisk(cause)
                if cause.to_string().contains("no answer within") == may_pass);
            assert!(is_it, "{error:?}");
            assert!(error.to_string().starts_with("the entry is stored"));
        }
    }
}
