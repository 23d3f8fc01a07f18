//! Who did what, to what, and why: the record of operators' deeds.
//!
//! A deed is written in the transaction of what it changes. It names ids and counts, never
//! payload.

use ratebox_db::{Conflict, Insert, Row, Sql, Statement};
use ratebox_kit::{Timestamp, id};
use uuid::Uuid;

use crate::{Result, Store};

/// A deed to be written.
#[derive(Clone, Debug)]
pub struct NewDeed<'a> {
    /// Who: `token:<id> (<owner>)` or `cli:<user>`.
    pub actor: &'a str,
    /// What, as one word with dots: `dead_letter.replay`.
    pub action: &'static str,
    /// To what: an id or a stream.
    pub subject: String,
    /// Why.
    pub reason: &'a str,
    /// Further facts as JSON.
    pub detail: Option<String>,
}

/// A deed that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Its number; sorts by time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Further facts as JSON.
    pub detail: Option<String>,
}

pub(crate) static INSERT: Insert = Insert::new(
    "audit_log",
    &[
        ("id", "uuid"),
        ("at", "timestamptz"),
        ("actor", "text"),
        ("action", "text"),
        ("subject", "text"),
        ("reason", "text"),
        ("detail", "text"),
    ],
    Conflict::Fail,
);

const LIST: Sql = Sql {
    postgres: "SELECT id, at, actor, action, subject, reason, detail FROM audit_log
        WHERE ($1::text IS NULL OR subject = $1) AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3",
    sqlite: "SELECT id, at, actor, action, subject, reason, detail FROM audit_log
        WHERE (?1 IS NULL OR subject = ?1) AND (?2 IS NULL OR id < ?2)
        ORDER BY id DESC LIMIT ?3",
};

pub(crate) const STATEMENTS: &[Sql] = &[LIST];

impl Store {
    /// The statement that writes deeds, to be run in the transaction of what they change.
    ///
    /// # Errors
    /// Never for well-formed deeds; the rows are made here.
    pub fn audit(&self, deeds: &[NewDeed<'_>]) -> Result<Statement> {
        let now = self.clock().now();
        let mut rows = INSERT.rows();
        for deed in deeds {
            rows.push(id::new()).push(now).push(deed.actor);
            rows.push(deed.action).push(deed.subject.as_str());
            rows.push(deed.reason).push(deed.detail.as_deref());
        }
        Ok(rows.into_statement()?)
    }

    /// Writes one deed that changes nothing in the store.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn record_deed(&self, deed: NewDeed<'_>) -> Result<()> {
        let statement = self.audit(&[deed])?;
        self.db().execute(statement).await?;
        Ok(())
    }

    /// Deeds, newest first, at most `max`; only those on `subject` when one is given, only those
    /// before `before` when that is.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn deeds(
        &self,
        subject: Option<&str>,
        before: Option<Uuid>,
        max: u32,
    ) -> Result<Vec<Deed>> {
        let values = vec![subject.into(), before.into(), max.into()];
        let rows = self.db().query(LIST.with(values)).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &Row) -> Result<Deed> {
    Ok(Deed {
        id: row.get(0)?,
        at: row.get(1)?,
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        reason: row.get(5)?,
        detail: row.get(6)?,
    })
}
