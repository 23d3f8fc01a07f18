//! Migrations run once, in order, by owner.

use ratebox_db::{Db, Error, Migration, PostgresSettings, applied, check_schema, migrate, unknown};
use ratebox_kit::Secret;
use ratebox_testkit::{PostgresServer, unique_name};

use crate::databases::both;

const STEP: fn(i64, &'static str) -> Migration = |version, script| Migration {
    version,
    name: "it's a step",
    postgres: script,
    sqlite: script,
};

#[tokio::test]
async fn each_step_runs_once_and_owners_do_not_meet() {
    for fresh in both() {
        let steps = [
            STEP(1, "CREATE TABLE a (x INT)"),
            STEP(2, "ALTER TABLE a ADD COLUMN y INT"),
        ];
        assert_eq!(
            migrate(&fresh.db, "one", &steps[..1]).await.unwrap(),
            [1],
            "{}",
            fresh.name
        );
        assert_eq!(
            migrate(&fresh.db, "one", &steps).await.unwrap(),
            [2],
            "{}",
            fresh.name
        );
        assert_eq!(
            migrate(&fresh.db, "one", &steps).await.unwrap(),
            Vec::<i64>::new()
        );
        let other = [STEP(1, "CREATE TABLE b (x INT)")];
        assert_eq!(migrate(&fresh.db, "two", &other).await.unwrap(), [1]);
        assert_eq!(applied(&fresh.db, "one").await.unwrap(), [1, 2]);
    }
}

#[tokio::test]
async fn a_failing_step_leaves_nothing_and_can_be_mended() {
    for fresh in both() {
        let bad = [STEP(1, "CREATE TABLE a (x INT); CREATE TABLE a (x INT)")];
        let error = migrate(&fresh.db, "one", &bad).await.unwrap_err();
        assert!(
            matches!(&error, Error::Migration { version: 1, .. }),
            "{}: {error}",
            fresh.name
        );
        let good = [STEP(1, "CREATE TABLE a (x INT)")];
        assert_eq!(
            migrate(&fresh.db, "one", &good).await.unwrap(),
            [1],
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn processes_that_start_together_migrate_once() {
    for fresh in both() {
        let steps: Vec<Migration> = vec![
            STEP(1, "CREATE TABLE a (x INT)"),
            STEP(2, "CREATE TABLE b (x INT)"),
        ];
        let one = |db: Db| {
            let steps = steps.clone();
            async move { migrate(&db, "one", &steps).await }
        };
        let runs = (0..8).map(|_| one(fresh.db.clone()));
        for run in futures_util::future::join_all(runs).await {
            run.unwrap();
        }
        assert_eq!(
            applied(&fresh.db, "one").await.unwrap(),
            [1, 2],
            "{}",
            fresh.name
        );
    }
}

/// A rollback runs on tables of the newer program, and whoever looks must be able to say so.
#[tokio::test]
async fn what_a_newer_program_applied_is_named() {
    for fresh in both() {
        let steps = [
            STEP(1, "CREATE TABLE a (x INT)"),
            STEP(2, "CREATE TABLE b (x INT)"),
        ];
        migrate(&fresh.db, "one", &steps).await.unwrap();
        let same = unknown(&fresh.db, "one", &steps).await.unwrap();
        assert!(same.is_empty(), "{}: {same:?}", fresh.name);
        let older = unknown(&fresh.db, "one", &steps[..1]).await.unwrap();
        let names: Vec<String> = older.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["one/2 (it's a step)"], "{}", fresh.name);
        let nothing = migrate(&fresh.db, "one", &steps[..1]).await.unwrap();
        assert_eq!(nothing, Vec::<i64>::new(), "the older one goes on");
    }
}

/// Without that right PostgreSQL speaks of tables that do not exist, and of no schema at all.
#[tokio::test]
async fn a_user_who_may_not_use_the_schema_is_told_what_to_grant() {
    let server = PostgresServer::shared().unwrap();
    let role = unique_name("outside");
    let dsn = server.create_database(&role).unwrap();
    let of = |dsn: &str| {
        let mut settings = PostgresSettings::new(Secret::new(dsn));
        settings.schema = "ours".to_owned();
        Db::postgres(&settings).unwrap()
    };
    let steps = [STEP(1, "CREATE TABLE a (x INT)")];
    let owner = of(&dsn);
    check_schema(&owner).await.unwrap();
    migrate(&owner, "one", &steps).await.unwrap();
    check_schema(&owner).await.unwrap();
    let guest = format!("CREATE ROLE {role} LOGIN");
    owner.script(guest).await.unwrap();
    let (before, after) = dsn.split_once("//").unwrap();
    let (_, host) = after.split_once('@').unwrap();
    let there = of(&format!("{before}//{role}@{host}"));
    for error in [
        migrate(&there, "one", &steps).await.unwrap_err(),
        applied(&there, "one").await.unwrap_err(),
        unknown(&there, "one", &steps).await.unwrap_err(),
        check_schema(&there).await.unwrap_err(),
    ] {
        let grant = format!("GRANT USAGE ON SCHEMA ours TO {role}");
        assert!(error.is_refusal(), "{error}");
        assert!(error.to_string().contains(&grant), "{error}");
    }
}

/// Who may use the tables need not be who may make them.
#[tokio::test]
async fn a_user_who_may_create_nothing_finds_everything_applied() {
    let server = PostgresServer::shared().unwrap();
    let role = unique_name("dml");
    let dsn = server.create_database(&role).unwrap();
    let of = |dsn: &str, schema: &str| {
        let mut settings = PostgresSettings::new(Secret::new(dsn));
        settings.schema = schema.to_owned();
        Db::postgres(&settings)
    };
    let owner = of(&dsn, "ours").unwrap();
    let steps = [STEP(1, "CREATE TABLE a (x INT)")];
    assert_eq!(migrate(&owner, "one", &steps).await.unwrap(), [1]);
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA ours TO {role};
         GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA ours TO {role};
         CREATE SCHEMA theirs AUTHORIZATION {role}"
    );
    owner.script(grants).await.unwrap();
    let (before, after) = dsn.split_once("//").unwrap();
    let (_, host) = after.split_once('@').unwrap();
    let guest = format!("{before}//{role}@{host}");
    let there = of(&guest, "ours").unwrap();
    assert_eq!(
        migrate(&there, "one", &steps).await.unwrap(),
        Vec::<i64>::new()
    );
    let refused = migrate(&of(&guest, "new").unwrap(), "one", &steps).await;
    assert!(refused.unwrap_err().is_refusal());
    // A schema of one's own, in a database where one may make none.
    assert_eq!(
        migrate(&of(&guest, "theirs").unwrap(), "one", &steps)
            .await
            .unwrap(),
        [1]
    );
    let capitals = of(&dsn, "Ours").unwrap_err();
    assert!(capitals.to_string().contains("no capitals"), "{capitals}");
}

/// Checks of settings connect nowhere.
#[test]
fn a_dsn_that_names_no_host_is_refused_before_anybody_is_asked() {
    let refused = |dsn: &str| Db::postgres(&PostgresSettings::new(Secret::new(dsn)));
    let error = refused("postgresql:///db").unwrap_err();
    assert!(error.to_string().contains("names no host"), "{error}");
    for dsn in [
        "host=/var/run/postgresql dbname=db user=me",
        "hostaddr=127.0.0.1 dbname=db user=me",
    ] {
        refused(dsn).unwrap();
    }
}

/// Nobody is to believe that a link is encrypted.
#[test]
fn a_dsn_that_asks_for_tls_is_refused_and_says_why() {
    for parameter in [
        "sslmode=require",
        "sslmode=verify-full",
        "sslrootcert=/ca.pem",
    ] {
        let dsn = format!("postgresql://me@127.0.0.1/db?{parameter}");
        let error = Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap_err();
        assert!(error.to_string().contains("asks for TLS"), "{error}");
    }
}
