//! A Valkey under `ratebox cache` that is slow, frozen, full or a read-only replica: every read says
//! what the origin has, writes and orders go on or say clearly that they cannot, and afterwards
//! nothing is stale.

use std::time::Duration;

use ratebox_db::{Db, SqliteSettings};
use ratebox_testkit::{
    Answer, HttpClient, PostgresServer, Ratebox, RateboxOptions, RedisOptions, RedisServer,
    TcpProxy, TempDir, wait_until,
};
use serde_json::{Value, json};

use crate::cache_forgets::rename;
use crate::cache_service::{SOON, embedded, get, on, post, started};

/// Requests of a caller within the hour that the limiter of [`Ground::limited`] counts.
const LIMIT: usize = 5;

/// A service whose server is about to fail.
struct Ground {
    server: RedisServer,
    link: TcpProxy,
    service: Ratebox,
    /// Another one on the same server, which lets nobody do much.
    limited: Ratebox,
    origin: Db,
    _folder: TempDir,
}

impl Ground {
    async fn new() -> Self {
        let server = RedisServer::start(RedisOptions::valkey()).unwrap();
        let link = TcpProxy::to(server.port()).unwrap();
        let folder = TempDir::new().unwrap();
        let data = folder.join("data");
        let service = started(on(link.port()).data_dir(&data)).await;
        let limit = on(link.port())
            .env("RATE_MAX_TOKENS", LIMIT.to_string())
            .env("RATE_WINDOW_SEC", "3600");
        let limited = started(limit).await;
        let origin = Db::sqlite(&SqliteSettings::new(data.join("origin.db"))).unwrap();
        Self {
            server,
            link,
            service,
            limited,
            origin,
            _folder: folder,
        }
    }

    fn set(&self, name: &str, value: &str) {
        let done = self.server.command(&["CONFIG", "SET", name, value]);
        assert_eq!(done.unwrap(), "OK");
    }

    /// Everything that callers do, while the server is as it is.
    async fn goes_on(&self) {
        let client = self.service.client();
        reads_are_right(&client, "Ada").await;
        is_written_and_read(&client, "Augusta").await;
        rename(&self.origin, 1, "Radia").await;
        let forgotten = client.post_json("/invalidate/1", &json!({})).await;
        is_done_or_untold(&forgotten.unwrap());
        reads_are_right(&client, "Radia").await;
        is_served_or_refused(&client).await;
        self.limits().await;
        rename(&self.origin, 1, "Ada").await;
        post(&client, "/invalidate/1", &json!({})).await;
        reads_are_right(&client, "Ada").await;
    }

    /// Nobody gets more than a limit of the server's and one of the process' own.
    async fn limits(&self) {
        let client = self.limited.client();
        for asked in 0..=2 * LIMIT {
            let answer = client.get("/calc/heavy").await.unwrap();
            assert!(answer.header("ratelimit").is_some());
            if answer.status == 429 {
                assert!(answer.header("retry-after").is_some());
                return;
            }
            assert_eq!(answer.status, 200, "request {asked}: {}", answer.text());
        }
        panic!("nobody was limited");
    }

    /// The server is well again: values are kept, and none of them is from before.
    async fn recovers(&self) {
        let client = self.service.client();
        wait_until(SOON, "the service to be well", || async {
            get(&client, "/healthz").await.0 == 200
        })
        .await;
        reads_are_right(&client, "Ada").await;
        let hits = async || {
            let users = &get(&client, "/stats").await.1["resources"]["users"];
            users["memory_hits"].as_u64().unwrap() + users["tier_hits"].as_u64().unwrap()
        };
        let before = hits().await;
        wait_until(SOON, "values to be kept again", || async {
            reads_are_right(&client, "Ada").await;
            hits().await > before
        })
        .await;
        let ordered = post(&client, "/recompute", &json!({})).await;
        assert_eq!(ordered, (200, json!({"ok": true, "loaded": 2})));
        is_written_and_read(&client, "Grace").await;
        rename(&self.origin, 1, "Ada").await;
        post(&client, "/invalidate/1", &json!({})).await;
        reads_are_right(&client, "Ada").await;
    }
}

/// User 1 is `name` in every way of reading, and nobody is made up.
async fn reads_are_right(client: &HttpClient, name: &str) {
    for strategy in ["cache-aside", "singleflight", "swr", "negative"] {
        let (status, user) = get(client, &format!("/users/1?strategy={strategy}")).await;
        assert_eq!((status, &user["name"]), (200, &json!(name)), "{strategy}");
        let nobody = get(client, &format!("/users/404?strategy={strategy}")).await;
        assert_eq!(nobody.0, 404, "{strategy}: {}", nobody.1);
    }
    let (status, widget) = get(client, "/widgets/1").await;
    assert_eq!(status, 200, "{widget}");
    let greeting = widget["greeting"].as_str().unwrap();
    assert!(greeting.starts_with(&format!("Hello {name}, ")), "{widget}");
    let (status, many) = get(client, "/bulk/users?ids=1,404").await;
    assert_eq!((status, &many["1"]["name"]), (200, &json!(name)), "{many}");
    assert!(many.get("404").is_none(), "{many}");
}

async fn is_written_and_read(client: &HttpClient, name: &str) {
    let (status, answer) = post(client, "/users/1", &json!({"name": name})).await;
    assert_eq!(
        (status, &answer["user"]["name"]),
        (200, &json!(name)),
        "{answer}"
    );
    reads_are_right(client, name).await;
}

/// A value is forgotten by all, or by this process while it says that others are told later.
fn is_done_or_untold(answer: &Answer) {
    if answer.status == 200 {
        return;
    }
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json().unwrap()["code"], "invalidation.untold");
    assert!(answer.header("retry-after").is_some());
}

/// What needs the server is done, or refused with a reason and a time to come again.
async fn is_served_or_refused(client: &HttpClient) {
    let answers = [
        client.post_json("/recompute", &json!({})).await.unwrap(),
        client.get("/stats").await.unwrap(),
    ];
    for answer in answers {
        match answer.status {
            200 => {}
            503 => {
                let problem: Value = answer.json().unwrap();
                assert!(!problem["detail"].as_str().unwrap().is_empty());
                assert!(answer.header("retry-after").is_some(), "{problem}");
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let (status, health) = get(client, "/healthz").await;
    assert_eq!(health["ok"], status == 200, "{status}: {health}");
}

#[tokio::test]
async fn on_a_slow_server_the_service_answers_as_the_origin_does() {
    let ground = Ground::new().await;
    ground.link.delay(Duration::from_millis(25));
    ground.goes_on().await;
    ground.link.resume();
    ground.recovers().await;
}

#[tokio::test]
async fn on_a_server_so_slow_that_it_counts_as_away_the_service_goes_on() {
    let ground = Ground::new().await;
    ground.link.delay(Duration::from_millis(1_500));
    ground.goes_on().await;
    ground.link.resume();
    ground.recovers().await;
}

#[tokio::test]
async fn on_a_frozen_server_the_service_goes_on() {
    let ground = Ground::new().await;
    ground.server.pause().unwrap();
    ground.goes_on().await;
    ground.server.resume().unwrap();
    ground.recovers().await;
}

#[tokio::test]
async fn on_a_full_server_the_service_goes_on_and_keeps_nothing_old() {
    let ground = Ground::new().await;
    ground.set("maxmemory-policy", "noeviction");
    ground.set("maxmemory", "1");
    ground.goes_on().await;
    ground.set("maxmemory", "0");
    ground.recovers().await;
}

#[tokio::test]
async fn on_a_server_that_became_a_read_only_replica_the_service_goes_on() {
    let ground = Ground::new().await;
    let follow = |whom: [&str; 2]| ground.server.command(&["REPLICAOF", whom[0], whom[1]]);
    // Nobody is there, so it stays as it is and takes no writes.
    follow(["127.0.0.1", "1"]).unwrap();
    ground.goes_on().await;
    follow(["NO", "ONE"]).unwrap();
    ground.recovers().await;
}

#[tokio::test]
async fn without_the_store_of_its_tokens_the_service_says_that_it_is_not_well() {
    let mut postgres = PostgresServer::start().unwrap();
    let options = RateboxOptions::new("cache").env("VALKEY_FAKE", "1");
    let service = started(options.postgres(&postgres.dsn())).await;
    let client = service.client();
    assert_eq!(get(&client, "/healthz").await.1["tokens"], true);
    postgres.kill9();
    let (status, health) = get(&client, "/healthz").await;
    assert_eq!(status, 503, "{health}");
    let parts = ["ok", "valkey", "tokens"].map(|part| &health[part]);
    assert_eq!(parts, [&json!(false), &json!(true), &json!(false)]);
    let error = health["error"].as_str().unwrap();
    assert!(error.contains("tokens"), "{error}");
    postgres.restart().unwrap();
    wait_until(SOON, "the service to be well", || async {
        get(&client, "/healthz").await.0 == 200
    })
    .await;
}

#[tokio::test]
async fn a_recomputation_that_loads_nothing_is_refused_and_the_log_names_request_and_resource() {
    let mut postgres = PostgresServer::start().unwrap();
    let options = embedded().env("RATEBOX_CACHE__ORIGIN_URL", postgres.dsn());
    let service = started(options).await;
    let client = service.client().with_header("x-request-id", "order-42");
    let done = post(&client, "/recompute", &json!({})).await;
    assert_eq!(done, (200, json!({"ok": true, "loaded": 2})));
    postgres.kill9();
    let refused = client.post_json("/recompute", &json!({})).await.unwrap();
    let problem: Value = refused.json().unwrap();
    assert_eq!(refused.status, 503, "{problem}");
    assert_eq!(problem["code"], "recompute.not_loaded");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("0 of 2"), "{detail}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(get(&client, "/users/7654321").await.0, 503);
    let logs = service.logs();
    let of = |what: &str| {
        let mut lines = logs
            .lines()
            .filter(|line| line.contains("refused a request"));
        let line = lines.find(|line| line.contains(what));
        line.unwrap_or_else(|| panic!("no {what} in {logs}"))
    };
    for line in [of("recompute.not_loaded"), of("\"users\"")] {
        assert!(line.contains("order-42"), "{line}");
    }
    assert!(!logs.contains("7654321"), "a key in {logs}");
}
