//! Reads of `ratebox cache`: a crowd that is as large as it says, and a replica that serves what it has.

use futures_util::future::join_all;
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use serde_json::json;

use crate::cache_service::{SOON, embedded, get, on, post, started};

#[tokio::test]
async fn vk_17_a_thousand_readers_at_once_are_a_thousand_and_a_change_is_seen_by_all() {
    let service = started(embedded()).await;
    let client = service.client();
    let requests = async || {
        let stats = get(&client, "/stats").await.1;
        stats["strategies"]["singleflight"]["requests"]
            .as_u64()
            .unwrap()
    };
    let before = requests().await;
    let crowd = async |name: &str| {
        let reads = join_all((0..1_000).map(|_| get(&client, "/users/1"))).await;
        let told =
            |(status, user): &(u16, serde_json::Value)| *status == 200 && user["name"] == name;
        assert_eq!(reads.iter().filter(|read| told(read)).count(), 1_000);
    };
    crowd("Ada").await;
    assert_eq!(requests().await, before + 1_000);
    let written = post(&client, "/users/1", &json!({"name": "Augusta"})).await;
    assert_eq!(written.0, 200);
    crowd("Augusta").await;
}

#[tokio::test]
async fn vk_16_with_a_reader_endpoint_a_writer_reads_its_own_writes() {
    let soon = RedisOptions::default().set("repl-diskless-sync-delay", "0");
    let primary = RedisServer::start(soon.clone()).unwrap();
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::start(soon.set("replicaof", &of)).unwrap();
    let service = started(
        on(primary.port())
            .env("VALKEY_READER_ENDPOINT", "127.0.0.1")
            .env("VALKEY_READER_PORT", replica.port().to_string())
            // Nothing in memory, so that every read asks a server.
            .env("RATEBOX_CACHE__MEMORY_MAX_BYTES", "0"),
    )
    .await;
    let client = service.client();
    wait_until(SOON, "the replica to serve", || async {
        assert_eq!(get(&client, "/users/1").await.1["name"], "Ada");
        let told = replica.command(&["INFO", "commandstats"]).unwrap();
        told.as_str().unwrap().contains("cmdstat_get:")
    })
    .await;
    for round in 0..100 {
        let title = format!("round {round}");
        let written = post(&client, "/users/1", &json!({"title": title})).await;
        assert_eq!(written.0, 200);
        assert_eq!(get(&client, "/users/1").await.1["title"], title);
    }
}
