//! The tables of the embedded log and its statements. SQLite only: with a PostgreSQL at hand a
//! Redis is, too.

use ratebox_db::{Migration, Sql};

pub(super) const OWNER: &str = "stream";

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "log",
        postgres: "SELECT 1",
        sqlite: "
        -- An id is the entry's milliseconds shifted left by 20 bits, plus its counter.
        CREATE TABLE log_streams (stream TEXT PRIMARY KEY, last INTEGER NOT NULL,
            appended INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE log_entries (stream TEXT NOT NULL, id INTEGER NOT NULL, fields BLOB NOT NULL,
            PRIMARY KEY (stream, id)) WITHOUT ROWID;
        CREATE TABLE log_groups (stream TEXT NOT NULL, grp TEXT NOT NULL, last INTEGER NOT NULL,
            PRIMARY KEY (stream, grp)) WITHOUT ROWID;
        CREATE TABLE log_consumers (stream TEXT NOT NULL, grp TEXT NOT NULL, consumer TEXT NOT NULL,
            seen_ms INTEGER NOT NULL, PRIMARY KEY (stream, grp, consumer)) WITHOUT ROWID;
        CREATE TABLE log_pending (stream TEXT NOT NULL, grp TEXT NOT NULL, id INTEGER NOT NULL,
            owner TEXT NOT NULL, touched_ms INTEGER NOT NULL, deliveries INTEGER NOT NULL,
            PRIMARY KEY (stream, grp, id)) WITHOUT ROWID;
        CREATE TABLE log_delayed (no INTEGER PRIMARY KEY, delayed TEXT NOT NULL,
            due_ms INTEGER NOT NULL, stream TEXT NOT NULL, grp TEXT NOT NULL,
            first INTEGER NOT NULL, fields BLOB NOT NULL);
        CREATE INDEX log_delayed_due ON log_delayed (delayed, due_ms);",
    },
    Migration {
        version: 2,
        name: "limits",
        postgres: "SELECT 1",
        sqlite: "CREATE TABLE log_limits (stream TEXT PRIMARY KEY, limits TEXT NOT NULL) WITHOUT ROWID",
    },
    Migration {
        version: 3,
        name: "rooms",
        postgres: "SELECT 1",
        sqlite: "
        CREATE TABLE log_turns (stream TEXT NOT NULL, owner TEXT NOT NULL, turn INTEGER NOT NULL,
            PRIMARY KEY (stream, owner)) WITHOUT ROWID;
        CREATE TABLE log_rooms (no INTEGER PRIMARY KEY, stream TEXT NOT NULL, owner TEXT NOT NULL,
            fields BLOB NOT NULL);
        CREATE INDEX log_rooms_owner ON log_rooms (stream, owner, no);",
    },
    Migration {
        version: 4,
        name: "failures",
        postgres: "SELECT 1",
        sqlite: "CREATE TABLE log_failures (base TEXT NOT NULL, grp TEXT NOT NULL, lane TEXT NOT NULL,
            id INTEGER NOT NULL, kept TEXT NOT NULL, PRIMARY KEY (base, grp, lane, id)) WITHOUT ROWID",
    },
    Migration {
        version: 5,
        name: "ids alone",
        postgres: "SELECT 1",
        // The key once more without what an entry carries: who counts entries, or goes back by a
        // number of them, reads thirty times less than in a table that holds the bodies, too.
        sqlite: "CREATE INDEX log_entries_ids ON log_entries (stream, id)",
    },
];

/// A statement of the only dialect that this log speaks.
const fn sqlite(text: &'static str) -> Sql {
    Sql {
        postgres: "",
        sqlite: text,
    }
}

/// Draws the next id of a stream: now, or one after the last.
pub(super) const NEXT_ID: Sql = sqlite(
    "INSERT INTO log_streams (stream, last, appended) VALUES (?1, ?2, 1)
     ON CONFLICT (stream) DO UPDATE SET last = max(last + 1, ?2), appended = appended + 1
     RETURNING last, appended",
);
pub(super) const INSERT: Sql =
    sqlite("INSERT INTO log_entries (stream, id, fields) VALUES (?1, ?2, ?3)");
/// Keeps the newest entries of a stream without groups.
pub(super) const CUT: Sql = sqlite(
    "DELETE FROM log_entries WHERE stream = ?1 AND id <= (SELECT id FROM log_entries
     WHERE stream = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
);
pub(super) const MAKE_STREAM: Sql = sqlite(
    "INSERT INTO log_streams (stream, last, appended) VALUES (?1, 0, 0) ON CONFLICT DO NOTHING",
);
pub(super) const MAKE_GROUP: Sql =
    sqlite("INSERT INTO log_groups (stream, grp, last) VALUES (?1, ?2, 0) ON CONFLICT DO NOTHING");
pub(super) const MAKE_GROUP_AT: Sql =
    sqlite("INSERT INTO log_groups (stream, grp, last) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING");
/// A blob's length is read without the blob.
pub(super) const BYTES: Sql =
    sqlite("SELECT coalesce(sum(length(fields)), 0) FROM log_entries WHERE stream = ?1");
pub(super) const GROUP: Sql = sqlite("SELECT last FROM log_groups WHERE stream = ?1 AND grp = ?2");
/// Is there anything fresh, or no group? Read outside the writer, so an idle group writes nothing.
pub(super) const HAS_FRESH: Sql = sqlite(
    "SELECT NOT EXISTS (SELECT 1 FROM log_groups WHERE stream = ?1 AND grp = ?2)
        OR EXISTS (SELECT 1 FROM log_entries e WHERE e.stream = ?1 AND e.id >
            (SELECT last FROM log_groups WHERE stream = ?1 AND grp = ?2))",
);
pub(super) const RANGE: Sql = sqlite(
    "SELECT id, fields FROM log_entries WHERE stream = ?1 AND id >= ?2 ORDER BY id LIMIT ?3",
);
pub(super) const DELIVER: Sql = sqlite(
    "INSERT INTO log_pending (id, stream, grp, owner, touched_ms, deliveries)
     VALUES (?1, ?2, ?3, ?4, ?5, 1)",
);
pub(super) const ADVANCE: Sql =
    sqlite("UPDATE log_groups SET last = ?3 WHERE stream = ?1 AND grp = ?2");
pub(super) const SEE: Sql = sqlite(
    "INSERT INTO log_consumers (stream, grp, consumer, seen_ms) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (stream, grp, consumer) DO UPDATE SET seen_ms = excluded.seen_ms",
);
/// Pending entries that nobody touched since a moment, with what is left of their data.
pub(super) const IDLE: Sql = sqlite(
    "SELECT p.id, p.deliveries, e.fields FROM log_pending p
     LEFT JOIN log_entries e ON e.stream = p.stream AND e.id = p.id
     WHERE p.stream = ?1 AND p.grp = ?2 AND p.id >= ?3 AND p.touched_ms <= ?4
     ORDER BY p.id LIMIT ?5",
);
pub(super) const OWN: Sql = sqlite(
    "SELECT p.id, p.deliveries, e.fields FROM log_pending p
     LEFT JOIN log_entries e ON e.stream = p.stream AND e.id = p.id
     WHERE p.stream = ?1 AND p.grp = ?2 AND p.owner = ?3 ORDER BY p.id",
);
pub(super) const TAKE_OVER: Sql = sqlite(
    "UPDATE log_pending SET owner = ?4, touched_ms = ?5, deliveries = deliveries + ?6
     WHERE id = ?1 AND stream = ?2 AND grp = ?3",
);
pub(super) const ACK: Sql =
    sqlite("DELETE FROM log_pending WHERE id = ?1 AND stream = ?2 AND grp = ?3");
pub(super) const TAKE_OWN: Sql =
    sqlite("DELETE FROM log_pending WHERE id = ?1 AND stream = ?2 AND grp = ?3 AND owner = ?4");
pub(super) const TOUCH: Sql = sqlite(
    "UPDATE log_pending SET touched_ms = ?5
     WHERE id = ?1 AND stream = ?2 AND grp = ?3 AND owner = ?4 RETURNING id",
);
pub(super) const RELEASE: Sql = sqlite(
    "UPDATE log_pending SET touched_ms = 0, deliveries = ?5
     WHERE id = ?1 AND stream = ?2 AND grp = ?3 AND owner = ?4",
);
/// Does nobody own it, and is its data gone?
pub(super) const IS_GONE: Sql = sqlite(
    "SELECT NOT EXISTS (SELECT 1 FROM log_pending WHERE id = ?1 AND stream = ?2 AND grp = ?3)
        AND NOT EXISTS (SELECT 1 FROM log_entries WHERE stream = ?2 AND id = ?1)",
);
pub(super) const DELAY: Sql = sqlite(
    "INSERT INTO log_delayed (delayed, due_ms, stream, grp, first, fields)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
);
pub(super) const HAS_DUE: Sql =
    sqlite("SELECT EXISTS (SELECT 1 FROM log_delayed WHERE delayed = ?1 AND due_ms <= ?2)");
/// In any order: `RETURNING` promises none.
pub(super) const DUE: Sql = sqlite(
    "DELETE FROM log_delayed WHERE no IN (SELECT no FROM log_delayed
     WHERE delayed = ?1 AND due_ms <= ?2 ORDER BY due_ms, no LIMIT ?3)
     RETURNING stream, fields, due_ms, no",
);
/// Unread and pending entries of a group, its first unread one, its members.
pub(super) const BEHIND: Sql = sqlite(
    "SELECT
        (SELECT count(*) FROM log_entries e WHERE e.stream = g.stream AND e.id > g.last),
        (SELECT count(*) FROM log_pending p WHERE p.stream = g.stream AND p.grp = g.grp),
        (SELECT min(id) FROM log_entries e WHERE e.stream = g.stream AND e.id > g.last),
        (SELECT count(*) FROM log_consumers c WHERE c.stream = g.stream AND c.grp = g.grp)
     FROM log_groups g WHERE g.stream = ?1 AND g.grp = ?2",
);
pub(super) const PENDING_IDS: Sql =
    sqlite("SELECT id FROM log_pending WHERE stream = ?1 AND grp = ?2 ORDER BY id LIMIT ?3");
/// Entries that a group has not read, counted up to what matters.
pub(super) const LAG: Sql = sqlite(
    "SELECT count(*) FROM (SELECT 1 FROM log_entries WHERE stream = ?1 AND id > coalesce(
        (SELECT last FROM log_groups WHERE stream = ?1 AND grp = ?2), 0) LIMIT ?3)",
);
pub(super) const TURNS: Sql =
    sqlite("SELECT owner, turn FROM log_turns WHERE stream = ?1 ORDER BY turn, owner");
/// Who comes begins with the turn of those who have waited longest.
pub(super) const TAKE_TURN: Sql = sqlite(
    "INSERT INTO log_turns (stream, owner, turn) VALUES (?1, ?2,
        coalesce((SELECT min(turn) FROM log_turns WHERE stream = ?1), 0)) ON CONFLICT DO NOTHING",
);
pub(super) const WAIT: Sql =
    sqlite("INSERT INTO log_rooms (stream, owner, fields) VALUES (?1, ?2, ?3)");
pub(super) const IN_ROOM: Sql = sqlite(
    "SELECT no, fields FROM log_rooms WHERE stream = ?1 AND owner = ?2 ORDER BY no LIMIT ?3",
);
pub(super) const LEAVE_ROOM: Sql = sqlite("DELETE FROM log_rooms WHERE no = ?1");
pub(super) const HAD_TURN: Sql =
    sqlite("UPDATE log_turns SET turn = turn + 1 WHERE owner = ?1 AND stream = ?2");
pub(super) const EMPTY_ROOMS: Sql = sqlite(
    "DELETE FROM log_turns WHERE stream = ?1 AND NOT EXISTS (SELECT 1 FROM log_rooms r
     WHERE r.stream = log_turns.stream AND r.owner = log_turns.owner)",
);
pub(super) const ROOMS: Sql = sqlite(
    "SELECT owner, count(*) FROM log_rooms WHERE stream = ?1 GROUP BY owner ORDER BY owner LIMIT ?2",
);
pub(super) const LIMITS: Sql = sqlite("SELECT limits FROM log_limits WHERE stream = ?1");
pub(super) const KEEP_LIMITS: Sql = sqlite(
    "INSERT INTO log_limits (stream, limits) VALUES (?1, ?2)
     ON CONFLICT (stream) DO UPDATE SET limits = excluded.limits",
);
pub(super) const LAST: Sql = sqlite("SELECT last FROM log_streams WHERE stream = ?1");

pub(super) const STREAM_INFO: Sql = sqlite(
    "SELECT last, appended, (SELECT count(*) FROM log_entries WHERE stream = ?1),
        (SELECT min(id) FROM log_entries WHERE stream = ?1)
     FROM log_streams WHERE stream = ?1",
);
pub(super) const GROUPS_INFO: Sql = sqlite(
    "SELECT g.grp, g.last,
        (SELECT count(*) FROM log_pending p WHERE p.stream = g.stream AND p.grp = g.grp),
        (SELECT min(id) FROM log_pending p WHERE p.stream = g.stream AND p.grp = g.grp),
        (SELECT count(*) FROM log_entries e WHERE e.stream = g.stream AND e.id > g.last)
     FROM log_groups g WHERE g.stream = ?1 ORDER BY g.grp",
);
pub(super) const CONSUMERS_INFO: Sql = sqlite(
    "SELECT c.grp, c.consumer, c.seen_ms, (SELECT count(*) FROM log_pending p
        WHERE p.stream = c.stream AND p.grp = c.grp AND p.owner = c.consumer)
     FROM log_consumers c WHERE c.stream = ?1 ORDER BY c.consumer",
);
/// The oldest entry that each group of a stream still needs.
pub(super) const OWED: Sql = sqlite(
    "SELECT g.grp, min(
        coalesce((SELECT min(id) FROM log_pending p
            WHERE p.stream = g.stream AND p.grp = g.grp), 9223372036854775807),
        coalesce((SELECT min(id) FROM log_entries e
            WHERE e.stream = g.stream AND e.id > g.last), 9223372036854775807))
     FROM log_groups g WHERE g.stream = ?1",
);
pub(super) const DELAYED_FIRST: Sql = sqlite(
    "SELECT count(*), min(first) FROM log_delayed WHERE delayed = ?1 AND stream = ?2 AND grp = ?3",
);
pub(super) const DELAYED_COUNT: Sql =
    sqlite("SELECT count(*), min(due_ms) FROM log_delayed WHERE delayed = ?1");
/// The id below which entries are beyond the newest `?2`.
pub(super) const NTH_NEWEST: Sql =
    sqlite("SELECT id FROM log_entries WHERE stream = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2");
pub(super) const TRIM: Sql = sqlite("DELETE FROM log_entries WHERE stream = ?1 AND id < ?2");
/// Is anything left below an id?
pub(super) const HAS_BELOW: Sql =
    sqlite("SELECT EXISTS (SELECT 1 FROM log_entries WHERE stream = ?1 AND id < ?2)");
pub(super) const REMOVE_DEAD: Sql = sqlite(
    "DELETE FROM log_consumers WHERE stream = ?1 AND grp = ?2 AND consumer <> ?3 AND seen_ms <= ?4
     AND NOT EXISTS (SELECT 1 FROM log_pending p WHERE p.stream = ?1 AND p.grp = ?2
        AND p.owner = log_consumers.consumer) RETURNING consumer",
);
pub(super) const LOSE_ENTRY: Sql = sqlite("DELETE FROM log_entries WHERE stream = ?1 AND id = ?2");
pub(super) const LOSE_STREAM: [Sql; 5] = [
    sqlite("DELETE FROM log_streams WHERE stream = ?1"),
    sqlite("DELETE FROM log_entries WHERE stream = ?1"),
    sqlite("DELETE FROM log_groups WHERE stream = ?1"),
    sqlite("DELETE FROM log_consumers WHERE stream = ?1"),
    sqlite("DELETE FROM log_pending WHERE stream = ?1"),
];
