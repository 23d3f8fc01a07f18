//! The tables and statements of the second port. SQLite only, like the log's own.

use ratebox_db::{Migration, Sql};

/// Its tables have an owner of their own, so that they change on their own.
pub(in crate::sqlite) const OWNER: &str = "stream_delivery";

pub(in crate::sqlite) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "schedule, keys, orders and notes",
    postgres: "SELECT 1",
    sqlite: "
        CREATE TABLE log_scheduled (base TEXT NOT NULL, lane TEXT NOT NULL, id TEXT NOT NULL,
            due_ms INTEGER NOT NULL, stream TEXT NOT NULL, fields BLOB NOT NULL,
            PRIMARY KEY (base, lane, id)) WITHOUT ROWID;
        CREATE INDEX log_scheduled_due ON log_scheduled (base, due_ms);
        CREATE TABLE log_once (base TEXT NOT NULL, key TEXT NOT NULL, until_ms INTEGER NOT NULL,
            receipt TEXT NOT NULL, PRIMARY KEY (base, key)) WITHOUT ROWID;
        CREATE INDEX log_once_until ON log_once (until_ms);
        -- An order without an end has no until_ms.
        CREATE TABLE log_orders (base TEXT NOT NULL, name TEXT NOT NULL, until_ms INTEGER,
            PRIMARY KEY (base, name)) WITHOUT ROWID;
        CREATE TABLE log_notes (base TEXT NOT NULL, id TEXT NOT NULL, until_ms INTEGER NOT NULL,
            value TEXT NOT NULL, PRIMARY KEY (base, id)) WITHOUT ROWID;
        CREATE INDEX log_notes_until ON log_notes (until_ms);",
}];

/// A statement of the only dialect that this log speaks.
const fn sqlite(text: &'static str) -> Sql {
    Sql {
        postgres: "",
        sqlite: text,
    }
}

pub(super) const SCHEDULE: Sql = sqlite(
    "INSERT INTO log_scheduled (base, lane, id, due_ms, stream, fields)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (base, lane, id)
     DO UPDATE SET due_ms = excluded.due_ms, stream = excluded.stream, fields = excluded.fields",
);
pub(super) const UNSCHEDULE: Sql = sqlite(
    "DELETE FROM log_scheduled WHERE base = ?1 AND id = ?2 AND lane IN ('high','normal','low')",
);
pub(super) const SCHEDULED: Sql = sqlite(
    "SELECT id, lane, due_ms FROM log_scheduled WHERE base = ?1
     ORDER BY due_ms, lane, id LIMIT ?3 OFFSET ?2",
);
pub(in crate::sqlite) const IS_SCHEDULED: Sql =
    sqlite("SELECT EXISTS (SELECT 1 FROM log_scheduled WHERE base = ?1 AND lane = ?2)");
pub(super) const HAS_DUE: Sql =
    sqlite("SELECT EXISTS (SELECT 1 FROM log_scheduled WHERE base = ?1 AND due_ms <= ?2)");
/// In any order: `RETURNING` promises none.
pub(super) const DUE: Sql = sqlite(
    "DELETE FROM log_scheduled WHERE (base, lane, id) IN (SELECT base, lane, id
     FROM log_scheduled WHERE base = ?1 AND due_ms <= ?2 ORDER BY due_ms LIMIT ?3)
     RETURNING stream, fields, due_ms",
);
/// Keys whose window is over go, some at a time: more than one message brings.
pub(super) const FORGET: Sql = sqlite(
    "DELETE FROM log_once WHERE (base, key) IN
     (SELECT base, key FROM log_once WHERE until_ms <= ?1 ORDER BY until_ms LIMIT ?2)",
);
pub(super) const FIRST: Sql =
    sqlite("SELECT receipt FROM log_once WHERE base = ?1 AND key = ?2 AND until_ms > ?3");
pub(super) const REMEMBER: Sql = sqlite(
    "INSERT INTO log_once (base, key, until_ms, receipt) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (base, key) DO UPDATE SET until_ms = excluded.until_ms, receipt = excluded.receipt",
);
pub(super) const SCHEDULED_COUNT: Sql =
    sqlite("SELECT count(*) FROM (SELECT 1 FROM log_scheduled WHERE base = ?1 LIMIT ?2)");
/// What the slowest group has not acknowledged; all that is stored without a group. Counts no
/// further than it is told.
pub(super) const DEPTH: Sql = sqlite(
    "SELECT coalesce(
        (SELECT max((SELECT count(*) FROM (SELECT 1 FROM log_entries e
                WHERE e.stream = g.stream AND e.id > g.last LIMIT ?2))
            + (SELECT count(*) FROM (SELECT 1 FROM log_pending p
                WHERE p.stream = g.stream AND p.grp = g.grp LIMIT ?2)))
         FROM log_groups g WHERE g.stream = ?1),
        (SELECT count(*) FROM (SELECT 1 FROM log_entries WHERE stream = ?1 LIMIT ?2)))",
);
/// Adds up no more entries than could lie below the limit, if each had a byte.
pub(super) const BYTES: Sql = sqlite(
    "SELECT coalesce(sum(length(fields)), 0)
     FROM (SELECT fields FROM log_entries WHERE stream = ?1 LIMIT ?2)",
);
/// Unless too many others stand.
pub(super) const ORDER: Sql = sqlite(
    "INSERT INTO log_orders (base, name, until_ms) SELECT ?1, ?2, ?3
     WHERE (SELECT count(*) FROM log_orders WHERE base = ?1 AND name <> ?2
        AND (until_ms IS NULL OR until_ms > ?5)) < ?4
     ON CONFLICT (base, name) DO UPDATE SET until_ms = excluded.until_ms",
);
pub(super) const END_ORDERS: Sql =
    sqlite("DELETE FROM log_orders WHERE base = ?1 AND until_ms <= ?2");
pub(super) const WITHDRAW: Sql = sqlite(
    "DELETE FROM log_orders WHERE base = ?1 AND name = ?2 AND (until_ms IS NULL OR until_ms > ?3)",
);
pub(super) const ORDERS: Sql = sqlite(
    "SELECT name, until_ms FROM log_orders
     WHERE base = ?1 AND (until_ms IS NULL OR until_ms > ?2) ORDER BY name",
);
pub(super) const NOTE: Sql = sqlite(
    "INSERT INTO log_notes (base, id, until_ms, value) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (base, id) DO UPDATE SET until_ms = excluded.until_ms, value = excluded.value",
);
pub(super) const END_NOTES: Sql = sqlite(
    "DELETE FROM log_notes WHERE (base, id) IN
     (SELECT base, id FROM log_notes WHERE until_ms <= ?1 ORDER BY until_ms LIMIT ?2)",
);
pub(super) const NOTED: Sql =
    sqlite("SELECT value FROM log_notes WHERE base = ?1 AND id = ?2 AND until_ms > ?3");
