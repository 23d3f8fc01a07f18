//! What the saga of an import asks and changes. Calls that take a transaction join the record of
//! the saga's step; the others may be made again without harm.

use std::collections::BTreeMap;

use bytes::Bytes;
use ratebox_db::{Column, Row, Sql, Tx};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use super::care::counted;
use crate::requests::State;
use crate::{Result, Store};

/// An import as its saga sees it, held until the end of the transaction.
#[derive(Clone, Debug)]
pub struct OpenImport {
    /// Whose it is.
    pub owner: String,
    /// The datasets as they came; `None` once they are cut into requests.
    pub body: Option<Bytes>,
    /// Rules of the owner's token.
    pub profile: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Its owner asked for its end.
    pub cancel_asked: bool,
}

/// How far an import is, for whoever follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportPulse {
    /// Its owner asked for its end.
    pub cancel_asked: bool,
    /// Requests whose verdicts are not counted yet.
    pub open: u32,
}

/// A request of an import that reached its end and is not counted yet.
#[derive(Clone, Debug)]
pub struct FinishedPart {
    /// Its number within the import.
    pub number: u32,
    /// How it ended.
    pub state: State,
    /// The response envelope, JSON; none of a request without a verdict.
    pub response: Option<String>,
}

/// What a finished request adds to its import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedPart {
    /// Its number within the import.
    pub number: u32,
    /// How it ended.
    pub state: State,
    /// Items that are DONE.
    pub done: u32,
    /// Items that are ERROR.
    pub failed: u32,
    /// How often each code was raised.
    pub codes: BTreeMap<u16, u32>,
}

const UNATTENDED: Sql = Sql {
    postgres: "SELECT id FROM imports WHERE saga IS NULL ORDER BY id LIMIT $1",
    sqlite: "SELECT id FROM imports WHERE saga IS NULL ORDER BY id LIMIT ?1",
};

const ATTEND: Sql = Sql {
    postgres: "UPDATE imports SET saga = $2 WHERE id = $1 AND saga IS NULL",
    sqlite: "UPDATE imports SET saga = ?2 WHERE id = ?1 AND saga IS NULL",
};

const OPEN: Sql = Sql {
    postgres: "SELECT id, saga FROM imports
        WHERE state IN ('queued', 'processing') AND saga IS NOT NULL AND id > $1
        ORDER BY id LIMIT $2",
    sqlite: "SELECT id, saga FROM imports
        WHERE state IN ('queued', 'processing') AND saga IS NOT NULL AND id > ?1
        ORDER BY id LIMIT ?2",
};

const LEAVE: Sql = Sql {
    postgres: "UPDATE imports SET cancel_asked_at = coalesce(cancel_asked_at, $3)
        WHERE id = $1 AND saga = $2 AND state IN ('queued', 'processing')",
    sqlite: "UPDATE imports SET cancel_asked_at = coalesce(cancel_asked_at, ?3)
        WHERE id = ?1 AND saga = ?2 AND state IN ('queued', 'processing')",
};

const HAND_OVER: Sql = Sql {
    postgres: "UPDATE imports SET saga = $3 WHERE id = $1 AND saga = $2",
    sqlite: "UPDATE imports SET saga = ?3 WHERE id = ?1 AND saga = ?2",
};

const HOLD: Sql = Sql {
    postgres: "SELECT owner, body, profile, traceparent, state, cancel_asked_at IS NOT NULL
        FROM imports WHERE id = $1 FOR UPDATE",
    sqlite: "SELECT owner, body, profile, traceparent, state, cancel_asked_at IS NOT NULL
        FROM imports WHERE id = ?1",
};

const SUBMITTED: Sql = Sql {
    postgres: "UPDATE imports SET body = NULL WHERE id = $1",
    sqlite: "UPDATE imports SET body = NULL WHERE id = ?1",
};

const PULSE: Sql = Sql {
    postgres: "SELECT cancel_asked_at IS NOT NULL,
            (SELECT count(*) FROM import_parts p WHERE p.import_id = i.id AND p.state IS NULL)
        FROM imports i WHERE i.id = $1",
    sqlite: "SELECT cancel_asked_at IS NOT NULL,
            (SELECT count(*) FROM import_parts p WHERE p.import_id = i.id AND p.state IS NULL)
        FROM imports i WHERE i.id = ?1",
};

const FINISHED: Sql = Sql {
    postgres: "SELECT p.part_no, q.state,
            (SELECT r.response FROM validation_responses r WHERE r.id = q.id)
        FROM import_parts p JOIN validation_requests q ON q.id = p.request_id
        WHERE p.import_id = $1 AND p.state IS NULL AND q.state NOT IN ('queued', 'processing')
        ORDER BY p.part_no LIMIT $2",
    sqlite: "SELECT p.part_no, q.state,
            (SELECT r.response FROM validation_responses r WHERE r.id = q.id)
        FROM import_parts p JOIN validation_requests q ON q.id = p.request_id
        WHERE p.import_id = ?1 AND p.state IS NULL AND q.state NOT IN ('queued', 'processing')
        ORDER BY p.part_no LIMIT ?2",
};

const COUNT: Sql = Sql {
    postgres: "UPDATE import_parts p SET state = n.state, done = n.done, failed = n.failed,
            codes = n.codes
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
            AS n (part_no, state, done, failed, codes)
        WHERE p.import_id = $6 AND p.part_no = n.part_no AND p.state IS NULL",
    sqlite: "UPDATE import_parts SET state = ?2, done = ?3, failed = ?4, codes = ?5
        WHERE import_id = ?6 AND part_no = ?1 AND state IS NULL",
};

const PROCESSING: Sql = Sql {
    postgres: "UPDATE imports SET state = 'processing' WHERE id = $1 AND state = 'queued'",
    sqlite: "UPDATE imports SET state = 'processing' WHERE id = ?1 AND state = 'queued'",
};

const UNJUDGED: Sql = Sql {
    postgres: "SELECT q.id FROM import_parts p JOIN validation_requests q ON q.id = p.request_id
        WHERE p.import_id = $1 AND q.state IN ('queued', 'processing') ORDER BY q.id",
    sqlite: "SELECT q.id FROM import_parts p JOIN validation_requests q ON q.id = p.request_id
        WHERE p.import_id = ?1 AND q.state IN ('queued', 'processing') ORDER BY q.id",
};

const CANCEL: Sql = Sql {
    postgres: "UPDATE validation_requests SET state = 'cancelled', body = NULL, finished_at = $2
        WHERE id = ANY($1::uuid[]) AND state IN ('queued', 'processing')",
    sqlite: "UPDATE validation_requests SET state = 'cancelled', body = NULL, finished_at = ?2
        WHERE id = ?1 AND state IN ('queued', 'processing')",
};

/// Also those of an import that was never cut.
const CANCEL_PARTS: Sql = Sql {
    postgres: "UPDATE import_parts SET state = 'cancelled'
        WHERE import_id = $1 AND state IS NULL AND NOT EXISTS (SELECT 1
            FROM validation_requests q WHERE q.id = request_id AND q.state <> 'cancelled')",
    sqlite: "UPDATE import_parts SET state = 'cancelled'
        WHERE import_id = ?1 AND state IS NULL AND NOT EXISTS (SELECT 1
            FROM validation_requests q WHERE q.id = request_id AND q.state <> 'cancelled')",
};

const TALLY: Sql = Sql {
    postgres: "SELECT state, count(*), sum(done)::bigint, sum(failed)::bigint
        FROM import_parts WHERE import_id = $1 GROUP BY state",
    sqlite: "SELECT state, count(*), sum(done), sum(failed)
        FROM import_parts WHERE import_id = ?1 GROUP BY state",
};

const FINISH: Sql = Sql {
    postgres: "UPDATE imports SET state = $2, error = $3, finished_at = $4, body = NULL
        WHERE id = $1 AND state IN ('queued', 'processing')",
    sqlite: "UPDATE imports SET state = ?2, error = ?3, finished_at = ?4, body = NULL
        WHERE id = ?1 AND state IN ('queued', 'processing')",
};

pub(crate) const STATEMENTS: &[Sql] = &[
    UNATTENDED,
    ATTEND,
    OPEN,
    LEAVE,
    HAND_OVER,
    HOLD,
    SUBMITTED,
    PULSE,
    FINISHED,
    COUNT,
    PROCESSING,
    UNJUDGED,
    CANCEL,
    CANCEL_PARTS,
    TALLY,
    FINISH,
];

impl Store {
    /// Imports that no saga looks after yet, oldest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn unattended_imports(&self, max: u32) -> Result<Vec<Uuid>> {
        let rows = self.db().query(UNATTENDED.with(vec![max.into()])).await?;
        ids(&rows)
    }

    /// Remembers which saga looks after an import.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn attend_import(&self, id: Uuid, saga: Uuid) -> Result<()> {
        let attend = ATTEND.with(vec![id.into(), saga.into()]);
        self.db().execute(attend).await?;
        Ok(())
    }

    /// Imports that have a saga and no end, by id, from behind `after` on; each with its saga.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn open_imports(&self, after: Uuid, max: u32) -> Result<Vec<(Uuid, Uuid)>> {
        let values = vec![after.into(), max.into()];
        let rows = self.db().query(OPEN.with(values)).await?;
        let pairs = rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?)));
        pairs.collect()
    }

    /// Asks for the end of an import whose saga is gone; false when it has ended, or has another
    /// saga.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn import_is_left(&self, id: Uuid, saga: Uuid) -> Result<bool> {
        let values = vec![id.into(), saga.into(), self.clock().now().into()];
        Ok(self.db().execute(LEAVE.with(values)).await? > 0)
    }

    /// Remembers that another saga looks after an import.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn hand_over_import(&self, id: Uuid, from: Uuid, to: Uuid) -> Result<()> {
        let values = vec![id.into(), from.into(), to.into()];
        self.db().execute(HAND_OVER.with(values)).await?;
        Ok(())
    }

    /// Reads an import and holds it until the transaction ends: its owner's wish to end it waits.
    ///
    /// # Errors
    /// When the database is away; the transaction can then only be dropped.
    pub async fn hold_import(&self, tx: &mut Tx, id: Uuid) -> Result<Option<OpenImport>> {
        let rows = tx.query(HOLD.with(vec![id.into()])).await?;
        rows.first().map(open).transpose()
    }

    /// Lets go of the datasets: the requests are in the same transaction.
    ///
    /// # Errors
    /// As [`Store::hold_import`].
    pub async fn import_is_submitted(&self, tx: &mut Tx, id: Uuid) -> Result<()> {
        tx.execute(SUBMITTED.with(vec![id.into()])).await?;
        Ok(())
    }

    /// How far an import is; `None` when there is none.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn import_pulse(&self, id: Uuid) -> Result<Option<ImportPulse>> {
        let rows = self.db().query(PULSE.with(vec![id.into()])).await?;
        let pulse = |row: &Row| -> Result<ImportPulse> {
            Ok(ImportPulse {
                cancel_asked: row.get(0)?,
                open: row.get(1)?,
            })
        };
        rows.first().map(pulse).transpose()
    }

    /// Requests of an import that reached their end and are not counted yet, by number. Their
    /// responses come along: ask for few.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn finished_parts(&self, id: Uuid, max: u32) -> Result<Vec<FinishedPart>> {
        let values = vec![id.into(), max.into()];
        let rows = self.db().query(FINISHED.with(values)).await?;
        rows.iter().map(finished).collect()
    }

    /// Counts requests. One that is counted already stays as it is.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count_parts(&self, id: Uuid, parts: &[CountedPart]) -> Result<()> {
        let count = counted(COUNT, id, parts)?;
        let processing = PROCESSING.with(vec![id.into()]);
        self.db().run(vec![count, processing]).await?;
        Ok(())
    }

    /// Requests of an import that have no verdict and did not fail for good.
    ///
    /// # Errors
    /// As [`Store::hold_import`].
    pub async fn unjudged_requests(&self, tx: &mut Tx, id: Uuid) -> Result<Vec<Uuid>> {
        ids(&tx.query(UNJUDGED.with(vec![id.into()])).await?)
    }

    /// Cancels requests that have no verdict yet; returns how many. The caller has marked them in
    /// the workers' inbox in the same transaction, so that none of them is judged any more.
    ///
    /// # Errors
    /// As [`Store::hold_import`].
    pub async fn cancel_requests(&self, tx: &mut Tx, requests: Vec<Uuid>) -> Result<u64> {
        let now = self.clock().now();
        let cancel = CANCEL.rows(vec![Column::Uuid(requests)], vec![now.into()])?;
        Ok(tx.execute(cancel).await?)
    }

    /// Counts the cancelled requests of an import, also those that were never made.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count_cancelled_parts(&self, id: Uuid) -> Result<u64> {
        let cancel = CANCEL_PARTS.with(vec![id.into()]);
        Ok(self.db().execute(cancel).await?)
    }

    /// What the counted requests of an import come to: `success` when every item is DONE, `error`
    /// when none is, `dead` when no request has a verdict, else `partial`.
    ///
    /// # Errors
    /// As [`Store::hold_import`].
    pub async fn import_outcome(&self, tx: &mut Tx, id: Uuid) -> Result<State> {
        outcome(tx, id).await
    }

    /// Writes the end of an import, unless it has ended; true when it is this one.
    ///
    /// # Errors
    /// As [`Store::hold_import`].
    pub async fn finish_import(
        &self,
        tx: &mut Tx,
        id: Uuid,
        state: State,
        error: Option<&str>,
    ) -> Result<bool> {
        let now: Timestamp = self.clock().now();
        let values = vec![id.into(), state.as_str().into(), error.into(), now.into()];
        Ok(tx.execute(FINISH.with(values)).await? > 0)
    }
}

pub(super) async fn outcome(tx: &mut Tx, id: Uuid) -> Result<State> {
    let rows = tx.query(TALLY.with(vec![id.into()])).await?;
    let (mut done, mut failed, mut without) = (0, 0, 0);
    for row in &rows {
        let state: Option<String> = row.get(0)?;
        if matches!(state.as_deref(), Some("success" | "partial" | "error")) {
            done += row.get::<u64>(2)?;
            failed += row.get::<u64>(3)?;
        } else {
            without += row.get::<u64>(1)?;
        }
    }
    Ok(match (done, failed, without) {
        (0, 0, 1..) => State::Dead,
        (_, 0, 0) => State::Success,
        (0, _, 0) => State::Error,
        _ => State::Partial,
    })
}

fn ids(rows: &[Row]) -> Result<Vec<Uuid>> {
    let ids = rows.iter().map(|row| row.get(0));
    Ok(ids.collect::<ratebox_db::Result<_>>()?)
}

fn open(row: &Row) -> Result<OpenImport> {
    Ok(OpenImport {
        owner: row.get(0)?,
        body: row.get(1)?,
        profile: row.get(2)?,
        traceparent: row.get(3)?,
        state: State::parse(&row.get::<String>(4)?)?,
        cancel_asked: row.get(5)?,
    })
}

pub(super) fn finished(row: &Row) -> Result<FinishedPart> {
    Ok(FinishedPart {
        number: row.get(0)?,
        state: State::parse(&row.get::<String>(1)?)?,
        response: row.get(2)?,
    })
}
