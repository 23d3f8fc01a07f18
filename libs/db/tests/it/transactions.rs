//! All or nothing, on both databases.

use std::time::Duration;

use ratebox_db::{Column, Db, Error, PostgresSettings, Sql, SqliteSettings, Statement, Value};
use ratebox_kit::Secret;
use ratebox_testkit::{PostgresServer, TempDir, unique_name};

use crate::databases::{Fresh, both, sqlite};

const INSERT: Sql = Sql {
    postgres: "INSERT INTO numbers (n) VALUES ($1)",
    sqlite: "INSERT INTO numbers (n) VALUES (?1)",
};
const INSERT_FREE: Sql = Sql {
    postgres: "INSERT INTO numbers (n) SELECT * FROM unnest($1::bigint[]) \
        ON CONFLICT DO NOTHING RETURNING n",
    sqlite: "INSERT INTO numbers (n) VALUES (?1) ON CONFLICT DO NOTHING RETURNING n",
};
const ALL: Sql = Sql::both("SELECT n FROM numbers ORDER BY n");

async fn prepared(fresh: &Fresh) -> &Db {
    fresh
        .db
        .script("CREATE TABLE numbers (n BIGINT PRIMARY KEY)".to_owned())
        .await
        .unwrap();
    &fresh.db
}

fn insert(n: i64) -> Statement {
    INSERT.with(vec![n.into()])
}

async fn all(db: &Db) -> Vec<i64> {
    db.query(ALL)
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0).unwrap())
        .collect()
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_behind() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute(insert(1)).await.unwrap();
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        tx.execute(insert(2)).await.unwrap();
        tx.rollback().await.unwrap();
        db.execute(insert(3)).await.unwrap();
        assert_eq!(all(db).await, [3], "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_failed_statement_is_never_committed_around() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        db.execute(insert(1)).await.unwrap();
        let tx = db.begin().await.unwrap();
        let answer = tx.commit_after(vec![insert(2), insert(1), insert(3)]).await;
        assert!(
            matches!(answer, Err(Error::Exists { .. })),
            "{}: {answer:?}",
            fresh.name
        );

        let mut tx = db.begin().await.unwrap();
        tx.execute(insert(4)).await.unwrap();
        assert!(tx.execute(insert(1)).await.is_err());
        // The caller swallowed the error; the commit must not.
        assert!(
            tx.commit_after(vec![insert(5)]).await.is_err(),
            "{}",
            fresh.name
        );
        assert_eq!(all(db).await, [1], "{}", fresh.name);
    }
}

/// More statements than `COMMIT` travels with.
#[tokio::test]
async fn many_statements_are_kept_all_or_none() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        let with = |last: i64| -> Vec<Statement> { (0..60).chain([last]).map(insert).collect() };
        let twice = db.begin().await.unwrap().commit_after(with(7)).await;
        assert!(matches!(twice, Err(Error::Exists { .. })), "{}", fresh.name);
        assert!(all(db).await.is_empty(), "{}", fresh.name);
        db.run(with(60)).await.unwrap();
        assert_eq!(all(db).await.len(), 61, "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_commit_tells_whose_it_is() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        let mut tx = db.begin().await.unwrap();
        let first = tx.id();
        tx.execute(insert(1)).await.unwrap();
        let committed = tx.commit().await.unwrap();
        let other = db.begin().await.unwrap().id();
        assert!(!committed.is_of_another(first), "{}", fresh.name);
        assert!(committed.is_of_another(other), "{}", fresh.name);
        let (_, committed) = db.run(vec![insert(2)]).await.unwrap();
        assert!(committed.is_of_another(first), "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_transaction_sees_its_own_rows_and_answers_what_is_new() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        db.execute(insert(2)).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let statement = INSERT_FREE
            .rows(vec![Column::Int(vec![1, 2, 3])], vec![])
            .unwrap();
        let new: Vec<i64> = tx
            .query(statement)
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0).unwrap())
            .collect();
        assert_eq!(new, [1, 3], "{}", fresh.name);
        assert_eq!(tx.query(ALL).await.unwrap().len(), 3);
        let (counts, _) = tx.commit_after(vec![insert(4), insert(5)]).await.unwrap();
        assert_eq!(counts, [1, 1]);
        assert_eq!(all(db).await, [1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn many_writers_share_a_database_and_one_bad_one_fails_alone() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        let writers = (0..200_i64).map(|n| {
            let db = db.clone();
            // Every tenth collides with its neighbour.
            async move {
                db.execute(insert(if n % 10 == 9 { n - 1 } else { n }))
                    .await
            }
        });
        let answers = futures_util::future::join_all(writers).await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(failed, 20, "{}", fresh.name);
        assert_eq!(all(db).await.len(), 180, "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_cancelled_transaction_does_not_poison_what_comes_after() {
    for fresh in both() {
        let db = prepared(&fresh).await;
        for n in 0..100_i64 {
            let work = async {
                let mut tx = db.begin().await.unwrap();
                tx.execute(insert(n)).await.unwrap();
                tx.execute(insert(n + 1000)).await.unwrap();
                std::future::pending::<()>().await;
            };
            let patience = Duration::from_micros(u64::try_from(n).unwrap() * 20);
            let _ = tokio::time::timeout(patience, work).await;
        }
        db.execute(insert(-1)).await.unwrap();
        assert_eq!(all(db).await, [-1], "{}", fresh.name);
    }
}

#[tokio::test]
async fn sqlite_readers_go_on_while_a_transaction_is_open() {
    let fresh = sqlite();
    let db = prepared(&fresh).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute(insert(1)).await.unwrap();
    assert_eq!(all(db).await, Vec::<i64>::new());
    tx.commit().await.unwrap();
    assert_eq!(all(db).await, [1]);
}

/// Each of them waited in turn, for as long as a lock is waited for.
#[tokio::test]
async fn who_waits_for_a_sqlite_file_that_another_has_is_refused_with_the_first() {
    let folder = TempDir::new().unwrap();
    let mut settings = SqliteSettings::new(folder.join("a.db"));
    let other = Db::sqlite(&settings).unwrap();
    settings.busy_timeout = Duration::from_secs(1);
    let db = Db::sqlite(&settings).unwrap();
    db.script("CREATE TABLE numbers (n BIGINT PRIMARY KEY)".to_owned())
        .await
        .unwrap();
    // It has the file for five seconds, as it says nothing more.
    let mut tx = other.begin().await.unwrap();
    tx.execute(insert(1)).await.unwrap();
    let answers = futures_util::future::join_all((2..22).map(|n| db.execute(insert(n)))).await;
    for answer in answers {
        assert!(
            matches!(answer, Err(Error::Contention { .. })),
            "{answer:?}"
        );
    }
    tx.commit().await.unwrap();
    db.execute(insert(2)).await.unwrap();
    assert_eq!(all(&db).await, [1, 2]);
}

#[tokio::test]
async fn a_database_in_memory_is_read_while_it_is_written() {
    let db = Db::sqlite(&SqliteSettings::memory()).unwrap();
    db.script("CREATE TABLE numbers (n BIGINT PRIMARY KEY)".to_owned())
        .await
        .unwrap();
    let work = (0..200_i64).map(|n| {
        let db = &db;
        async move {
            db.execute(insert(n)).await.unwrap();
            db.query(ALL).await.unwrap();
        }
    });
    futures_util::future::join_all(work).await;
    assert_eq!(all(&db).await.len(), 200);
}

#[tokio::test]
async fn a_value_that_does_not_fit_blames_the_data() {
    let fresh = crate::databases::postgres();
    let db = prepared(&fresh).await;
    let sql = Sql::both("SELECT $1::text::jsonb");
    let error = db
        .query(sql.with(vec![Value::Text("{\"a\": \"\\u0000\"}".into())]))
        .await;
    assert!(error.unwrap_err().is_data());
    // Beyond a limit of the server: JSON's depth, and the size of an entry of an index.
    let deep = Value::Text("[".repeat(1_000_000));
    let error = db.query(sql.with(vec![deep])).await.unwrap_err();
    assert!(error.is_data(), "{error}");
    db.script("CREATE TABLE words (word text PRIMARY KEY)".to_owned())
        .await
        .unwrap();
    let long = Sql::both(
        "INSERT INTO words SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i",
    );
    let error = db.execute(long).await.unwrap_err();
    assert!(error.is_data(), "{error}");
}

#[tokio::test]
async fn connections_are_made_ahead_and_no_more_than_the_pool_may_have() {
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("warm")).unwrap();
    let settings = PostgresSettings {
        pool_max: 4,
        ..PostgresSettings::new(Secret::new(dsn))
    };
    let db = Db::postgres(&settings).unwrap();
    let open = async || {
        let open =
            Sql::both("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()");
        db.query(open).await.unwrap()[0].get::<i64>(0).unwrap()
    };
    assert_eq!(open().await, 1);
    db.warm_up(3).await.unwrap();
    assert_eq!(open().await, 3);
    db.warm_up(9).await.unwrap();
    assert_eq!(open().await, 4);
}
