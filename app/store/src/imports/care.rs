//! Imports for operators, and after their end: listed, counted again, forgotten.

use ratebox_db::{Column, Dialect, Row, Sql, Statement};
use ratebox_kit::{Timestamp, id};
use uuid::Uuid;

use super::codes;
use super::steps::{CountedPart, FinishedPart, finished, outcome};
use crate::requests::State;
use crate::{Result, Store};

/// Which imports are meant. Everything that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportFilter {
    /// In one of these states; empty for all.
    pub states: Vec<State>,
    /// Of this owner.
    pub owner: Option<String>,
    /// Only older ones than this: the last of the page before.
    pub before: Option<Uuid>,
}

/// An import with how far it is, without its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportSummary {
    /// The import.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// Where it stands.
    pub state: State,
    /// Why it was given up, when it was.
    pub error: Option<String>,
    /// The saga that looks after it, once there is one.
    pub saga: Option<Uuid>,
    /// When it was taken.
    pub accepted_at: Timestamp,
    /// When its owner asked for its end.
    pub cancel_asked_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Items in it.
    pub item_count: u32,
    /// Items of requests that have their verdicts.
    pub items_done: u32,
    /// Items of requests that were cancelled.
    pub items_cancelled: u32,
    /// Items that are DONE, as far as they are counted.
    pub done: u32,
    /// Items that are ERROR, as far as they are counted.
    pub failed: u32,
    /// Requests that it was cut into.
    pub requests: u32,
    /// Of these, with verdicts.
    pub requests_done: u32,
    /// Of these, dead letters.
    pub requests_dead: u32,
    /// Of these, cancelled.
    pub requests_cancelled: u32,
}

/// Imports with how far they are, the latest first, and as the status of one import tells it: a
/// request that has reached its end is seen at once, also while no saga counts it, and an import
/// whose requests have begun is processing. What is counted with a verdict does not change any
/// more, so only the other requests are looked up, each by its id.
macro_rules! summary {
    ($of:literal, $filter:literal) => {
        concat!(
            "WITH heads AS MATERIALIZED (SELECT * FROM (SELECT i.id, i.owner, i.error, i.saga,
                i.accepted_at, i.cancel_asked_at, i.finished_at, i.item_count,
                CASE WHEN i.state = 'queued' AND (SELECT p.part_no FROM import_parts p
                    WHERE p.import_id = i.id AND coalesce((SELECT q.state
                        FROM validation_requests q WHERE q.id = p.request_id), p.state, 'queued')
                        <> 'queued' LIMIT 1) IS NOT NULL
                THEN 'processing' ELSE i.state END AS state
            FROM imports i ",
            $of,
            ") i WHERE ",
            $filter,
            "),
        parts AS MATERIALIZED (SELECT p.import_id, p.item_count, p.done, p.failed,
                CASE WHEN p.state IN ('success', 'partial', 'error') THEN p.state
                    ELSE coalesce((SELECT q.state FROM validation_requests q
                        WHERE q.id = p.request_id), p.state, 'queued') END AS state
            FROM heads h JOIN import_parts p ON p.import_id = h.id)
        SELECT h.id, h.owner, h.state, h.error, h.saga, h.accepted_at, h.cancel_asked_at,
            h.finished_at, h.item_count,
            CAST(coalesce(sum(CASE WHEN p.state IN ('success', 'partial', 'error')
                THEN p.item_count END), 0) AS bigint),
            CAST(coalesce(sum(CASE WHEN p.state = 'cancelled' THEN p.item_count END), 0)
                AS bigint),
            CAST(coalesce(sum(p.done), 0) AS bigint), CAST(coalesce(sum(p.failed), 0) AS bigint),
            count(p.import_id),
            count(CASE WHEN p.state IN ('success', 'partial', 'error') THEN 1 END),
            count(CASE WHEN p.state = 'dead' THEN 1 END),
            count(CASE WHEN p.state = 'cancelled' THEN 1 END)
        FROM heads h LEFT JOIN parts p ON p.import_id = h.id
        GROUP BY h.id, h.owner, h.state, h.error, h.saga, h.accepted_at, h.cancel_asked_at,
            h.finished_at, h.item_count
        ORDER BY h.id DESC"
        )
    };
}

/// States between commas, owner, before, limit.
const LIST: Sql = Sql {
    postgres: summary!(
        "",
        "($1::text IS NULL OR strpos($1, ',' || state || ',') > 0)
                AND ($2::text IS NULL OR owner = $2) AND ($3::uuid IS NULL OR id < $3)
            ORDER BY id DESC LIMIT $4"
    ),
    sqlite: summary!(
        "",
        "(?1 IS NULL OR instr(?1, ',' || state || ',') > 0)
                AND (?2 IS NULL OR owner = ?2) AND (?3 IS NULL OR id < ?3)
            ORDER BY id DESC LIMIT ?4"
    ),
};

/// As [`LIST`], of those that have not ended: they have an index.
const LIST_OPEN: Sql = Sql {
    postgres: summary!(
        "WHERE i.state IN ('queued', 'processing')",
        "($1::text IS NULL OR strpos($1, ',' || state || ',') > 0)
                AND ($2::text IS NULL OR owner = $2) AND ($3::uuid IS NULL OR id < $3)
            ORDER BY id DESC LIMIT $4"
    ),
    sqlite: summary!(
        "WHERE i.state IN ('queued', 'processing')",
        "(?1 IS NULL OR instr(?1, ',' || state || ',') > 0)
                AND (?2 IS NULL OR owner = ?2) AND (?3 IS NULL OR id < ?3)
            ORDER BY id DESC LIMIT ?4"
    ),
};

/// Behind a part, by import and number; at most so many.
const REVIVED: Sql = Sql {
    postgres: "SELECT p.part_no, q.state,
            (SELECT r.response FROM validation_responses r WHERE r.id = q.id), p.import_id
        FROM import_parts p JOIN validation_requests q ON q.id = p.request_id
        WHERE p.state = 'dead' AND q.state IN ('success', 'partial', 'error')
            AND (p.import_id, p.part_no) > ($1::uuid, $2::bigint)
        ORDER BY p.import_id, p.part_no LIMIT $3",
    sqlite: "SELECT p.part_no, q.state,
            (SELECT r.response FROM validation_responses r WHERE r.id = q.id), p.import_id
        FROM import_parts p JOIN validation_requests q ON q.id = p.request_id
        WHERE p.state = 'dead' AND q.state IN ('success', 'partial', 'error')
            AND (p.import_id, p.part_no) > (?1, ?2)
        ORDER BY p.import_id, p.part_no LIMIT ?3",
};

const RECOUNT: Sql = Sql {
    postgres: "UPDATE import_parts p SET state = n.state, done = n.done, failed = n.failed,
            codes = n.codes
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
            AS n (part_no, state, done, failed, codes)
        WHERE p.import_id = $6 AND p.part_no = n.part_no AND p.state = 'dead'",
    sqlite: "UPDATE import_parts SET state = ?2, done = ?3, failed = ?4, codes = ?5
        WHERE import_id = ?6 AND part_no = ?1 AND state = 'dead'",
};

/// One that was cancelled stays so.
const REJUDGE: Sql = Sql {
    postgres: "UPDATE imports SET state = $2
        WHERE id = $1 AND state IN ('success', 'partial', 'error', 'dead')",
    sqlite: "UPDATE imports SET state = ?2
        WHERE id = ?1 AND state IN ('success', 'partial', 'error', 'dead')",
};

/// Accepted before an id was made, ended before a time; at most so many. Old ones come first, so
/// their ids' index finds them.
const FORGET: Sql = Sql {
    postgres: "WITH old AS MATERIALIZED (SELECT id FROM imports
            WHERE id < $1 AND finished_at < $2 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED),
        parts AS (DELETE FROM import_parts USING old WHERE import_id = old.id)
        DELETE FROM imports USING old WHERE imports.id = old.id",
    sqlite: "DELETE FROM imports WHERE id IN (SELECT id FROM imports
            WHERE id < ?1 AND finished_at < ?2 ORDER BY id LIMIT ?3)",
};

/// Before [`FORGET`], in the same transaction, on SQLite, where nobody comes between.
const FORGET_PARTS: Sql = Sql {
    postgres: "DELETE FROM import_parts WHERE import_id IN (SELECT id FROM imports
            WHERE id < $1 AND finished_at < $2 ORDER BY id LIMIT $3)",
    sqlite: "DELETE FROM import_parts WHERE import_id IN (SELECT id FROM imports
            WHERE id < ?1 AND finished_at < ?2 ORDER BY id LIMIT ?3)",
};

pub(crate) const STATEMENTS: &[Sql] = &[
    LIST,
    LIST_OPEN,
    REVIVED,
    RECOUNT,
    REJUDGE,
    FORGET,
    FORGET_PARTS,
];

impl Store {
    /// Imports that match, the latest first, with how far they are.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn imports(&self, filter: &ImportFilter, max: u32) -> Result<Vec<ImportSummary>> {
        let is_open = |it: &State| !it.is_terminal();
        let only_open = !filter.states.is_empty() && filter.states.iter().all(is_open);
        let words = filter.states.iter().map(|it| format!("{},", it.as_str()));
        let words: String = std::iter::once(",".to_owned()).chain(words).collect();
        let values = vec![
            Some(words).filter(|_| !filter.states.is_empty()).into(),
            filter.owner.clone().into(),
            filter.before.into(),
            max.into(),
        ];
        let list = if only_open { LIST_OPEN } else { LIST };
        let rows = self.db().query(list.with(values)).await?;
        rows.iter().map(summary).collect()
    }

    /// Requests that were counted as dead and have their verdict by now, each with its import, from
    /// behind `after` on: the import and the number of the last one before, or the nil id and 0.
    /// Their responses come along: ask for few.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn revived_parts(
        &self,
        after: (Uuid, u32),
        max: u32,
    ) -> Result<Vec<(Uuid, FinishedPart)>> {
        let values = vec![after.0.into(), after.1.into(), max.into()];
        let rows = self.db().query(REVIVED.with(values)).await?;
        let read = |row: &Row| Ok((row.get(3)?, finished(row)?));
        rows.iter().map(read).collect()
    }

    /// Counts requests of one import that were dead, and says anew what it came to if it has
    /// ended by itself.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn recount_parts(&self, id: Uuid, parts: &[CountedPart]) -> Result<()> {
        let mut tx = self.begin().await?;
        self.hold_import(&mut tx, id).await?;
        tx.execute(counted(RECOUNT, id, parts)?).await?;
        let outcome = outcome(&mut tx, id).await?;
        tx.execute(REJUDGE.with(vec![id.into(), outcome.as_str().into()]))
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets imports that ended before a time, with their parts, at most so many; returns how
    /// many. Their requests stay.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_imports(&self, before: Timestamp, max: u32) -> Result<u64> {
        let values = || vec![id::lowest_at(before).into(), before.into(), max.into()];
        let mut statements = Vec::new();
        if self.db().dialect() == Dialect::Sqlite {
            statements.push(FORGET_PARTS.with(values()));
        }
        statements.push(FORGET.with(values()));
        let (counts, _) = self.db().run(statements).await?;
        Ok(counts.last().copied().unwrap_or(0))
    }
}

/// A statement over counted parts of one import.
pub(super) fn counted(sql: Sql, import: Uuid, parts: &[CountedPart]) -> Result<Statement> {
    let columns = vec![
        Column::Int(parts.iter().map(|it| it.number.into()).collect()),
        Column::Text(parts.iter().map(|it| it.state.as_str().into()).collect()),
        Column::Int(parts.iter().map(|it| it.done.into()).collect()),
        Column::Int(parts.iter().map(|it| it.failed.into()).collect()),
        Column::Text(parts.iter().map(|it| codes::write(&it.codes)).collect()),
    ];
    Ok(sql.rows(columns, vec![import.into()])?)
}

fn summary(row: &Row) -> Result<ImportSummary> {
    Ok(ImportSummary {
        id: row.get(0)?,
        owner: row.get(1)?,
        state: State::parse(&row.get::<String>(2)?)?,
        error: row.get(3)?,
        saga: row.get(4)?,
        accepted_at: row.get(5)?,
        cancel_asked_at: row.get(6)?,
        finished_at: row.get(7)?,
        item_count: row.get(8)?,
        items_done: row.get(9)?,
        items_cancelled: row.get(10)?,
        done: row.get(11)?,
        failed: row.get(12)?,
        requests: row.get(13)?,
        requests_done: row.get(14)?,
        requests_dead: row.get(15)?,
        requests_cancelled: row.get(16)?,
    })
}
