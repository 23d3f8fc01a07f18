//! Every statement of the journal, both dialects side by side.
//!
//! Ends of leases are the database's own time; all other times are the callers'. Where many rows
//! travel, PostgreSQL gets columns as arrays and SQLite runs the statement once a row.

use ratebox_db::Sql;

/// The columns of a head, as `decode::head` reads them.
macro_rules! head {
    () => {
        "id, definition, version, hash, key, parent, parent_step, input, status, wake, error, \
         output, owner, created_at, updated_at, ended_at"
    };
}

// === processes ===

/// A membership; answers its number.
pub(super) const JOIN: Sql = Sql {
    postgres: "INSERT INTO saga_processes (name, ends_at)
        VALUES ($1, clock_timestamp() + $2::float8 * interval '1 millisecond') RETURNING epoch",
    sqlite: "INSERT INTO saga_processes (name, ends_at)
        VALUES (?1, CAST(unixepoch('subsec') * 1000000 + ?2 * 1000 AS INTEGER)) RETURNING epoch",
};

pub(super) const RENEW: Sql = Sql {
    postgres: "UPDATE saga_processes
        SET ends_at = clock_timestamp() + $2::float8 * interval '1 millisecond'
        WHERE epoch = $1 AND NOT fenced",
    sqlite: "UPDATE saga_processes
        SET ends_at = CAST(unixepoch('subsec') * 1000000 + ?2 * 1000 AS INTEGER)
        WHERE epoch = ?1 AND fenced = 0",
};

/// Fences one. The lock waits for what its holder is writing, and nothing can be written after.
pub(super) const LEAVE: Sql = Sql {
    postgres: "UPDATE saga_processes SET fenced = true WHERE epoch IN
        (SELECT epoch FROM saga_processes WHERE epoch = $1 FOR UPDATE)",
    sqlite: "UPDATE saga_processes SET fenced = 1 WHERE epoch = ?1",
};

/// Answers a row while the process is not fenced, and keeps it so until the transaction ends. A
/// key lock: fencing takes the whole row and must wait, renewing does not touch the key and need not.
pub(super) const CONFIRM: Sql = Sql {
    postgres: "SELECT epoch FROM saga_processes WHERE epoch = $1 AND NOT fenced FOR KEY SHARE",
    sqlite: "SELECT epoch FROM saga_processes WHERE epoch = ?1 AND fenced = 0",
};

/// As [`CONFIRM`], for this moment only.
pub(super) const CONFIRM_ONLY: Sql = Sql {
    postgres: "SELECT epoch FROM saga_processes WHERE epoch = $1 AND NOT fenced",
    sqlite: "SELECT epoch FROM saga_processes WHERE epoch = ?1 AND fenced = 0",
};

/// Changes nothing. For tests that wait until the database has done what it was asked.
#[cfg(feature = "testing")]
pub(crate) const NOTHING: Sql = Sql::both("UPDATE saga_processes SET name = name WHERE epoch = 0");

// === takeover ===

/// Whether the process is in order, and whether a takeover has anything to do.
pub(super) const LOOK: Sql = Sql {
    postgres: "SELECT (SELECT count(*) FROM saga_processes WHERE epoch = $1 AND NOT fenced),
        EXISTS (SELECT 1 FROM saga_processes
            WHERE epoch <> $1 AND (fenced OR ends_at < clock_timestamp()))
        OR EXISTS (SELECT 1 FROM sagas WHERE ended_at IS NULL AND owner = 0)
        OR EXISTS (SELECT 1 FROM saga_letters l JOIN sagas s ON s.id = l.saga
            WHERE l.handed_to IS NULL AND s.ended_at IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM saga_processes p WHERE p.epoch = s.owner AND NOT p.fenced))",
    sqlite: "SELECT (SELECT count(*) FROM saga_processes WHERE epoch = ?1 AND fenced = 0),
        EXISTS (SELECT 1 FROM saga_processes WHERE epoch <> ?1
            AND (fenced = 1 OR ends_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER)))
        OR EXISTS (SELECT 1 FROM sagas WHERE ended_at IS NULL AND owner = 0)
        OR EXISTS (SELECT 1 FROM saga_letters l JOIN sagas s ON s.id = l.saga
            WHERE l.handed_to IS NULL AND s.ended_at IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM saga_processes p WHERE p.epoch = s.owner AND p.fenced = 0))",
};

/// Fences whose lease has ended. One that is in the middle of a write is left for the next time;
/// who is fenced here has nothing under way.
pub(super) const FENCE: Sql = Sql {
    postgres: "UPDATE saga_processes SET fenced = true WHERE epoch IN
        (SELECT epoch FROM saga_processes
         WHERE epoch <> $1 AND NOT fenced AND ends_at < clock_timestamp()
         FOR UPDATE SKIP LOCKED)",
    sqlite: "UPDATE saga_processes SET fenced = 1 WHERE epoch <> ?1 AND fenced = 0
        AND ends_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
};

/// Takes sagas of the fenced and of nobody; their letters will be handed out anew. A statement of
/// its own after [`FENCE`], so that it sees everything that the fenced have written.
pub(super) const TAKE: Sql = Sql {
    postgres: "WITH orphan AS MATERIALIZED (
            SELECT id FROM sagas WHERE ended_at IS NULL AND owner = ANY (ARRAY (
                SELECT epoch FROM saga_processes WHERE fenced UNION ALL SELECT 0))
            LIMIT $2 FOR UPDATE SKIP LOCKED),
        letter AS (UPDATE saga_letters SET handed_to = NULL FROM orphan
            WHERE saga = orphan.id AND handed_to IS NOT NULL)
        UPDATE sagas SET owner = $1 FROM orphan WHERE sagas.id = orphan.id
        RETURNING sagas.id, wake",
    sqlite: "UPDATE sagas SET owner = ?1 WHERE id IN (
            SELECT id FROM sagas WHERE ended_at IS NULL AND owner IN
                (SELECT epoch FROM saga_processes WHERE fenced = 1 UNION ALL SELECT 0)
            LIMIT ?2)
        RETURNING id, wake",
};

/// What was handed to the fenced is as if it had not been.
pub(super) const TAKE_BACK: Sql = Sql {
    postgres: "UPDATE saga_letters SET handed_to = NULL
        WHERE handed_to IN (SELECT epoch FROM saga_processes WHERE fenced)",
    sqlite: "UPDATE saga_letters SET handed_to = NULL
        WHERE handed_to IN (SELECT epoch FROM saga_processes WHERE fenced = 1)",
};

/// Takes sagas that have ended, were told something since, and whose process is gone. After
/// [`TAKE_BACK`].
pub(super) const TAKE_TOLD: Sql = Sql {
    postgres: "WITH told AS MATERIALIZED (
            SELECT id FROM sagas WHERE ended_at IS NOT NULL
                AND id IN (SELECT saga FROM saga_letters WHERE handed_to IS NULL)
                AND NOT EXISTS (SELECT 1 FROM saga_processes WHERE epoch = owner AND NOT fenced)
            LIMIT $2 FOR UPDATE SKIP LOCKED)
        UPDATE sagas SET owner = $1 FROM told WHERE sagas.id = told.id RETURNING sagas.id",
    sqlite: "UPDATE sagas SET owner = ?1 WHERE id IN (
            SELECT id FROM sagas WHERE ended_at IS NOT NULL
                AND id IN (SELECT saga FROM saga_letters WHERE handed_to IS NULL)
                AND NOT EXISTS
                    (SELECT 1 FROM saga_processes WHERE epoch = owner AND fenced = 0)
            LIMIT ?2)
        RETURNING id",
};

/// Letters to sagas that changed hands; on PostgreSQL [`TAKE`] has done it.
pub(super) const RENEW_LETTERS: Sql = Sql {
    postgres: "UPDATE saga_letters SET handed_to = NULL
        WHERE saga = ANY ($1::uuid[]) AND handed_to IS NOT NULL",
    sqlite: "UPDATE saga_letters SET handed_to = NULL WHERE saga = ?1 AND handed_to IS NOT NULL",
};

/// Forgets fenced processes that nobody needs to remember: they own nothing that has not ended.
pub(super) const FORGET: Sql = Sql {
    postgres: "DELETE FROM saga_processes WHERE fenced AND NOT EXISTS
        (SELECT 1 FROM sagas WHERE ended_at IS NULL AND owner = epoch)",
    sqlite: "DELETE FROM saga_processes WHERE fenced = 1 AND NOT EXISTS
        (SELECT 1 FROM sagas WHERE ended_at IS NULL AND owner = epoch)",
};

/// Holds a saga's row until the transaction ends.
pub(super) const HOLD: Sql = Sql {
    postgres: "SELECT owner FROM sagas WHERE id = $1 FOR NO KEY UPDATE",
    sqlite: "SELECT owner FROM sagas WHERE id = ?1",
};

/// Makes a saga one's own, if it may be. Only after [`HOLD`]: a process that joined while this
/// waited for the row would not be seen.
pub(super) const CLAIM: Sql = Sql {
    postgres: "UPDATE sagas SET owner = $1 WHERE id = $2 AND (ended_at IS NOT NULL OR owner = $1
        OR NOT EXISTS (SELECT 1 FROM saga_processes WHERE epoch = owner AND NOT fenced))
        RETURNING id",
    sqlite: "UPDATE sagas SET owner = ?1 WHERE id = ?2 AND (ended_at IS NOT NULL OR owner = ?1
        OR NOT EXISTS (SELECT 1 FROM saga_processes WHERE epoch = owner AND fenced = 0))
        RETURNING id",
};

/// Makes a saga one's own that is parked as a whole (`Kind::Parked`), whoever has it. Only after
/// [`HOLD`]: its owner writes nothing about such a saga without its row.
pub(super) const TAKE_PARKED: Sql = Sql {
    postgres: "UPDATE sagas SET owner = $1 WHERE id = $2 AND status = 'parked' AND 21 =
            (SELECT kind FROM saga_journal WHERE saga = $2 ORDER BY seq DESC LIMIT 1)
        RETURNING id",
    sqlite: "UPDATE sagas SET owner = ?1 WHERE id = ?2 AND status = 'parked' AND 21 =
            (SELECT kind FROM saga_journal WHERE saga = ?2 ORDER BY seq DESC LIMIT 1)
        RETURNING id",
};

// === writing ===

/// New sagas; the columns of `columns::Starts`, then the owner. One whose id or key exists is left
/// out.
pub(super) const START: Sql = Sql {
    postgres: "INSERT INTO sagas (id, definition, version, hash, key, parent, parent_step, input,
            status, created_at, updated_at, owner)
        SELECT id, definition, version, hash, key,
            nullif(parent, '00000000-0000-0000-0000-000000000000'), parent_step, input, status,
            at, at, $11
        FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::uuid[],
            $7::text[], $8::text[], $9::text[], $10::timestamptz[])
            AS it (id, definition, version, hash, key, parent, parent_step, input, status, at)
        ON CONFLICT DO NOTHING",
    sqlite: "INSERT INTO sagas (id, definition, version, hash, key, parent, parent_step, input,
            status, created_at, updated_at, owner)
        SELECT ?1, ?2, ?3, ?4, ?5, nullif(?6, zeroblob(16)), ?7, ?8, ?9, ?10, ?10, ?11
        WHERE ?11 = 0
            OR EXISTS (SELECT 1 FROM saga_processes WHERE epoch = ?11 AND fenced = 0)
        ON CONFLICT DO NOTHING",
};

/// New records; the columns of `columns::Records`, then the owner. One that exists stays.
pub(super) const RECORD: Sql = Sql {
    postgres: "INSERT INTO saga_journal
            (saga, seq, step, item, kind, class, attempt, at, took_us, due, payload, note, who)
        SELECT saga, seq, step, item, kind, nullif(class, 0), attempt, at, took_us, due, payload,
            note, who
        FROM unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::smallint[], $6::smallint[],
            $7::int[], $8::timestamptz[], $9::bigint[], $10::timestamptz[], $11::text[],
            $12::text[], $13::text[])
            AS it (saga, seq, step, item, kind, class, attempt, at, took_us, due, payload, note,
                who)
        WHERE $14::bigint IS NOT NULL
        ON CONFLICT DO NOTHING",
    sqlite: "INSERT INTO saga_journal
            (saga, seq, step, item, kind, class, attempt, at, took_us, due, payload, note, who)
        SELECT ?1, ?2, ?3, ?4, ?5, nullif(?6, 0), ?7, ?8, ?9, ?10, ?11, ?12, ?13
        WHERE EXISTS (SELECT 1 FROM sagas WHERE id = ?1 AND owner = ?14) AND (?14 = 0
            OR EXISTS (SELECT 1 FROM saga_processes WHERE epoch = ?14 AND fenced = 0))
        ON CONFLICT DO NOTHING",
};

/// Changed heads; the columns of `columns::Heads`, then the owner.
pub(super) const HEAD: Sql = Sql {
    postgres: "UPDATE sagas SET status = it.status, wake = it.wake,
            error = coalesce(sagas.error, it.error), output = coalesce(it.output, sagas.output),
            updated_at = it.at, ended_at = it.ended_at
        FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[],
            $6::timestamptz[], $7::timestamptz[])
            AS it (id, status, wake, error, output, at, ended_at)
        WHERE sagas.id = it.id AND owner = $8",
    sqlite: "UPDATE sagas SET status = ?2, wake = ?3, error = coalesce(error, ?4),
            output = coalesce(?5, output), updated_at = ?6, ended_at = ?7
        WHERE id = ?1 AND owner = ?8
            AND EXISTS (SELECT 1 FROM saga_processes WHERE epoch = ?8 AND fenced = 0)",
};

/// Letters that were answered; then the owner.
pub(super) const ANSWERED: Sql = Sql {
    postgres: "DELETE FROM saga_letters
        WHERE id = ANY ($1::uuid[]) AND $2::bigint IS NOT NULL",
    sqlite: "DELETE FROM saga_letters WHERE id = ?1
        AND EXISTS (SELECT 1 FROM saga_processes WHERE epoch = ?2 AND fenced = 0)",
};

/// What is left of letters to sagas that have ended; then the owner.
pub(super) const UNREAD: Sql = Sql {
    postgres: "DELETE FROM saga_letters
        WHERE saga = ANY ($1::uuid[]) AND $2::bigint IS NOT NULL",
    sqlite: "DELETE FROM saga_letters WHERE saga = ?1
        AND EXISTS (SELECT 1 FROM sagas WHERE id = ?1 AND owner = ?2)
        AND EXISTS (SELECT 1 FROM saga_processes WHERE epoch = ?2 AND fenced = 0)",
};

/// Who has this id, or this definition and key.
pub(super) const WHO: Sql = Sql {
    postgres: "SELECT id FROM sagas WHERE id = $1
        UNION ALL SELECT id FROM sagas WHERE definition = $2 AND key = $3",
    sqlite: "SELECT id FROM sagas WHERE id = ?1
        UNION ALL SELECT id FROM sagas WHERE definition = ?2 AND key = ?3",
};

/// The same for many: what was asked for, and who has its id, or its definition and key.
pub(super) const WHO_ALL: Sql = Sql {
    postgres: "SELECT it.id, s.id FROM unnest($1::uuid[], $2::text[], $3::text[])
            AS it (id, definition, key) JOIN sagas s ON s.id = it.id
        UNION ALL SELECT it.id, s.id FROM unnest($1::uuid[], $2::text[], $3::text[])
            AS it (id, definition, key)
            JOIN sagas s ON s.definition = it.definition AND s.key = it.key
        WHERE s.key IS NOT NULL",
    sqlite: "SELECT ?1, id FROM sagas WHERE id = ?1
        UNION ALL SELECT ?1, id FROM sagas WHERE definition = ?2 AND key = ?3",
};

/// Before an append: whether the process is in order, who owns the saga, and whether its record of
/// this number is there already. What it answers stays so until the transaction ends.
pub(super) const BEFORE: Sql = Sql {
    postgres: "WITH process AS MATERIALIZED (SELECT epoch FROM saga_processes
            WHERE epoch = $1 AND NOT fenced FOR KEY SHARE),
        saga AS MATERIALIZED (SELECT owner FROM sagas WHERE id = $2 FOR KEY SHARE)
        SELECT (SELECT count(*) FROM process), (SELECT owner FROM saga),
            EXISTS (SELECT 1 FROM saga_journal WHERE saga = $2 AND seq = $3::int)",
    sqlite: "SELECT (SELECT count(*) FROM saga_processes WHERE epoch = ?1 AND fenced = 0),
        (SELECT owner FROM sagas WHERE id = ?2),
        EXISTS (SELECT 1 FROM saga_journal WHERE saga = ?2 AND seq = ?3)",
};

// === reading ===

/// Sagas of an owner whose time has come; a row without an id says only that the process is in
/// order.
pub(super) const DUE: Sql = Sql {
    postgres: "SELECT it.id FROM saga_processes p LEFT JOIN LATERAL (
            SELECT id FROM sagas WHERE owner = p.epoch AND ended_at IS NULL
                AND wake > 0 AND wake <= $2 ORDER BY wake LIMIT $3) it ON true
        WHERE p.epoch = $1 AND NOT p.fenced",
    sqlite: "SELECT it.id FROM saga_processes p LEFT JOIN (
            SELECT id, owner FROM sagas WHERE owner = ?1 AND ended_at IS NULL
                AND wake > 0 AND wake <= ?2 ORDER BY wake LIMIT ?3) it ON it.owner = p.epoch
        WHERE p.epoch = ?1 AND p.fenced = 0",
};

pub(super) const LOAD: Sql = Sql {
    postgres: concat!(
        "SELECT ",
        head!(),
        " FROM sagas WHERE id = ANY ($1::uuid[])"
    ),
    sqlite: concat!("SELECT ", head!(), " FROM sagas WHERE id = ?1"),
};

pub(super) const RECORDS: Sql = Sql {
    postgres: "SELECT saga, seq, step, item, kind, class, attempt, at, took_us, due, payload, note,
            who
        FROM saga_journal WHERE saga = ANY ($1::uuid[]) ORDER BY saga, seq",
    sqlite: "SELECT saga, seq, step, item, kind, class, attempt, at, took_us, due, payload, note,
            who
        FROM saga_journal WHERE saga = ?1 ORDER BY seq",
};

pub(super) const LETTERS: Sql = Sql {
    postgres: "SELECT id, saga, at, verb, subject, payload, who, why
        FROM saga_letters WHERE saga = ANY ($1::uuid[]) ORDER BY at, id",
    sqlite: "SELECT id, saga, at, verb, subject, payload, who, why
        FROM saga_letters WHERE saga = ?1 ORDER BY at, id",
};

pub(super) const FIND: Sql = Sql {
    postgres: "SELECT id FROM sagas WHERE definition = $1 AND key = $2",
    sqlite: "SELECT id FROM sagas WHERE definition = ?1 AND key = ?2",
};

pub(super) const COUNTS: Sql = Sql::both(
    "SELECT definition, status, count(*) FROM sagas GROUP BY definition, status
     ORDER BY definition, status",
);

/// As [`COUNTS`], by the index of the parked alone.
pub(super) const PARKED: Sql = Sql::both(
    "SELECT definition, status, count(*) FROM sagas WHERE status = 'parked'
     GROUP BY definition, status ORDER BY definition",
);

pub(super) const ENDED: Sql = Sql {
    postgres: "SELECT id FROM sagas WHERE ended_at < $1 ORDER BY ended_at, id LIMIT $2",
    sqlite: "SELECT id FROM sagas WHERE ended_at IS NOT NULL AND ended_at < ?1
        ORDER BY ended_at, id LIMIT ?2",
};

/// What every list asks: definition, statuses between commas, key, parent, from, before, after, limit.
macro_rules! fits {
    ($from:literal) => {
        Sql {
            postgres: concat!(
                "SELECT ",
                head!(),
                $from,
                " AND ($1::text IS NULL OR definition = $1)
                  AND ($2::text IS NULL OR strpos($2, ',' || status || ',') > 0)
                  AND ($3::text IS NULL OR key = $3)
                  AND ($4::uuid IS NULL OR parent = $4)
                  AND ($5::timestamptz IS NULL OR created_at >= $5)
                  AND ($6::timestamptz IS NULL OR created_at < $6)
                  AND id > $7 ORDER BY id LIMIT $8"
            ),
            sqlite: concat!(
                "SELECT ",
                head!(),
                $from,
                " AND (?1 IS NULL OR definition = ?1)
                  AND (?2 IS NULL OR instr(?2, ',' || status || ',') > 0)
                  AND (?3 IS NULL OR key = ?3)
                  AND (?4 IS NULL OR parent = ?4)
                  AND (?5 IS NULL OR created_at >= ?5)
                  AND (?6 IS NULL OR created_at < ?6)
                  AND id > ?7 ORDER BY id LIMIT ?8"
            ),
        }
    };
}

pub(super) const LIST: Sql = fits!(" FROM sagas WHERE true");
/// Where only sagas that have not ended can fit: there are few.
pub(super) const LIST_LIVE: Sql = fits!(" FROM sagas WHERE ended_at IS NULL");
/// Where only parked sagas can fit: they have an index of their own.
pub(super) const LIST_PARKED: Sql = fits!(" FROM sagas WHERE status = 'parked'");
/// Where a definition and a key are given.
pub(super) const LIST_KEY: Sql = Sql {
    postgres: fits!(" FROM sagas WHERE definition = $1 AND key = $3").postgres,
    sqlite: fits!(" FROM sagas WHERE definition = ?1 AND key = ?3").sqlite,
};
/// Where a parent is given.
pub(super) const LIST_CHILDREN: Sql = Sql {
    postgres: fits!(" FROM sagas WHERE parent = $4").postgres,
    sqlite: fits!(" FROM sagas WHERE parent = ?4").sqlite,
};

// === letters ===

/// Keeps a letter if there is its saga.
pub(super) const POST: Sql = Sql {
    postgres: "INSERT INTO saga_letters (id, saga, at, verb, subject, payload, who, why)
        SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM sagas WHERE id = $2 FOR KEY SHARE
        ON CONFLICT DO NOTHING",
    sqlite: "INSERT INTO saga_letters (id, saga, at, verb, subject, payload, who, why)
        SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8 FROM sagas WHERE id = ?2
        ON CONFLICT DO NOTHING",
};

/// Wakes the engines of other processes; never in the transaction of a letter.
pub(super) const NOTIFY: Sql = Sql {
    postgres: "SELECT pg_notify('ratebox_saga', '')",
    sqlite: "SELECT 1",
};

/// Whether the process is in order, and whether [`MAIL`] has anything.
pub(super) const ANY_MAIL: Sql = Sql {
    postgres: "SELECT EXISTS (SELECT 1 FROM saga_letters l JOIN sagas s ON s.id = l.saga
            WHERE l.handed_to IS NULL AND s.owner = $1)
        FROM saga_processes WHERE epoch = $1 AND NOT fenced",
    sqlite: "SELECT EXISTS (SELECT 1 FROM saga_letters l JOIN sagas s ON s.id = l.saga
            WHERE l.handed_to IS NULL AND s.owner = ?1)
        FROM saga_processes WHERE epoch = ?1 AND fenced = 0",
};

/// Hands letters out.
pub(super) const MAIL: Sql = Sql {
    postgres: "UPDATE saga_letters SET handed_to = $1 WHERE id IN
        (SELECT l.id FROM saga_letters l JOIN sagas s ON s.id = l.saga
         WHERE l.handed_to IS NULL AND s.owner = $1 ORDER BY l.at, l.id LIMIT $2
         FOR UPDATE OF l SKIP LOCKED)
        RETURNING id, saga, at, verb, subject, payload, who, why",
    sqlite: "UPDATE saga_letters SET handed_to = ?1 WHERE id IN
        (SELECT l.id FROM saga_letters l JOIN sagas s ON s.id = l.saga
         WHERE l.handed_to IS NULL AND s.owner = ?1 ORDER BY l.at, l.id LIMIT ?2)
        RETURNING id, saga, at, verb, subject, payload, who, why",
};

// === deleting ===

/// Of these sagas, those that have ended; they stay so until the transaction ends.
pub(super) const HOLD_ENDED: Sql = Sql {
    postgres: "SELECT id FROM sagas WHERE id = ANY ($1::uuid[]) AND ended_at IS NOT NULL
        ORDER BY id FOR UPDATE",
    sqlite: "SELECT id FROM sagas WHERE id = ?1 AND ended_at IS NOT NULL",
};

pub(super) const DELETE_RECORDS: Sql = Sql {
    postgres: "DELETE FROM saga_journal WHERE saga = ANY ($1::uuid[])",
    sqlite: "DELETE FROM saga_journal WHERE saga = ?1",
};

pub(super) const DELETE_LETTERS: Sql = Sql {
    postgres: "DELETE FROM saga_letters WHERE saga = ANY ($1::uuid[])",
    sqlite: "DELETE FROM saga_letters WHERE saga = ?1",
};

pub(super) const DELETE_SAGAS: Sql = Sql {
    postgres: "DELETE FROM sagas WHERE id = ANY ($1::uuid[])",
    sqlite: "DELETE FROM sagas WHERE id = ?1",
};

// === definitions ===

/// Keeps a definition; one that is there gets its latest times.
pub(super) const DESCRIBE: Sql = Sql {
    postgres: "INSERT INTO saga_definitions AS it (name, hash, outline) VALUES ($1, $2, $3)
        ON CONFLICT (name, hash) DO UPDATE SET outline = excluded.outline
        WHERE it.outline <> excluded.outline",
    sqlite: "INSERT INTO saga_definitions (name, hash, outline) VALUES (?1, ?2, ?3)
        ON CONFLICT (name, hash) DO UPDATE SET outline = excluded.outline
        WHERE saga_definitions.outline <> excluded.outline",
};

pub(super) const OUTLINE: Sql = Sql {
    postgres: "SELECT outline FROM saga_definitions WHERE name = $1 AND hash = $2",
    sqlite: "SELECT outline FROM saga_definitions WHERE name = ?1 AND hash = ?2",
};

/// The latest first.
pub(super) const OUTLINES: Sql = Sql {
    postgres: "SELECT outline FROM saga_definitions WHERE ($1::text IS NULL OR name = $1)
        ORDER BY number DESC LIMIT $2",
    sqlite: "SELECT outline FROM saga_definitions WHERE (?1 IS NULL OR name = ?1)
        ORDER BY number DESC LIMIT ?2",
};

/// Every statement, for tests that prepare them on both databases.
pub const STATEMENTS: &[Sql] = &[
    JOIN,
    RENEW,
    LEAVE,
    CONFIRM,
    CONFIRM_ONLY,
    LOOK,
    FENCE,
    TAKE,
    TAKE_BACK,
    TAKE_TOLD,
    RENEW_LETTERS,
    FORGET,
    HOLD,
    CLAIM,
    TAKE_PARKED,
    START,
    RECORD,
    HEAD,
    ANSWERED,
    UNREAD,
    WHO,
    WHO_ALL,
    BEFORE,
    DUE,
    LOAD,
    RECORDS,
    LETTERS,
    FIND,
    COUNTS,
    PARKED,
    ENDED,
    LIST,
    LIST_LIVE,
    LIST_PARKED,
    LIST_KEY,
    LIST_CHILDREN,
    POST,
    NOTIFY,
    ANY_MAIL,
    MAIL,
    HOLD_ENDED,
    DELETE_RECORDS,
    DELETE_LETTERS,
    DELETE_SAGAS,
    DESCRIBE,
    OUTLINE,
    OUTLINES,
];
