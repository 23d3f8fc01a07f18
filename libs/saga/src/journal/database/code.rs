//! Words and numbers of ours as the database keeps them, and rows as what they were.

use std::sync::Arc;

use bytes::Bytes;
use ratebox_db::{FromValue, Row};
use uuid::Uuid;

pub(super) use crate::journal::code::{json as json_text, read_wake, wake};
use crate::{
    Class, Count, Error, Head, Kind, Letter, Outline, Owner, Parent, Record, Result, SagaId, Status,
};

/// The owner of sagas that nobody took up. Epochs begin at 1.
pub(super) const NOBODY: i64 = 0;

/// 0 for none, else counted from 1.
pub(super) fn class(class: Option<Class>) -> i64 {
    match class {
        None => 0,
        Some(Class::Rejected) => 1,
        Some(Class::Retryable) => 2,
        Some(Class::Unknown) => 3,
    }
}

fn read_class(code: Option<i64>) -> Result<Option<Class>> {
    match code {
        None => Ok(None),
        Some(1) => Ok(Some(Class::Rejected)),
        Some(2) => Ok(Some(Class::Retryable)),
        Some(3) => Ok(Some(Class::Unknown)),
        Some(_) => Err(Error::Row {
            what: "an unknown class",
        }),
    }
}

fn status(word: &str) -> Result<Status> {
    Status::parse(word).ok_or(Error::Row {
        what: "an unknown status",
    })
}

/// The column of `sql::OUTLINE`.
pub(super) fn outline(row: &Row) -> Result<Outline> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text).map_err(Error::Json)
}

/// A saga's id, wherever it stands.
pub(super) fn id(row: &Row, index: usize) -> Result<SagaId> {
    Ok(SagaId(row.get::<Uuid>(index)?))
}

/// The columns of `sql::LOAD`.
pub(super) fn head(row: &Row) -> Result<Head> {
    let parent = match row.get::<Option<Uuid>>(5)? {
        None => None,
        Some(saga) => Some(Parent {
            saga: SagaId(saga),
            step: row.get::<Option<String>>(6)?.unwrap_or_default(),
        }),
    };
    let epoch: i64 = row.get(12)?;
    Ok(Head {
        id: id(row, 0)?,
        definition: text(row, 1)?,
        version: row.get(2)?,
        hash: text(row, 3)?,
        key: row.get(4)?,
        parent,
        input: json(row, 7)?.unwrap_or_default(),
        status: status(&row.get::<String>(8)?)?,
        wake: read_wake(row.get(9)?)?,
        error: row.get(10)?,
        output: json(row, 11)?,
        owner: (epoch != NOBODY).then_some(Owner { epoch }),
        created_at: row.get(13)?,
        updated_at: row.get(14)?,
        ended_at: row.get(15)?,
    })
}

/// The columns of `sql::RECORDS` after the saga's id.
pub(super) fn record(row: &Row) -> Result<Record> {
    let kind = i16::try_from(row.get::<i64>(4)?).ok();
    Ok(Record {
        seq: row.get(1)?,
        step: text(row, 2)?,
        item: row.get(3)?,
        kind: kind.and_then(Kind::from_code).ok_or(Error::Row {
            what: "an unknown kind",
        })?,
        class: read_class(row.get(5)?)?,
        attempt: row.get(6)?,
        at: row.get(7)?,
        took_us: row.get(8)?,
        due: row.get(9)?,
        payload: json(row, 10)?,
        note: row.get(11)?,
        who: row.get(12)?,
    })
}

/// The columns of `sql::LETTERS`.
pub(super) fn letter(row: &Row) -> Result<Letter> {
    Ok(Letter {
        id: row.get(0)?,
        saga: id(row, 1)?,
        at: row.get(2)?,
        verb: row.get(3)?,
        subject: row.get(4)?,
        payload: json(row, 5)?,
        who: row.get(6)?,
        why: row.get(7)?,
    })
}

/// The columns of `sql::COUNTS`.
pub(super) fn count(row: &Row) -> Result<Count> {
    Ok(Count {
        definition: row.get(0)?,
        status: status(&row.get::<String>(1)?)?,
        sagas: row.get(2)?,
    })
}

fn text(row: &Row, index: usize) -> Result<Arc<str>> {
    Ok(row.get::<String>(index)?.into())
}

fn json(row: &Row, index: usize) -> Result<Option<Bytes>> {
    let text = row.get::<Option<String>>(index)?;
    Ok(text.map(Bytes::from))
}

/// The first value of the first row, if there is a row.
pub(super) fn first<T: FromValue>(rows: &[Row]) -> Result<Option<T>> {
    Ok(rows.first().map(|row| row.get(0)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_back_as_what_they_were() {
        for it in Class::ALL.map(Some) {
            assert_eq!(read_class(Some(class(it))).unwrap(), it);
        }
    }
}
