//! A batch of entries as columns: what travels to the database.

use bytes::Bytes;
use ratebox_db::{Column, Statement, Value};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use super::{code, sql};
use crate::{Append, Entry, HeadChange, Letter, NewSaga, Record, Result, SagaId};

/// New sagas.
#[derive(Default)]
pub(super) struct Starts {
    id: Vec<Uuid>,
    definition: Vec<String>,
    version: Vec<i64>,
    hash: Vec<String>,
    key: Vec<Option<String>>,
    /// Nil for none.
    parent: Vec<Uuid>,
    parent_step: Vec<Option<String>>,
    input: Vec<String>,
    status: Vec<String>,
    created_at: Vec<Timestamp>,
}

/// New records.
#[derive(Default)]
pub(super) struct Records {
    saga: Vec<Uuid>,
    seq: Vec<i64>,
    step: Vec<String>,
    item: Vec<i64>,
    kind: Vec<i64>,
    /// 0 for none.
    class: Vec<i64>,
    attempt: Vec<i64>,
    at: Vec<Timestamp>,
    took_us: Vec<i64>,
    due: Vec<Option<Timestamp>>,
    payload: Vec<Option<String>>,
    note: Vec<Option<String>>,
    who: Vec<Option<String>>,
}

/// Changed heads.
#[derive(Default)]
pub(super) struct Heads {
    id: Vec<Uuid>,
    status: Vec<String>,
    wake: Vec<i64>,
    error: Vec<Option<String>>,
    output: Vec<Option<String>>,
    at: Vec<Timestamp>,
    ended_at: Vec<Option<Timestamp>>,
}

/// All of a batch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) starts: Starts,
    pub(super) records: Records,
    pub(super) heads: Heads,
    /// Sagas that are appended to without a change in their heads.
    pub(super) headless: Vec<Uuid>,
    pub(super) letters: Vec<Uuid>,
    /// Sagas that end.
    pub(super) ended: Vec<Uuid>,
}

// === impl Batch ===

impl Batch {
    /// A saga's head and its first records.
    pub(super) fn start(&mut self, new: &NewSaga) -> Result<()> {
        self.starts.push(new)?;
        new.records
            .iter()
            .try_for_each(|it| self.records.push(new.id, it))
    }

    pub(super) fn append(&mut self, append: &Append) -> Result<()> {
        let saga = append.saga;
        for record in &append.records {
            self.records.push(saga, record)?;
        }
        match &append.head {
            Some(change) => {
                self.heads.push(saga, change)?;
                if change.status.is_end() {
                    self.ended.push(saga.0);
                }
            }
            None => self.headless.push(saga.0),
        }
        self.letters.extend(&append.letters);
        Ok(())
    }
}

// === impl Starts ===

impl Starts {
    pub(super) fn len(&self) -> usize {
        self.id.len()
    }

    fn push(&mut self, new: &NewSaga) -> Result<()> {
        let parent = new.parent.as_ref();
        self.id.push(new.id.0);
        self.definition.push(new.definition.to_string());
        self.version.push(new.version.into());
        self.hash.push(new.hash.to_string());
        self.key.push(new.key.clone());
        self.parent.push(parent.map_or(Uuid::nil(), |it| it.saga.0));
        self.parent_step.push(parent.map(|it| it.step.clone()));
        self.input.push(code::json_text(&new.input)?);
        self.status.push(new.status.as_str().to_owned());
        self.created_at.push(new.created_at);
        Ok(())
    }

    pub(super) fn columns(self) -> Vec<Column> {
        vec![
            Column::Uuid(self.id),
            Column::Text(self.definition),
            Column::Int(self.version),
            Column::Text(self.hash),
            Column::MaybeText(self.key),
            Column::Uuid(self.parent),
            Column::MaybeText(self.parent_step),
            Column::Text(self.input),
            Column::Text(self.status),
            Column::Time(self.created_at),
        ]
    }
}

// === impl Records ===

impl Records {
    pub(super) fn len(&self) -> usize {
        self.saga.len()
    }

    fn push(&mut self, saga: SagaId, record: &Record) -> Result<()> {
        self.saga.push(saga.0);
        self.seq.push(record.seq.into());
        self.step.push(record.step.to_string());
        self.item.push(record.item.into());
        self.kind.push(record.kind.code().into());
        self.class.push(code::class(record.class));
        self.attempt.push(record.attempt.into());
        self.at.push(record.at);
        self.took_us
            .push(i64::try_from(record.took_us).unwrap_or(i64::MAX));
        self.due.push(record.due);
        self.payload.push(maybe_json(record.payload.as_ref())?);
        self.note.push(record.note.clone());
        self.who.push(record.who.clone());
        Ok(())
    }

    pub(super) fn columns(self) -> Vec<Column> {
        vec![
            Column::Uuid(self.saga),
            Column::Int(self.seq),
            Column::Text(self.step),
            Column::Int(self.item),
            Column::Int(self.kind),
            Column::Int(self.class),
            Column::Int(self.attempt),
            Column::Time(self.at),
            Column::Int(self.took_us),
            Column::MaybeTime(self.due),
            Column::MaybeText(self.payload),
            Column::MaybeText(self.note),
            Column::MaybeText(self.who),
        ]
    }
}

// === impl Heads ===

impl Heads {
    pub(super) fn len(&self) -> usize {
        self.id.len()
    }

    fn push(&mut self, saga: SagaId, change: &HeadChange) -> Result<()> {
        self.id.push(saga.0);
        self.status.push(change.status.as_str().to_owned());
        self.wake.push(code::wake(change.wake));
        self.error.push(change.error.clone());
        self.output.push(maybe_json(change.output.as_ref())?);
        self.at.push(change.at);
        self.ended_at
            .push(change.status.is_end().then_some(change.at));
        Ok(())
    }

    pub(super) fn columns(self) -> Vec<Column> {
        vec![
            Column::Uuid(self.id),
            Column::Text(self.status),
            Column::Int(self.wake),
            Column::MaybeText(self.error),
            Column::MaybeText(self.output),
            Column::Time(self.at),
            Column::MaybeTime(self.ended_at),
        ]
    }
}

fn maybe_json(bytes: Option<&Bytes>) -> Result<Option<String>> {
    bytes.map(code::json_text).transpose()
}

/// As [`maybe_json`], for a single value.
pub(super) fn json_value(bytes: Option<&Bytes>) -> Result<Value> {
    Ok(maybe_json(bytes)?.into())
}

/// Keeps a letter.
pub(super) fn post(letter: &Letter) -> Result<Statement> {
    Ok(sql::POST.with(vec![
        letter.id.into(),
        letter.saga.0.into(),
        letter.at.into(),
        letter.verb.as_str().into(),
        letter.subject.as_str().into(),
        json_value(letter.payload.as_ref())?,
        letter.who.as_str().into(),
        letter.why.as_str().into(),
    ]))
}

/// Finds the saga that a letter is for.
pub(super) fn addressee(letter: &Letter) -> Statement {
    sql::WHO.with(vec![letter.saga.0.into(), "".into(), "".into()])
}

/// Finds who has the ids and keys of all starts of a batch.
pub(super) fn owners_of_keys(batch: &[&Entry]) -> Result<Statement> {
    let starts = batch.iter().filter_map(|entry| match entry {
        Entry::Start(new) => Some(new),
        Entry::Append(_) => None,
    });
    let (mut ids, mut definitions, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for new in starts {
        ids.push(new.id.0);
        definitions.push(new.definition.to_string());
        keys.push(new.key.clone());
    }
    let columns = vec![
        Column::Uuid(ids),
        Column::Text(definitions),
        Column::MaybeText(keys),
    ];
    Ok(sql::WHO_ALL.rows(columns, Vec::new())?)
}
