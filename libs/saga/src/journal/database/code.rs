//! Words and numbers of ours as the database keeps them, and rows as what they were.

use std::sync::Arc;

use bytes::Bytes;
use ratebox_db::{FromValue, Row};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::{
    Class, Count, Error, Head, Kind, Letter, Owner, Parent, Record, Result, SagaId, Status, Wake,
};

/// The owner of sagas that nobody took up. Epochs begin at 1.
pub(super) const NOBODY: i64 = 0;

/// 0 for live, the time, or the end of numbers for letters.
pub(super) fn wake(wake: Wake) -> i64 {
    match wake {
        Wake::Live => 0,
        // A time before 1970 is due at once, like any other in the past.
        Wake::At(time) => time.as_microsecond().clamp(1, i64::MAX - 1),
        Wake::Letter => i64::MAX,
    }
}

pub(super) fn read_wake(code: i64) -> Result<Wake> {
    match code {
        0 => Ok(Wake::Live),
        i64::MAX => Ok(Wake::Letter),
        us => Timestamp::from_microsecond(us)
            .map(Wake::At)
            .map_err(|_| Error::Row {
                what: "a wake time beyond all times",
            }),
    }
}

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
    fn wakes_and_classes_come_back_as_what_they_were() {
        let time = Timestamp::from_microsecond(1_700_000_000_000_000).unwrap();
        for it in [Wake::Live, Wake::At(time), Wake::Letter] {
            assert_eq!(read_wake(wake(it)).unwrap(), it);
        }
        for it in Class::ALL.map(Some) {
            assert_eq!(read_class(Some(class(it))).unwrap(), it);
        }
        assert_eq!(wake(Wake::At(Timestamp::UNIX_EPOCH)), 1);
    }
}
