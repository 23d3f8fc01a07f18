//! The database goes away and comes back; the disk fills up.

use std::time::Duration;

use ratebox_db::{Db, Error, PostgresSettings, Sql, SqliteSettings};
use ratebox_kit::Secret;
use ratebox_testkit::{PostgresServer, TempDir, unique_name, wait_until};

const INSERT: Sql = Sql::both("INSERT INTO numbers (n) VALUES (1)");

/// A pool of one connection to a fresh database, with this at the end of its address.
fn lone(more: &str) -> PostgresSettings {
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("lone")).unwrap();
    PostgresSettings {
        schema: "public".to_owned(),
        pool_max: 1,
        ..PostgresSettings::new(Secret::new(dsn + more))
    }
}

#[tokio::test]
async fn a_killed_postgres_is_an_outage_and_work_goes_on_after_its_return() {
    let mut server = PostgresServer::start().unwrap();
    let mut settings = PostgresSettings::new(Secret::new(server.dsn()));
    settings.schema = "public".to_owned();
    let db = Db::postgres(&settings).unwrap();
    db.script("CREATE TABLE numbers (n INT)".to_owned())
        .await
        .unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT).await.unwrap();
    server.kill9();
    let error = tx.commit().await.unwrap_err();
    assert!(error.is_outage() && error.is_retryable(), "{error}");
    let error = db.execute(INSERT).await.unwrap_err();
    assert!(error.is_outage(), "{error}");
    server.restart().unwrap();
    wait_until(
        Duration::from_secs(10),
        "a commit after the restart",
        || async { db.execute(INSERT).await.is_ok() },
    )
    .await;
}

#[tokio::test]
async fn a_wrong_dsn_is_told_without_its_password() {
    let error = Db::postgres(&PostgresSettings::new(Secret::new("hunter2 is no dsn"))).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let dsn = Secret::new("postgresql://me:hunter2@127.0.0.1:1/none");
    let error = Db::postgres(&PostgresSettings::new(dsn))
        .unwrap()
        .ping()
        .await
        .unwrap_err();
    assert!(
        error.is_outage() && !format!("{error} {error:?}").contains("hunter2"),
        "{error}"
    );
}

/// Data must not be blamed when a password changes, nor may whoever starts wait for it for ever.
#[tokio::test]
async fn a_user_a_database_or_a_right_that_is_not_there_is_an_outage_that_says_so() {
    let server = PostgresServer::shared().unwrap();
    let name = unique_name("refused");
    let dsn = server.create_database(&name).unwrap();
    let ours = Db::postgres(&PostgresSettings::new(Secret::new(dsn.clone()))).unwrap();
    let role = format!("CREATE ROLE {name} LOGIN; CREATE TABLE public.numbers (n INT)");
    ours.script(role).await.unwrap();
    let of = |dsn: String| {
        let mut settings = PostgresSettings::new(Secret::new(dsn));
        settings.schema = "public".to_owned();
        Db::postgres(&settings).unwrap()
    };
    let (before, after) = dsn.split_once("//").unwrap();
    let (_, host) = after.split_once('@').unwrap();
    let stranger = of(format!("{before}//nobody_{name}@{host}"));
    let nowhere = of(dsn.replace(&name, "no_such_database"));
    let guest = of(format!("{before}//{name}@{host}"));
    for (error, code) in [
        (stranger.ping().await.unwrap_err(), "28"),
        (nowhere.ping().await.unwrap_err(), "3D000"),
        (guest.execute(INSERT).await.unwrap_err(), "42501"),
        (
            guest
                .script("DROP TABLE numbers".to_owned())
                .await
                .unwrap_err(),
            "42501",
        ),
    ] {
        assert!(error.is_refusal() && error.is_outage(), "{error}");
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[tokio::test]
async fn a_missing_right_names_its_table_and_what_a_function_raises_is_not_told() {
    let server = PostgresServer::shared().unwrap();
    let role = unique_name("named");
    let dsn = server.create_database(&role).unwrap();
    let of = |dsn: &str| {
        let mut settings = PostgresSettings::new(Secret::new(dsn));
        settings.schema = "public".to_owned();
        Db::postgres(&settings).unwrap()
    };
    let tables = "CREATE TABLE numbers (n INT); CREATE TABLE others (n INT);
        CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'hunter2'; END $$;
        CREATE TRIGGER raise BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION raise();";
    let script = format!("{tables} CREATE ROLE {role} LOGIN; GRANT INSERT ON numbers TO {role}");
    of(&dsn).script(script).await.unwrap();
    let (before, after) = dsn.split_once("//").unwrap();
    let (_, host) = after.split_once('@').unwrap();
    let guest = of(&format!("{before}//{role}@{host}"));
    let others = Sql::both("SELECT n FROM others");
    for (error, said) in [
        (
            guest.query(others).await.unwrap_err(),
            "permission denied for table others",
        ),
        (
            guest
                .script("DROP TABLE others".to_owned())
                .await
                .unwrap_err(),
            "must be owner of table others",
        ),
        (
            guest.execute(INSERT).await.unwrap_err(),
            "a right is missing",
        ),
    ] {
        let shown = format!("{error} {error:?}");
        assert!(error.is_refusal() && shown.contains(said), "{shown}");
        assert!(
            shown.contains("42501") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_what_was_answered_is_there() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("full.db");
    let db = Db::sqlite(&SqliteSettings::new(&path)).unwrap();
    // The file may not grow past 200 pages: the same error as a full disk.
    db.script("CREATE TABLE blobs (b BLOB); PRAGMA max_page_count = 200".to_owned())
        .await
        .unwrap();
    let insert = Sql::both("INSERT INTO blobs (b) VALUES (randomblob(20000))");
    let mut kept = 0_i64;
    let error = loop {
        match db.execute(insert).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "the disk never fills up");
    };
    assert!(error.is_outage(), "{error}");
    assert_eq!(db.ping().await.unwrap_err().code(), "db.full");
    let rows = db
        .query(Sql::both("SELECT count(*) FROM blobs"))
        .await
        .unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), kept);
    db.script("PRAGMA max_page_count = 100000".to_owned())
        .await
        .unwrap();
    db.execute(insert).await.unwrap();
    db.ping().await.unwrap();
}

/// The server answers a setting that it does not understand with the code of a wrong value.
#[tokio::test]
async fn what_is_said_to_whoever_connects_blames_no_data() {
    let db = Db::postgres(&lone("?options=-c%20work_mem%3Dmuch")).unwrap();
    let error = db.execute(INSERT).await.unwrap_err();
    assert!(error.is_outage() && !error.is_data(), "{error}");
    assert!(error.to_string().contains("22023"), "{error}");
}

#[tokio::test]
async fn what_the_system_under_the_server_could_not_do_is_an_outage() {
    let db = Db::postgres(&lone("")).unwrap();
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '58030'; END $$";
    let error = db.execute(Sql::both(raise)).await.unwrap_err();
    assert!(error.is_outage(), "{error}");
}

/// It answered the same error for as long as it lived, to whoever asked.
#[tokio::test]
async fn a_connection_that_knows_a_table_as_it_was_is_not_used_again() {
    let db = Db::postgres(&lone("")).unwrap();
    db.script("CREATE TABLE numbers (n INT); INSERT INTO numbers VALUES (1)".to_owned())
        .await
        .unwrap();
    let all = Sql::both("SELECT n FROM numbers");
    db.query(all).await.unwrap();
    db.script("ALTER TABLE numbers ALTER COLUMN n TYPE bigint".to_owned())
        .await
        .unwrap();
    let error = db.query(all).await.unwrap_err();
    assert!(error.to_string().contains("0A000"), "{error}");
    let rows = db.query(all).await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), 1);
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_not_used_again() {
    let mut settings = lone("");
    // The server ends nothing, so five seconds are waited for it.
    settings.statement_timeout = Duration::ZERO;
    let db = Db::postgres(&settings).unwrap();
    let silent = db.query(Sql::both("SELECT 1 FROM pg_sleep(60)")).await;
    let error = silent.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    db.ping().await.unwrap();
}

#[tokio::test]
async fn a_script_that_was_cancelled_leaves_its_transaction_to_nobody() {
    let db = Db::postgres(&lone("")).unwrap();
    db.ping().await.unwrap();
    let fails = "BEGIN; SELECT pg_sleep(0.5); SELECT 1 / 0; COMMIT".to_owned();
    let cancelled = tokio::time::timeout(Duration::from_millis(100), db.script(fails)).await;
    assert!(cancelled.is_err());
    db.ping().await.unwrap();
}
