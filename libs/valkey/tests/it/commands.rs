//! Commands, pipelines, scripts, blocking reads; and URLs.

use std::time::Duration;

use ratebox_kit::Stopwatch;
use ratebox_testkit::{RedisServer, unique_name};
use ratebox_valkey::{Error, Script, Settings, Valkey};
use redis::{Value, cmd, pipe};

async fn shared() -> Valkey {
    let url = RedisServer::shared().unwrap().url();
    Valkey::connect(&Settings::new(url)).await.unwrap()
}

fn text(value: &str) -> Value {
    Value::BulkString(value.as_bytes().to_vec())
}

#[tokio::test]
async fn commands_and_pipelines_answer_in_order() {
    let valkey = shared().await;
    let key = unique_name("k");
    let mut asked = pipe();
    asked.cmd("SET").arg(&key).arg("a");
    asked.cmd("LPUSH").arg(&key).arg("b");
    asked.cmd("GET").arg(&key);
    let answers = valkey.pipeline(&asked).await.unwrap();
    assert_eq!(answers[0], Ok(Value::Okay));
    assert!(
        matches!(&answers[1], Err(Error::Command { code, .. }) if code == "WRONGTYPE"),
        "one may fail and the next succeed: {answers:?}"
    );
    assert_eq!(answers[2], Ok(text("a")));
    let mut get = cmd("GET");
    assert_eq!(valkey.query_as::<String>(get.arg(&key)).await.unwrap(), "a");
    assert!(valkey.pipeline(&pipe()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_script_loads_itself_where_it_is_not_known() {
    let valkey = shared().await;
    let key = unique_name("k");
    let script = Script::new(&format!(
        "redis.call('SET', KEYS[1], ARGV[1]) return '{key}'"
    ));
    for round in ["first", "again"] {
        let call = script.call().key(&key).arg(round);
        assert_eq!(valkey.run(&call).await.unwrap(), text(&key));
    }
    let mut get = cmd("GET");
    assert_eq!(valkey.query(get.arg(&key)).await.unwrap(), text("again"));
}

#[tokio::test]
async fn a_blocking_read_may_take_longer_than_any_response_timeout() {
    let url = RedisServer::shared().unwrap().url();
    let valkey = Valkey::lazy(&crate::settings(url)).unwrap();
    let mut blocking = valkey.blocking();
    let mut pop = cmd("BLPOP");
    pop.arg(unique_name("nothing")).arg("1.5");
    let watch = Stopwatch::start();
    let answer = blocking
        .query(&pop, Duration::from_millis(1_500))
        .await
        .unwrap();
    assert_eq!(answer, Value::Nil);
    assert!(watch.elapsed() >= Duration::from_millis(1_400));
}

#[tokio::test]
async fn a_dropped_blocking_read_does_not_hold_up_the_next() {
    let valkey = shared().await;
    let mut blocking = valkey.blocking();
    let mut pop = cmd("BLPOP");
    pop.arg(unique_name("nothing")).arg("20");
    let read = blocking.query(&pop, Duration::from_secs(20));
    assert!(
        tokio::time::timeout(Duration::from_millis(100), read)
            .await
            .is_err()
    );
    let ping = cmd("PING");
    let ping = blocking.query(&ping, Duration::ZERO);
    let answer = tokio::time::timeout(Duration::from_secs(2), ping).await;
    assert_eq!(
        answer.unwrap().unwrap(),
        Value::SimpleString("PONG".to_owned())
    );
}

#[tokio::test]
async fn a_bad_url_is_named_without_its_password() {
    for (url, hint) in [
        ("rediss://user:hunter2@host#insecure", "#insecure"),
        ("http://user:hunter2@host", "redis://"),
        ("redis://user:hunter2@host/notadatabase", "redis://"),
    ] {
        let error = Valkey::lazy(&Settings::new(url)).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", Settings::new(url));
        assert!(
            shown.contains(hint) && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(!error.is_retryable());
    }
    let valkey = Valkey::lazy(&Settings::new("redis://user:hunter2@localhost:1")).unwrap();
    let error = valkey.ping().await.unwrap_err();
    let shown = format!("{error} {error:?} {valkey:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
