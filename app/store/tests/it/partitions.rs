//! Monthly partitions on PostgreSQL.

use ratebox_db::Sql;
use ratebox_kit::Timestamp;

use crate::databases::{fresh, postgres};

const NAMES: Sql = Sql::both(
    "SELECT relname::text FROM pg_class WHERE relname LIKE 'raw\\_items\\_2%' AND relkind = 'r'
     ORDER BY relname",
);

#[tokio::test]
async fn the_current_month_and_three_more_exist_over_a_year_s_end() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let december: Timestamp = "2031-12-31T23:59:59Z".parse().unwrap();
    fresh.store.ensure_partitions(december, 3).await.unwrap();
    fresh.store.ensure_partitions(december, 3).await.unwrap();
    let rows = fresh.store.db().query(NAMES).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    for month in ["2031_12", "2032_01", "2032_02", "2032_03"] {
        assert!(names.contains(&format!("raw_items_{month}")), "{names:?}");
    }
}

#[tokio::test]
async fn a_missing_partition_and_a_used_default_are_complained_of() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let now = fresh.clock.now();
    assert!(
        fresh
            .store
            .partition_complaints(now)
            .await
            .unwrap()
            .is_empty()
    );
    let far: Timestamp = "2040-06-01T00:00:00Z".parse().unwrap();
    let complaints = fresh.store.partition_complaints(far).await.unwrap();
    assert!(
        complaints.iter().any(|it| it.contains("raw_items_2040_06")),
        "{complaints:?}"
    );
    let insert = "INSERT INTO validation_responses VALUES
        ('ffffffff-0000-7000-8000-000000000000', 'me', 'success', '{}', now())";
    fresh.store.db().script(insert.to_owned()).await.unwrap();
    let complaints = fresh.store.partition_complaints(now).await.unwrap();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("validation_responses_default"));
}

/// The next time that somebody's clock is wrong, or a producer chooses the ids of its entries.
#[tokio::test]
async fn a_month_whose_rows_are_in_the_default_one_keeps_no_other_from_being_made() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let now: Timestamp = "2031-12-15T00:00:00Z".parse().unwrap();
    let taken: Timestamp = "2032-02-10T00:00:00Z".parse().unwrap();
    let insert = format!(
        "INSERT INTO validation_responses VALUES ('{}', 'me', 'success', '{{}}', now())",
        ratebox_kit::id::lowest_at(taken)
    );
    fresh.store.db().script(insert).await.unwrap();
    for _ in 0..2 {
        let refused = fresh.store.ensure_partitions(now, 4).await.unwrap_err();
        let why = std::error::Error::source(&refused).unwrap().to_string();
        assert!(
            why.starts_with("validation_responses_2032_02 could not be made: "),
            "{why}"
        );
        assert!(why.contains("default partition"), "{why}");
    }
    let made = Sql::both(
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND (relname LIKE '%\\_2031\\_12'
            OR relname SIMILAR TO '%\\_2032\\_0[1-4]')",
    );
    let rows = fresh.store.db().query(made).await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), 3 * 5 - 1);
    let gone = "DELETE FROM validation_responses_default".to_owned();
    fresh.store.db().script(gone).await.unwrap();
    fresh.store.ensure_partitions(now, 4).await.unwrap();
}

/// PostgreSQL looks at the right to make a table before it looks whether the table is there.
#[tokio::test]
async fn partitions_that_are_there_need_no_right_to_make_them() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let now = fresh.clock.now();
    fresh.store.ensure_partitions(now, 1).await.unwrap();
    let forbid = "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql
            AS 'BEGIN RAISE insufficient_privilege; END';
        CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('CREATE TABLE')
            EXECUTE FUNCTION forbid()";
    fresh.store.db().script(forbid.to_owned()).await.unwrap();
    fresh.store.ensure_partitions(now, 1).await.unwrap();
    let far: Timestamp = "2040-06-01T00:00:00Z".parse().unwrap();
    assert!(fresh.store.ensure_partitions(far, 0).await.is_err());
}

#[tokio::test]
async fn a_look_up_by_id_reads_one_partition() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let explain = Sql::both(
        "EXPLAIN (COSTS OFF) SELECT * FROM raw_items
         WHERE id = '01934f2e-0000-7000-8000-000000000000'",
    );
    let rows = fresh.store.db().query(explain).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    let scans = plan
        .iter()
        .filter(|line| line.contains("Scan using"))
        .count();
    assert_eq!(scans, 1, "{plan:?}");
}

#[tokio::test]
async fn long_responses_are_compressed_by_lz4_in_partitions_of_any_age() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let later: Timestamp = "2031-12-31T23:59:59Z".parse().unwrap();
    fresh.store.ensure_partitions(later, 0).await.unwrap();
    let now = fresh.clock.now();
    for at in [now, later] {
        let id = ratebox_kit::id::lowest_at(at);
        let insert = format!(
            "INSERT INTO validation_responses VALUES
                ('{id}', 'me', 'success', repeat('{{\"verdict\":\"DONE\"}}', 500), now())"
        );
        fresh.store.db().script(insert).await.unwrap();
    }
    let how = Sql::both("SELECT pg_column_compression(response) FROM validation_responses");
    let rows = fresh.store.db().query(how).await.unwrap();
    let all: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(all, ["lz4", "lz4"]);
}
