//! Every statement of outbox and inbox, both dialects side by side.
//!
//! Times are the database's own, so that relays on different machines agree.

use ratebox_db::{Conflict, Insert, Sql};

use crate::inbox::sql as inbox;

/// Adds rows; the database says since when they are there.
pub(crate) static ADD: Insert = Insert::new(
    "outbox",
    &[
        ("partition", "smallint"),
        ("id", "uuid"),
        ("topic", "text"),
        ("key", "text"),
        ("headers", "text"),
        ("body", "bytea"),
        ("events", "smallint"),
        ("pre_lease_ms", "int"),
    ],
    Conflict::Fail,
);

/// Sent rows are deleted, never updated.
pub(crate) const DELETE: Sql = Sql {
    postgres: "DELETE FROM outbox USING unnest($1::smallint[], $2::uuid[]) AS sent (p, i)
        WHERE partition = p AND id = i",
    sqlite: "DELETE FROM outbox WHERE partition = ?1 AND id = ?2",
};

/// What may be sent now, by existence and in id order; a key whose older event waits is left out.
pub(crate) const DUE: Sql = Sql {
    postgres: "SELECT partition, id, topic, key, headers, body, attempts, events FROM outbox o
        WHERE partition = ANY($1::smallint[])
          AND available_at <= clock_timestamp() - pre_lease_ms * interval '1 millisecond'
          AND (key IS NULL OR NOT EXISTS (
            SELECT 1 FROM outbox older WHERE older.partition = o.partition AND older.key = o.key
              AND older.id < o.id AND older.available_at > clock_timestamp()))
        ORDER BY partition, id LIMIT $2",
    sqlite: "SELECT partition, id, topic, key, headers, body, attempts, events FROM outbox o
        WHERE partition = ?1 AND available_at
            <= CAST(unixepoch('subsec') * 1000000 AS INTEGER) - pre_lease_ms * 1000
          AND (key IS NULL OR NOT EXISTS (
            SELECT 1 FROM outbox older WHERE older.partition = o.partition AND older.key = o.key
              AND older.id < o.id
              AND older.available_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER)))
        ORDER BY id LIMIT ?2",
};

/// Counts a failure and waits.
pub(crate) const POSTPONE: Sql = Sql {
    postgres: "UPDATE outbox SET attempts = attempts + 1, last_error = $4, pre_lease_ms = 0,
            available_at = clock_timestamp() + $3 * interval '1 millisecond'
        WHERE partition = $1 AND id = $2",
    sqlite: "UPDATE outbox SET attempts = attempts + 1, last_error = ?4, pre_lease_ms = 0,
            available_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
                + CAST(?3 * 1000 AS INTEGER)
        WHERE partition = ?1 AND id = ?2",
};

/// Keeps an event that used up its attempts; [`DELETE`] follows in the same transaction.
pub(crate) const BURY: Sql = Sql {
    postgres: "INSERT INTO outbox_dead (id, topic, key, headers, body, attempts, last_error)
        SELECT id, topic, key, headers, body, attempts + 1, $3 FROM outbox
        WHERE partition = $1 AND id = $2 ON CONFLICT (id) DO NOTHING",
    sqlite: "INSERT INTO outbox_dead
            (id, topic, key, headers, body, attempts, last_error, died_at)
        SELECT id, topic, key, headers, body, attempts + 1, ?3,
            CAST(unixepoch('subsec') * 1000000 AS INTEGER) FROM outbox
        WHERE partition = ?1 AND id = ?2 ON CONFLICT (id) DO NOTHING",
};

/// Events that wait, and those that have failed before.
pub(crate) const COUNT: Sql = Sql {
    postgres: "SELECT coalesce(sum(events), 0), count(*) FILTER (WHERE attempts > 0),
        (SELECT count(*) FROM outbox_dead) FROM outbox",
    sqlite: "SELECT coalesce(sum(events), 0), count(*) FILTER (WHERE attempts > 0),
        (SELECT count(*) FROM outbox_dead) FROM outbox",
};

/// Is there an event that was due this many milliseconds ago?
pub(crate) const BEHIND: Sql = Sql {
    postgres: "SELECT EXISTS (SELECT 1 FROM outbox
        WHERE available_at + pre_lease_ms * interval '1 millisecond'
            < clock_timestamp() - $1 * interval '1 millisecond')",
    sqlite: "SELECT EXISTS (SELECT 1 FROM outbox WHERE available_at + pre_lease_ms * 1000
        < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - CAST(?1 * 1000 AS INTEGER))",
};

/// Marks messages that are most likely new.
pub(crate) static CLAIM: Insert = Insert::new(
    "consumer_inbox",
    &[
        ("consumer", "text"),
        ("event_id", "uuid"),
        ("topic", "text"),
        ("received_at", "timestamptz"),
    ],
    Conflict::Fail,
);

/// Marks messages as received; answers those that were not marked before.
pub(crate) const MARK: Sql = Sql {
    postgres: "INSERT INTO consumer_inbox (consumer, event_id, topic, received_at)
        SELECT $2, id, $3, clock_timestamp() FROM unnest($1::uuid[]) AS id
        ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id",
    sqlite: "INSERT INTO consumer_inbox (consumer, event_id, topic, received_at)
        VALUES (?2, ?1, ?3, CAST(unixepoch('subsec') * 1000000 AS INTEGER))
        ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id",
};

/// Forgets marks that are older than the window.
pub(crate) const FORGET: Sql = Sql {
    postgres: "DELETE FROM consumer_inbox WHERE consumer = $1 AND received_at < $2",
    sqlite: "DELETE FROM consumer_inbox WHERE consumer = ?1 AND received_at < ?2",
};

/// Every statement, for tests that prepare them on both databases.
pub const STATEMENTS: &[Sql] = &[
    DELETE,
    DUE,
    POSTPONE,
    BURY,
    COUNT,
    BEHIND,
    MARK,
    FORGET,
    inbox::TAKE,
    inbox::RESULT,
    inbox::SETTLE,
    inbox::CLEAR,
    inbox::CHARGE,
    inbox::PARK,
    inbox::PARKED,
    inbox::RELEASE,
    inbox::FORGET_ATTEMPTS,
    inbox::PARTITIONS,
];

/// Every insert, likewise.
pub static INSERTS: [&Insert; 2] = [&ADD, &CLAIM];
