//! The environment names of the cache service: each does what it says, seen from the server's keys.

use std::time::Duration;

use futures_util::future::join;
use ratebox_testkit::{JsonServer, RedisOptions, RedisServer, TcpProxy, TempDir, wait_until};
use serde_json::json;

use crate::cache_service::{SOON, get, on, post, started};

/// Every key of database 3 that fits a pattern, with the milliseconds it has left.
fn keys(server: &RedisServer, pattern: &str) -> Vec<(String, i64)> {
    let script = "redis.call('SELECT', 3)
        local found = {}
        for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
          found[#found + 1] = key .. ' ' .. redis.call('PTTL', key)
        end
        return found";
    let told = server.command(&["EVAL", script, "0", pattern]).unwrap();
    let split = |line: &serde_json::Value| {
        let (key, left) = line.as_str().unwrap().rsplit_once(' ').unwrap();
        (key.to_owned(), left.parse().unwrap())
    };
    told.as_array().unwrap().iter().map(split).collect()
}

#[tokio::test]
async fn places_lives_and_limits_follow_the_old_names() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let options = on(server.port())
        .env("VALKEY_DB", "3")
        .env("CACHE_VER", "v9")
        .env("CACHE_JITTER_RANGE", "0")
        .env("CACHE_NEG_TTL", "7")
        .env("WB_QUEUE_KEY", "my:writes")
        .env("RATE_MAX_TOKENS", "12")
        .env("RATE_WINDOW_SEC", "600");
    let service = started(options).await;
    let client = service.client();
    for id in 1..=3 {
        get(
            &client,
            &format!("/users/{id}?ttl=100&stale_grace=0&strategy=negative"),
        )
        .await;
    }
    let of = |id: u8| {
        let found = keys(&server, &format!("*e:{{.v9.users:{id}}}"));
        found.first().map(|(_, left)| *left)
    };
    // Warmed at the start with a life of its own, or read with this one: exact in both cases.
    let exact = |left: i64, ms: i64| (ms - 10_000..=ms).contains(&left);
    let ada = of(1).unwrap();
    assert!(exact(ada, 100_000) || exact(ada, 930_000), "{ada}");
    assert!(exact(of(3).unwrap(), 7_000), "{:?}", of(3));
    let write = json!({"title": "Poet", "mode": "write-behind"});
    assert_eq!(post(&client, "/users/1", &write).await.0, 200);
    let streams = keys(&server, "{my:writes:*");
    assert!(!streams.is_empty(), "{:?}", keys(&server, "*"));
    let told = server.command(&["INFO", "keyspace"]).unwrap();
    let told = told.as_str().unwrap();
    assert!(told.contains("db3:") && !told.contains("db0:"), "{told}");
    let mut refused = false;
    for _ in 0..12 {
        refused |= get(&client, "/users/1").await.0 == 429;
    }
    assert!(refused, "twelve in ten minutes");
}

#[tokio::test]
async fn leases_of_loads_and_refreshes_follow_the_old_names() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let origin = JsonServer::start(&json!({"v": 1})).unwrap();
    let link = TcpProxy::to(origin.port()).unwrap();
    let folder = TempDir::new().unwrap();
    let declared = folder.join("resources.toml");
    let address = format!("http://127.0.0.1:{}/{{key}}", link.port());
    let text = format!("[things]\nkey = \"text\"\nhttp = \"{address}\"\n");
    std::fs::write(&declared, text).unwrap();
    let options = on(server.port())
        .env("VALKEY_DB", "3")
        .env("REBUILD_LOCK_TTL", "30")
        .env("SWR_LOCK_TTL", "90")
        .env("RATEBOX_CACHE__RESOURCES_FILE", &declared);
    let service = started(options).await;
    let client = service.client();
    let refreshed = "/things/refreshed?strategy=swr&ttl=1&stale_grace=3600";
    assert_eq!(get(&client, refreshed).await.0, 200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    link.black_hole();
    let stale = get(&client, refreshed).await;
    assert_eq!(stale, (200, json!({"v": 1})), "at once");
    let lease = async |key: &str, seconds: i64| {
        let pattern = format!("*l:{{.v1.things:{key}}}");
        wait_until(SOON, "the lease to be there", || async {
            !keys(&server, &pattern).is_empty()
        })
        .await;
        let left = keys(&server, &pattern)[0].1;
        assert!(
            (seconds * 600..=seconds * 1_000).contains(&left),
            "{key}: {left}"
        );
    };
    lease("refreshed", 90).await;
    let (loaded, ()) = join(get(&client, "/things/loaded"), lease("loaded", 30)).await;
    assert_eq!(loaded.0, 503);
}
