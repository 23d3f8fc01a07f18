//! Origins of `ratebox cache` that misbehave: each read ends in what is cached or in a clear error.

use ratebox_kit::Stopwatch;
use ratebox_testkit::{HttpClient, JsonServer, Ratebox, TcpProxy, TempDir, wait_until};
use serde_json::{Value, json};

use crate::cache_service::{SOON, embedded, get, started};

/// Things that an origin over HTTP has, behind a link that can be broken.
struct Things {
    origin: JsonServer,
    link: TcpProxy,
    service: Ratebox,
    _folder: TempDir,
}

impl Things {
    async fn new() -> Self {
        let origin = JsonServer::start(&json!({"v": 1})).unwrap();
        let link = TcpProxy::to(origin.port()).unwrap();
        let folder = TempDir::new().unwrap();
        let declared = folder.join("resources.toml");
        let text = format!(
            "[things]\nkey = \"text\"\nhttp = \"http://127.0.0.1:{}/{{key}}\"\n",
            link.port()
        );
        std::fs::write(&declared, text).unwrap();
        let service = started(embedded().env("RATEBOX_CACHE__RESOURCES_FILE", &declared)).await;
        Self {
            origin,
            link,
            service,
            _folder: folder,
        }
    }
}

async fn is_refused(client: &HttpClient, key: &str) {
    let (status, problem) = get(client, &format!("/things/{key}")).await;
    let known = (status, &problem["code"]);
    assert_eq!(known, (503, &json!("origin.unavailable")), "{problem}");
}

#[tokio::test]
async fn an_origin_that_answers_no_value_costs_an_error_and_nothing_that_is_cached() {
    let things = Things::new().await;
    let client = things.service.client();
    let cached = (200, json!({"v": 1}));
    assert_eq!(get(&client, "/things/a").await, cached);
    let large = Value::from("x".repeat(10_000_000)).to_string();
    for (status, text) in [
        (200, "<html>"),
        (200, large.as_str()),
        (200, ""),
        (500, "{}"),
    ] {
        things.origin.answer(status, text);
        is_refused(&client, &format!("new-{status}-{}", text.len())).await;
        assert_eq!(get(&client, "/things/a").await, cached);
    }
    things.origin.serve(&json!({"v": 2}));
    let new = get(&client, &format!("/things/new-200-{}", large.len())).await;
    assert_eq!(new, (200, json!({"v": 2})), "nothing of it was kept");
}

#[tokio::test]
async fn while_an_origin_fails_a_value_past_its_end_stands_in_for_as_long_as_was_asked() {
    let things = Things::new().await;
    let client = things.service.client();
    let path = "/things/a?ttl=1&stale_grace=60";
    assert_eq!(get(&client, path).await.0, 200);
    things.origin.answer(500, "{}");
    wait_until(SOON, "the value to end", || async {
        assert_eq!(get(&client, path).await, (200, json!({"v": 1})));
        let stats = get(&client, "/stats").await.1;
        stats["resources"]["things"]["load_failures"] != 0
    })
    .await;
    assert_eq!(get(&client, path).await, (200, json!({"v": 1})));
}

#[tokio::test]
async fn an_origin_that_hangs_is_given_up_and_asked_again() {
    let things = Things::new().await;
    let client = things.service.client();
    assert_eq!(get(&client, "/things/a").await.0, 200);
    things.link.black_hole();
    let waited = Stopwatch::start();
    is_refused(&client, "b").await;
    assert!(waited.elapsed() < SOON, "{:?}", waited.elapsed());
    assert_eq!(get(&client, "/things/a").await.0, 200);
    things.link.cut_once();
    wait_until(SOON, "the origin to be asked again", || async {
        get(&client, "/things/b").await.0 == 200
    })
    .await;
}
