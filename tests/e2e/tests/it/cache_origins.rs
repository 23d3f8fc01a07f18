//! Origins of `ratebox cache` that misbehave: each read ends in what is cached or in a clear error.

use std::time::Duration;

use ratebox_db::{Db, Dialect, PostgresSettings, SqliteSettings};
use ratebox_kit::{Secret, Stopwatch};
use ratebox_testkit::{
    HttpClient, JsonServer, PostgresServer, Ratebox, RateboxOptions, TcpProxy, TempDir,
    unique_name, wait_until,
};
use serde_json::{Value, json};

use crate::cache_service::{SOON, embedded, get, post, started};

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

async fn is_refused(client: &HttpClient, key: &str, code: &str) {
    let (status, problem) = get(client, &format!("/things/{key}")).await;
    let known = (status, &problem["code"]);
    assert_eq!(known, (503, &json!(code)), "{problem}");
}

#[tokio::test]
async fn an_origin_that_answers_no_value_costs_an_error_and_nothing_that_is_cached() {
    let things = Things::new().await;
    let client = things.service.client();
    let cached = (200, json!({"v": 1}));
    assert_eq!(get(&client, "/things/a").await, cached);
    let large = Value::from("x".repeat(10_000_000)).to_string();
    for (status, text, code) in [
        (200, "<html>", "origin.unusable"),
        (200, large.as_str(), "origin.unusable"),
        (200, "", "origin.unusable"),
        (500, "{}", "origin.unavailable"),
    ] {
        things.origin.answer(status, text);
        is_refused(&client, &format!("new-{status}-{}", text.len()), code).await;
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
    is_refused(&client, "b", "origin.unavailable").await;
    assert!(waited.elapsed() < SOON, "{:?}", waited.elapsed());
    assert_eq!(get(&client, "/things/a").await.0, 200);
    things.link.cut_once();
    wait_until(SOON, "the origin to be asked again", || async {
        get(&client, "/things/b").await.0 == 200
    })
    .await;
}

/// A table whose second column holds whatever was put there.
const LOOSE: &str = r#"
[things]
fields = ["id", "value"]
get = "SELECT id, value FROM things WHERE id = $1"
writable = ["value"]
put = """
INSERT INTO things (id, value) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET value = excluded.value RETURNING id, x'00ff' AS value"""

[short]
fields = ["id", "value"]
get = "SELECT id FROM things WHERE id = $1"
"#;

#[tokio::test]
async fn a_column_that_is_no_json_costs_an_error_and_is_not_kept() {
    let folder = TempDir::new().unwrap();
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let declared = folder.join("resources.toml");
    std::fs::write(&declared, LOOSE).unwrap();
    let things = Db::sqlite(&SqliteSettings::new(data.join("origin.db"))).unwrap();
    let run = async |text: &str| things.script(text.to_owned()).await.unwrap();
    run("CREATE TABLE things (id INTEGER PRIMARY KEY, value);
        INSERT INTO things VALUES (1, 'good'), (2, x'00ff'), (3, 9e999), (4, -9e999)")
    .await;
    let options = embedded().data_dir(&data);
    let service = started(options.env("RATEBOX_CACHE__RESOURCES_FILE", &declared)).await;
    let client = service.client();
    let unusable = |(status, problem): (u16, Value)| {
        let known = (status, &problem["code"]);
        assert_eq!(known, (503, &json!("origin.unusable")), "{problem}");
    };
    // More often than would open a breaker, were it a failure of the database.
    for _ in 0..4 {
        for path in ["/things/2", "/things/3", "/things/4", "/short/1"] {
            unusable(get(&client, path).await);
            unusable(get(&client, &format!("{path}?strategy=swr&stale_grace=60")).await);
        }
        unusable(get(&client, "/bulk/things?ids=1,2").await);
    }
    assert_eq!(get(&client, "/things/1").await.1["value"], "good");
    unusable(post(&client, "/things/5", &json!({"value": "lost"})).await);
    assert_eq!(get(&client, "/things/5").await.0, 404, "nothing is written");
    run("UPDATE things SET value = 'mended'").await;
    for id in [2, 3, 4] {
        let thing = json!({"id": id, "value": "mended"});
        assert_eq!(get(&client, &format!("/things/{id}")).await, (200, thing));
    }
}

/// Names have rules: a length, and each stands once.
const STRICT: &str = r#"
[people]
fields = ["id", "name"]
get = "SELECT id, name FROM people WHERE id = $1"
writable = ["name"]
put = """
INSERT INTO people (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id, name"""

[names]
key = "text"
fields = ["name", "id"]
get = "SELECT name, id FROM people WHERE name = $1"
writable = ["id"]
put = "INSERT INTO people (id, name) VALUES (CAST($2 AS integer), $1) RETURNING name, id"
"#;

const PEOPLE: &str = "CREATE TABLE people (id integer PRIMARY KEY, name text NOT NULL UNIQUE CHECK (length(name) < 9))";

#[tokio::test]
async fn what_the_rules_of_the_origin_refuse_is_for_the_caller_to_change_and_not_to_repeat() {
    let folder = TempDir::new().unwrap();
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let declared = folder.join("resources.toml");
    std::fs::write(&declared, STRICT).unwrap();
    let dsn = PostgresServer::shared().unwrap();
    let dsn = dsn.create_database(&unique_name("strict")).unwrap();
    let file = SqliteSettings::new(data.join("origin.db"));
    let postgres = PostgresSettings::new(Secret::new(dsn.clone()));
    let options = || embedded().env("RATEBOX_CACHE__RESOURCES_FILE", &declared);
    for (db, options) in [
        (Db::sqlite(&file).unwrap(), options().data_dir(&data)),
        (
            Db::postgres(&postgres).unwrap(),
            options().env("RATEBOX_CACHE__ORIGIN_URL", dsn),
        ),
    ] {
        let is_postgres = db.dialect() == Dialect::Postgres;
        let table = if is_postgres {
            "public.people"
        } else {
            "people"
        };
        db.script(PEOPLE.replace("people", table)).await.unwrap();
        let service = started(options).await;
        let client = service.client();
        let ada = json!({"id": 1, "name": "Ada"});
        assert_eq!(
            post(&client, "/people/1", &json!({"name": "Ada"})).await.0,
            200
        );
        let refused = |(status, problem): (u16, Value)| {
            let known = (status, &problem["code"]);
            assert_eq!(known, (422, &json!("value.refused")), "{problem}");
            assert!(!problem.to_string().contains("Nebuchad"), "{problem}");
        };
        // More often than would open a breaker, were it a failure of the database.
        for _ in 0..4 {
            refused(post(&client, "/people/2", &json!({"name": "Nebuchadnezzar"})).await);
            refused(post(&client, "/people/2", &json!({"name": "Ada"})).await);
            refused(post(&client, "/people/2", &json!({})).await);
            let (status, problem) = get(&client, "/names/a%00b").await;
            let known = (status, &problem["code"]);
            assert_eq!(known, (422, &json!("value.out_of_range")), "{problem}");
        }
        assert_eq!(get(&client, "/people/1").await, (200, ada));
        assert_eq!(get(&client, "/people/2").await.0, 404, "nothing is written");
        let beyond = get(&client, "/people/5000000000").await.0;
        assert_eq!(beyond, if is_postgres { 422 } else { 404 });
    }
}

/// What PostgreSQL sends in a form of its own, by its types; of some the bytes are UTF-8.
const UNREAD: [(&str, &str); 8] = [
    ("DATE '2000-03-09'", "date"),
    (
        "TIMESTAMP '2000-01-01 00:00:00'",
        "timestamp without time zone",
    ),
    ("INTERVAL '1 day'", "interval"),
    ("CAST(1.5 AS numeric)", "numeric"),
    ("CAST(1 AS money)", "money"),
    ("CAST(42 AS oid)", "oid"),
    ("CAST('10.0.0.1' AS inet)", "inet"),
    ("ARRAY[1, 2]", "integer[]"),
];

/// What it sends as people read it, of itself or after a cast.
const TEXTS: [(&str, &str); 6] = [
    ("CAST('calm' AS varchar)", "calm"),
    ("CAST('calm' AS name)", "calm"),
    ("CAST('calm' AS public.mood)", "calm"),
    ("CAST('calm' AS public.feeling)", "calm"),
    ("CAST(DATE '2000-03-09' AS text)", "2000-03-09"),
    ("CAST(ARRAY[1, 2] AS text)", "{1,2}"),
];

/// The first moment has no end.
const MOMENTS: &str = "
    CREATE TYPE public.mood AS ENUM ('calm');
    CREATE DOMAIN public.feeling AS public.mood CHECK (VALUE = 'calm');
    CREATE TABLE public.moments (id bigint PRIMARY KEY, moment timestamptz);
    INSERT INTO public.moments VALUES (1, 'infinity'), (2, NULL)";

/// A resource for a column of the first row; the second has NULL there.
fn resource(name: &str, column: &str) -> String {
    format!(
        r#"
[{name}]
fields = ["id", "value"]
get = "SELECT id, CASE id WHEN 1 THEN {column} END AS value FROM moments WHERE id = $1"
"#
    )
}

/// A database with moments in it.
async fn moments() -> (String, Db) {
    let dsn = PostgresServer::shared().unwrap();
    let dsn = dsn.create_database(&unique_name("typed")).unwrap();
    let db = Db::postgres(&PostgresSettings::new(Secret::new(dsn.clone()))).unwrap();
    db.script(MOMENTS.to_owned()).await.unwrap();
    (dsn, db)
}

/// What a service says that does not start.
async fn refusal(options: RateboxOptions) -> String {
    let mut service = options.start().unwrap();
    let waited = Stopwatch::start();
    loop {
        if let Some(code) = service.exited() {
            assert_ne!(code, 0);
            return service.logs();
        }
        assert!(waited.elapsed() < SOON, "{}", service.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_column_of_a_type_that_is_not_read_is_named_at_the_start() {
    let (dsn, _) = moments().await;
    let folder = TempDir::new().unwrap();
    let file = folder.join("resources.toml");
    let columns = |of: &[(&str, &str)]| {
        let columns = of.iter().map(|(column, _)| format!(", {column}"));
        columns.collect::<String>()
    };
    let fields = |before: &str, count: usize| {
        let fields = (0..count).map(|at| format!(", \"{before}{at}\""));
        fields.collect::<String>()
    };
    // Nothing of a statement is run, or this would take for ever.
    let text = format!(
        r#"
[typed]
fields = ["id"{}{}, "slept"]
get = "SELECT id{}{}, 'late' || pg_sleep(3600)::text FROM moments WHERE id = $1"
"#,
        fields("text", TEXTS.len()),
        fields("unread", UNREAD.len()),
        columns(&TEXTS),
        columns(&UNREAD)
    );
    std::fs::write(&file, text).unwrap();
    let options = embedded().env("RATEBOX_CACHE__ORIGIN_URL", dsn.as_str());
    let options = options.env("RATEBOX_CACHE__RESOURCES_FILE", &file);
    let told = refusal(options.clone()).await;
    assert!(told.contains("resource typed"), "{told}");
    for (at, (_, kind)) in UNREAD.iter().enumerate() {
        let column = format!("unread{at} is of the type {kind}, cast it to text");
        assert!(told.contains(&column), "{column}: {told}");
    }
    assert!(!told.contains("text0") && !told.contains("slept"), "{told}");
    let text = r#"
[short]
fields = ["id", "moment", "more"]
get = "SELECT id, moment FROM moments WHERE id = $1"
"#;
    std::fs::write(&file, text).unwrap();
    let told = refusal(options).await;
    assert!(told.contains("fewer columns than the 3"), "{told}");
}

#[tokio::test]
async fn a_column_of_postgres_is_read_as_it_is_or_not_at_all() {
    let (dsn, db) = moments().await;
    let folder = TempDir::new().unwrap();
    let file = folder.join("resources.toml");
    let columns = UNREAD.iter().map(|(column, _)| *column);
    let unread: Vec<&str> = columns.chain(["moment"]).collect();
    let resources = unread.iter().enumerate();
    let resources = resources.map(|(at, column)| resource(&format!("unread-{at}"), column));
    let texts = TEXTS.iter().enumerate();
    let texts = texts.map(|(at, (column, _))| resource(&format!("text-{at}"), column));
    std::fs::write(&file, resources.chain(texts).collect::<String>()).unwrap();
    // At the start the database is away and says nothing of its types.
    let port = dsn.rsplit(':').next().unwrap().split('/').next().unwrap();
    let link = TcpProxy::to(port.parse().unwrap()).unwrap();
    link.cut();
    let options = embedded().env("RATEBOX_CACHE__ORIGIN_URL", link.url(&dsn));
    let service = started(options.env("RATEBOX_CACHE__RESOURCES_FILE", &file)).await;
    link.resume();
    let client = service.client();
    let nothing = json!({"id": 2, "value": null});
    for (at, column) in unread.iter().enumerate() {
        let bulk = format!("/bulk/unread-{at}?ids=1,2");
        for path in [format!("/unread-{at}/1"), bulk] {
            let (status, problem) = get(&client, &path).await;
            let known = (status, &problem["code"]);
            assert_eq!(known, (503, &json!("origin.unusable")), "{column}");
        }
        let read = get(&client, &format!("/unread-{at}/2")).await;
        assert_eq!(read, (200, nothing.clone()), "{column}");
    }
    for (at, (column, text)) in TEXTS.iter().enumerate() {
        let read = get(&client, &format!("/text-{at}/1")).await;
        let value = json!({"id": 1, "value": text});
        assert_eq!(read, (200, value), "{column}");
    }
    let mend = "UPDATE public.moments SET moment = '2026-01-02T03:04:05Z' WHERE id = 1";
    db.script(mend.to_owned()).await.unwrap();
    let moment = format!("/unread-{}/1", unread.len() - 1);
    let mended = json!({"id": 1, "value": "2026-01-02T03:04:05Z"});
    assert_eq!(get(&client, &moment).await, (200, mended), "none was kept");
}

#[tokio::test]
async fn a_reader_waits_for_an_origin_that_is_slower_than_a_lease() {
    let dsn = PostgresServer::shared().unwrap();
    let dsn = dsn.create_database(&unique_name("slow")).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.join("resources.toml");
    let slow = r#"
        [things]
        fields = ["id", "value"]
        get = "SELECT $1::bigint, 'late' || pg_sleep(6)::text"
    "#;
    std::fs::write(&file, slow).unwrap();
    let options = embedded().env("RATEBOX_CACHE__ORIGIN_URL", dsn);
    let service = started(options.env("RATEBOX_CACHE__RESOURCES_FILE", &file)).await;
    let client = service.client();
    let waited = Stopwatch::start();
    let late = json!({"id": 5, "value": "late"});
    assert_eq!(get(&client, "/things/5").await, (200, late));
    assert!(waited.elapsed().as_secs() > 5, "{:?}", waited.elapsed());
}
