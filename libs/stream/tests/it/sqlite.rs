//! The log in a SQLite file, on a clock that the cases move.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use ratebox_db::{Db, Sql, SqliteSettings};
use ratebox_kit::{Clock, Message, Timestamp};
use ratebox_stream::conformance::{Bed, Sabotage, Waits};
use ratebox_stream::{
    Admin, Append, EntryId, Lane, Log, Retention, Settlement, SqliteLog, StreamName, Trimmed,
};
use ratebox_testkit::TempDir;

ratebox_stream::conformance!(bed);

pub(crate) async fn bed() -> Bed {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    on(clock.clone(), Waits::Moves(clock)).await.0
}

/// A bed on a fresh file, and its log.
pub(crate) async fn on(clock: Clock, waits: Waits) -> (Bed, Arc<SqliteLog>) {
    let folder = TempDir::new().unwrap();
    let db = Db::sqlite(&SqliteSettings::new(folder.join("bus.db"))).unwrap();
    let log = Arc::new(SqliteLog::open(db, clock.clone()).await.unwrap());
    let saboteur = Saboteur {
        log: log.clone(),
        _folder: folder,
    };
    let bed =
        Bed::new(log.clone(), log.clone(), Arc::new(saboteur), waits).with_dispatcher(log.clone());
    (bed, log)
}

/// Holds the folder, which must outlive the log.
struct Saboteur {
    log: Arc<SqliteLog>,
    _folder: TempDir,
}

#[async_trait]
impl Sabotage for Saboteur {
    async fn lose_entry(&self, stream: &StreamName, id: EntryId) {
        self.log.lose_entry(stream, id).await.unwrap();
    }

    async fn lose_stream(&self, stream: &StreamName) {
        self.log.lose_stream(stream).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_file_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let settings = SqliteSettings::new(folder.path().join("bus.db"));
    let stream = StreamName::new("s");
    let open = || async {
        let db = Db::sqlite(&settings).unwrap();
        SqliteLog::open(db, Clock::system()).await.unwrap()
    };
    let appended = Append::new(stream.clone(), Message::new("m", "body"));
    let id = *open().await.append(&[appended]).await[0].as_ref().unwrap();
    let entries = open().await.peek(&stream, EntryId::MIN, 10).await.unwrap();
    assert_eq!(entries[0].id, id);
    assert_eq!(entries[0].field("data").unwrap(), "body");
}

#[tokio::test]
async fn retries_come_back_in_the_order_in_which_they_are_due() {
    let bed = bed().await;
    let sub = bed.member("a").await;
    bed.append(Lane::Normal, &["late", "early"]).await;
    let entries = bed.read(&sub, 2).await;
    let delay = |entry, wait_s| Settlement::Delay {
        entry,
        wait: Duration::from_secs(wait_s),
        failed_at: bed.clock.now(),
    };
    let delays = [delay(&entries[0], 20), delay(&entries[1], 10)];
    bed.log.settle(&sub, &delays).await.unwrap();
    bed.pass(Duration::from_secs(30)).await;
    assert_eq!(bed.log.promote(&sub, 10).await.unwrap(), 2);
    let back = bed.read(&sub, 2).await;
    let ids: Vec<_> = back.iter().map(|entry| entry.message_id()).collect();
    assert_eq!(ids, ["id-early", "id-late"]);
}

/// A body is a thousand times as long as an id, and monitoring counts entries all the time.
#[tokio::test]
async fn entries_are_counted_without_what_they_carry() {
    const COUNT: Sql = Sql::both(
        "EXPLAIN QUERY PLAN SELECT count(*), min(id) FROM log_entries WHERE stream = 's' AND id > 7",
    );
    let folder = TempDir::new().unwrap();
    let db = Db::sqlite(&SqliteSettings::new(folder.path().join("bus.db"))).unwrap();
    let log = SqliteLog::open(db.clone(), Clock::system()).await.unwrap();
    let plan = db.query(COUNT).await.unwrap();
    let plan: String = plan[0].get(3).unwrap();
    assert!(plan.contains("COVERING INDEX log_entries_ids"), "{plan}");
    // The index is no second place: what goes from one goes from the other.
    let stream = StreamName::new("s");
    let appends: Vec<_> = (0..9)
        .map(|no| Append::new(stream.clone(), Message::new(format!("m{no}"), "x")))
        .collect();
    let ids = log.append(&appends).await;
    log.lose_entry(&stream, *ids[4].as_ref().unwrap())
        .await
        .unwrap();
    let six = Retention {
        max_age: None,
        max_len: Some(6),
    };
    log.trim(&stream, six).await.unwrap();
    assert_eq!(log.info(&stream).await.unwrap().unwrap().length, 6);
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_told() {
    let folder = TempDir::new().unwrap();
    let db = Db::sqlite(&SqliteSettings::new(folder.path().join("bus.db"))).unwrap();
    let log = SqliteLog::open(db.clone(), Clock::system()).await.unwrap();
    assert!(log.newer().await.unwrap().is_empty());
    let later = "INSERT INTO schema_migrations VALUES ('stream', 99, 'of tomorrow', 0)";
    db.script(later.to_owned()).await.unwrap();
    let newer = log.newer().await.unwrap();
    let told: Vec<_> = newer.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["stream/99 (of tomorrow)"]);
}

/// Opens a transaction in which a group appears, and commits it while a trim is on its way.
#[tokio::test]
async fn a_trim_keeps_what_a_group_owes_that_appears_meanwhile() {
    const GROUP: Sql = Sql::both("INSERT INTO log_groups (stream, grp, last) VALUES ('s', 'g', 0)");
    let folder = TempDir::new().unwrap();
    let db = Db::sqlite(&SqliteSettings::new(folder.path().join("bus.db"))).unwrap();
    let log = SqliteLog::open(db.clone(), Clock::system()).await.unwrap();
    let stream = StreamName::new("s");
    let append = Append::new(stream.clone(), Message::new("m", "x"));
    log.append(&[append]).await.remove(0).unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute(GROUP).await.unwrap();
    let everything = Retention {
        max_age: None,
        max_len: Some(0),
    };
    let mut trim = log.trim(&stream, everything);
    // As far as it gets. One that looked already would not see the group.
    let early = tokio::time::timeout(Duration::from_millis(200), &mut trim).await;
    assert!(early.is_err(), "a trim waits for the writer");
    tx.commit().await.unwrap();
    let held = Trimmed {
        removed: 0,
        held_by: Some(ratebox_stream::GroupName::new("g")),
    };
    assert_eq!(trim.await.unwrap(), held);
}
