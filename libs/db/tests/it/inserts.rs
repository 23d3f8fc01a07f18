//! New rows in every form: one, a few, many.

use std::time::Duration;

use ratebox_db::{Conflict, Db, Error, Insert, Rows, Sql, Statement};
use ratebox_kit::{Timestamp, id};
use ratebox_testkit::wait_until;
use uuid::Uuid;

use crate::databases::{both, postgres};

const SOON: Duration = Duration::from_secs(10);

const COLUMNS: &[(&str, &str)] = &[
    ("id", "uuid"),
    ("small", "smallint"),
    ("whole", "int"),
    ("big", "bigint"),
    ("part", "real"),
    ("word", "text"),
    ("doc", "jsonb"),
    ("at", "timestamptz"),
    ("raw", "bytea"),
    ("yes", "boolean"),
];
static PLAIN: Insert = Insert::new("rows_in", COLUMNS, Conflict::Fail);
static SKIP: Insert = Insert::new("rows_in", COLUMNS, Conflict::Skip);
static UPDATE: Insert = Insert::new(
    "rows_in",
    COLUMNS,
    Conflict::Update("(id) DO UPDATE SET word = excluded.word"),
);
const SELECT: Sql = Sql::both(
    "SELECT small, whole, big, part, word, doc, at, raw, yes FROM rows_in ORDER BY whole",
);

async fn create(db: &Db, is_sqlite: bool) {
    let script = "CREATE TABLE rows_in (id uuid PRIMARY KEY, small smallint, whole int, big bigint,
        part real, word text, doc jsonb, at timestamptz, raw bytea, yes boolean)";
    let script = if is_sqlite {
        script
            .replace("jsonb", "TEXT")
            .replace("timestamptz", "INTEGER")
    } else {
        script.to_owned()
    };
    db.script(script).await.unwrap();
}

fn push(rows: &mut Rows, id: Uuid, number: usize, word: Option<&str>) {
    rows.push(id).push(number % 100).push(number).push(-1_i64);
    rows.push(0.25).push(word);
    rows.push_json(Some(&format!("[{number}]")));
    rows.push(Timestamp::UNIX_EPOCH)
        .push(&[0_u8, 255][..])
        .push(number.is_multiple_of(2));
}

fn many(count: usize) -> (Vec<Uuid>, Rows) {
    many_for(&PLAIN, count)
}

fn many_for(insert: &'static Insert, count: usize) -> (Vec<Uuid>, Rows) {
    let ids: Vec<Uuid> = (0..count).map(|_| id::new()).collect();
    (ids.clone(), rows_of(insert, &ids))
}

fn rows_of(insert: &'static Insert, ids: &[Uuid]) -> Rows {
    let mut rows = insert.rows();
    for (number, id) in ids.iter().enumerate() {
        push(
            &mut rows,
            *id,
            number,
            (number % 3 == 0).then_some("Nguyễn"),
        );
    }
    rows
}

#[tokio::test]
async fn every_form_keeps_every_type_and_null() {
    for fresh in both() {
        for count in [1, 3, 500] {
            let db = &fresh.db;
            db.script("DROP TABLE IF EXISTS rows_in".to_owned())
                .await
                .unwrap();
            create(db, fresh.name == "SQLite").await;
            let statement = many(count).1.into_statement().unwrap();
            let changed = db.execute(statement).await.unwrap();
            assert_eq!(changed, count as u64, "{} {count}", fresh.name);
            let rows = db.query(SELECT).await.unwrap();
            assert_eq!(rows.len(), count);
            let last = &rows[count - 1];
            assert_eq!(last.get::<i64>(0).unwrap(), (count as i64 - 1) % 100);
            assert_eq!(last.get::<i64>(1).unwrap(), count as i64 - 1);
            assert_eq!(last.get::<i64>(2).unwrap(), -1);
            assert!((last.get::<f64>(3).unwrap() - 0.25).abs() < f64::EPSILON);
            let word = ((count - 1) % 3 == 0).then(|| "Nguyễn".to_owned());
            assert_eq!(last.get::<Option<String>>(4).unwrap(), word);
            assert_eq!(last.get::<String>(5).unwrap(), format!("[{}]", count - 1));
            assert_eq!(last.get::<Timestamp>(6).unwrap(), Timestamp::UNIX_EPOCH);
            assert_eq!(&last.get::<bytes::Bytes>(7).unwrap()[..], [0, 255]);
            assert_eq!(last.get::<bool>(8).unwrap(), (count - 1) % 2 == 0);
        }
    }
}

#[tokio::test]
async fn a_row_that_exists_fails_is_skipped_or_is_changed() {
    for fresh in both() {
        for count in [1, 3, 500] {
            let db = &fresh.db;
            db.script("DROP TABLE IF EXISTS rows_in".to_owned())
                .await
                .unwrap();
            create(db, fresh.name == "SQLite").await;
            let (ids, rows) = many(count);
            let mut one = PLAIN.rows();
            push(&mut one, ids[count - 1], 7, Some("first"));
            db.execute(one.into_statement().unwrap()).await.unwrap();

            let failed = db.execute(rows.into_statement().unwrap()).await;
            let Err(error) = failed else {
                panic!("{}: a row that exists was taken", fresh.name)
            };
            assert!(error.is_duplicate() && error.is_data(), "{error}");
            assert_eq!(db.query(SELECT).await.unwrap().len(), 1);

            let skipped = rows_of(&SKIP, &ids).into_statement().unwrap();
            let skipped = db.execute(skipped).await.unwrap();
            assert_eq!(skipped, count as u64 - 1);
            let update = rows_of(&UPDATE, &ids).into_statement().unwrap();
            db.execute(update).await.unwrap();
            let words = db.query(Sql::both(
                "SELECT count(*) FROM rows_in WHERE word = 'first'",
            ));
            assert_eq!(words.await.unwrap()[0].get::<i64>(0).unwrap(), 0);
        }
    }
}

static OTHER: Insert = Insert::new(
    "others_in",
    &[("id", "uuid"), ("seen", "int")],
    Conflict::Update("(id) DO UPDATE SET seen = others_in.seen + excluded.seen"),
);
static THIRD: Insert = Insert::new("thirds_in", &[("id", "uuid")], Conflict::Skip);

fn others(ids: &[Uuid]) -> Rows {
    let mut rows = OTHER.rows();
    ids.iter().for_each(|id| {
        rows.push(*id).push(1_usize);
    });
    rows
}

#[tokio::test]
async fn small_inserts_into_several_tables_are_kept_together_or_not_at_all() {
    for fresh in both() {
        let db = &fresh.db;
        create(db, fresh.name == "SQLite").await;
        let more = "CREATE TABLE others_in (id uuid PRIMARY KEY, seen int);
            CREATE TABLE thirds_in (id uuid PRIMARY KEY)";
        db.script(more.to_owned()).await.unwrap();
        for count in [1, 2, 15] {
            let (ids, rows) = many(count);
            let mut thirds = THIRD.rows();
            thirds.push(ids[0]);
            let statements = |rows: &Rows| {
                vec![
                    others(&ids).into_statement().unwrap(),
                    THIRD.rows().into_statement().unwrap(),
                    rows.clone().into_statement().unwrap(),
                    thirds.clone().into_statement().unwrap(),
                ]
            };
            let (counts, _) = db.run(statements(&rows)).await.unwrap();
            let count = count as u64;
            assert_eq!(counts, [count, 0, count, 1], "{}", fresh.name);

            let error = db.run(statements(&rows)).await.unwrap_err();
            assert!(error.is_duplicate(), "{}: {error}", fresh.name);
            let (_, fresh_rows) = many(count as usize);
            let (counts, _) = db.run(statements(&fresh_rows)).await.unwrap();
            assert_eq!(counts, [count, 0, count, 0], "{}", fresh.name);
            // Counted by the first and the third run; the second left nothing.
            let seen = Sql::both("SELECT CAST(sum(seen) AS bigint) FROM others_in");
            let seen: i64 = db.query(seen).await.unwrap()[0].get(0).unwrap();
            assert_eq!(seen as u64, 2 * count, "{}", fresh.name);
            db.execute(Sql::both("DELETE FROM others_in"))
                .await
                .unwrap();
        }
    }
}

static FIRST: Insert = Insert::new("firsts_in", &[("id", "uuid")], Conflict::Fail);

#[tokio::test]
async fn who_adds_the_same_rows_as_another_waits_at_the_first_table_and_holds_nothing_else() {
    let fresh = postgres();
    let db = &fresh.db;
    create(db, false).await;
    let more = "CREATE TABLE firsts_in (id uuid PRIMARY KEY);
        CREATE TABLE others_in (id uuid PRIMARY KEY, seen int)";
    db.script(more.to_owned()).await.unwrap();
    let (ids, rows) = many(3);
    let mut firsts = FIRST.rows();
    ids.iter().for_each(|id| {
        firsts.push(*id);
    });
    let statements = || {
        [firsts.clone(), rows.clone(), others(&ids)]
            .map(|rows| rows.into_statement().unwrap())
            .into()
    };
    let mut tx = db.begin().await.unwrap();
    let [first, second, third] = <[Statement; 3]>::try_from(statements()).unwrap();
    tx.execute(first).await.unwrap();
    let another = async {
        wait_until(SOON, "the other waits", || async {
            let waiting = Sql::both(
                "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'",
            );
            db.query(waiting).await.unwrap()[0].get::<i64>(0).unwrap() == 1
        })
        .await;
        // Each would wait for the other for ever, and one of them fail.
        tx.execute(second).await.unwrap();
        tx.execute(third).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (together, ()) = tokio::join!(db.run(statements()), another);
    let error = together.unwrap_err();
    assert!(error.is_duplicate(), "{error}");
}

static ALIKE: Insert = Insert::new(
    "alike_in",
    &[
        ("id", "uuid"),
        ("no", "int"),
        ("who", "text"),
        ("none", "jsonb"),
        ("at", "timestamptz"),
    ],
    Conflict::Fail,
)
.alike(3);

#[tokio::test]
async fn what_all_rows_have_in_common_is_in_each_of_them() {
    for fresh in both() {
        let db = &fresh.db;
        let table = "(id uuid PRIMARY KEY, no int, who text, none text, at bigint)";
        let table = match fresh.name {
            "SQLite" => table.to_owned(),
            _ => table
                .replace("none text", "none jsonb")
                .replace("bigint", "timestamptz"),
        };
        db.script(format!("CREATE TABLE alike_in {table}"))
            .await
            .unwrap();
        let rows = |count: usize, who: &str| {
            let mut rows = ALIKE.rows();
            for no in 0..count {
                rows.push(id::new()).push(no);
            }
            rows.push_alike(who).push_alike(None::<&str>);
            rows.push_alike(Timestamp::UNIX_EPOCH);
            rows.into_statement().unwrap()
        };
        let mut all = 0;
        for count in [1, 2, 15, 60] {
            let alone = rows(count, "alone");
            assert_eq!(db.execute(alone).await.unwrap(), count as u64);
            let together = vec![rows(count, "together")];
            assert_eq!(db.run(together).await.unwrap().0, [count as u64]);
            all += count as i64;
        }
        let select = Sql::both(
            "SELECT who, count(*), CAST(sum(no) AS bigint), count(none), count(at)
            FROM alike_in GROUP BY who ORDER BY who",
        );
        let found = db.query(select).await.unwrap();
        for (row, who) in found.iter().zip(["alone", "together"]) {
            assert_eq!(row.get::<String>(0).unwrap(), who);
            assert_eq!(row.get::<i64>(1).unwrap(), all);
            assert_eq!(row.get::<i64>(2).unwrap(), 1 + 105 + 1_770);
            assert_eq!(row.get::<i64>(3).unwrap(), 0);
            assert_eq!(row.get::<i64>(4).unwrap(), all);
        }
        assert_eq!(found.len(), 2, "{}", fresh.name);
    }
}

#[tokio::test]
async fn two_small_inserts_into_one_table_run_in_order() {
    for fresh in both() {
        let db = &fresh.db;
        create(db, fresh.name == "SQLite").await;
        let (ids, rows) = many(1);
        let statements = vec![
            rows.into_statement().unwrap(),
            rows_of(&UPDATE, &ids).into_statement().unwrap(),
        ];
        let (counts, _) = db.run(statements).await.unwrap();
        assert_eq!(counts, [1, 1], "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_copy_that_fails_takes_its_whole_transaction_back() {
    for fresh in both() {
        let db = &fresh.db;
        create(db, fresh.name == "SQLite").await;
        let (ids, rows) = many(100);
        let mut twice = rows.clone();
        push(&mut twice, ids[0], 0, None);
        let statements = vec![
            many(50).1.into_statement().unwrap(),
            twice.into_statement().unwrap(),
            many(1).1.into_statement().unwrap(),
        ];
        let error = db.run(statements).await.unwrap_err();
        assert!(error.is_duplicate(), "{}: {error}", fresh.name);
        assert!(db.query(SELECT).await.unwrap().is_empty());
        db.execute(rows.into_statement().unwrap()).await.unwrap();
        assert_eq!(db.query(SELECT).await.unwrap().len(), 100);
    }
}

#[tokio::test]
async fn an_incomplete_row_is_refused_and_no_rows_are_no_error() {
    for fresh in both() {
        let db = &fresh.db;
        create(db, fresh.name == "SQLite").await;
        let mut rows = PLAIN.rows();
        rows.push(id::new()).push(1_i64);
        assert!(matches!(rows.into_statement(), Err(Error::Shape)));
        let none = PLAIN.rows().into_statement().unwrap();
        assert_eq!(db.execute(none).await.unwrap(), 0);
        for insert in [&PLAIN, &SKIP, &UPDATE] {
            db.prepare_insert(insert).await.unwrap();
        }
    }
}

static NARROWER: Insert = Insert::new("rows_in", &[("id", "uuid"), ("big", "int")], Conflict::Fail);

#[tokio::test]
async fn a_value_or_a_type_that_does_not_fit_its_column_is_refused_before_it_is_sent() {
    for fresh in both() {
        let db = &fresh.db;
        create(db, fresh.name == "SQLite").await;
        let mut rows = PLAIN.rows();
        push(&mut rows, id::new(), 40_000 * 100, None);
        assert!(rows.clone().into_statement().is_ok());
        rows.push(id::new()).push(40_000_i64);
        (0..8).for_each(|_| {
            rows.push(None::<&str>);
        });
        let error = rows.into_statement().unwrap_err();
        assert!(error.is_data(), "{}: {error}", fresh.name);
        let prepared = db.prepare_insert(&NARROWER).await;
        assert_eq!(prepared.is_ok(), fresh.name == "SQLite", "{}", fresh.name);
    }
}
