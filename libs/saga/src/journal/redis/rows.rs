//! Sagas as the fields of a hash, and back.
//!
//! One hash holds all of a saga: its head under names, its records under their numbers, its letters
//! under `@` and their id. What is compound is JSON with short names; new
//! names may be added, old ones never change their meaning.

use std::collections::HashMap;

use bytes::Bytes;
use ratebox_kit::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::journal::code;
use crate::{
    Class, Error, Head, HeadChange, Kind, Letter, NewSaga, Owner, Parent, Record, Result, SagaId,
    Status, Stored,
};

/// Of a letter's time in front of it; `adopt.lua` and others know the number.
const DIGITS: usize = 20;

#[derive(Serialize, Deserialize)]
struct RecordRow {
    s: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    i: u32,
    k: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    a: u32,
    at: i64,
    #[serde(default)]
    us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct LetterRow {
    id: Uuid,
    saga: Uuid,
    verb: String,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    who: String,
    why: String,
    at: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The fields of a new head, in pairs.
pub(super) fn new_head(new: &NewSaga) -> Result<Vec<String>> {
    let mut out = Vec::with_capacity(22);
    let mut put = |name: &str, value: String| out.extend([name.to_owned(), value]);
    put("definition", new.definition.to_string());
    put("version", new.version.to_string());
    put("hash", new.hash.to_string());
    put("input", text(&new.input)?);
    put("status", new.status.as_str().to_owned());
    put("wake", "0".to_owned());
    put("created", us(new.created_at));
    put("updated", us(new.created_at));
    if let Some(key) = &new.key {
        put("key", key.clone());
    }
    if let Some(parent) = &new.parent {
        put("parent", parent.saga.to_string());
        put("parent_step", parent.step.clone());
    }
    Ok(out)
}

/// A definition and a key as one word that no other pair makes.
pub(super) fn index(definition: &str, key: &str) -> String {
    format!("{}:{definition}{key}", definition.len())
}

/// The words of a change, as `write.lua` reads them.
pub(super) fn change(change: &HeadChange) -> Result<Vec<String>> {
    let ended = change.status.is_end();
    let output = change.output.as_ref().map(text).transpose()?;
    let marked = |it: Option<&String>| it.map_or_else(String::new, |it| format!("={it}"));
    Ok(vec![
        change.status.as_str().to_owned(),
        code::wake(change.wake).to_string(),
        us(change.at),
        if ended { us(change.at) } else { String::new() },
        marked(change.error.as_ref()),
        marked(output.as_ref()),
    ])
}

/// Number and JSON of each record.
pub(super) fn records(records: &[Record]) -> Result<Vec<String>> {
    let mut out = Vec::with_capacity(2 * records.len());
    for record in records {
        let row = RecordRow {
            s: record.step.to_string(),
            i: record.item,
            k: record.kind.as_str().to_owned(),
            c: record.class.map(|it| it.as_str().to_owned()),
            a: record.attempt,
            at: record.at.as_microsecond(),
            us: record.took_us,
            due: record.due.map(Timestamp::as_microsecond),
            p: record.payload.as_ref().map(text).transpose()?,
            n: record.note.clone(),
            w: record.who.clone(),
        };
        out.push(record.seq.to_string());
        out.push(serde_json::to_string(&row).map_err(Error::Json)?);
    }
    Ok(out)
}

/// The field of a letter.
pub(super) fn letter_field(id: Uuid) -> String {
    format!("@{id}")
}

/// Its time in [`DIGITS`] digits, by which scripts sort, then JSON.
pub(super) fn letter(letter: &Letter) -> Result<String> {
    let row = LetterRow {
        id: letter.id,
        saga: letter.saga.0,
        verb: letter.verb.clone(),
        subject: letter.subject.clone(),
        payload: letter.payload.as_ref().map(text).transpose()?,
        who: letter.who.clone(),
        why: letter.why.clone(),
        at: letter.at.as_microsecond(),
    };
    let json = serde_json::to_string(&row).map_err(Error::Json)?;
    Ok(format!("{:0DIGITS$}{json}", row.at.max(0)))
}

pub(super) fn read_letter(text: &str) -> Result<Letter> {
    let json = text.get(DIGITS..).unwrap_or_default();
    let row: LetterRow = serde_json::from_str(json).map_err(Error::Json)?;
    Ok(Letter {
        id: row.id,
        saga: SagaId(row.saga),
        verb: row.verb,
        subject: row.subject,
        payload: row.payload.map(Bytes::from),
        who: row.who,
        why: row.why,
        at: time(row.at)?,
    })
}

/// All that a hash holds; `None` for an empty one, which is no saga.
pub(super) fn stored(id: SagaId, mut fields: HashMap<String, String>) -> Result<Option<Stored>> {
    let Some(head) = head(id, &mut fields)? else {
        return Ok(None);
    };
    let (mut records, mut letters) = (Vec::new(), Vec::new());
    for (field, value) in &fields {
        if let Ok(seq) = field.parse() {
            records.push(read_record(seq, value)?);
        } else if field.starts_with('@') {
            letters.push(read_letter(value)?);
        }
    }
    records.sort_unstable_by_key(|it| it.seq);
    letters.sort_by_key(|it| (it.at, it.id));
    Ok(Some(Stored {
        head,
        records,
        letters,
    }))
}

/// The head's fields, in the order in which [`head_of`] gets their values.
pub(super) const HEAD: [&str; 16] = [
    "definition",
    "version",
    "hash",
    "key",
    "parent",
    "parent_step",
    "input",
    "status",
    "wake",
    "error",
    "output",
    "owner",
    "created",
    "updated",
    "ended",
    "index",
];

/// A head of the values of [`HEAD`].
pub(super) fn head_of(id: SagaId, values: Vec<Option<String>>) -> Result<Option<Head>> {
    let names = HEAD.iter().map(|it| (*it).to_owned());
    let pairs = names.zip(values);
    let mut fields = pairs
        .filter_map(|(name, value)| value.map(|it| (name, it)))
        .collect();
    head(id, &mut fields)
}

fn head(id: SagaId, fields: &mut HashMap<String, String>) -> Result<Option<Head>> {
    let Some(definition) = fields.remove("definition") else {
        return Ok(None);
    };
    let mut must = |name: &str| {
        fields.remove(name).ok_or(Error::Row {
            what: "a field is missing",
        })
    };
    let (hash, input, status, wake) = (
        must("hash")?,
        must("input")?,
        must("status")?,
        must("wake")?,
    );
    let (version, owner) = (must("version")?, must("owner")?);
    let (created, updated) = (must("created")?, must("updated")?);
    let parent_step = fields.remove("parent_step").unwrap_or_default();
    let parent = fields.remove("parent").map(|it| parse(&it)).transpose()?;
    let ended = fields.remove("ended").map(|it| number(&it)).transpose()?;
    Ok(Some(Head {
        id,
        definition: definition.into(),
        version: parse(&version)?,
        hash: hash.into(),
        key: fields.remove("key"),
        parent: parent.map(|saga| Parent {
            saga: SagaId(saga),
            step: parent_step,
        }),
        input: input.into(),
        status: Status::parse(&status).ok_or(Error::Row {
            what: "an unknown status",
        })?,
        wake: code::read_wake(number(&wake)?)?,
        error: fields.remove("error"),
        output: fields.remove("output").map(Bytes::from),
        owner: Some(Owner {
            epoch: number(&owner)?,
        }),
        created_at: time(number(&created)?)?,
        updated_at: time(number(&updated)?)?,
        ended_at: ended.map(time).transpose()?,
    }))
}

fn read_record(seq: u32, json: &str) -> Result<Record> {
    let row: RecordRow = serde_json::from_str(json).map_err(Error::Json)?;
    let class = row.c.map(|it| {
        Class::parse(&it).ok_or(Error::Row {
            what: "an unknown class",
        })
    });
    Ok(Record {
        seq,
        step: row.s.into(),
        item: row.i,
        kind: Kind::parse(&row.k).ok_or(Error::Row {
            what: "an unknown kind",
        })?,
        class: class.transpose()?,
        attempt: row.a,
        at: time(row.at)?,
        took_us: row.us,
        due: row.due.map(time).transpose()?,
        payload: row.p.map(Bytes::from),
        note: row.n,
        who: row.w,
    })
}

fn text(json: &Bytes) -> Result<String> {
    code::json(json)
}

fn us(time: Timestamp) -> String {
    time.as_microsecond().to_string()
}

fn time(us: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(us).map_err(|_| Error::Row {
        what: "a time beyond all times",
    })
}

fn number(text: &str) -> Result<i64> {
    parse(text)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Row {
        what: "a field is not what it should be",
    })
}
