//! What waits for its origin, on Redis, Valkey and in a file: the same answers on all of them.

use std::sync::Arc;
use std::time::Duration;

use ratebox_cache::{Known, Place, SqliteWaiting, Text, Tier, ValkeyWaiting, Waiting};
use ratebox_db::{Db, SqliteSettings};
use ratebox_kit::{Clock, Timestamp};
use ratebox_testkit::{RedisOptions, RedisServer, TempDir, unique_name};
use ratebox_valkey::{Settings, Valkey};
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(3_600);

fn on_server(url: &str, answer_max: Duration) -> (ValkeyWaiting, String) {
    let prefix = unique_name("waiting:");
    let valkey = Valkey::lazy(&Settings::new(url)).unwrap();
    let waiting = ValkeyWaiting::new(valkey, prefix.clone(), Tier::none(), answer_max);
    (waiting, prefix)
}

async fn in_file(folder: &TempDir, clock: &Clock) -> SqliteWaiting {
    let db = Db::sqlite(&SqliteSettings::new(folder.join("writes.db"))).unwrap();
    SqliteWaiting::open(db, clock.clone()).await.unwrap()
}

async fn all(folder: &TempDir) -> Vec<(&'static str, Arc<dyn Waiting>)> {
    let redis = RedisServer::shared().unwrap().url();
    let valkey = RedisServer::shared_valkey().unwrap().url();
    vec![
        ("redis", Arc::new(on_server(redis, HOUR).0)),
        ("valkey", Arc::new(on_server(valkey, HOUR).0)),
        ("sqlite", Arc::new(in_file(folder, &Clock::system()).await)),
    ]
}

fn place(seq: u64) -> Place {
    Place::new(1_700_000_000_000, seq)
}

fn text(word: &str) -> Option<String> {
    Some(word.to_owned())
}

/// What waits of a text, and which place the origin has.
type Shown<'a> = (Option<(u64, &'a str)>, Option<u64>);

fn known(texts: &[Shown<'_>]) -> Known {
    let one = |(waiting, applied): &Shown<'_>| Text {
        waiting: waiting.map(|(at, text)| (place(at), text.to_owned())),
        applied: applied.map(place),
    };
    Known(texts.iter().map(one).collect())
}

#[tokio::test]
async fn the_newest_of_each_text_waits_until_the_origin_has_it() {
    let folder = TempDir::new().unwrap();
    for (name, waiting) in all(&folder).await {
        assert_eq!(
            waiting.known("k").await.unwrap(),
            Known::default(),
            "{name}"
        );
        // Noted in another order than that of the queue; an empty text is a text.
        waiting
            .note("k", place(10), &[text("b"), None])
            .await
            .unwrap();
        waiting
            .note("k", place(9), &[text("a"), text("")])
            .await
            .unwrap();
        let now = waiting.known("k").await.unwrap();
        let wanted = known(&[(Some((10, "b")), None), (Some((9, "")), None)]);
        assert_eq!(now, wanted, "{name}");
        assert_eq!(now.waiting(), [text("b"), text("")], "{name}");
        waiting
            .applied("k", &[Some(place(9)), Some(place(9))])
            .await
            .unwrap();
        let now = waiting.known("k").await.unwrap();
        assert_eq!(
            now,
            known(&[(Some((10, "b")), Some(9)), (None, Some(9))]),
            "{name}"
        );
        waiting
            .applied("k", &[Some(place(10)), None])
            .await
            .unwrap();
        let now = waiting.known("k").await.unwrap();
        assert_eq!(now, known(&[(None, Some(10)), (None, Some(9))]), "{name}");
        assert_eq!(
            waiting.known("other").await.unwrap(),
            Known::default(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_note_that_comes_after_its_write_was_applied_does_not_wait_for_ever() {
    let folder = TempDir::new().unwrap();
    for (name, waiting) in all(&folder).await {
        waiting.applied("k", &[Some(place(5)), None]).await.unwrap();
        waiting
            .note("k", place(5), &[text("late"), text("new")])
            .await
            .unwrap();
        waiting
            .note("k", place(4), &[text("later"), None])
            .await
            .unwrap();
        let now = waiting.known("k").await.unwrap();
        assert_eq!(
            now,
            known(&[(None, Some(5)), (Some((5, "new")), None)]),
            "{name}"
        );
        // An older place does not take the newer one's.
        waiting.applied("k", &[Some(place(3)), None]).await.unwrap();
        let again = waiting.known("k").await.unwrap();
        assert_eq!(again, now, "{name}");
    }
}

#[tokio::test]
async fn what_the_origin_has_is_forgotten_after_a_while_and_what_waits_is_not() {
    let server = RedisServer::shared().unwrap();
    let (waiting, prefix) = on_server(server.url(), HOUR);
    waiting
        .note("k", place(1), &[text("a"), text("b")])
        .await
        .unwrap();
    waiting.applied("k", &[Some(place(1)), None]).await.unwrap();
    let left = || match server.command(&["PTTL", &format!("{prefix}k")]).unwrap() {
        Value::Number(ms) => ms.as_i64().unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(left() > 24 * 3_600_000, "one text waits still: {}", left());
    waiting.applied("k", &[None, Some(place(1))]).await.unwrap();
    assert!((1..=600_000).contains(&left()), "{}", left());

    let folder = TempDir::new().unwrap();
    let clock = Clock::manual(Timestamp::from_millisecond(1_700_000_000_000).unwrap());
    let waiting = in_file(&folder, &clock).await;
    waiting
        .note("k", place(1), &[text("a"), text("b")])
        .await
        .unwrap();
    waiting.applied("k", &[Some(place(1)), None]).await.unwrap();
    clock.advance(HOUR);
    waiting.applied("other", &[Some(place(1))]).await.unwrap();
    let now = waiting.known("k").await.unwrap();
    assert_eq!(now, known(&[(None, None), (Some((1, "b")), None)]));
    clock.advance(HOUR * 24 * 31);
    waiting.applied("other", &[Some(place(2))]).await.unwrap();
    assert_eq!(waiting.known("k").await.unwrap(), Known::default());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    let (waiting, _) = on_server(&server.url(), Duration::from_millis(100));
    waiting.note("k", place(1), &[text("a")]).await.unwrap();
    server.pause().unwrap();
    waiting.known("k").await.unwrap_err();
    server.resume().unwrap();
    let now = waiting.known("k").await.unwrap();
    assert_eq!(now, known(&[(Some((1, "a")), None)]));
}
