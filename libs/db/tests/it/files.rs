//! The file of a SQLite database: private, named in errors, copied, checked, and missed when it is
//! gone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ratebox_db::{Db, Sql, SqliteSettings};
use ratebox_testkit::TempDir;

const INSERT: Sql = Sql::both("INSERT INTO numbers (n) VALUES (1)");
const COUNT: Sql = Sql::both("SELECT count(*) FROM numbers");

async fn fresh(file: &Path) -> Db {
    let db = Db::sqlite(&SqliteSettings::new(file)).unwrap();
    let table = "CREATE TABLE numbers (n INT); INSERT INTO numbers VALUES (1), (2)";
    db.script(table.to_owned()).await.unwrap();
    db
}

async fn count(db: &Db) -> i64 {
    db.query(COUNT).await.unwrap()[0].get(0).unwrap()
}

#[tokio::test]
async fn files_and_copies_are_their_owners_alone_and_a_copy_is_of_one_moment() {
    let folder = TempDir::new().unwrap();
    let db = fresh(&folder.join("a.db")).await;
    let copy = folder.join("b.db");
    db.copy_to(&copy).await.unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm", "b.db"] {
        let about = std::fs::metadata(folder.join(name)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
    }
    db.execute(INSERT).await.unwrap();
    let over = db.copy_to(&copy).await.unwrap_err();
    assert!(!over.is_retryable(), "{over}");
    let copied = Db::sqlite(&SqliteSettings::new(&copy)).unwrap();
    assert_eq!((count(&copied).await, count(&db).await), (2, 3));
    assert!(copied.damage().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_database_and_what_cannot_be_opened_are_told_apart_by_name() {
    let folder = TempDir::new().unwrap();
    let file = folder.join("x.db");
    std::fs::write(&file, [b'x'; 8192]).unwrap();
    let damaged = Db::sqlite(&SqliteSettings::new(&file)).unwrap_err();
    assert!(damaged.is_damage() && !damaged.is_retryable(), "{damaged}");
    assert!(damaged.to_string().contains("x.db"), "{damaged}");
    let nowhere = folder.join("no/such.db");
    let away = Db::sqlite(&SqliteSettings::new(nowhere)).unwrap_err();
    assert!(away.is_outage() && !away.is_damage(), "{away}");
    let said = away.to_string();
    assert!(
        said.contains("rights") && said.contains("no/such.db"),
        "{said}"
    );
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_under_its_process_is_an_outage() {
    let folder = TempDir::new().unwrap();
    let file = folder.join("a.db");
    let db = fresh(&file).await;
    db.ping().await.unwrap();
    let aside = folder.join("aside.db");
    std::fs::rename(&file, &aside).unwrap();
    let gone = db.ping().await.unwrap_err();
    assert!(
        gone.is_outage() && gone.to_string().contains("a.db"),
        "{gone}"
    );
    std::fs::write(&file, "").unwrap();
    assert!(db.ping().await.is_err(), "another file has its name");
    std::fs::rename(&aside, &file).unwrap();
    db.ping().await.unwrap();
}

/// 80 MB in one transaction, as of a large import.
#[tokio::test]
async fn the_log_of_a_burst_is_cut_back_by_what_is_written_next() {
    let folder = TempDir::new().unwrap();
    let db = fresh(&folder.join("a.db")).await;
    let burst = "CREATE TABLE blobs (b BLOB); INSERT INTO blobs
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80)
        SELECT randomblob(1000000) FROM n";
    db.script(burst.to_owned()).await.unwrap();
    let log = || std::fs::metadata(folder.join("a.db-wal")).unwrap().len();
    assert!(log() > 70 << 20, "{}", log());
    for _ in 0..2 {
        db.execute(INSERT).await.unwrap();
    }
    assert!(log() <= 64 << 20, "{}", log());
}
