//! A bus that refuses the gateway's user: said as such, with what to do about it.

use std::sync::Arc;
use std::time::Duration;

use ratebox_gateway::AcceptMode;
use ratebox_kit::{Secret, id};
use ratebox_stream::RedisLog;
use ratebox_testkit::{Answer, RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Login, Settings, Valkey};
use serde_json::json;

use crate::door::{Door, STATUS, code_of};

const PAUSES: &str = "/api/monitoring/pauses";
const PATHS: [&str; 3] = [
    "/api/monitoring/streams",
    "/api/monitoring/consumers",
    PAUSES,
];

fn set(server: &RedisServer, rules: &[&str]) {
    let words = [&["ACL", "SETUSER", "door"][..], rules].concat();
    server.command(&words).unwrap();
}

fn is_denied(answer: &Answer, word: &str) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(code_of(answer), "bus.denied");
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert!(answer.text().contains(word), "{}", answer.text());
}

#[tokio::test]
async fn a_bus_that_refuses_the_gateways_user_is_503_and_says_what_to_do() {
    let server = RedisServer::start_shared(RedisOptions::default()).unwrap();
    set(&server, &["on", ">one", "~*", "+@all"]);
    let login = Login {
        user: "door".to_owned(),
        password: Secret::new("one"),
    };
    let settings = Settings {
        login,
        ..Settings::new(server.url())
    };
    let valkey = Valkey::connect(&settings).await.unwrap();
    let log = Arc::new(RedisLog::new(valkey));
    let door = Door::with(|plan| {
        plan.redis = Some(log);
        plan.settings.accept.mode = AcceptMode::Stream;
    })
    .await;
    let scopes = ["monitoring:read", "monitoring:write", "validation:read"];
    let ops = door.with_scopes(&scopes).await;
    let look = async |path: &str| ops.get(path).await.unwrap();
    for path in PATHS {
        assert_eq!(look(path).await.status, 200, "{path}");
    }
    set(&server, &["-xinfo", "-hgetall"]);
    for path in PATHS {
        is_denied(&look(path).await, "Bus-Users");
    }
    // A request that has no row yet is looked for on the bus.
    set(&server, &["+@all", "-xrange"]);
    let on_bus = format!("{STATUS}{}?entry=validation_requests/1-1", id::new());
    is_denied(&look(on_bus.as_str()).await, "Bus-Users");
    // The script may be run, and may not write.
    set(&server, &["+@all", "-hset"]);
    let pause = json!({ "reason": "r" });
    let paused = ops.post_json(PAUSES, &pause).await.unwrap();
    is_denied(&paused, "NOPERM");
    set(&server, &["+@all", "resetpass", ">two"]);
    server.command(&["CLIENT", "KILL", "USER", "door"]).unwrap();
    wait_until(
        Duration::from_secs(10),
        "the password is refused",
        || async {
            let answer = ops.get(PATHS[0]).await.unwrap();
            answer.text().contains("bus.denied")
        },
    )
    .await;
    for path in PATHS {
        is_denied(&look(path).await, "bus.password");
    }
}
