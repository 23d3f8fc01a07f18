//! What goes in comes out.

use ratebox_db::{Column, Sql, Value};
use ratebox_kit::{Timestamp, id};

use crate::databases::{both, postgres};

const CREATE: &str = "CREATE TABLE things (id UUID PRIMARY KEY, n BIGINT, small SMALLINT, \
    score DOUBLE PRECISION, yes BOOLEAN, words TEXT, doc JSONB, at TIMESTAMPTZ, raw BYTEA)";
const CREATE_SQLITE: &str = "CREATE TABLE things (id BLOB PRIMARY KEY, n INTEGER, small INTEGER, \
    score REAL, yes INTEGER, words TEXT, doc TEXT, at INTEGER, raw BLOB)";
const INSERT: Sql = Sql {
    postgres: "INSERT INTO things VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    sqlite: "INSERT INTO things VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
};
const INSERT_MANY: Sql = Sql {
    postgres: "INSERT INTO things SELECT *, $9 FROM unnest($1::uuid[], $2::bigint[], \
        $3::smallint[], $4::float8[], $5::bool[], $6::text[], $7::jsonb[], $8::timestamptz[])",
    sqlite: "INSERT INTO things VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
};
const SELECT: Sql =
    Sql::both("SELECT id, n, small, score, yes, words, doc, at, raw FROM things ORDER BY n");

/// What PostgreSQL has and we have not; the bytes of the first look like a text.
const UNREAD: Sql = Sql::both(
    "SELECT DATE '2000-03-09', TIMESTAMP '2000-01-01', INTERVAL '1 day', CAST(1.5 AS numeric),
        CAST(1 AS money), CAST(42 AS oid), CAST('10.0.0.1' AS inet), ARRAY[1, 2],
        TIMESTAMPTZ 'infinity', TIMESTAMPTZ '-infinity'",
);
const NOTHING: Sql = Sql::both("SELECT CAST(NULL AS date), CAST(NULL AS int[])");
const TEXTS: Sql = Sql::both(
    "SELECT 'calm', CAST('calm' AS text), CAST('calm' AS varchar), CAST('calm' AS char(4)),
        CAST('calm' AS name), CAST('calm' AS mood), CAST('calm' AS word)",
);

fn create(sqlite: bool) -> String {
    if sqlite { CREATE_SQLITE } else { CREATE }.to_owned()
}

#[tokio::test]
async fn every_type_comes_back_as_it_went_in() {
    for fresh in both() {
        let db = &fresh.db;
        db.script(create(fresh.name == "SQLite")).await.unwrap();
        let (id, at) = (
            id::new(),
            Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
        );
        let values = vec![
            id.into(),
            i64::MIN.into(),
            Value::Int(-3),
            0.25.into(),
            true.into(),
            "Nguyễn \u{1F600}".into(),
            Value::Json("{\"a\": [1]}".to_owned()),
            at.into(),
            vec![0_u8, 255].into(),
        ];
        assert_eq!(
            db.execute(INSERT.with(values)).await.unwrap(),
            1,
            "{}",
            fresh.name
        );
        let rows = db.query(SELECT).await.unwrap();
        assert_eq!(rows[0].get::<uuid::Uuid>(0).unwrap(), id);
        assert_eq!(rows[0].get::<i64>(1).unwrap(), i64::MIN);
        assert_eq!(rows[0].get::<i64>(2).unwrap(), -3);
        assert!((rows[0].get::<f64>(3).unwrap() - 0.25).abs() < f64::EPSILON);
        assert!(rows[0].get::<bool>(4).unwrap());
        assert_eq!(rows[0].get::<String>(5).unwrap(), "Nguyễn \u{1F600}");
        assert_eq!(rows[0].get::<String>(6).unwrap(), "{\"a\": [1]}");
        assert_eq!(rows[0].get::<Timestamp>(7).unwrap(), at);
        assert_eq!(&rows[0].get::<bytes::Bytes>(8).unwrap()[..], [0, 255]);
    }
}

#[tokio::test]
async fn many_rows_travel_as_columns_with_nulls_kept() {
    for fresh in both() {
        let db = &fresh.db;
        db.script(create(fresh.name == "SQLite")).await.unwrap();
        let n = 1000;
        let columns = vec![
            Column::Uuid((0..n).map(|_| id::new()).collect()),
            Column::Int((0..n).collect()),
            Column::Int((0..n).map(|i| i % 7).collect()),
            Column::Float((0..n).map(|_| 0.5).collect()),
            Column::Bool((0..n).map(|i| i % 2 == 0).collect()),
            Column::MaybeText(
                (0..n)
                    .map(|i| (i % 3 == 0).then(|| i.to_string()))
                    .collect(),
            ),
            Column::Json(
                (0..n)
                    .map(|i| (i % 5 != 0).then(|| format!("[{i}]")))
                    .collect(),
            ),
            Column::MaybeTime(
                (0..n)
                    .map(|i| (i % 4 == 0).then_some(Timestamp::UNIX_EPOCH))
                    .collect(),
            ),
        ];
        let statement = INSERT_MANY.rows(columns, vec![vec![7_u8].into()]).unwrap();
        assert_eq!(db.execute(statement).await.unwrap(), 1000, "{}", fresh.name);
        let rows = db.query(SELECT).await.unwrap();
        assert_eq!(
            rows[999].get::<Option<String>>(5).unwrap().as_deref(),
            Some("999")
        );
        assert_eq!(rows[998].get::<Option<String>>(5).unwrap(), None);
        assert_eq!(rows[995].get::<Option<String>>(6).unwrap(), None);
        assert_eq!(
            rows[996].get::<Option<Timestamp>>(7).unwrap(),
            Some(Timestamp::UNIX_EPOCH)
        );
        assert_eq!(&rows[500].get::<bytes::Bytes>(8).unwrap()[..], [7]);
    }
}

#[tokio::test]
async fn no_rows_are_no_error_and_uneven_columns_are_one() {
    for fresh in both() {
        fresh
            .db
            .script(create(fresh.name == "SQLite"))
            .await
            .unwrap();
        let empty = || {
            vec![
                Column::Uuid(vec![]),
                Column::Int(vec![]),
                Column::Int(vec![]),
                Column::Float(vec![]),
                Column::Bool(vec![]),
                Column::MaybeText(vec![]),
                Column::Json(vec![]),
                Column::MaybeTime(vec![]),
            ]
        };
        let none = INSERT_MANY.rows(empty(), vec![Value::Null]).unwrap();
        assert_eq!(fresh.db.execute(none).await.unwrap(), 0, "{}", fresh.name);
        let uneven = vec![Column::Int(vec![1]), Column::Int(vec![])];
        assert!(INSERT_MANY.rows(uneven, vec![]).is_err());
    }
}

#[tokio::test]
async fn what_is_none_of_our_types_is_an_error_and_no_text() {
    let fresh = postgres();
    let types = "CREATE TYPE mood AS ENUM ('calm'); CREATE DOMAIN word AS text;";
    fresh.db.script(types.to_owned()).await.unwrap();
    let rows = fresh.db.query(UNREAD).await.unwrap();
    for index in 0..10 {
        let text = rows[0].get::<Option<String>>(index).unwrap_err();
        let time = rows[0].get::<Option<Timestamp>>(index).unwrap_err();
        let codes = [text.code(), time.code()];
        assert_eq!(codes, ["db.column"; 2], "{index}");
    }
    let rows = fresh.db.query(NOTHING).await.unwrap();
    for index in 0..2 {
        assert_eq!(rows[0].get::<Option<String>>(index).unwrap(), None);
    }
    let rows = fresh.db.query(TEXTS).await.unwrap();
    for index in 0..7 {
        assert_eq!(rows[0].get::<String>(index).unwrap(), "calm", "{index}");
    }
}

#[tokio::test]
async fn an_error_names_no_value() {
    for fresh in both() {
        let db = &fresh.db;
        db.script(create(fresh.name == "SQLite")).await.unwrap();
        let values = |secret: &str| {
            let mut values = vec![Value::Uuid(uuid::Uuid::nil())];
            values.extend((0..4).map(|_| Value::Null));
            values.push(secret.into());
            values.extend((0..3).map(|_| Value::Null));
            INSERT.with(values)
        };
        db.execute(values("0912345678")).await.unwrap();
        let error = db.execute(values("0912345678")).await.unwrap_err();
        assert!(
            error.is_data() && !error.is_retryable(),
            "{}: {error}",
            fresh.name
        );
        assert!(!format!("{error:?}{error}").contains("0912345678"));
    }
}
