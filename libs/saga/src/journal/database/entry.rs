//! The long way: entry by entry in a transaction. For entries that join a caller's transaction,
//! that carry messages to others, and for a batch of which the short way found less than it wrote.

use std::error::Error as _;
use std::sync::Arc;

use ratebox_db::{Committed, Db, Tx};
use ratebox_kit::{Causes, FollowUp, FollowUps, PortError, Staged};

use super::columns::Batch;
use super::{code, sql, sqlite};
use crate::{Append, Entry, Error, NewSaga, Owner, Result, SagaId, Written, WrittenIn};

/// What sends messages to others in a transaction.
pub(super) type Outbox = Arc<dyn FollowUps<Tx, Committed>>;

/// Writes entries in a transaction of their own.
pub(super) async fn write_all(
    db: &Db,
    outbox: Option<&Outbox>,
    owner: Owner,
    batch: &[&Entry],
) -> Result<Vec<Written>> {
    let mut tx = db.begin().await?;
    confirm(&mut tx, owner).await?;
    let mut answers = Vec::with_capacity(batch.len());
    let mut staged = Vec::new();
    for entry in batch {
        let one = write(&mut tx, outbox, Some(owner), entry).await?;
        answers.push(one.written);
        staged.extend(one.staged);
    }
    let committed = tx.commit().await?;
    for messages in staged {
        messages.publish(&committed).await;
    }
    Ok(answers)
}

/// Writes one entry in a transaction. An owner cannot be fenced until that ends.
pub(super) async fn write(
    tx: &mut Tx,
    outbox: Option<&Outbox>,
    owner: Option<Owner>,
    entry: &Entry,
) -> Result<WrittenIn> {
    match (entry, owner) {
        (Entry::Start(new), Some(owner)) => {
            confirm(tx, owner).await?;
            start(tx, owner.epoch, new).await
        }
        (Entry::Start(new), None) => start(tx, code::NOBODY, new).await,
        (Entry::Append(it), Some(owner)) => append(tx, outbox, owner, it).await,
        (Entry::Append(_), None) => Err(Error::Refused {
            why: "only its owner appends to a saga".to_owned(),
        }),
    }
}

/// Sees to it that the process is not fenced until the transaction ends.
pub(super) async fn confirm(tx: &mut Tx, owner: Owner) -> Result<()> {
    let found = tx
        .query(sql::CONFIRM.with(vec![owner.epoch.into()]))
        .await?;
    if found.is_empty() {
        return Err(Error::Fenced);
    }
    Ok(())
}

async fn start(tx: &mut Tx, epoch: i64, new: &NewSaga) -> Result<WrittenIn> {
    let mut batch = Batch::default();
    batch.start(new)?;
    // The records must wait: they are the saga's only if it is new.
    let records = std::mem::take(&mut batch.records);
    let head = sql::START.rows(batch.starts.columns(), vec![epoch.into()])?;
    if tx.execute(head).await? == 0 {
        return Ok(answer(existing(tx, new).await?));
    }
    if records.len() > 0 {
        let records = sql::RECORD.rows(records.columns(), vec![epoch.into()])?;
        tx.execute(records).await?;
    }
    Ok(answer(Written::Kept))
}

/// Who stood in the way of a start: itself, written before, or another with its key.
async fn existing(tx: &mut Tx, new: &NewSaga) -> Result<Written> {
    let values = vec![
        new.id.0.into(),
        (&*new.definition).into(),
        new.key.clone().into(),
    ];
    let rows = tx.query(sql::WHO.with(values)).await?;
    let ids = rows.iter().map(|row| code::id(row, 0));
    let ids = ids.collect::<Result<Vec<SagaId>>>()?;
    match ids.first() {
        _ if ids.contains(&new.id) => Ok(Written::Kept),
        Some(other) => Ok(Written::Exists(*other)),
        // It was deleted between the two statements.
        None => Err(contention()),
    }
}

async fn append(
    tx: &mut Tx,
    outbox: Option<&Outbox>,
    owner: Owner,
    append: &Append,
) -> Result<WrittenIn> {
    let first = append.records.first().map_or(-1, |it| i64::from(it.seq));
    let values = vec![owner.epoch.into(), append.saga.0.into(), first.into()];
    let rows = tx.query(sql::BEFORE.with(values)).await?;
    let row = rows.first().ok_or(ratebox_db::Error::Shape)?;
    if row.get::<u64>(0)? == 0 {
        return Err(Error::Fenced);
    }
    if row.get::<Option<i64>>(1)? != Some(owner.epoch) {
        return Ok(answer(Written::NotYours));
    }
    if row.get::<bool>(2)? {
        return Ok(answer(Written::Kept));
    }
    let mut batch = Batch::default();
    batch.append(append)?;
    let wanted = [batch.records.len(), batch.heads.len()];
    let written = tx
        .execute_all(sqlite::statements(owner.epoch, batch)?)
        .await?;
    let is_all = wanted
        .iter()
        .zip(written.iter().skip(1))
        .all(|(a, b)| *a as u64 == *b);
    if !is_all {
        // Somebody claimed the saga, which had ended, in this very moment.
        return Err(contention());
    }
    Ok(WrittenIn {
        written: Written::Kept,
        staged: follow_up(tx, outbox, &append.follow_ups).await?,
    })
}

async fn follow_up(
    tx: &mut Tx,
    outbox: Option<&Outbox>,
    messages: &[FollowUp],
) -> Result<Option<Box<dyn Staged<Committed>>>> {
    if messages.is_empty() {
        return Ok(None);
    }
    let outbox = outbox.ok_or_else(|| Error::Refused {
        why: "this store has no outbox for messages to others".to_owned(),
    })?;
    let staged = outbox.add(tx, messages.to_vec()).await;
    staged.map(Some).map_err(refusal)
}

/// A refusal of the outbox' database stays one, so that its entry fails alone; all else passes.
fn refusal(error: PortError) -> Error {
    let mut cause = error.source();
    while let Some(it) = cause {
        let of_database = it.downcast_ref::<ratebox_db::Error>();
        if of_database.is_some_and(|it| !it.is_retryable()) {
            let why = Causes(&error).to_string();
            return Error::Refused { why };
        }
        cause = it.source();
    }
    Error::Store(error)
}

fn answer(written: Written) -> WrittenIn {
    WrittenIn {
        written,
        staged: None,
    }
}

fn contention() -> Error {
    Error::Db(ratebox_db::Error::Contention {
        code: "a saga changed hands".to_owned(),
    })
}
