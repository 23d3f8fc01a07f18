//! The same binary on Redis or Valkey and PostgreSQL, in one process and in several.

use std::time::Duration;

use ratebox_testkit::{HttpClient, Ratebox, RateboxOptions, wait_until};

use crate::load::Load;
use crate::place::{Place, ready, request};

const WAIT_MAX: Duration = Duration::from_secs(60);

async fn one_process(place: &Place) {
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(200).await;
    load.check(place, &ratebox.base_url(), &token).await;
}

#[tokio::test]
async fn one_process_on_redis_and_postgresql() {
    one_process(&Place::new()).await;
}

#[tokio::test]
async fn one_process_on_valkey_and_postgresql() {
    one_process(&Place::valkey()).await;
}

#[tokio::test]
async fn one_process_on_redis_8_and_postgresql() {
    one_process(&Place::redis_8()).await;
}

#[tokio::test]
async fn without_its_tables_a_role_says_who_makes_them() {
    let place = Place::new();
    let worker = || {
        let options = place.on(RateboxOptions::new("worker"));
        options.env("RATEBOX_STORE__MIGRATE_AT_START", "false")
    };
    let refused = worker().run().unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("run `ratebox migrate`"),
        "{refused:?}"
    );
    let migrated = place.on(RateboxOptions::new("migrate")).run().unwrap();
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let mut started = Ratebox::worker(|_| worker()).unwrap();
    wait_until(WAIT_MAX, "the worker is up", || async {
        started.logs().contains("worker is up")
    })
    .await;
    assert_eq!(started.terminate().await.unwrap(), 0);
}

/// A fleet goes up, and back, one process after another.
#[tokio::test]
async fn tables_of_a_newer_release_are_named_and_only_a_migration_is_refused() {
    let place = Place::new();
    place.token();
    let newer = "INSERT INTO ratebox.schema_migrations VALUES ('store', 99, 'what is to come', 1)";
    place.postgres.sql(newer).unwrap();
    let name = "store/99 (what is to come)";
    let refused = place.on(RateboxOptions::new("migrate")).run().unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(name), "{refused:?}");
    let doctor = place.on(RateboxOptions::new("doctor")).run().unwrap();
    assert!(doctor.stdout.contains(name), "{doctor:?}");
    for migrates in ["true", "false"] {
        let options = |it| {
            place
                .on(it)
                .env("RATEBOX_STORE__MIGRATE_AT_START", migrates)
        };
        let mut worker = Ratebox::worker(options).unwrap();
        wait_until(WAIT_MAX, "the worker is up", || async {
            worker.logs().contains("worker is up")
        })
        .await;
        assert_eq!(worker.logs().matches(name).count(), 1, "{}", worker.logs());
        assert_eq!(worker.terminate().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn split_roles_share_the_load_and_a_stop_is_calm() {
    let place = Place::new();
    let token = place.token();
    let gateway = ready(Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let mut workers = [place.worker(), place.worker()];
    let _relay = place.relay();
    let load = Load::start(&gateway.base_url(), &token);
    load.accepted(300).await;
    assert_eq!(
        workers[0].terminate().await.unwrap(),
        0,
        "{}",
        workers[0].logs()
    );
    load.accepted(200).await;
    load.check(&place, &gateway.base_url(), &token).await;
    assert_eq!(
        place.count("count(*) FROM v_consumer_performance"),
        2,
        "one worker did it all"
    );
}

#[tokio::test]
async fn stream_accept_tells_where_the_entry_is_and_reaches_a_verdict() {
    let place = Place::new();
    let token = place.token();
    let gateway = ready(
        Ratebox::gateway(|it| place.on(it).env("RATEBOX_GATEWAY__ACCEPT", "stream")).unwrap(),
    )
    .await;
    let http = gateway.client().with_token(&token);
    let accepted = http
        .post_json("/api/validation/validate", &request(2))
        .await
        .unwrap();
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let location = accepted.header("location").unwrap().to_owned();
    assert!(location.contains("?entry="), "{location}");
    let queued = http.get(&location).await.unwrap().json().unwrap();
    assert_eq!(queued["status"], "queued", "{queued}");
    let id = accepted.json().unwrap()["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let bare = http
        .get(&format!("/api/validation/status/{id}"))
        .await
        .unwrap();
    assert_eq!(bare.status, 404);
    let _worker = place.worker();
    let done = http
        .get(&format!("{location}&wait=20"))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(done["status"], "success", "{done}");
}

#[tokio::test]
async fn what_a_202_of_the_bus_promises_follows_the_settings_of_the_bus() {
    let place = Place::new();
    place.token();
    let options = |it| place.on(it).env("RATEBOX_GATEWAY__ACCEPT", "stream");
    let gateway = ready(Ratebox::gateway(options).unwrap()).await;
    let private = HttpClient::new(&gateway.metrics_url());
    let told = async |seconds: Option<f64>, gauge: &str| {
        let line = format!("accept_loss_window_seconds {gauge}");
        wait_until(WAIT_MAX, &line, || async {
            let health = gateway.client().get("/api/health").await.unwrap();
            let health = health.json().unwrap();
            let page = private.get("/metrics").await.unwrap().text();
            health["accept"]["loss_window_seconds"].as_f64() == seconds
                && page.lines().any(|it| it == line)
        })
        .await;
    };
    told(Some(1.0), "1").await;
    let words = ["CONFIG", "SET", "appendonly", "no"];
    place.redis.command(&words).unwrap();
    told(None, "NaN").await;
}

#[tokio::test]
async fn what_is_refused_before_its_token_is_known_counts_as_refused() {
    let mut place = Place::new();
    let token = place.token();
    let gateway = ready(Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let private = HttpClient::new(&gateway.metrics_url());
    let refused = async |reason: &str| -> Option<u64> {
        let page = private.get("/metrics").await.unwrap().text();
        let begin = format!("ratebox_accept_refused_total{{reason=\"{reason}\"}} ");
        page.lines()
            .find_map(|it| it.strip_prefix(&begin)?.parse().ok())
    };
    for reason in [
        "busy",
        "store_down",
        "bus_down",
        "not_storable",
        "failed",
        "auth_down",
    ] {
        assert_eq!(refused(reason).await, Some(0), "{reason}");
    }
    place.postgres.kill9();
    let http = gateway.client().with_token(&token);
    let id = ratebox_kit::id::new();
    let looked = http.get(&format!("/api/validation/status/{id}")).await;
    assert_eq!(looked.unwrap().status, 503);
    assert_eq!(refused("auth_down").await, Some(0), "nothing was submitted");
    for path in ["validation/validate", "importer/import"] {
        let path = format!("/api/{path}");
        let answer = http.post_json(&path, &request(1)).await.unwrap();
        let code = answer.json().unwrap()["code"].clone();
        assert_eq!((answer.status, code), (503, "auth.unavailable".into()));
    }
    assert_eq!(refused("auth_down").await, Some(2));
}

#[test]
fn a_migration_makes_as_many_partitions_as_the_settings_say() {
    let place = Place::new();
    let migrate = place.on(RateboxOptions::new("migrate"));
    let migrate = migrate.env("RATEBOX_RELAY__PARTITIONS_AHEAD", "5").run();
    let migrated = migrate.unwrap();
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let months = "count(*) FROM pg_tables WHERE schemaname = 'ratebox'
        AND tablename ~ '^raw_items_[0-9]{4}_[0-9]{2}$'";
    assert_eq!(place.count(months), 6);
}

fn waiting_for_the_disk(place: &Place) -> Ratebox {
    let options = |it| {
        place
            .on(it)
            .env("RATEBOX_GATEWAY__ACCEPT", "stream")
            .env("RATEBOX_GATEWAY__ACCEPT_DISK_WAIT_MS", "20000")
    };
    Ratebox::gateway(options).unwrap()
}

#[tokio::test]
async fn a_202_of_the_bus_waits_for_its_disk_where_it_is_told_to() {
    let place = Place::redis_8();
    let token = place.token();
    let gateway = ready(waiting_for_the_disk(&place)).await;
    let http = gateway.client().with_token(&token);
    let health = http.get("/api/health").await.unwrap().json().unwrap();
    assert_eq!(health["accept"]["loss_window_seconds"], 0.0, "{health}");
    let accepted = http
        .post_json("/api/validation/validate", &request(2))
        .await
        .unwrap();
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let stats = place.redis.command(&["INFO", "commandstats"]).unwrap();
    assert!(stats.as_str().unwrap().contains("cmdstat_waitaof:calls=1,"));
}

#[tokio::test]
async fn a_gateway_that_is_to_wait_for_a_disk_which_cannot_tell_does_not_start() {
    let place = Place::new();
    place.token();
    let mut gateway = waiting_for_the_disk(&place);
    let mut ended = None;
    let deadline = ratebox_kit::Stopwatch::start();
    while ended.is_none() && deadline.elapsed() < WAIT_MAX {
        ended = gateway.exited();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ended, Some(1), "{}", gateway.logs());
    let says = "gateway.accept_disk_wait_ms needs a bus";
    assert!(gateway.logs().contains(says), "{}", gateway.logs());
}

#[tokio::test]
async fn roles_that_start_before_their_servers_say_so_and_wait() {
    let mut place = Place::new();
    let token = place.token();
    place.redis.kill9();
    place.postgres.kill9();
    let gateway = Ratebox::gateway(|it| place.on(it)).unwrap();
    let mut others = [place.worker(), place.relay()];
    let http = gateway.client().with_token(&token);
    wait_until(WAIT_MAX, "the gateway lives", || async {
        matches!(http.get("/api/health/live").await, Ok(answer) if answer.status == 200)
    })
    .await;
    let refused = http
        .post_json("/api/validation/validate", &request(1))
        .await
        .unwrap();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refused.json().unwrap()["code"], "service.starting");
    assert_eq!(http.get("/api/health/ready").await.unwrap().status, 503);
    for role in others.iter().chain([&gateway]) {
        let private = HttpClient::new(&role.metrics_url());
        let says = || async {
            let said = role
                .logs()
                .contains("waiting for the bus, which is not there");
            said && private
                .get("/ready")
                .await
                .is_ok_and(|answer| answer.status == 503)
        };
        wait_until(WAIT_MAX, "each role says what it waits for", says).await;
    }
    place.redis.restart().unwrap();
    let says = || async { gateway.logs().contains("waiting for the store") };
    wait_until(WAIT_MAX, "next is the store", says).await;
    place.postgres.restart().unwrap();
    let gateway = ready(gateway).await;
    let load = Load::start(&gateway.base_url(), &token);
    load.accepted(50).await;
    load.check(&place, &gateway.base_url(), &token).await;
    for role in &mut others {
        let answer = HttpClient::new(&role.metrics_url()).get("/ready").await;
        assert_eq!(answer.unwrap().status, 200, "{}", role.logs());
        assert_eq!(role.terminate().await.unwrap(), 0);
    }
}

/// Waits until `/ready` beside the metrics answers so.
async fn says(role: &Ratebox, status: u16, words: &str) {
    let private = HttpClient::new(&role.metrics_url());
    wait_until(WAIT_MAX, words, || async {
        let answer = private.get("/ready").await;
        answer.is_ok_and(|it| it.status == status && it.text().contains(words))
    })
    .await;
}

#[tokio::test]
async fn a_worker_whose_user_has_no_right_is_not_ready_until_it_gets_them() {
    let place = Place::new();
    place.token();
    let rule = |rights: &[&str]| {
        let words = [["ACL", "SETUSER", "poor"].as_slice(), rights].concat();
        place.redis.command(&words).unwrap();
    };
    rule(&["on", ">hunter2", "resetchannels", "-@all", "+ping", "+info"]);
    let url = format!("redis://poor:hunter2@127.0.0.1:{}", place.redis.port());
    let mut worker = Ratebox::worker(|it| place.on(it).redis(&url)).unwrap();
    says(&worker, 503, "the bus cannot be read; see the log").await;
    let logs = worker.logs();
    let told: Vec<&str> = logs
        .lines()
        .filter(|it| it.contains("cannot read"))
        .collect();
    assert!(told.len() == 1, "it is tried twice a second: {told:?}");
    for word in ["ERROR", "NOPERM", "docs/Bus-Users.md"] {
        assert!(told[0].contains(word), "{told:?}");
    }
    rule(&["~*", "+@all"]);
    says(&worker, 200, "ready").await;
    assert_eq!(worker.terminate().await.unwrap(), 0);
}

#[tokio::test]
async fn roles_that_lose_their_servers_say_which_until_they_have_them_again() {
    let mut place = Place::new();
    place.token();
    let (mut worker, mut relay) = (place.worker(), place.relay());
    says(&worker, 200, "ready").await;
    says(&relay, 200, "ready").await;
    place.redis.kill9();
    says(&worker, 503, "the bus cannot be read").await;
    place.redis.restart().unwrap();
    says(&worker, 200, "ready").await;
    place.postgres.kill9();
    says(&relay, 503, "the store cannot be reached").await;
    place.postgres.restart().unwrap();
    says(&relay, 200, "ready").await;
    for role in [&mut worker, &mut relay] {
        assert_eq!(role.terminate().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_start_waits_no_longer_than_the_settings_say() {
    let mut place = Place::new();
    place.redis.kill9();
    for role in ["worker", "relay", "gateway"] {
        let options = place.on(RateboxOptions::new(role));
        let run = options
            .env("RATEBOX_SERVER__START_TIMEOUT_S", "1")
            .run()
            .unwrap();
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(
            run.stderr.contains("the bus stayed away for 1 s"),
            "{run:?}"
        );
    }
}

#[tokio::test]
async fn a_bus_that_may_evict_streams_is_refused_with_a_sentence() {
    let place = Place::new();
    place
        .redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .unwrap();
    let run = place.on(RateboxOptions::new("worker")).run().unwrap();
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("noeviction"), "{run:?}");
}
