//! Takes over the predecessor's sagas: their heads, and what is known of their steps.
//!
//! They are history: their functions were code of another language, so none of them goes on here.
//! What had not ended is parked, for an operator to look at and to end (`abandon`). A saga's id is
//! made from its old one and its time, so that a second run makes the same; its old id is its key.
//! The old tables are only read. PostgreSQL only; a journal of the predecessor in Redis or SQLite
//! is not read.

mod postgres;

use ratebox_db::{Db, Dialect, Row};

use crate::{Error, Result};

/// The hash of definitions that only the predecessor had.
pub const PREDECESSOR: &str = "predecessor";

/// What the comparison found of one kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// Which rows.
    pub what: &'static str,
    /// In the predecessor's tables.
    pub there: u64,
    /// Of these, in ours.
    pub here: u64,
}

/// Copies the sagas of the predecessor's tables `sagas` and `saga_steps` in `schema` and compares;
/// nothing when there are no such tables. Running it again adds what came since, and nothing
/// twice: a saga that went on over there meanwhile stays here as it was.
///
/// # Errors
/// [`Error::Refused`] when the schema is that of our own tables or the database is not PostgreSQL,
/// or when the database is away; what was copied is copied whole or not at all.
pub async fn take_over_predecessor(db: &Db, schema: &str) -> Result<Vec<TakenOver>> {
    if db.dialect() != Dialect::Postgres {
        return Err(refused("the predecessor's tables are in PostgreSQL"));
    }
    let rows = db.query(postgres::LOOK.with(vec![schema.into()])).await?;
    let look = rows.first().ok_or(ratebox_db::Error::Shape)?;
    if look.get::<bool>(0)? {
        return Err(refused(
            "this is the schema of our own tables; the predecessor's are elsewhere",
        ));
    }
    if look.get::<u64>(1)? == 0 {
        return Ok(Vec::new());
    }
    db.script(postgres::views(schema)).await?;
    let copied = copy(db).await;
    // No view outlives the run, however it went.
    let dropped = db.script(postgres::DROP.to_owned()).await;
    let compared = copied?;
    dropped?;
    Ok(compared)
}

async fn copy(db: &Db) -> Result<Vec<TakenOver>> {
    let statements = vec![postgres::COPY_HEADS.into(), postgres::COPY_RECORDS.into()];
    db.run(statements).await?;
    let rows = db.query(postgres::COMPARE).await?;
    let row = rows.first().ok_or(ratebox_db::Error::Shape)?;
    let compared = |what, at: usize| -> Result<TakenOver> {
        Ok(TakenOver {
            what,
            there: number(row, at)?,
            here: number(row, at + 1)?,
        })
    };
    Ok(vec![compared("sagas", 0)?, compared("saga records", 2)?])
}

fn number(row: &Row, at: usize) -> Result<u64> {
    Ok(row.get(at)?)
}

fn refused(why: &str) -> Error {
    Error::Refused {
        why: why.to_owned(),
    }
}
