//! Taking over the predecessor's outbox and inbox (`saga_outbox`, `consumer_inbox` in PostgreSQL's
//! schema `public`), so that no event is lost and none that was consumed is new.
//!
//! Events are published as their worker did: the body is its envelope, the topic the event's type,
//! the key the aggregate. Their ids are random, so that rows get new ids in the order of their
//! creation; the old id is in the envelope and in the header `event_id`, where consumers look.

mod in_place;
mod postgres;

pub use in_place::SagaOutbox;

use ratebox_db::{Column, Db, Dialect, Row, Statement};
use ratebox_kit::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bundle::{self, Bundle};
use crate::{Error, Event, Result};

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Whether any of their tables is there. Others of the same names are not looked at.
    pub found: bool,
    /// Events that the relay sends now.
    pub events: usize,
    /// Events that were dead, and are.
    pub dead: usize,
    /// Marks of consumed events.
    pub marks: u64,
    /// Events that a worker of the predecessor has claimed within its 300 s, those behind them in their
    /// aggregates, and those that came meanwhile. They are taken over the next time.
    pub left: u64,
}

/// Takes over what there is; may be called again, and while workers of the predecessor still run:
/// what one of them is sending is left to it, and taken over the next time if it does not. What one claims
/// in that very moment can be overtaken by what is behind it: stop the workers where order counts.
///
/// # Errors
/// When the database refuses or is away; what was taken over before stays. SQLite has none of it.
pub async fn adopt(db: &Db) -> Result<Adopted> {
    let mut adopted = Adopted::default();
    if db.dialect() == Dialect::Sqlite {
        return Ok(adopted);
    }
    let tables = db.query(postgres::TABLES).await?;
    let has = |at| tables.first().map_or(Ok(false), |row| row.get::<bool>(at));
    let (outbox, inbox) = (has(0)?, has(1)?);
    adopted.found = outbox || inbox;
    if outbox {
        loop {
            let (events, dead) = some_events(db).await?;
            adopted.events += events;
            adopted.dead += dead;
            if events + dead == 0 {
                break;
            }
        }
    }
    if outbox {
        let left = db.query(postgres::LEFT).await?;
        let left: i64 = left.first().map_or(Ok(0), |row| row.get(0))?;
        adopted.left = u64::try_from(left).unwrap_or(0);
    }
    if inbox {
        adopted.marks = marks(db).await?;
    }
    Ok(adopted)
}

/// Some at a time: an inbox of millions takes longer than one statement may.
async fn marks(db: &Db) -> Result<u64> {
    let (mut marks, mut after) = (0, None::<Uuid>);
    loop {
        let rows = db.query(postgres::MARKS.with(vec![after.into()])).await?;
        let Some(row) = rows.first() else {
            return Ok(marks);
        };
        marks += u64::try_from(row.get::<i64>(0)?).unwrap_or(0);
        after = row.get(1)?;
        if after.is_none() {
            return Ok(marks);
        }
    }
}

async fn some_events(db: &Db) -> Result<(usize, usize)> {
    let mut tx = db.begin().await?;
    let rows = tx.query(postgres::UNSENT).await?;
    let (mut ids, mut events, mut statements) = (Vec::new(), Vec::new(), Vec::<Statement>::new());
    for row in &rows {
        let event = event(row)?;
        ids.push(row.get::<Uuid>(0)?);
        if row.get::<String>(7)? == "dead_letter" {
            statements.push(dead(row, event)?);
        } else {
            events.push(Bundle::new(event));
        }
    }
    let counts = (events.len(), statements.len());
    statements.push(bundle::insert(&events, |_| 0)?);
    statements.push(postgres::MOVED.rows(vec![Column::Uuid(ids)], Vec::new())?);
    tx.commit_after(statements).await?;
    Ok(counts)
}

fn event(row: &Row) -> Result<Event> {
    let (old_id, saga_id): (Uuid, String) = (row.get(0)?, row.get(1)?);
    let aggregate_type: Option<String> = row.get(2)?;
    let aggregate_id: Option<String> = row.get(3)?;
    let event_type: String = row.get(4)?;
    let json = |text: Option<String>| {
        let text = text.unwrap_or_else(|| "{}".to_owned());
        serde_json::from_str::<Value>(&text).map_err(Error::Headers)
    };
    let (payload, headers) = (json(row.get(5)?)?, json(row.get(6)?)?);
    let kind = aggregate_type.unwrap_or_else(|| "saga".to_owned());
    let aggregate_id = aggregate_id.unwrap_or_else(|| saga_id.clone());
    let body = json!({
        "event_id": old_id, "saga_id": saga_id, "aggregate_type": kind,
        "aggregate_id": aggregate_id, "event_type": event_type, "payload": payload,
        "timestamp": row.get::<Timestamp>(10)?.to_string(),
    });
    let mut event = Event::new(event_type.as_str(), body.to_string())
        .aggregate(&kind, &aggregate_id)
        .of_type(event_type.as_str())
        .with_header("event_id", old_id.to_string())
        .with_header("saga_id", saga_id)
        .with_header("event_type", event_type)
        .with_header("content_type", "application/json");
    for (name, value) in headers.as_object().into_iter().flatten() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        event = event.with_header(name, text);
    }
    Ok(event)
}

fn dead(row: &Row, event: Event) -> Result<Statement> {
    let about = event.about.unwrap_or_default();
    Ok(postgres::DEAD.with(vec![
        event.id.into(),
        event.topic.into(),
        event.key.into(),
        bundle::headers_text(&event.headers).into(),
        event.body.into(),
        row.get::<i64>(8)?.into(),
        row.get::<Option<String>>(9)?.into(),
        about.aggregate_type.into(),
        about.event_type.into(),
    ]))
}
