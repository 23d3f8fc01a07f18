//! Writes that `ratebox cache` answers before the origin has them, while it is killed with -9 again
//! and again: none is lost, the writes of a key keep their order, and who wrote reads nothing older.
//!
//! A write gives one of two texts, by turns: so one that is lost is missed even when later ones went
//! to the origin together.
//!
//! Short here; `RATEBOX_TEST_CACHE_WRITES=100000` makes it long.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_kit::Stopwatch;
use ratebox_testkit::{
    HttpClient, PostgresServer, Ratebox, RateboxOptions, RedisOptions, RedisServer, TempDir,
    free_port, wait_until,
};
use serde_json::json;

const WRITERS: u64 = 16;
/// Keys of each writer; nobody else writes them.
const KEYS: u64 = 10;
/// Between two kills, in milliseconds, at least and at most.
const KILL_EVERY_MS: std::ops::Range<u64> = 700..2_500;
/// What was queued is applied when the owner of a partition is known to be dead, and then some.
const APPLIED_WITHIN: Duration = Duration::from_secs(600);
const ANSWER_MAX: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE things (id bigint PRIMARY KEY, odd text NOT NULL, even text NOT NULL);
    CREATE TABLE history (at bigserial PRIMARY KEY, thing bigint NOT NULL, odd text, even text)";

const RESOURCES: &str = r#"
[things]
fields = ["id", "odd", "even"]
get = "SELECT id, odd, even FROM things WHERE id = $1"
writable = ["odd", "even"]
defaults = ["none", "none"]
put = """
WITH noted AS (INSERT INTO history (thing, odd, even) VALUES ($1, $2, $3))
INSERT INTO things (id, odd, even) VALUES ($1, coalesce($2, 'none'), coalesce($3, 'none'))
ON CONFLICT (id) DO UPDATE SET odd = coalesce($2, things.odd), even = coalesce($3, things.even)
RETURNING id, odd, even"""
"#;

/// First and last time that each text of a key was applied, in order.
const APPLIED: &str = "
    SELECT thing, number % 2, number, min(at), max(at)
    FROM history CROSS JOIN LATERAL (VALUES (odd::bigint), (even::bigint)) AS texts (number)
    WHERE number IS NOT NULL GROUP BY thing, number ORDER BY thing, number % 2, number";

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Versions as texts that sort as numbers do.
fn version(number: u64) -> String {
    format!("{number:08}")
}

/// The two texts of a key after so many versions.
fn texts(newest: u64) -> (String, String) {
    let text = |number: u64| match number {
        0 => "none".to_owned(),
        number => version(number),
    };
    let odd = newest - u64::from(newest.is_multiple_of(2));
    (text(odd), text(newest - newest % 2))
}

/// One writer: each version of its keys, again until it is answered, then what a reader sees.
async fn write(base: &str, writer: u64, writes: u64, answered: &AtomicU64) -> HashMap<u64, u64> {
    let client = HttpClient::new(base).with_deadline(ANSWER_MAX);
    let mut acknowledged = HashMap::new();
    for number in 0..writes {
        let key = writer * KEYS + number % KEYS;
        let next = number / KEYS + 1;
        let field = ["even", "odd"][usize::from(next % 2 == 1)];
        let body = json!({field: version(next), "mode": "write-behind"});
        let path = format!("/things/{key}");
        // Without an answer it may have been taken or not: the same once more.
        while !matches!(client.post_json(&path, &body).await, Ok(answer) if answer.status == 200) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acknowledged.insert(key, next);
        answered.fetch_add(1, Ordering::Relaxed);
        if let Ok(answer) = client.get(&path).await
            && answer.status == 200
        {
            let (odd, even) = texts(next);
            let wanted = json!({"id": key, "odd": odd, "even": even});
            assert_eq!(answer.json().unwrap(), wanted, "after write {next}");
        }
    }
    acknowledged
}

/// Kills the service at random and starts it again, until it is told to stop; how often. One that has
/// answered no write yet lives, so that a slow machine gets on, too.
async fn kill(
    options: impl Fn() -> RateboxOptions,
    done: &AtomicBool,
    answered: &AtomicU64,
) -> (Ratebox, u64) {
    let mut service = options().start().unwrap();
    let (mut kills, mut before) = (0, 0);
    let mut watch = Stopwatch::start();
    let mut next = Duration::from_millis(KILL_EVERY_MS.end);
    while !done.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(service.exited(), None, "{}", service.logs());
        let now = answered.load(Ordering::Relaxed);
        if watch.elapsed() > next && now > before {
            service.kill9();
            service = options().start().unwrap();
            before = now;
            kills += 1;
            watch = Stopwatch::start();
            next = Duration::from_millis(kills * 997 % 1_800 + KILL_EVERY_MS.start);
        }
    }
    (service, kills)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vk_08_of_many_queued_writes_none_is_lost_by_kills_and_each_key_keeps_its_order() {
    let writes = setting("RATEBOX_TEST_CACHE_WRITES", 10_000) / WRITERS;
    let redis = RedisServer::start(RedisOptions::default()).unwrap();
    let postgres = PostgresServer::start().unwrap();
    postgres.sql(TABLES).unwrap();
    let folder = TempDir::new().unwrap();
    let resources = folder.join("resources.toml");
    std::fs::write(&resources, RESOURCES).unwrap();
    let (port, data) = (free_port(), folder.join("data"));
    let options = || {
        RateboxOptions::new("cache")
            .port(port)
            .data_dir(&data)
            .env("RATEBOX_CACHE__AUTH", "off")
            .env("RATE_MAX_TOKENS", "100000000")
            // A server that is slow with a slow machine is not away.
            .env("RATEBOX_CACHE__AWAY_AFTER_MS", "10000")
            .env("RATEBOX_CACHE__URL", redis.url())
            .env("RATEBOX_CACHE__ORIGIN_URL", postgres.dsn())
            .env("RATEBOX_CACHE__RESOURCES_FILE", &resources)
    };
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let base = format!("http://127.0.0.1:{port}");
    let work = async {
        let writers = (0..WRITERS).map(|writer| write(&base, writer, writes, &answered));
        let acknowledged: HashMap<u64, u64> =
            join_all(writers).await.into_iter().flatten().collect();
        done.store(true, Ordering::Relaxed);
        acknowledged
    };
    let (acknowledged, (_service, kills)) = tokio::join!(work, kill(options, &done, &answered));
    let last = || {
        let rows = postgres.sql("SELECT id, odd, even FROM things").unwrap();
        let parts = |row: &str| {
            let mut parts = row.split('|').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            (next().parse().unwrap(), (next(), next()))
        };
        rows.lines()
            .map(parts)
            .collect::<HashMap<u64, (String, String)>>()
    };
    wait_until(APPLIED_WITHIN, "every last write to be applied", || async {
        let last = last();
        let is_there = |(key, number): (&u64, &u64)| last.get(key) == Some(&texts(*number));
        acknowledged.iter().all(is_there)
    })
    .await;
    check(&postgres.sql(APPLIED).unwrap(), &acknowledged);
    println!("{} writes, {kills} kills", answered.into_inner());
    assert!(kills > 0, "nothing was killed");
}

/// The newest of each text was applied; the first times of a text's versions are in order, and the
/// last times.
fn check(applied: &str, acknowledged: &HashMap<u64, u64>) {
    let mut of_text: HashMap<(u64, u64), Vec<[u64; 3]>> = HashMap::new();
    for row in applied.lines() {
        let numbers: Vec<u64> = row.split('|').map(|text| text.parse().unwrap()).collect();
        let [key, odd, version, first, last] = numbers[..] else {
            panic!("{row}");
        };
        let times = of_text.entry((key, odd)).or_default();
        times.push([version, first, last]);
    }
    for (key, newest) in acknowledged {
        for newest in [*newest, newest - 1].into_iter().filter(|it| *it > 0) {
            let seen = &of_text[&(*key, newest % 2)];
            let is_last = seen.last().is_some_and(|times| times[0] == newest);
            assert!(is_last, "key {key} lost {newest}");
            let is_wrong = |two: &&[[u64; 3]]| two[0][1] >= two[1][1] || two[0][2] >= two[1][2];
            let wrong = seen.windows(2).find(is_wrong);
            assert_eq!(wrong, None, "key {key} is out of order");
        }
    }
}
