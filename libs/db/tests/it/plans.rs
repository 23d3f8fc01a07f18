//! How PostgreSQL goes about a statement.

use ratebox_db::{Column, Conflict, Db, Dialect, Insert, Sql, Statement};
use ratebox_kit::id;
use uuid::Uuid;

use crate::databases::both;

static ADD: Insert = Insert::new("planned", &[("id", "uuid")], Conflict::Fail);
const DELETE: Sql = Sql {
    postgres: "DELETE FROM planned USING unnest($1::uuid[]) AS it (id) WHERE planned.id = it.id",
    sqlite: "DELETE FROM planned WHERE id = ?1",
};
const FIND: Sql = Sql {
    postgres: "SELECT planned.id FROM planned, unnest($1::uuid[]) AS it (id) WHERE planned.id = it.id",
    sqlite: "SELECT id FROM planned WHERE id = ?1",
};
/// Rows that this transaction read by reading the whole table.
const READ: Sql =
    Sql::both("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'planned'");

fn delete(ids: &[Uuid]) -> Statement {
    DELETE
        .rows(vec![Column::Uuid(ids.to_vec())], Vec::new())
        .unwrap()
}

/// Rows that no plan knows of yet; their ids.
async fn fill(db: &Db) -> Vec<Uuid> {
    let ids: Vec<Uuid> = (0..20_000).map(|_| id::new()).collect();
    let mut rows = ADD.rows();
    ids.iter().for_each(|id| {
        rows.push(*id);
    });
    db.execute(rows.into_statement().unwrap()).await.unwrap();
    ids
}

#[tokio::test]
async fn a_plan_made_while_a_table_was_empty_is_not_kept_where_that_would_hurt() {
    for fresh in both() {
        let db = &fresh.db;
        let table = "CREATE TABLE planned (id uuid PRIMARY KEY)";
        db.script(table.to_owned()).await.unwrap();
        let empty = |it: fn(Statement) -> Statement| db.run(vec![it(delete(&[id::new()]))]);
        empty(|it| it).await.unwrap();
        empty(Statement::planned_anew).await.unwrap();
        let ids = fill(db).await;
        let mut tx = db.begin().await.unwrap();
        let statements = vec![delete(&ids[..5]).planned_anew()];
        assert_eq!(tx.execute_all(statements).await.unwrap(), [5]);
        if db.dialect() == Dialect::Postgres {
            let read = tx.query(READ).await.unwrap()[0].get::<i64>(0).unwrap();
            assert_eq!(read, 0, "the index leads to five rows of 20,000");
        }
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_question_is_planned_anew_within_a_transaction_too() {
    for fresh in both() {
        let db = &fresh.db;
        let table = "CREATE TABLE planned (id uuid PRIMARY KEY)";
        db.script(table.to_owned()).await.unwrap();
        let find = |id: Uuid| {
            let columns = vec![Column::Uuid(vec![id])];
            FIND.rows(columns, Vec::new()).unwrap()
        };
        // A plan for the empty table, which the connection keeps.
        assert!(db.query(find(id::new())).await.unwrap().is_empty());
        let ids = fill(db).await;
        let mut tx = db.begin().await.unwrap();
        let found = tx.query(find(ids[0]).planned_anew()).await.unwrap();
        assert_eq!(found.len(), 1);
        if db.dialect() == Dialect::Postgres {
            let read = tx.query(READ).await.unwrap()[0].get::<i64>(0).unwrap();
            assert_eq!(read, 0, "the index leads to one row of 20,000");
        }
        tx.rollback().await.unwrap();
        let outside = db.query(find(ids[1]).planned_anew()).await.unwrap();
        assert_eq!(outside.len(), 1);
    }
}
