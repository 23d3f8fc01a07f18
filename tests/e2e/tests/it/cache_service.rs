//! `ratebox cache` as its callers meet it, embedded and on Valkey: a client that knows the contract
//! and nothing else.

use std::time::Duration;

use futures_util::future::join_all;
use ratebox_kit::Stopwatch;
use ratebox_testkit::{
    Answer, Certificates, HttpClient, PostgresServer, Ratebox, RateboxOptions, RedisCluster,
    RedisOptions, RedisServer, Replicas, TempDir, TlsClients, WatchedRedis, unique_name,
    wait_until,
};
use serde_json::{Value, json};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A service that anybody on this machine may call, with a limit that no test meets by chance.
fn open() -> RateboxOptions {
    RateboxOptions::new("cache")
        .env("RATEBOX_CACHE__AUTH", "off")
        .env("RATE_MAX_TOKENS", "100000")
}

pub(crate) fn embedded() -> RateboxOptions {
    open().env("VALKEY_FAKE", "1")
}

pub(crate) fn on(server_port: u16) -> RateboxOptions {
    open()
        .env("VALKEY_WRITER_ENDPOINT", "127.0.0.1")
        .env("VALKEY_WRITER_PORT", server_port.to_string())
        .env("VALKEY_TLS", "0")
        .env("RATEBOX_CACHE__PREFIX", unique_name("cache:") + ":")
}

pub(crate) async fn started(options: RateboxOptions) -> Ratebox {
    let mut service = options.start().unwrap();
    let client = service.client();
    let well = async || matches!(client.get("/healthz").await, Ok(answer) if answer.status == 200);
    let waited = Stopwatch::start();
    while !well().await {
        assert_eq!(service.exited(), None, "{}", service.logs());
        assert!(
            waited.elapsed() < SOON,
            "it is not well: {}",
            service.logs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service
}

pub(crate) async fn get(client: &HttpClient, path: &str) -> (u16, Value) {
    shown(&client.get(path).await.unwrap())
}

pub(crate) async fn post(client: &HttpClient, path: &str, body: &Value) -> (u16, Value) {
    shown(&client.post_json(path, body).await.unwrap())
}

fn shown(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json().unwrap())
}

async fn loads(client: &HttpClient, strategy: &str) -> i64 {
    let (_, stats) = get(client, "/stats").await;
    stats["strategies"][strategy]["loads"].as_i64().unwrap()
}

/// How often the origin of the users was asked.
pub(crate) async fn calls(client: &HttpClient) -> u64 {
    let figures = client.get("/metrics").await.unwrap().text();
    let name = "ratebox_origin_calls_total{resource=\"users\"} ";
    let line = figures.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}

/// Everything that the contract promises of the shipped example.
async fn keeps_its_contract(service: &Ratebox) {
    let client = service.client();
    reads_by_strategy(&client).await;
    writes_and_what_follows(&client).await;
    tells_of_itself(&client).await;
}

async fn reads_by_strategy(client: &HttpClient) {
    let ada = json!({"id": 1, "name": "Ada", "title": "Engineer"});
    for strategy in ["cache-aside", "singleflight", "swr", "negative"] {
        let path = format!("/users/1?strategy={strategy}");
        for _ in 0..2 {
            assert_eq!(get(client, &path).await, (200, ada.clone()), "{strategy}");
        }
        let path = format!("/users/404?strategy={strategy}");
        for _ in 0..2 {
            assert_eq!(get(client, &path).await.0, 404, "{strategy}");
        }
    }
    assert_eq!(get(client, "/users/2").await.1["name"], "Grace");
    let (status, refused) = get(client, "/users/1?strategy=magic").await;
    assert_eq!(
        (status, &refused["code"]),
        (400, &json!("strategy.unknown"))
    );
    for known in ["cache-aside", "singleflight", "swr", "negative"] {
        assert!(refused["detail"].as_str().unwrap().contains(known));
    }
}

async fn writes_and_what_follows(client: &HttpClient) {
    let ada = json!({"id": 1, "name": "Ada", "title": "Engineer"});
    let written = json!({"name": "Linus", "mode": "write-through"});
    let (status, answer) = post(client, "/users/7", &written).await;
    let linus = json!({"id": 7, "name": "Linus", "title": "Member"});
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer,
        json!({"ok": true, "user": linus, "mode": "write-through"})
    );
    assert_eq!(get(client, "/users/7").await, (200, linus));
    assert_eq!(
        get(client, "/widgets/7").await.1["greeting"],
        "Hello Linus, Member"
    );
    let (_, answer) = post(client, "/users/7", &json!({"title": "Maker"})).await;
    assert_eq!(answer["mode"], "write-through");
    assert_eq!(
        get(client, "/widgets/7").await.1["greeting"],
        "Hello Linus, Maker"
    );
    let invalidated = post(client, "/invalidate/7", &json!({})).await;
    assert_eq!(invalidated, (200, json!({"ok": true})));
    let (status, many) = get(client, "/bulk/users?ids=1,404,7,1&ttl=60").await;
    assert_eq!(status, 200);
    assert_eq!(
        many.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["1", "7"]
    );
    assert_eq!(many["1"], ada);
    let nothing = json!({});
    let (one, two) = tokio::join!(
        post(client, "/recompute", &nothing),
        post(client, "/recompute", &nothing)
    );
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 423]);
    let (_, heavy) = get(client, "/calc/heavy?n=10").await;
    assert_eq!(
        (&heavy["sum"], &heavy["computed"]),
        (&json!(165), &json!(11))
    );
}

async fn tells_of_itself(client: &HttpClient) {
    let (_, health) = get(client, "/healthz").await;
    assert_eq!(
        (&health["ok"], &health["valkey"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(health["circuit_breaker"], "closed");
    let (_, stats) = get(client, "/stats").await;
    assert!(stats["total_keys"].as_u64().unwrap() >= 2, "{stats}");
    assert_eq!(stats["connected"], true);
    assert!(stats["memory_usage"].is_u64() && stats["uptime_seconds"].is_u64());
    assert!(stats["hit_ratio"].as_f64().unwrap() > 0.0);
    let figures = client.get("/metrics").await.unwrap().text();
    assert!(figures.contains("ratebox_origin_reads_total"), "{figures}");
    assert_eq!(get(client, "/openapi.json").await.1["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_contract_holds_in_one_process() {
    keeps_its_contract(&started(embedded()).await).await;
}

#[tokio::test]
async fn the_contract_holds_on_valkey_and_with_postgres_behind_it() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("origin"))
        .unwrap();
    let options = on(server.port()).env("RATEBOX_CACHE__ORIGIN_URL", dsn);
    keeps_its_contract(&started(options).await).await;
}

#[tokio::test]
async fn what_is_out_of_range_or_malformed_is_refused_and_says_why() {
    let service = started(embedded()).await;
    let client = service.client();
    let ids: Vec<String> = (1..=501).map(|id| id.to_string()).collect();
    let too_many = format!("/bulk/users?ids={}", ids.join(","));
    let refused = [
        (422, "/users/1?ttl=0"),
        (422, "/users/1?ttl=86401"),
        (422, "/users/1?ttl=-1"),
        (422, "/users/1?ttl=1.5"),
        (422, "/users/1?stale_grace=3601"),
        (422, "/users/one"),
        (422, "/users/99999999999999999999"),
        (422, "/bulk/users?ids="),
        (422, "/bulk/users?ids=1,x"),
        (422, "/bulk/users?ids=1&ttl=0"),
        (422, &*too_many),
        (422, "/calc/heavy?n=91"),
        (400, "/users/1?ttl=5&ttl=6"),
        (400, "/users/1?tll=5"),
        (404, "/nothing"),
        (404, "/accounts/1"),
        (405, "/recompute"),
        (405, "/invalidate/1"),
    ];
    for (status, path) in refused {
        let answer = client.get(path).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        let problem = answer.json().unwrap();
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        assert!(answer.header("x-request-id").is_some());
    }
    let long = "x".repeat(101);
    for body in [
        json!({"name": ""}),
        json!({"name": long}),
        json!({"name": 5}),
        json!({"mode": "write-around"}),
        json!({"surname": "x"}),
    ] {
        assert_eq!(post(&client, "/users/1", &body).await.0, 422, "{body}");
    }
    assert_eq!(post(&client, "/users/1", &json!([1])).await.0, 400);
    assert_eq!(post(&client, "/widgets/1", &json!({})).await.0, 405);
    let ttl_of_one = get(&client, "/users/1?ttl=1").await;
    assert_eq!(ttl_of_one.0, 200);
}

#[tokio::test]
async fn vk_02_no_reader_of_a_crowd_over_two_processes_is_sent_away_and_one_load_serves_them() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let folder = TempDir::new().unwrap();
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("origin"))
        .unwrap();
    let declared = folder.join("resources.toml");
    // Slower than any waiter of the predecessor waited.
    let slow = r#"
        [users]
        fields = ["id", "name"]
        get = "SELECT $1::bigint, 'x' || pg_sleep(0.5)::text"
    "#;
    std::fs::write(&declared, slow).unwrap();
    let prefix = unique_name("cache:");
    let options = || {
        on(server.port())
            .env("RATEBOX_CACHE__ORIGIN_URL", dsn.as_str())
            .env("RATEBOX_CACHE__RESOURCES_FILE", &declared)
            .env("RATEBOX_CACHE__PREFIX", prefix.as_str())
    };
    let (one, two) = (started(options()).await, started(options()).await);
    let (one, two) = (one.client(), two.client());
    let readers = (0..200).map(|at| if at % 2 == 0 { &one } else { &two });
    let reads = join_all(readers.map(|client| get(client, "/users/5"))).await;
    assert!(reads.iter().all(|(status, _)| *status == 200));
    let loads = loads(&one, "singleflight").await + loads(&two, "singleflight").await;
    assert_eq!(loads, 1);
}

#[tokio::test]
async fn vk_04_vk_14_a_bulk_read_asks_the_origin_once_and_remembers_what_is_absent() {
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("origin"))
        .unwrap();
    let service = started(embedded().env("RATEBOX_CACHE__ORIGIN_URL", dsn)).await;
    let client = service.client();
    let ids: Vec<String> = (1_000..1_500).map(|id| id.to_string()).collect();
    let path = format!("/bulk/users?ids={}", ids.join(","));
    assert_eq!(get(&client, &path).await, (200, json!({})));
    let before = get(&client, "/stats").await.1["resources"]["users"]["loads"].clone();
    let asked = calls(&client).await;
    assert!(
        asked <= 2 + 3,
        "{asked} questions for two warm keys and one list"
    );
    assert_eq!(get(&client, &path).await, (200, json!({})));
    assert_eq!(calls(&client).await, asked);
    let after = get(&client, "/stats").await.1["resources"]["users"]["loads"].clone();
    assert_eq!(before, after, "absent ids were asked for again");
    assert_eq!(after, 3, "two warm keys and one list");
}

#[tokio::test]
async fn vk_08_a_queued_write_outlives_a_kill_and_is_applied_in_order() {
    let folder = TempDir::new().unwrap();
    let data = folder.join("data");
    let options = || embedded().data_dir(&data);
    let mut service = started(options()).await;
    let client = service.client();
    let rounds = 30;
    for round in 1..=rounds {
        let body = json!({"title": format!("round {round}"), "mode": "write-behind"});
        for id in [31, 32, 33] {
            let (status, answer) = post(&client, &format!("/users/{id}"), &body).await;
            assert_eq!(
                (status, &answer["mode"]),
                (200, &json!("write-behind")),
                "{answer}"
            );
        }
        let seen = get(&client, "/users/31").await.1;
        assert_eq!(
            seen["title"],
            format!("round {round}"),
            "seen before it is applied"
        );
    }
    service.kill9();
    let service = started(options()).await;
    let client = service.client();
    for id in [31, 32, 33] {
        wait_until(
            Duration::from_secs(40),
            "the last write to be applied",
            || async {
                post(&client, &format!("/invalidate/{id}"), &json!({})).await;
                get(&client, &format!("/users/{id}")).await.1["title"] == format!("round {rounds}")
            },
        )
        .await;
    }
}

#[tokio::test]
async fn vk_01_vk_12_without_its_server_the_service_reads_from_the_origin_and_says_so() {
    let mut server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let service = started(on(server.port())).await;
    let client = service.client();
    assert_eq!(get(&client, "/users/1").await.0, 200);
    server.kill9();
    for _ in 0..5 {
        for strategy in ["cache-aside", "singleflight", "swr", "negative"] {
            let read = get(&client, &format!("/users/2?strategy={strategy}")).await;
            assert_eq!(read.0, 200, "{strategy}: {}", read.1);
        }
        assert_eq!(get(&client, "/users/405?strategy=negative").await.0, 404);
        assert_eq!(get(&client, "/bulk/users?ids=1,2").await.0, 200);
    }
    let written = post(&client, "/users/1", &json!({"title": "Countess"})).await;
    assert_eq!(written.0, 200, "{}", written.1);
    assert_eq!(get(&client, "/users/1").await.1["title"], "Countess");
    let (status, health) = get(&client, "/healthz").await;
    assert_eq!(
        (status, &health["ok"], &health["valkey"]),
        (503, &json!(false), &json!(false))
    );
    assert_eq!(health["circuit_breaker"], "open");
    assert!(health["error"].is_string());
    assert_eq!(get(&client, "/stats").await.0, 503);
    assert_eq!(post(&client, "/recompute", &json!({})).await.0, 503);
    server.restart().unwrap();
    let back = Stopwatch::start();
    wait_until(SOON, "the server to count again", || async {
        get(&client, "/healthz").await.0 == 200
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(get(&client, "/users/1").await.1["title"], "Countess");
}

#[tokio::test]
async fn a_service_starts_while_its_server_is_away() {
    let mut server = RedisServer::start(RedisOptions::valkey()).unwrap();
    server.kill9();
    let service = on(server.port()).start().unwrap();
    let client = service.client();
    wait_until(SOON, "the origin to be read", || async {
        matches!(client.get("/users/1").await, Ok(answer) if answer.status == 200)
    })
    .await;
    server.restart().unwrap();
    wait_until(SOON, "the service to be well", || async {
        get(&client, "/healthz").await.0 == 200
    })
    .await;
}

#[tokio::test]
async fn vk_07_vk_11_a_limit_is_kept_by_identity_and_tells_when_to_come_again() {
    let options = embedded()
        .env("RATE_MAX_TOKENS", "3")
        .env("RATE_WINDOW_SEC", "3600");
    let service = started(options.clone()).await;
    let client = service.client();
    for remaining in [2, 1, 0] {
        let answer = client.get("/calc/heavy").await.unwrap();
        assert_eq!(answer.status, 200);
        let state = answer.header("ratelimit").unwrap();
        assert!(state.contains(&format!("r={remaining}")), "{state}");
    }
    let refused = client.post_json("/invalidate/1", &json!({})).await.unwrap();
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_000..=1_200).contains(&wait), "{wait}");
    let posing = service.client().with_header("x-user", "somebody-else");
    assert_eq!(
        posing.get("/users/1").await.unwrap().status,
        429,
        "a header is not believed"
    );
    assert_eq!(client.get("/healthz").await.unwrap().status, 200);
    let believing = started(options.env("RATEBOX_CACHE__IDENTITY_HEADER", "X-User")).await;
    for user in ["a", "b"] {
        let client = believing.client().with_header("x-user", user);
        for expected in [200, 200, 200, 429] {
            assert_eq!(
                client.get("/calc/heavy").await.unwrap().status,
                expected,
                "{user}"
            );
        }
    }
}

#[tokio::test]
async fn vk_11_with_tokens_nobody_reads_or_writes_without_the_scope() {
    let folder = TempDir::new().unwrap();
    let data = folder.join("data");
    let options = RateboxOptions::new("cache")
        .env("VALKEY_FAKE", "1")
        .data_dir(&data);
    let service = started(options).await;
    let open = service.client();
    assert_eq!(open.get("/healthz").await.unwrap().status, 200);
    for path in ["/users/1", "/stats", "/metrics", "/bulk/users?ids=1"] {
        assert_eq!(open.get(path).await.unwrap().status, 401, "{path}");
    }
    assert_eq!(
        open.post_json("/invalidate/1", &json!({}))
            .await
            .unwrap()
            .status,
        401
    );
    let token = |scope: &str| {
        let made = RateboxOptions::new("token")
            .args([
                "create", "--owner", "o", "--name", "n", "--scope", scope, "--json",
            ])
            .env("RATEBOX_SERVER__DATA_DIR", &data)
            .run()
            .unwrap();
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let reader = service.client().with_token(&token("validation:read"));
    assert_eq!(reader.get("/users/1").await.unwrap().status, 200);
    assert_eq!(
        reader
            .post_json("/invalidate/1", &json!({}))
            .await
            .unwrap()
            .status,
        403
    );
    let writer = service.client().with_token(&token("validation:write"));
    assert_eq!(
        writer
            .post_json("/invalidate/1", &json!({}))
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn a_resource_over_http_is_read_through_and_its_failures_are_not_passed_on() {
    let upstream = started(embedded()).await;
    let folder = TempDir::new().unwrap();
    let declared = folder.join("resources.toml");
    let text = format!(
        "[people]\nkey = \"text\"\nhttp = \"{}/users/{{key}}\"\n",
        upstream.base_url()
    );
    std::fs::write(&declared, text).unwrap();
    let service = started(embedded().env("RATEBOX_CACHE__RESOURCES_FILE", &declared)).await;
    let client = service.client();
    assert_eq!(get(&client, "/people/1").await.1["name"], "Ada");
    assert_eq!(get(&client, "/people/404").await.0, 404);
    assert_eq!(
        get(&client, "/people/..%2Fstats").await.0,
        503,
        "a key stays one part of the path"
    );
    let many = get(&client, "/bulk/people?ids=1,2,404").await;
    assert_eq!(many.1["2"]["name"], "Grace", "{many:?}");
    drop(upstream);
    assert_eq!(get(&client, "/people/1").await.0, 200, "from the cache");
    let (status, problem) = get(&client, "/people/77").await;
    assert_eq!(
        (status, &problem["code"]),
        (503, &json!("origin.unavailable"))
    );
    for _ in 0..5 {
        get(&client, "/people/78").await;
    }
    assert_eq!(get(&client, "/people/79").await.1["code"], "origin.open");
    assert_eq!(get(&client, "/healthz").await.1["circuit_breaker"], "open");
}

#[tokio::test]
async fn the_tour_passes_on_a_service_that_is_well_and_fails_on_one_that_is_not() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    for options in [embedded(), on(server.port())] {
        let service = started(options).await;
        let tour = RateboxOptions::new("cache").args(["tour", &*service.base_url(), "--json"]);
        let ended = tour.run().unwrap();
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        let seen: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(seen["scenes"].as_array().unwrap().len(), 15);
        let again = RateboxOptions::new("cache").args(["tour", &*service.base_url()]);
        assert!(
            again
                .run()
                .unwrap()
                .stdout
                .contains("15 of 15 scenes as promised")
        );
    }
    let nobody = RateboxOptions::new("cache").args(["tour", "http://127.0.0.1:1"]);
    assert_eq!(nobody.run().unwrap().code, Some(1));
}

#[tokio::test]
async fn the_contract_holds_over_tls_for_an_acl_user() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let options = RedisOptions::default().tls(&certificates, TlsClients::MayShowOne);
    let server = RedisServer::start(options).unwrap();
    let user = [
        "ACL", "SETUSER", "cacher", "on", ">s3cret", "~cache:*", "~{wb:*", "~wb:*", "+@all",
    ];
    server.command(&user).unwrap();
    let port = server
        .tls_url("localhost")
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let options = open()
        .env("VALKEY_WRITER_ENDPOINT", "localhost")
        .env("VALKEY_WRITER_PORT", port)
        .env("VALKEY_USER", "cacher")
        .env("VALKEY_PASSWORD", "s3cret")
        .env("RATEBOX_CACHE__TLS_CA_FILE", certificates.path("ca.pem"));
    let service = started(options).await;
    keeps_its_contract(&service).await;
    assert!(!service.logs().contains("s3cret"));
}

#[tokio::test]
async fn the_contract_holds_on_a_cluster_and_behind_sentinels() {
    let cluster = RedisCluster::start(&RedisOptions::valkey(), Replicas::None).unwrap();
    let options = open()
        .env("RATEBOX_CACHE__URL", cluster.url())
        .env("RATEBOX_CACHE__CLUSTER", "true");
    keeps_its_contract(&started(options).await).await;
    let watched = WatchedRedis::start(RedisOptions::default()).unwrap();
    let options = open()
        .env("RATEBOX_CACHE__URL", "redis://the-sentinels-know")
        .env("RATEBOX_CACHE__SENTINELS", watched.sentinels().join(","))
        .env("RATEBOX_CACHE__SENTINEL_PRIMARY", WatchedRedis::NAME);
    keeps_its_contract(&started(options).await).await;
}
