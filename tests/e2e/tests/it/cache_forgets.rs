//! `POST /invalidate` and `POST /recompute` of `ratebox cache`: rows change behind the service's back, so
//! that what it answers says whether it had forgotten.

use std::path::Path;

use ratebox_db::{Db, PostgresSettings, Sql, SqliteSettings, Value as Column};
use ratebox_kit::Secret;
use ratebox_testkit::{
    Fsync, HttpClient, PostgresServer, RedisOptions, RedisServer, TempDir, unique_name, wait_until,
};
use serde_json::json;

use crate::cache_service::{SOON, calls, embedded, get, on, post, started};

const RENAME: Sql = Sql {
    postgres: "UPDATE users SET name = $2 WHERE id = $1",
    sqlite: "UPDATE users SET name = ?2 WHERE id = ?1",
};

/// Renames a user where no cache hears of it.
pub(crate) async fn rename(origin: &Db, uid: i64, name: &str) {
    let values = vec![Column::Int(uid), Column::Text(name.to_owned())];
    let changed = origin.execute(RENAME.with(values)).await.unwrap();
    assert_eq!(changed, 1);
}

/// A database for the users, and a handle on it.
fn postgres() -> (String, Db) {
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("origin")).unwrap();
    let settings = PostgresSettings::new(Secret::new(dsn.clone()));
    (dsn, Db::postgres(&settings).unwrap())
}

/// What a service says of a user: itself, and the widget that is made from it.
async fn names(client: &HttpClient, uid: i64) -> [String; 2] {
    let (status, user) = get(client, &format!("/users/{uid}")).await;
    assert_eq!(status, 200, "{user}");
    let (status, widget) = get(client, &format!("/widgets/{uid}")).await;
    assert_eq!(status, 200, "{widget}");
    let greeting = widget["greeting"].as_str().unwrap();
    let greeted = greeting.strip_prefix("Hello ").unwrap();
    let (greeted, _title) = greeted.split_once(", ").unwrap();
    [user["name"].as_str().unwrap(), greeted].map(str::to_owned)
}

async fn ordered(client: &HttpClient, path: &str) {
    let answer = post(client, path, &json!({})).await;
    let done = match path {
        "/recompute" => json!({"ok": true, "loaded": 2}),
        _ => json!({"ok": true}),
    };
    assert_eq!(answer, (200, done), "{path}");
}

/// Reads until the answers come out of the process' own memory; the first of them says `name` already.
async fn remembered(client: &HttpClient, uid: i64, name: &str) {
    let hits = async || {
        let (_, stats) = get(client, "/stats").await;
        ["users", "widgets"].map(|of| stats["resources"][of]["memory_hits"].as_u64().unwrap())
    };
    let before = hits().await;
    wait_until(SOON, "memory to have both", || async {
        assert_eq!(names(client, uid).await, [name, name]);
        let now = hits().await;
        now[0] > before[0] && now[1] > before[1]
    })
    .await;
}

/// Reads of `client`'s service follow the origin after an order, and not before it.
async fn forgets_when_told(client: &HttpClient, origin: &Db) {
    remembered(client, 1, "Ada").await;
    remembered(client, 2, "Grace").await;
    rename(origin, 1, "Augusta").await;
    rename(origin, 2, "Brewster").await;
    assert_eq!(names(client, 1).await, ["Ada", "Ada"], "cached");
    ordered(client, "/invalidate/1").await;
    remembered(client, 1, "Augusta").await;
    assert_eq!(names(client, 2).await, ["Grace", "Grace"], "it is another");
    ordered(client, "/invalidate/users/2").await;
    remembered(client, 2, "Brewster").await;
    rename(origin, 2, "Hopper").await;
    ordered(client, "/invalidate/widgets/2").await;
    let half = names(client, 2).await;
    assert_eq!(half, ["Brewster", "Hopper"], "the widget alone");
    everything_at_once(client, origin).await;
}

/// `/recompute` forgets all of them and has loaded the declared keys when it answers.
async fn everything_at_once(client: &HttpClient, origin: &Db) {
    for uid in [1, 2] {
        rename(origin, uid, "Radia").await;
        assert_ne!(names(client, uid).await[0], "Radia", "cached");
    }
    ordered(client, "/recompute").await;
    let asked = calls(client).await;
    for uid in [1, 2] {
        assert_eq!(names(client, uid).await, ["Radia", "Radia"]);
    }
    assert_eq!(calls(client).await, asked, "the users were not warm");
}

#[tokio::test]
async fn vk_09_vk_17_what_is_invalidated_or_recomputed_is_read_anew_with_all_that_is_made_from_it()
{
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let (dsn, origin) = postgres();
    let service = started(on(server.port()).env("RATEBOX_CACHE__ORIGIN_URL", dsn)).await;
    forgets_when_told(&service.client(), &origin).await;
}

#[tokio::test]
async fn vk_09_vk_17_in_one_process_what_is_invalidated_or_recomputed_is_read_anew_too() {
    let folder = TempDir::new().unwrap();
    let data = folder.join("data");
    let service = started(embedded().data_dir(&data)).await;
    let file = SqliteSettings::new(data.join("origin.db"));
    let origin = Db::sqlite(&file).unwrap();
    forgets_when_told(&service.client(), &origin).await;
}

#[tokio::test]
async fn vk_17_the_memory_of_another_process_forgets_what_was_invalidated_or_recomputed() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let (dsn, origin) = postgres();
    let options = on(server.port()).env("RATEBOX_CACHE__ORIGIN_URL", dsn);
    let (one, two) = (started(options.clone()).await, started(options).await);
    let (one, two) = (one.client(), two.client());
    let mut before = "Ada";
    for (order, name) in [("/invalidate/1", "Augusta"), ("/recompute", "Radia")] {
        for client in [&one, &two] {
            remembered(client, 1, before).await;
        }
        rename(&origin, 1, name).await;
        assert_eq!(names(&two, 1).await, [before, before], "cached");
        ordered(&one, order).await;
        assert_eq!(names(&one, 1).await, [name, name], "{order}");
        wait_until(SOON, "the other process to forget", || async {
            names(&two, 1).await == [name, name]
        })
        .await;
        before = name;
    }
}

/// Each step of what is made from what: the last is made from the first.
const STEPS: &str = r#"
[people]
fields = ["id", "name"]
get = "SELECT id, name FROM people WHERE id = $1"

[cards]
fields = ["id", "card"]
get = "SELECT id, 'Card of ' || name FROM people WHERE id = $1"
depends_on = ["people"]

[walls]
fields = ["id", "wall"]
get = "SELECT id, 'Wall of ' || name FROM people WHERE id = $1"
depends_on = ["cards"]
"#;

#[tokio::test]
async fn what_is_made_from_a_value_is_loaded_once_and_goes_with_it_over_steps_that_nobody_read() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let (dsn, origin) = postgres();
    let table = "CREATE TABLE public.people (id bigint PRIMARY KEY, name text);
        INSERT INTO public.people VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger')";
    origin.script(table.to_owned()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let declared = folder.join("resources.toml");
    std::fs::write(&declared, STEPS).unwrap();
    let options = on(server.port())
        .env("RATEBOX_CACHE__ORIGIN_URL", dsn)
        .env("RATEBOX_CACHE__RESOURCES_FILE", &declared)
        // So that what was kept is read from the server.
        .env("RATEBOX_CACHE__MEMORY_MAX_BYTES", "0");
    let service = started(options).await;
    let client = service.client();
    for _ in 0..3 {
        for path in ["/walls/1", "/walls/2", "/bulk/walls?ids=1,2,3"] {
            assert_eq!(get(&client, path).await.0, 200, "{path}");
        }
    }
    let (_, stats) = get(&client, "/stats").await;
    assert_eq!(stats["resources"]["walls"]["loads"], 3, "{stats}");
    let rename = "UPDATE public.people SET name = 'Radia'";
    origin.script(rename.to_owned()).await.unwrap();
    ordered(&client, "/invalidate/people/1").await;
    ordered(&client, "/invalidate/cards/3").await;
    let (_, walls) = get(&client, "/bulk/walls?ids=1,2,3").await;
    for (id, wall) in [
        ("1", "Wall of Radia"),
        ("2", "Wall of Grace"),
        ("3", "Wall of Radia"),
    ] {
        assert_eq!(walls[id]["wall"], wall, "{walls}");
    }
}

/// How a process ends that others heard nothing from.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

/// Changes while the server is away: what cannot be taken back says that nobody was told, and what
/// can be asked for again is refused.
async fn change_untold(client: &HttpClient) {
    let refused = client.post_json("/invalidate/1", &json!({})).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json().unwrap()["code"], "invalidation.untold");
    assert!(refused.header("retry-after").is_some());
    let name = json!({"name": "Hopper"});
    let written = client.post_json("/users/2", &name).await.unwrap();
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(written.header("ratebox-untold"), Some("true"));
    for (uid, name) in [(1, "Augusta"), (2, "Hopper")] {
        assert_eq!(names(client, uid).await, [name, name], "known here");
    }
}

fn notes(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("cache-untold-"))
        .count()
}

/// A process ends while the server is away. The server comes back with all that it had, and the next
/// process over the folder tells the other one what has changed.
async fn the_next_process_tells(end: End) {
    let options = RedisOptions::default().fsync(Fsync::Always);
    let mut server = RedisServer::start(options).unwrap();
    let (dsn, origin) = postgres();
    let folder = TempDir::new().unwrap();
    let data = folder.join("one");
    let options = on(server.port()).env("RATEBOX_CACHE__ORIGIN_URL", dsn);
    let of_one = options.clone().data_dir(&data);
    let (mut one, two) = (started(of_one.clone()).await, started(options).await);
    let other = two.client();
    for client in [&one.client(), &other] {
        remembered(client, 1, "Ada").await;
        remembered(client, 2, "Grace").await;
    }
    server.kill9();
    rename(&origin, 1, "Augusta").await;
    change_untold(&one.client()).await;
    assert_eq!(notes(&data), 1);
    match end {
        End::Killed => one.kill9(),
        End::Stopped => {
            assert_eq!(one.terminate().await.unwrap(), 0, "{}", one.logs());
            let logs = one.logs();
            let error = logs.lines().find(|line| line.contains("ERROR"));
            let error = error.unwrap_or_else(|| panic!("no error in {logs}"));
            assert!(error.contains("not told of 2 changes"), "{error}");
            assert!(error.contains("POST /recompute"), "{error}");
        }
    }
    server.restart().unwrap();
    let next = started(of_one).await;
    for (uid, name) in [(1, "Augusta"), (2, "Hopper")] {
        assert_eq!(names(&next.client(), uid).await, [name, name]);
        wait_until(SOON, "the other process to be told", || async {
            names(&other, uid).await == [name, name]
        })
        .await;
    }
    wait_until(SOON, "the note to go", || async { notes(&data) == 0 }).await;
}

#[tokio::test]
async fn what_a_stopped_process_could_not_tell_the_next_one_tells() {
    the_next_process_tells(End::Stopped).await;
}

#[tokio::test]
async fn what_a_killed_process_could_not_tell_the_next_one_tells() {
    the_next_process_tells(End::Killed).await;
}

#[tokio::test]
async fn what_could_not_be_told_is_told_when_the_server_is_back_and_its_note_goes() {
    let options = RedisOptions::default().fsync(Fsync::Always);
    let mut server = RedisServer::start(options).unwrap();
    let (dsn, origin) = postgres();
    let options = on(server.port()).env("RATEBOX_CACHE__ORIGIN_URL", dsn);
    let (one, two) = (started(options.clone()).await, started(options).await);
    let other = two.client();
    for client in [&one.client(), &other] {
        remembered(client, 1, "Ada").await;
    }
    server.kill9();
    rename(&origin, 1, "Augusta").await;
    change_untold(&one.client()).await;
    server.restart().unwrap();
    wait_until(SOON, "the other process to be told", || async {
        names(&other, 1).await == ["Augusta", "Augusta"]
    })
    .await;
    wait_until(SOON, "the note to go", || async {
        notes(one.data_dir()) == 0
    })
    .await;
    ordered(&one.client(), "/invalidate/1").await;
}

#[tokio::test]
async fn a_post_with_a_query_is_refused_and_nothing_is_written() {
    let service = started(embedded()).await;
    let client = service.client();
    for path in [
        "/users/1?name=Zed&mode=write-behind",
        "/users/1?mode=write-behind",
        "/invalidate/1?strategy=swr",
        "/invalidate/users/1?strategy=swr",
        "/recompute?force=1",
    ] {
        let (status, problem) = post(&client, path, &json!({"title": "Zed"})).await;
        let known = (status, &problem["code"]);
        assert_eq!(known, (400, &json!("query.unknown_parameter")), "{path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("JSON body"), "{detail}");
    }
    let ada = json!({"id": 1, "name": "Ada", "title": "Engineer"});
    assert_eq!(get(&client, "/users/1").await, (200, ada));
}
