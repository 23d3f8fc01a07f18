//! Writes that `ratebox cache` answers before the origin has them, as readers see them: from the
//! answer on nobody reads what is older, and nobody reads what the origin would not make of it.

use std::time::Duration;

use futures_util::future::join_all;
use ratebox_db::{Db, PostgresSettings, Sql, Tx};
use ratebox_kit::Secret;
use ratebox_testkit::{
    HttpClient, PostgresServer, RateboxOptions, RedisOptions, RedisServer, TempDir, wait_until,
};
use serde_json::{Value, json};

use crate::cache_service::{SOON, embedded, get, on, post, started};

/// What a dead owner of the queue left is taken over, and a breaker that opened closes.
const LATER: Duration = Duration::from_secs(240);

const TABLES: &str = "
    CREATE TABLE things (id bigint PRIMARY KEY, one text CHECK (one <> 'refused'), two text);
    CREATE TABLE history (at bigserial PRIMARY KEY, thing bigint, one text, two text);
    INSERT INTO things SELECT id, 'one', 'two' FROM generate_series(1, 9) AS id";

const RESOURCES: &str = r#"
[things]
fields = ["id", "one", "two"]
get = "SELECT id, one, two FROM things WHERE id = $1"
writable = ["one", "two"]
put = """
WITH noted AS (INSERT INTO history (thing, one, two) VALUES ($1, $2, $3))
INSERT INTO things (id, one, two) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET one = coalesce($2, things.one), two = coalesce($3, things.two)
RETURNING id, one, two"""

[titles]
fields = ["id", "one", "label"]
get = "SELECT id, one, two FROM things WHERE id = $1"
writable = ["one"]
put = """
INSERT INTO things (id, one, two) VALUES ($1, $2, 'made')
ON CONFLICT (id) DO UPDATE SET one = coalesce($2, things.one) RETURNING id, one, two"""
"#;

/// Things in PostgreSQL, and a server for the caches of several processes.
struct Place {
    redis: RedisServer,
    postgres: PostgresServer,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let redis = RedisServer::start(RedisOptions::valkey()).unwrap();
        let postgres = PostgresServer::start().unwrap();
        postgres.sql(TABLES).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.join("resources.toml"), RESOURCES).unwrap();
        Self {
            redis,
            postgres,
            folder,
        }
    }

    fn options(&self, name: &str) -> RateboxOptions {
        on(self.redis.port())
            .data_dir(&self.folder.join(name))
            .env("RATEBOX_CACHE__PREFIX", "cache:")
            // A server that is slow with a slow machine is not away.
            .env("RATEBOX_CACHE__AWAY_AFTER_MS", "10000")
            .env("RATEBOX_CACHE__ORIGIN_URL", self.postgres.dsn())
            .env(
                "RATEBOX_CACHE__RESOURCES_FILE",
                self.folder.join("resources.toml"),
            )
    }

    /// While this lives, things are read and not written.
    async fn closed(&self) -> Tx {
        let db = Db::postgres(&PostgresSettings::new(Secret::new(self.postgres.dsn()))).unwrap();
        let mut tx = db.begin().await.unwrap();
        let lock = Sql::both("LOCK TABLE public.things IN EXCLUSIVE MODE");
        tx.execute(lock).await.unwrap();
        tx
    }

    fn row(&self, id: u64) -> String {
        let row = format!("SELECT one, two FROM things WHERE id = {id}");
        self.postgres.sql(&row).unwrap().trim().to_owned()
    }
}

async fn behind(client: &HttpClient, path: &str, mut body: Value) -> (u16, Value) {
    body["mode"] = json!("write-behind");
    post(client, path, &body).await
}

async fn forgotten(client: &HttpClient, key: &str) {
    let path = format!("/invalidate/{key}");
    assert_eq!(post(client, &path, &json!({})).await.0, 200);
}

#[tokio::test]
async fn vk_18_what_was_answered_is_seen_by_all_before_the_origin_has_it_and_goes_there_together() {
    let place = Place::new();
    let (mut a, b) = tokio::join!(started(place.options("a")), started(place.options("b")));
    let (at_a, at_b) = (a.client(), b.client());
    let old = (200, json!({"id": 1, "one": "one", "two": "two"}));
    assert_eq!(get(&at_a, "/things/1").await, old);
    assert_eq!(get(&at_b, "/things/1").await, old);
    let closed = place.closed().await;
    assert_eq!(
        behind(&at_b, "/things/1", json!({"two": "second"})).await.0,
        200
    );
    for number in 1..=20 {
        let one = format!("first {number}");
        let (status, answer) = behind(&at_a, "/things/1", json!({"one": one})).await;
        let thing = json!({"id": 1, "one": one, "two": "second"});
        assert_eq!((status, &answer["item"]), (200, &thing));
        assert_eq!(
            get(&at_a, "/things/1").await,
            (200, thing),
            "by who wrote it"
        );
    }
    let new = json!({"id": 1, "one": "first 20", "two": "second"});
    wait_until(SOON, "the other process to hear of it", || async {
        get(&at_b, "/things/1").await.1 == new
    })
    .await;
    for client in [&at_a, &at_b] {
        forgotten(client, "things/1").await;
        assert_eq!(get(client, "/things/1").await.1, new);
        let many = get(client, "/bulk/things?ids=1,2").await.1;
        assert_eq!(many["1"], new);
        assert_eq!(many["2"], json!({"id": 2, "one": "one", "two": "two"}));
    }
    assert_eq!(place.row(1), "one|two", "the origin has none of it");
    a.kill9();
    forgotten(&at_b, "things/1").await;
    assert_eq!(get(&at_b, "/things/1").await.1, new, "its writer is dead");
    drop(closed);
    wait_until(LATER, "the origin to have it", || async {
        place.row(1) == "first 20|second"
    })
    .await;
    assert_eq!(get(&at_b, "/things/1").await.1, new);
    let calls = place.postgres.sql("SELECT count(*) FROM history").unwrap();
    let calls: u64 = calls.trim().parse().unwrap();
    assert!(
        calls <= 3,
        "21 writes of a key cost {calls} calls of the origin"
    );
}

#[tokio::test]
async fn when_many_write_a_key_at_once_the_cache_ends_with_what_the_origin_has() {
    let place = Place::new();
    let (a, b) = tokio::join!(started(place.options("a")), started(place.options("b")));
    let clients = [a.client(), b.client()];
    let write = |writer: u64| {
        let client = &clients[usize::from(writer.is_multiple_of(2))];
        async move {
            for number in 0..40 {
                let path = format!("/things/{}", 1 + (writer + number) % 3);
                let field = ["one", "two"][usize::from((writer / 2).is_multiple_of(2))];
                let body = json!({field: format!("{writer}.{number}")});
                assert_eq!(behind(client, &path, body).await.0, 200);
                assert_eq!(get(client, &path).await.0, 200);
            }
        }
    };
    join_all((0..12).map(write)).await;
    for id in 1..=3 {
        for client in &clients {
            wait_until(LATER, "the same everywhere", || async {
                let seen = get(client, &format!("/things/{id}")).await.1;
                let text = |field: &str| seen[field].as_str().unwrap_or_default().to_owned();
                let row = place.row(id);
                row == format!("{}|{}", text("one"), text("two")) && !row.contains("two|")
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_queued_write_of_a_row_that_is_not_there_shows_what_the_origin_will_make_of_it() {
    let service = started(embedded()).await;
    let client = service.client();
    let eve = json!({"id": 77, "name": "Eve", "title": "Member"});
    let (status, answer) = behind(&client, "/users/77", json!({"name": "Eve"})).await;
    assert_eq!((status, &answer["user"]), (200, &eve));
    assert_eq!(get(&client, "/users/77").await, (200, eve.clone()));
    wait_until(SOON, "the origin to have it", || async {
        // Made from the row alone.
        forgotten(&client, "77").await;
        get(&client, "/widgets/77").await.1["greeting"] == "Hello Eve, Member"
    })
    .await;
    assert_eq!(get(&client, "/users/77").await, (200, eve));
}

#[tokio::test]
async fn a_queued_write_of_a_row_that_nobody_can_know_is_refused_and_says_what_is_missing() {
    let place = Place::new();
    let service = started(place.options("a")).await;
    let client = service.client();
    let why = |(status, problem): (u16, Value)| {
        let known = (status, &problem["code"]);
        assert_eq!(known, (422, &json!("value.out_of_range")), "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    };
    let refused = why(behind(&client, "/things/77", json!({"one": "1"})).await);
    assert!(refused.contains("give two, or use"), "{refused}");
    let refused = why(behind(&client, "/titles/77", json!({"one": "1"})).await);
    assert!(refused.contains("label, which no write"), "{refused}");
    assert!(refused.ends_with("use write-through"), "{refused}");
    assert!(!refused.contains("give "), "{refused}");
    assert_eq!(get(&client, "/things/77").await.0, 404);
    let both = json!({"one": "1", "two": "2"});
    let whole = json!({"id": 77, "one": "1", "two": "2"});
    assert_eq!(behind(&client, "/things/77", both).await.1["item"], whole);
    assert_eq!(get(&client, "/things/77").await, (200, whole));
    let (status, made) = post(&client, "/titles/78", &json!({"one": "1"})).await;
    let title = json!({"id": 78, "one": "1", "label": "made"});
    assert_eq!((status, &made["item"]), (200, &title), "as it was told");
    let known = behind(&client, "/titles/9", json!({"one": "new"})).await.1;
    let title = json!({"id": 9, "one": "new", "label": "two"});
    assert_eq!(known["item"], title, "{known}");
}

#[tokio::test]
async fn a_whole_write_is_taken_while_the_origin_is_away_and_reaches_it_when_it_is_back() {
    let mut place = Place::new();
    let service = started(place.options("a")).await;
    let client = service.client();
    place.postgres.kill9();
    let both = json!({"one": "1", "two": "2"});
    assert_eq!(behind(&client, "/things/5", both).await.0, 200);
    let whole = json!({"id": 5, "one": "1", "two": "2"});
    assert_eq!(get(&client, "/things/5").await, (200, whole.clone()));
    let (status, refused) = behind(&client, "/things/6", json!({"one": "1"})).await;
    assert_eq!(status, 503, "the rest of it is not known: {refused}");
    place.postgres.restart().unwrap();
    wait_until(LATER, "the origin to have it", || async {
        place.row(5) == "1|2"
    })
    .await;
    assert_eq!(get(&client, "/things/5").await, (200, whole));
}

#[tokio::test]
async fn a_queued_write_that_the_origin_refuses_is_a_dead_letter_and_is_seen_no_longer() {
    let place = Place::new();
    let service = started(place.options("a")).await;
    let client = service.client();
    let refused = json!({"one": "refused", "two": "2"});
    assert_eq!(behind(&client, "/things/7", refused).await.0, 200);
    let old = (200, json!({"id": 7, "one": "one", "two": "two"}));
    wait_until(SOON, "the origin to refuse it", || async {
        get(&client, "/things/7").await == old
    })
    .await;
    let letters = || letters(&place);
    wait_until(SOON, "its dead letter", || async { letters().len() == 1 }).await;
    let letter = letters().remove(0);
    assert!(letter.to_string().contains("write.refused"), "{letter}");
    assert_eq!(
        behind(&client, "/things/7", json!({"two": "later"}))
            .await
            .0,
        200
    );
    wait_until(SOON, "the next one to be applied", || async {
        place.row(7) == "one|later"
    })
    .await;
    assert_eq!(get(&client, "/things/7").await.1["two"], "later");
}

fn letters(place: &Place) -> Vec<Value> {
    let folder = place.folder.join("a").display().to_string();
    let list = ["list", "--json", "--data-dir", &folder];
    let listed = RateboxOptions::new("dlq").args(list).run().unwrap();
    let page: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
    let letters = page["letters"].as_array().cloned();
    letters.unwrap_or_else(|| panic!("{listed:?}"))
}
