//! The predecessor's sagas as ours: views over its tables, and statements over the views. They need
//! the views, so they are not in the list of statements that tests prepare.

use ratebox_db::Sql;

/// Whether the schema is our own, and how many of the predecessor's two tables are there with the
/// columns that all of its versions had.
pub(super) const LOOK: Sql = Sql {
    postgres: "SELECT current_schema() = $1::text,
        (SELECT count(DISTINCT table_name) FROM information_schema.columns
         WHERE table_schema = $1::text AND table_name = 'sagas' AND column_name = 'saga_name')",
    sqlite: "",
};

pub(super) const DROP: &str = "DROP VIEW IF EXISTS adopt_saga_records, adopt_sagas;";

/// Views that hide how the predecessor wrote: `adopt_sagas` and `adopt_saga_records`.
///
/// Ids carry the time of the saga's start, as ours do, and a hash of the old id. Numbers of records
/// follow their times.
pub(super) fn views(schema: &str) -> String {
    let schema = format!("\"{}\"", schema.replace('"', "\"\""));
    format!(
        "BEGIN; {DROP}
        CREATE VIEW adopt_sagas AS SELECT o.saga_id AS old_id,
            (lpad(to_hex((extract(epoch FROM o.created_at) * 1000)::bigint), 12, '0') || '7'
                || substr(md5(o.saga_id), 1, 3) || '8' || substr(md5(o.saga_id), 4, 15))::uuid AS id,
            o.saga_name AS definition, o.created_at, coalesce(o.updated_at, o.created_at) AS updated_at,
            CASE lower(o.status) WHEN 'completed' THEN 'completed'
                WHEN 'rolled_back' THEN 'rolled_back' WHEN 'failed' THEN 'failed'
                ELSE 'parked' END AS status,
            coalesce(o.context::text, 'null') AS input, lower(o.status) AS was
        FROM {schema}.sagas o;
        CREATE VIEW adopt_saga_records AS SELECT s.id AS saga,
            row_number() OVER (PARTITION BY s.id ORDER BY it.at, it.kind, t.id) - 1 AS seq,
            t.step_name AS step, it.kind, it.class, coalesce(t.retry_count, 0) + 1 AS attempt,
            coalesce(it.at, s.created_at) AS at, it.payload, it.note
        FROM {schema}.saga_steps t JOIN adopt_sagas s ON s.old_id = t.saga_id,
            LATERAL (
                SELECT 3 AS kind, NULL::smallint AS class, t.executed_at AS at,
                    coalesce(t.result::text, 'null') AS payload, NULL::text AS note
                WHERE lower(t.status) IN ('completed', 'compensating', 'compensated')
                UNION ALL SELECT 4, 3::smallint, t.executed_at, NULL, left(t.error, 500)
                WHERE lower(t.status) = 'failed'
                UNION ALL SELECT 10, NULL, coalesce(t.compensated_at, t.executed_at), NULL, NULL
                WHERE lower(t.status) = 'compensated') it;
        COMMIT;"
    )
}

pub(super) const COPY_HEADS: Sql = Sql {
    postgres: "INSERT INTO sagas (id, version, owner, wake, created_at, updated_at, ended_at,
            definition, hash, key, status, input, error)
        SELECT id, 0, 0, 9223372036854775807, created_at, updated_at,
            CASE WHEN status = 'parked' THEN NULL ELSE updated_at END,
            definition, 'predecessor', old_id, status, input,
            CASE WHEN status = 'parked'
                THEN 'it was ' || was || ' when it was taken over: its steps are not here' END
        FROM adopt_sagas ON CONFLICT DO NOTHING",
    sqlite: "",
};

/// Only of sagas that were taken over, and have not been written to since.
pub(super) const COPY_RECORDS: Sql = Sql {
    postgres: "INSERT INTO saga_journal
            (saga, seq, step, item, kind, class, attempt, at, took_us, payload, note)
        SELECT r.saga, r.seq, r.step, 0, r.kind, r.class, r.attempt, r.at, 0, r.payload, r.note
        FROM adopt_saga_records r JOIN sagas s ON s.id = r.saga AND s.hash = 'predecessor'
        WHERE NOT EXISTS (SELECT 1 FROM saga_journal j WHERE j.saga = r.saga)
        ON CONFLICT DO NOTHING",
    sqlite: "",
};

pub(super) const COMPARE: Sql = Sql {
    postgres: "SELECT
        (SELECT count(*) FROM adopt_sagas),
        (SELECT count(*) FROM adopt_sagas o JOIN sagas s
            ON s.id = o.id AND s.definition = o.definition AND s.key = o.old_id),
        (SELECT count(*) FROM adopt_saga_records),
        (SELECT count(*) FROM adopt_saga_records r JOIN saga_journal j
            ON j.saga = r.saga AND j.seq = r.seq AND j.step = r.step AND j.kind = r.kind)",
    sqlite: "",
};
