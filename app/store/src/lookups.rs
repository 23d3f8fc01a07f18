//! What is known of a phone, a bank account or an e-mail: the items that carried it, counted by
//! verdict and source.
//!
//! One statement for one value and one for many, by the index of the value's column. No more than
//! `rows_max` items of a value are looked at, whosever they are, so that a value which everybody
//! sends costs no more than that.

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
    /// As many items were looked at, of any owner, as may be, so there may be more; the rest is about
    /// those that were.
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
    /// Items of one value that are looked at, at most.
    pub rows_max: u32,
}

macro_rules! statements {
    ($($one:ident, $many:ident: $column:literal;)+) => {
        $(const $one: Sql = Sql {
            postgres: concat!(
                "SELECT $1::text, mine, status, source, count(*), min(created_at), max(created_at)
                FROM (SELECT status, source, created_at,
                        CASE WHEN $2::text IS NULL OR owner = $2 THEN 1 ELSE 0 END AS mine
                    FROM raw_items WHERE ", $column, " = $1 LIMIT $3) AS seen
                GROUP BY mine, status, source"),
            sqlite: concat!(
                "SELECT ?1, mine, status, source, count(*), min(created_at), max(created_at)
                FROM (SELECT status, source, created_at,
                        CASE WHEN ?2 IS NULL OR owner = ?2 THEN 1 ELSE 0 END AS mine
                    FROM raw_items WHERE ", $column, " = ?1 LIMIT ?3) AS seen
                GROUP BY mine, status, source"),
        };
        const $many: Sql = Sql {
            postgres: concat!(
                "SELECT wanted.value, mine, status, source, count(*), min(created_at),
                    max(created_at)
                FROM unnest($1::text[]) AS wanted (value)
                CROSS JOIN LATERAL (SELECT status, source, created_at,
                        CASE WHEN $2::text IS NULL OR owner = $2 THEN 1 ELSE 0 END AS mine
                    FROM raw_items WHERE ", $column, " = wanted.value LIMIT $3) AS seen
                GROUP BY wanted.value, mine, status, source"),
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
        vec![self.owner.into(), i64::from(self.rows_max).into()]
    }
}

/// What is gathered of a value.
#[derive(Default)]
struct Gathered {
    sightings: Sightings,
    sources: BTreeMap<String, u64>,
    /// Items that were looked at, whosever they are.
    looked_at: u64,
}

/// Groups by verdict and source into one answer a value.
fn gather(rows: &[Row], rows_max: u32) -> Result<HashMap<String, Sightings>> {
    let mut found = HashMap::<String, Gathered>::new();
    for row in rows {
        let (value, mine): (String, i64) = (row.get(0)?, row.get(1)?);
        let count: u64 = row.get(4)?;
        let gathered = found.entry(value).or_default();
        gathered.looked_at += count;
        if mine == 1 {
            gathered.add(row, count)?;
        }
    }
    let finish = |(value, gathered): (String, Gathered)| Some((value, gathered.finish(rows_max)?));
    Ok(found.into_iter().filter_map(finish).collect())
}

// === impl Gathered ===

impl Gathered {
    fn add(&mut self, row: &Row, count: u64) -> Result<()> {
        let (status, source): (String, String) = (row.get(2)?, row.get(3)?);
        let (first, last): (Timestamp, Timestamp) = (row.get(5)?, row.get(6)?);
        let it = &mut self.sightings;
        it.seen += count;
        match status.as_str() {
            "success" => it.done += count,
            "error" => it.error += count,
            // What was taken over from a predecessor without a verdict.
            _ => {}
        }
        it.first_at = Some(it.first_at.map_or(first, |at| at.min(first)));
        it.last_at = Some(it.last_at.map_or(last, |at| at.max(last)));
        *self.sources.entry(source).or_default() += count;
        Ok(())
    }

    /// Nothing when all items were looked at and none is of those that count.
    fn finish(self, rows_max: u32) -> Option<Sightings> {
        let mut it = self.sightings;
        if self.looked_at >= u64::from(rows_max) {
            it.at_least = true;
            it.first_at = None;
            it.last_at = None;
        } else if it.seen == 0 {
            return None;
        }
        let mut sources: Vec<_> = self.sources.into_iter().collect();
        // Stable: equal ones stay in the order of their names.
        sources.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others = sources.iter().skip(SOURCES_MAX);
        it.other_sources = others.map(|(_, count)| count).sum();
        sources.truncate(SOURCES_MAX);
        it.sources = sources;
        Some(it)
    }
}
