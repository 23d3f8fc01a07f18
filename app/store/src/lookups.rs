//! What is known of a phone, a bank account or an e-mail: the items that carried it, counted by
//! verdict and source.
//!
//! One statement for one value and one for many, by the index of the value's column. No more than
//! `rows_max` items of a value are counted, so that a value which everybody sends costs no more
//! than that.

use std::collections::{BTreeMap, HashMap};

use ratebox_db::{Column, Row, Sql, Value};
use ratebox_intake::LookupKind;
use ratebox_kit::Timestamp;

use crate::{Result, Store};

/// Sources that are told apart; the items of the others are counted together.
pub const SOURCES_MAX: usize = 20;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// Items that carried it.
    pub seen: u64,
    /// There are more than were counted; then the rest is about those that were.
    pub at_least: bool,
    /// Items by verdict.
    pub done: u64,
    /// The same.
    pub error: u64,
    /// Items by source, the most frequent first, at most [`SOURCES_MAX`].
    pub sources: Vec<(String, u64)>,
    /// Items of all other sources.
    pub other_sources: u64,
    /// When the first verdict on it was recorded; `None` when not all were looked at.
    pub first_at: Option<Timestamp>,
    /// When the last one was.
    pub last_at: Option<Timestamp>,
}

/// Whose items are counted, and how many.
#[derive(Clone, Copy, Debug)]
pub struct LookupScope<'a> {
    /// Whose; `None` = everybody's.
    pub owner: Option<&'a str>,
    /// Items of one value that are counted at most.
    pub rows_max: u32,
}

macro_rules! statements {
    ($($one:ident, $many:ident: $column:literal;)+) => {
        $(const $one: Sql = Sql {
            postgres: concat!(
                "SELECT $1::text, status, source, count(*), min(created_at), max(created_at)
                FROM (SELECT status, source, created_at FROM raw_items
                    WHERE ", $column, " = $1 AND ($2::text IS NULL OR owner = $2) LIMIT $3) AS seen
                GROUP BY status, source"),
            sqlite: concat!(
                "SELECT ?1, status, source, count(*), min(created_at), max(created_at)
                FROM (SELECT status, source, created_at FROM raw_items
                    WHERE ", $column, " = ?1 AND (?2 IS NULL OR owner = ?2) LIMIT ?3) AS seen
                GROUP BY status, source"),
        };
        const $many: Sql = Sql {
            postgres: concat!(
                "SELECT wanted.value, seen.status, seen.source, count(*), min(seen.created_at),
                    max(seen.created_at)
                FROM unnest($1::text[]) AS wanted (value)
                CROSS JOIN LATERAL (SELECT status, source, created_at FROM raw_items
                    WHERE ", $column, " = wanted.value
                        AND ($2::text IS NULL OR owner = $2) LIMIT $3) AS seen
                GROUP BY wanted.value, seen.status, seen.source"),
            // Once a value, on one connection.
            sqlite: $one.sqlite,
        };)+
        pub(crate) const STATEMENTS: &[Sql] = &[$($one, $many),+];
    };
}

statements! {
    PHONE, PHONES: "phone";
    BANK_ACCOUNT, BANK_ACCOUNTS: "bank_account";
    EMAIL, EMAILS: "email";
}

fn one(kind: LookupKind) -> Sql {
    match kind {
        LookupKind::Phone => PHONE,
        LookupKind::BankAccount => BANK_ACCOUNT,
        LookupKind::Email => EMAIL,
    }
}

fn many(kind: LookupKind) -> Sql {
    match kind {
        LookupKind::Phone => PHONES,
        LookupKind::BankAccount => BANK_ACCOUNTS,
        LookupKind::Email => EMAILS,
    }
}

impl Store {
    /// What is known of a value in its normal form; `None` when no item carried it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn sightings(
        &self,
        kind: LookupKind,
        value: &str,
        scope: LookupScope<'_>,
    ) -> Result<Option<Sightings>> {
        let mut values = vec![value.into()];
        values.extend(scope.values());
        let rows = self.db().query(one(kind).with(values)).await?;
        Ok(gather(&rows, scope.rows_max)?.remove(value))
    }

    /// The same for many values of one kind, by value; those that no item carried are left out.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn sightings_of_many(
        &self,
        kind: LookupKind,
        mut values: Vec<String>,
        scope: LookupScope<'_>,
    ) -> Result<HashMap<String, Sightings>> {
        values.sort_unstable();
        values.dedup();
        let columns = vec![Column::Text(values)];
        let statement = many(kind).rows(columns, scope.values())?;
        gather(&self.db().query(statement).await?, scope.rows_max)
    }
}

// === impl LookupScope ===

impl LookupScope<'_> {
    fn values(&self) -> Vec<Value> {
        // One more, to know that there are more.
        let limit = i64::from(self.rows_max) + 1;
        vec![self.owner.into(), limit.into()]
    }
}

/// Groups by verdict and source into one answer a value.
fn gather(rows: &[Row], rows_max: u32) -> Result<HashMap<String, Sightings>> {
    let mut found = HashMap::<String, (Sightings, BTreeMap<String, u64>)>::new();
    for row in rows {
        let (value, status, source): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let count: u64 = row.get(3)?;
        let (sightings, sources) = found.entry(value).or_default();
        sightings.seen += count;
        match status.as_str() {
            "success" => sightings.done += count,
            "error" => sightings.error += count,
            // What was taken over from a predecessor without a verdict.
            _ => {}
        }
        *sources.entry(source).or_default() += count;
        let (first, last): (Timestamp, Timestamp) = (row.get(4)?, row.get(5)?);
        sightings.first_at = Some(sightings.first_at.map_or(first, |it| it.min(first)));
        sightings.last_at = Some(sightings.last_at.map_or(last, |it| it.max(last)));
    }
    let finish = |(value, (sightings, sources))| (value, finish(sightings, sources, rows_max));
    Ok(found.into_iter().map(finish).collect())
}

fn finish(mut it: Sightings, sources: BTreeMap<String, u64>, rows_max: u32) -> Sightings {
    let mut sources: Vec<_> = sources.into_iter().collect();
    // Stable: equal ones stay in the order of their names.
    sources.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    it.other_sources = sources
        .iter()
        .skip(SOURCES_MAX)
        .map(|(_, count)| count)
        .sum();
    sources.truncate(SOURCES_MAX);
    it.sources = sources;
    if it.seen > u64::from(rows_max) {
        it.at_least = true;
        it.first_at = None;
        it.last_at = None;
    }
    it
}
