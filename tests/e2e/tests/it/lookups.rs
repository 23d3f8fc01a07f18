//! Look-ups as clients meet them: over several gateways and a worker, with and without servers, and
//! while something dies.

use std::time::Duration;

use ratebox_kit::Stopwatch;
use ratebox_testkit::{
    HttpClient, Ratebox, RateboxOptions, RedisOptions, RedisServer, TcpProxy, tools, wait_until,
};
use serde_json::{Value, json};

use crate::place::{Place, ready};

const PHONE: &str = "0912345678";
const SOON: Duration = Duration::from_secs(20);

async fn known(http: &HttpClient, phone: &str) -> Value {
    let answer = http.get(&format!("/api/lookup/phone/{phone}")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

async fn seen(http: &HttpClient, phone: &str) -> u64 {
    known(http, phone).await["seen"].as_u64().unwrap()
}

/// Hands a record in and waits for its verdict.
async fn judge(http: &HttpClient, action: &str) {
    let body = json!({ "action": action, "items": [
        { "phone": PHONE, "bank_account": "12345678901", "email": "an@example.com" },
    ]});
    let kind = [("content-type", "application/json"), ("prefer", "wait=20")];
    let body = body.to_string();
    let answer = http
        .request("POST", "/api/validation/validate", &kind, body.as_bytes())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Answers live for a minute: whatever is seen sooner was told.
fn told(options: RateboxOptions) -> RateboxOptions {
    options.env("RATEBOX_LOOKUP__MAX_AGE_MS", "60000")
}

async fn gateway(place: &Place, with: impl Fn(RateboxOptions) -> RateboxOptions) -> Ratebox {
    ready(Ratebox::gateway(|it| with(place.on(it))).unwrap()).await
}

#[tokio::test]
async fn what_a_worker_records_is_known_at_once_on_every_gateway() {
    let place = Place::new();
    let token = place.token();
    let gateways = [gateway(&place, told).await, gateway(&place, told).await];
    let clients = gateways.each_ref().map(|it| it.client().with_token(&token));
    let _worker = Ratebox::worker(|it| told(place.on(it))).unwrap();
    let _relay = place.relay();
    for count in 0..5 {
        for http in &clients {
            assert_eq!(seen(http, PHONE).await, count);
            assert_eq!(seen(http, "0912345679").await, 0);
        }
        judge(&clients[0], "validate").await;
        let watch = Stopwatch::start();
        for http in &clients {
            wait_until(SOON, "the record is known", || async {
                seen(http, PHONE).await == count + 1
            })
            .await;
        }
        println!(
            "known everywhere {} ms after its verdict",
            watch.elapsed_ms()
        );
    }
    let many = json!({ "kind": "email", "values": ["AN@example.com", "x@example.com"] });
    let many = clients[1].post_json("/api/lookup", &many).await.unwrap();
    let many = many.json().unwrap();
    assert_eq!(many["results"][0]["seen"], 5, "{many}");
    assert_eq!(many["results"][1]["known"], false, "{many}");
    // Nobody who looks at the shared cache sees whom it is about.
    let keys = place.redis.command(&["KEYS", "*lookup*"]).unwrap();
    let keys = format!("{keys:?}");
    assert!(keys.contains("lookups"), "{keys}");
    for planted in ["912345678", "12345678901", "example"] {
        assert!(!keys.contains(planted), "{keys}");
    }
    for gateway in &gateways {
        let logs = gateway.logs();
        assert!(
            !logs.contains("912345678") && !logs.contains("example.com"),
            "{logs}"
        );
    }
}

#[tokio::test]
async fn a_record_of_a_worker_that_died_before_it_told_is_known_within_a_second() {
    let place = Place::new();
    let token = place.token();
    let (one, two) = (
        gateway(&place, |it| it).await,
        gateway(&place, |it| it).await,
    );
    let clients = [&one, &two].map(|it| it.client().with_token(&token));
    // What the worker would tell is swallowed.
    let proxy = TcpProxy::to(place.redis.port()).unwrap();
    proxy.black_hole();
    let mute = proxy.url(&place.redis.url());
    let mut worker =
        Ratebox::worker(|it| place.on(it).env("RATEBOX_CACHE__URL", mute.as_str())).unwrap();
    let _relay = place.relay();
    let body = json!({ "phone": PHONE });
    let path = "/api/validation/validate";
    assert_eq!(clients[0].post_json(path, &body).await.unwrap().status, 202);
    let mut committed = None;
    let mut knows = [false; 2];
    let began = Stopwatch::start();
    while knows != [true; 2] {
        assert!(began.elapsed() < SOON, "{}", worker.logs());
        for (http, knows) in clients.iter().zip(&mut knows) {
            let sent = committed.as_ref().map(Stopwatch::elapsed);
            *knows |= seen(http, PHONE).await == 1;
            if let Some(since) = sent {
                let fresh = *knows || since <= Duration::from_secs(1);
                assert!(fresh, "unknown {since:?} after the commit");
            }
        }
        if committed.is_none() && place.count("count(*) FROM raw_items") == 1 {
            worker.kill9();
            committed = Some(Stopwatch::start());
        }
    }
}

#[tokio::test]
async fn look_ups_go_on_while_the_cache_is_away_and_are_right_when_it_is_back() {
    let place = Place::new();
    let token = place.token();
    let mut cache = RedisServer::start(RedisOptions::default()).unwrap();
    let url = cache.url();
    let with_cache = |it: RateboxOptions| it.env("RATEBOX_CACHE__URL", url.as_str());
    let gateways = [
        gateway(&place, with_cache).await,
        gateway(&place, with_cache).await,
    ];
    let clients = gateways.each_ref().map(|it| it.client().with_token(&token));
    let _worker = Ratebox::worker(|it| with_cache(place.on(it))).unwrap();
    let _relay = place.relay();
    let everywhere = async |count: u64| {
        let watch = Stopwatch::start();
        for http in &clients {
            wait_until(SOON, "the record is known", || async {
                seen(http, PHONE).await == count
            })
            .await;
        }
        watch.elapsed_ms()
    };
    judge(&clients[0], "validate").await;
    everywhere(1).await;
    cache.kill9();
    assert_eq!(seen(&clients[0], PHONE).await, 1);
    judge(&clients[0], "validate").await;
    println!(
        "known everywhere {} ms after, without a cache",
        everywhere(2).await
    );
    cache.restart().unwrap();
    for count in 3..6 {
        judge(&clients[1], "validate").await;
        println!(
            "known everywhere {} ms after, with it again",
            everywhere(count).await
        );
    }
}

#[tokio::test]
async fn without_any_server_a_record_is_known_at_once_and_a_check_never() {
    let ratebox = ready(Ratebox::up(|it| told(it.arg("--no-sample"))).unwrap()).await;
    let http = ratebox.admin().unwrap();
    for count in 0..3 {
        assert_eq!(seen(&http, PHONE).await, count);
        judge(&http, "check").await;
        assert_eq!(seen(&http, PHONE).await, count);
        judge(&http, "validate").await;
        wait_until(SOON, "the record is known", || async {
            seen(&http, PHONE).await == count + 1
        })
        .await;
    }
    let known = known(&http, PHONE).await;
    assert_eq!(known["verdicts"]["DONE"], 3, "{known}");
    assert_eq!(known["sources"]["api"], 3, "{known}");
}

/// The rule of a user that may do what look-ups need, from the page that tells it.
fn rule() -> Vec<String> {
    let page = std::fs::read_to_string(tools::workspace_root().join("docs/Lookups.md")).unwrap();
    let rule = page
        .lines()
        .find(|line| line.starts_with("user lookups "))
        .unwrap();
    rule.split_whitespace().skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_user_with_the_rights_of_the_page_is_enough() {
    let place = Place::new();
    let token = place.token();
    let rule = rule();
    let mut words = vec!["ACL", "SETUSER"];
    words.extend(rule.iter().map(String::as_str));
    place.redis.command(&words).unwrap();
    let url = place
        .redis
        .url()
        .replace("redis://", "redis://lookups:SECRET@");
    let with = |it: RateboxOptions| told(place.on(it)).env("RATEBOX_CACHE__URL", url.as_str());
    let gateways = [
        ready(Ratebox::gateway(with).unwrap()).await,
        ready(Ratebox::gateway(with).unwrap()).await,
    ];
    let clients = gateways.each_ref().map(|it| it.client().with_token(&token));
    let worker = Ratebox::worker(with).unwrap();
    let _relay = place.relay();
    for count in 0..3 {
        for http in &clients {
            assert_eq!(seen(http, PHONE).await, count);
        }
        judge(&clients[0], "validate").await;
        for http in &clients {
            wait_until(SOON, "the record is known", || async {
                seen(http, PHONE).await == count + 1
            })
            .await;
        }
    }
    let caches = clients[0].get("/api/monitoring/cache").await.unwrap();
    let caches = caches.json().unwrap();
    assert_eq!(caches["caches"][0]["away"], false, "{caches}");
    assert_eq!(caches["caches"][0]["tier_errors"], 0, "{caches}");
    let refused = place.redis.command(&["ACL", "LOG"]).unwrap();
    assert!(!format!("{refused:?}").contains("lookups"), "{refused:?}");
    assert!(
        !worker.logs().contains("who looks values up"),
        "{}",
        worker.logs()
    );
}

#[tokio::test]
async fn gateways_count_limits_together_where_they_are_told_to() {
    let place = Place::new();
    let _ = place.token();
    let made = place
        .on(RateboxOptions::new("token"))
        .args(["create", "--owner", "me", "--name", "small", "--json"])
        .args(["--scope", "validation:read"])
        .run()
        .unwrap();
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let token = made["token"].as_str().unwrap();
    let shared = |it: RateboxOptions| {
        it.env("RATEBOX_GATEWAY__LIMITS_SHARED", "true")
            .env("RATEBOX_GATEWAY__LIMIT_LOOKUP", "4")
    };
    let gateways = [gateway(&place, shared).await, gateway(&place, shared).await];
    let mut statuses = Vec::new();
    for at in 0..6 {
        let http = gateways[at % 2].client().with_token(token);
        let answer = http.get("/api/lookup/phone/0912345678").await.unwrap();
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    let alone = RateboxOptions::new("gateway").env("RATEBOX_GATEWAY__LIMITS_SHARED", "true");
    let refused = alone.run().unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("set cache.url or bus.url"),
        "{refused:?}"
    );
}
