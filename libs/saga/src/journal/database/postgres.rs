//! A batch on PostgreSQL: one statement, which is a transaction of its own. One message to the
//! server and one answer, and nobody can stand still between its parts.

use ratebox_db::{Column, Db, Sql};

use super::Outcome;
use super::columns::Batch;
use crate::{Owner, Result};

/// Everything or nothing, but for starts whose id or key exists, which are left out: what is
/// written hangs on `go`, which has its row only while the process is in order and owns every saga
/// that is appended to.
///
/// A saga that has not ended stays with a process that is in order, so its row is only looked at.
/// Whoever changes a head holds its row, because an ended saga can be claimed by others. Records
/// are inserted without asking whether they exist: only a repetition finds them, and then fails as
/// a whole and goes the long way.
const WRITE: Sql = Sql {
    postgres: "WITH process AS MATERIALIZED (SELECT epoch FROM saga_processes
            WHERE epoch = $34 AND NOT fenced FOR KEY SHARE),
        head AS MATERIALIZED (SELECT id FROM sagas
            WHERE id = ANY ($11::uuid[]) AND owner = $34 FOR NO KEY UPDATE),
        go AS MATERIALIZED (SELECT FROM process
            WHERE (SELECT count(*) FROM head) = cardinality($11)
              AND (SELECT count(*) FROM sagas WHERE id = ANY ($18::uuid[]) AND owner = $34)
                = cardinality($18)),
        started AS (
            INSERT INTO sagas (id, definition, version, hash, key, parent, parent_step, input,
                status, created_at, updated_at, owner)
            SELECT id, definition, version, hash, key,
                nullif(parent, '00000000-0000-0000-0000-000000000000'), parent_step, input, status,
                at, at, $34
            FROM go, unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                $6::uuid[], $7::text[], $8::text[], $9::text[], $10::timestamptz[])
                AS it (id, definition, version, hash, key, parent, parent_step, input, status, at)
            ON CONFLICT DO NOTHING RETURNING 1),
        changed AS (
            UPDATE sagas SET status = it.status, wake = it.wake,
                error = coalesce(sagas.error, it.error),
                output = coalesce(it.output, sagas.output),
                updated_at = it.at, ended_at = it.ended_at
            FROM go, unnest($11::uuid[], $12::text[], $13::bigint[], $14::text[], $15::text[],
                $16::timestamptz[], $17::timestamptz[])
                AS it (id, status, wake, error, output, at, ended_at)
            WHERE sagas.id = it.id),
        recorded AS (
            INSERT INTO saga_journal (saga, seq, step, item, kind, class, attempt, at, took_us, due,
                payload, note, who)
            SELECT saga, seq, step, item, kind, nullif(class, 0), attempt, at, took_us, due,
                payload, note, who
            FROM go, unnest($19::uuid[], $20::int[], $21::text[], $22::int[], $23::smallint[],
                $24::smallint[], $25::int[], $26::timestamptz[], $27::bigint[],
                $28::timestamptz[], $29::text[], $30::text[], $31::text[])
                AS it (saga, seq, step, item, kind, class, attempt, at, took_us, due, payload,
                    note, who)),
        read AS (DELETE FROM saga_letters USING go
            WHERE id = ANY ($32::uuid[]) OR saga = ANY ($33::uuid[]))
        SELECT (SELECT count(*) FROM process), (SELECT count(*) FROM go),
            (SELECT count(*) FROM started)",
    sqlite: "",
};

/// Writes a batch in which no saga occurs twice, and whose starts have no records.
pub(super) async fn write(db: &Db, owner: Owner, batch: Batch) -> Result<Outcome> {
    let starts = batch.starts.len() as u64;
    let mut columns = batch.starts.columns();
    columns.extend(batch.heads.columns());
    columns.push(Column::Uuid(batch.headless));
    columns.extend(batch.records.columns());
    columns.push(Column::Uuid(batch.letters));
    columns.push(Column::Uuid(batch.ended));
    let statement = WRITE.arrays(columns, vec![owner.epoch.into()]);
    let rows = match db.query(statement).await {
        Err(error) if error.is_duplicate() => return Ok(Outcome::Unclear),
        rows => rows?,
    };
    let counts = rows.first().ok_or(ratebox_db::Error::Shape)?;
    let (process, go, started): (u64, u64, u64) = (counts.get(0)?, counts.get(1)?, counts.get(2)?);
    Ok(match (process, go) {
        (0, _) => Outcome::Fenced,
        (_, 0) => Outcome::Unclear,
        _ if started == starts => Outcome::Kept,
        _ => Outcome::Unclear,
    })
}

/// As `sql::STATEMENTS`, for PostgreSQL alone.
pub const POSTGRES_STATEMENTS: &[Sql] = &[WRITE];
