//! A batch on PostgreSQL: one call of a function, which is a transaction of its own. One message to
//! the server and one answer, and nobody can stand still between its parts.

use ratebox_db::{Column, Db, Sql};

use super::Outcome;
use super::columns::Batch;
use crate::{Owner, Result};

/// Answers whether the process is in order, whether the batch was written, and how many sagas were
/// started.
const WRITE: Sql = Sql {
    postgres:
        "SELECT * FROM saga_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
        $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32,
        $33, $34)",
    sqlite: "",
};

/// The function, for the migration.
///
/// Everything or nothing, but for starts whose id or key exists, which are left out: a batch is
/// written only while the process is in order and owns every saga that is appended to. The key
/// lock on the process waits for nobody who renews; who fences takes the whole row and waits for
/// it.
///
/// A saga that has not ended stays with a process that is in order, so its row is only looked at.
/// Whoever changes a head holds its row, because an ended saga can be claimed by others. Records
/// are inserted without asking whether they exist: only a repetition finds them, and then fails as
/// a whole and goes the long way.
///
/// Plans are made once a connection, maybe while the tables are empty and reading them whole is the
/// cheapest, and kept while they grow: so it may only use indexes.
macro_rules! function {
    () => {
        "CREATE FUNCTION saga_write(uuid[], text[], bigint[], text[], text[], uuid[], text[], text[],
            text[], timestamptz[], uuid[], text[], bigint[], text[], text[], timestamptz[],
            timestamptz[], uuid[], uuid[], int[], text[], int[], smallint[], smallint[], int[],
            timestamptz[], bigint[], timestamptz[], text[], text[], text[], uuid[], uuid[], bigint,
            OUT processes bigint, OUT writes bigint, OUT starts bigint)
        LANGUAGE plpgsql
        SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
        AS $function$
        #variable_conflict use_column
        DECLARE
            found_count bigint;
        BEGIN
            processes := 0;
            writes := 0;
            starts := 0;
            PERFORM FROM saga_processes WHERE epoch = $34 AND NOT fenced FOR KEY SHARE;
            IF NOT FOUND THEN
                RETURN;
            END IF;
            processes := 1;
            IF cardinality($11) > 0 THEN
                PERFORM FROM sagas WHERE id = ANY ($11) AND owner = $34 FOR NO KEY UPDATE;
                GET DIAGNOSTICS found_count = ROW_COUNT;
                IF found_count < cardinality($11) THEN
                    RETURN;
                END IF;
            END IF;
            IF cardinality($18) > 0 THEN
                PERFORM FROM sagas WHERE id = ANY ($18) AND owner = $34;
                GET DIAGNOSTICS found_count = ROW_COUNT;
                IF found_count < cardinality($18) THEN
                    RETURN;
                END IF;
            END IF;
            writes := 1;
            IF cardinality($1) > 0 THEN
                INSERT INTO sagas (id, definition, version, hash, key, parent, parent_step, input,
                    status, created_at, updated_at, owner)
                SELECT it.id, it.definition, it.version, it.hash, it.key,
                    nullif(it.parent, '00000000-0000-0000-0000-000000000000'), it.parent_step,
                    it.input, it.status, it.at, it.at, $34
                FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS it
                    (id, definition, version, hash, key, parent, parent_step, input, status, at)
                ON CONFLICT DO NOTHING;
                GET DIAGNOSTICS starts = ROW_COUNT;
            END IF;
            IF cardinality($19) > 0 THEN
                INSERT INTO saga_journal (saga, seq, step, item, kind, class, attempt, at, took_us,
                    due, payload, note, who)
                SELECT it.saga, it.seq, it.step, it.item, it.kind, nullif(it.class, 0), it.attempt,
                    it.at, it.took_us, it.due, it.payload, it.note, it.who
                FROM unnest($19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31) AS it
                    (saga, seq, step, item, kind, class, attempt, at, took_us, due, payload, note,
                    who);
            END IF;
            IF cardinality($11) > 0 THEN
                UPDATE sagas SET status = it.status, wake = it.wake,
                    error = coalesce(sagas.error, it.error),
                    output = coalesce(it.output, sagas.output),
                    updated_at = it.at, ended_at = it.ended_at
                FROM unnest($11, $12, $13, $14, $15, $16, $17) AS it
                    (id, status, wake, error, output, at, ended_at)
                WHERE sagas.id = it.id;
            END IF;
            IF cardinality($32) > 0 THEN
                DELETE FROM saga_letters WHERE id = ANY ($32);
            END IF;
            IF cardinality($33) > 0 THEN
                DELETE FROM saga_letters WHERE saga = ANY ($33);
            END IF;
        END $function$;"
    };
}
pub(super) use function;

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
        _ => Outcome::SomeExist,
    })
}

/// As `sql::STATEMENTS`, for PostgreSQL alone.
pub const POSTGRES_STATEMENTS: &[Sql] = &[WRITE];
