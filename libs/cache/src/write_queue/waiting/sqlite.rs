//! What waits, in SQLite: for one process without a server.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Db, Migration, Row, Sql, Statement, Value, migrate};
use ratebox_kit::{Clock, PortError};

use super::{APPLIED_KEPT, Known, Place, Text, WAITS_MAX, Waiting};

const OWNER: &str = "cache_writes";

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "waiting",
    postgres: "SELECT 1",
    sqlite: "
    CREATE TABLE writes_waiting (key TEXT NOT NULL, text INTEGER NOT NULL, place TEXT, value TEXT,
        applied TEXT, touched_ms INTEGER NOT NULL, PRIMARY KEY (key, text)) WITHOUT ROWID;
    CREATE INDEX writes_waiting_touched ON writes_waiting (touched_ms);",
}];

/// Key, number, place, text, time.
const NOTE: Sql = sqlite(
    "INSERT INTO writes_waiting (key, text, place, value, touched_ms) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT (key, text) DO UPDATE SET
        place = excluded.place, value = excluded.value, touched_ms = excluded.touched_ms
     WHERE coalesce(place, '') < excluded.place AND coalesce(applied, '') < excluded.place",
);

/// Key, number, place, time.
const APPLIED: Sql = sqlite(
    "INSERT INTO writes_waiting (key, text, applied, touched_ms) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (key, text) DO UPDATE SET
        applied = max(coalesce(applied, ''), excluded.applied),
        value = CASE WHEN place > excluded.applied THEN value END,
        place = CASE WHEN place > excluded.applied THEN place END,
        touched_ms = excluded.touched_ms",
);

/// Times before which what the origin has is forgotten, and what waits.
const FORGET: Sql = sqlite(
    "DELETE FROM writes_waiting WHERE touched_ms < ?1 AND (place IS NULL OR touched_ms < ?2)",
);

const KNOWN: Sql =
    sqlite("SELECT text, place, value, applied FROM writes_waiting WHERE key = ?1 ORDER BY text");

const fn sqlite(text: &'static str) -> Sql {
    Sql {
        postgres: "",
        sqlite: text,
    }
}

/// What waits, in a SQLite database.
#[derive(Clone, Debug)]
pub struct SqliteWaiting {
    db: Db,
    clock: Clock,
}

// === impl SqliteWaiting ===

impl SqliteWaiting {
    /// Makes the table where it is missing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(db: Db, clock: Clock) -> ratebox_db::Result<Self> {
        migrate(&db, OWNER, MIGRATIONS).await?;
        Ok(Self { db, clock })
    }

    fn forget(&self) -> Statement {
        let before = |age: Duration| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Value::Int(self.clock.now_ms().saturating_sub(age_ms))
        };
        FORGET.with(vec![before(APPLIED_KEPT), before(WAITS_MAX)])
    }
}

#[async_trait]
impl Waiting for SqliteWaiting {
    async fn note(
        &self,
        key: &str,
        place: Place,
        texts: &[Option<String>],
    ) -> Result<(), PortError> {
        let now = Value::Int(self.clock.now_ms());
        let note = |(at, text): (usize, &Option<String>)| {
            let text = text.clone()?;
            let place = Value::Text(place.to_string());
            let text = Value::Text(text);
            let values = vec![named(key), number(at), place, text, now.clone()];
            Some(NOTE.with(values))
        };
        let noted = texts.iter().enumerate().filter_map(note).collect();
        self.db.run(noted).await.map(drop).map_err(failed)
    }

    async fn known(&self, key: &str) -> Result<Known, PortError> {
        let rows = self.db.query(KNOWN.with(vec![named(key)])).await;
        read(&rows.map_err(failed)?).map_err(failed)
    }

    async fn applied(&self, key: &str, places: &[Option<Place>]) -> Result<(), PortError> {
        let now = Value::Int(self.clock.now_ms());
        let applied = |(at, place): (usize, &Option<Place>)| {
            let place = Value::Text((*place)?.to_string());
            Some(APPLIED.with(vec![named(key), number(at), place, now.clone()]))
        };
        let mut statements: Vec<_> = places.iter().enumerate().filter_map(applied).collect();
        statements.push(self.forget());
        self.db.run(statements).await.map(drop).map_err(failed)
    }
}

fn named(key: &str) -> Value {
    Value::Text(key.to_owned())
}

fn number(at: usize) -> Value {
    Value::Int(i64::try_from(at).unwrap_or(i64::MAX))
}

fn failed(error: ratebox_db::Error) -> PortError {
    PortError::new("what waits for its origin cannot be asked for", error)
}

fn read(rows: &[Row]) -> ratebox_db::Result<Known> {
    let mut known = Known::default();
    for row in rows {
        let at: i64 = row.get(0)?;
        let at = usize::try_from(at).unwrap_or_default();
        let (place, text): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
        let applied: Option<String> = row.get(3)?;
        let place = place.and_then(|place| Place::read(&place));
        known.0.resize(known.0.len().max(at + 1), Text::default());
        known.0[at] = Text {
            waiting: place.zip(text),
            applied: applied.and_then(|place| Place::read(&place)),
        };
    }
    Ok(known)
}
