//! Every statement of outbox and inbox, both dialects side by side.
//!
//! Times are the database's own, so that relays on different machines agree.

use ratebox_db::{Conflict, Insert, Sql};

use crate::inbox::sql as inbox;
use crate::relay::OUTBOX_FILE;

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

/// Likewise, for events that say what they are about.
pub(crate) static ADD_ABOUT: Insert = Insert::new(
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
        ("aggregate_type", "text"),
        ("event_type", "text"),
        ("routing_key", "text"),
        ("partition_key", "text"),
        ("delay_ms", "bigint"),
    ],
    Conflict::Fail,
);

/// Adds one event; answers for how long it is its sender's. An older event of its key that is
/// still here leaves it to the relay: the sender would overtake. It is looked for where there is a key;
/// then the statement is planned anew, since a plan from when the table was empty reads all of it.
pub(crate) const ADD_ONE: Sql = Sql {
    postgres: "INSERT INTO outbox (partition, id, topic, key, headers, body, pre_lease_ms,
            aggregate_type, event_type, routing_key, partition_key, delay_ms)
        SELECT $1::smallint, $2::uuid, $3::text, $4::text, $5::text, $6::bytea,
            CASE WHEN $12::bigint IS NOT NULL OR ($4::text IS NOT NULL AND EXISTS (
                SELECT 1 FROM outbox older
                WHERE older.partition = $1 AND older.key = $4 AND older.id < $2))
            THEN 0 ELSE $7::int END,
            $8::text, $9::text, $10::text, $11::text, $12
        RETURNING pre_lease_ms",
    sqlite: "INSERT INTO outbox (partition, id, topic, key, headers, body, pre_lease_ms,
            aggregate_type, event_type, routing_key, partition_key, delay_ms)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6,
            CASE WHEN ?12 IS NOT NULL OR EXISTS (SELECT 1 FROM outbox older
                WHERE older.partition = ?1 AND older.key = ?4 AND older.id < ?2)
            THEN 0 ELSE ?7 END,
            ?8, ?9, ?10, ?11, ?12
        RETURNING pre_lease_ms",
};

/// Holds a key until the transaction ends, so that its senders draw their ids one after another.
pub(crate) const LOCK: Sql = Sql {
    postgres: "SELECT pg_advisory_xact_lock(hashtextextended('outbox/' || $1, 0))",
    sqlite: "SELECT ?1",
};

/// Sent rows are deleted, never updated.
pub(crate) const DELETE: Sql = Sql {
    postgres: "DELETE FROM outbox USING unnest($1::smallint[], $2::uuid[]) AS sent (p, i)
        WHERE partition = p AND id = i",
    sqlite: "DELETE FROM outbox WHERE partition = ?1 AND id = ?2",
};

/// Which of these rows are there.
pub(crate) const PRESENT: Sql = Sql {
    postgres: "SELECT id FROM outbox, unnest($1::smallint[], $2::uuid[]) AS staged (p, i)
        WHERE partition = p AND id = i",
    sqlite: "SELECT id FROM outbox WHERE partition = ?1 AND id = ?2",
};

/// Moves sent rows to the archive; on SQLite [`DELETE`] follows in the same transaction.
pub(crate) const MOVE: Sql = Sql {
    postgres: "WITH sent AS (
            DELETE FROM outbox USING unnest($1::smallint[], $2::uuid[]) AS sent (p, i)
            WHERE partition = p AND id = i
            RETURNING id, topic, key, headers, body, events, attempts,
                aggregate_type, event_type, routing_key, partition_key)
        INSERT INTO outbox_sent (id, topic, key, headers, body, events, attempts,
            aggregate_type, event_type, routing_key, partition_key) SELECT * FROM sent",
    sqlite: "INSERT INTO outbox_sent (sent_at, id, topic, key, headers, body, events, attempts,
            aggregate_type, event_type, routing_key, partition_key)
        SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER), id, topic, key, headers, body,
            events, attempts, aggregate_type, event_type, routing_key, partition_key
        FROM outbox WHERE partition = ?1 AND id = ?2",
};

/// What was sent last, latest first; columns as in [`DUE`], then when.
pub(crate) const SENT: Sql = Sql {
    postgres: "SELECT 0, id, topic, key, headers, body, attempts, events,
            aggregate_type, event_type, routing_key, partition_key, sent_at
        FROM outbox_sent ORDER BY sent_at DESC LIMIT $1",
    sqlite: "SELECT 0, id, topic, key, headers, body, attempts, events,
            aggregate_type, event_type, routing_key, partition_key, sent_at
        FROM outbox_sent ORDER BY rowid DESC LIMIT ?1",
};

/// What may be sent now, by existence and in id order, from every partition its share. A key is
/// left out while an older event of it waits after a failure, or is still its sender's (an index
/// holds just these); a delayed one holds up nobody. One that was added in the future was added
/// before the database's clock was set back, and does not wait until that comes round again.
pub(crate) const DUE: Sql = Sql {
    postgres: "SELECT due.* FROM unnest($1::smallint[]) AS p (no), LATERAL (
        SELECT partition, id, topic, key, headers, body, attempts, events,
            aggregate_type, event_type, routing_key, partition_key, started FROM outbox o
        WHERE partition = p.no AND (available_at <= clock_timestamp()
                - (pre_lease_ms + coalesce(delay_ms, 0)) * interval '1 millisecond'
            OR (attempts = 0 AND delay_ms IS NULL
                AND available_at > clock_timestamp() + interval '1 minute'))
          AND (key IS NULL OR NOT EXISTS (
            SELECT 1 FROM outbox older WHERE older.partition = p.no AND older.key = o.key
              AND older.id < o.id AND older.key IS NOT NULL
              AND (older.attempts > 0 OR older.pre_lease_ms > 0) AND older.available_at
                > clock_timestamp() - older.pre_lease_ms * interval '1 millisecond'))
        ORDER BY id LIMIT $2) due",
    sqlite: "SELECT partition, id, topic, key, headers, body, attempts, events,
            aggregate_type, event_type, routing_key, partition_key, started FROM outbox o
        WHERE partition = ?1
          AND (available_at <= CAST(unixepoch('subsec') * 1000000 AS INTEGER)
                - (pre_lease_ms + coalesce(delay_ms, 0)) * 1000
            OR (attempts = 0 AND delay_ms IS NULL AND available_at
                > CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 60000000))
          AND (key IS NULL OR NOT EXISTS (
            SELECT 1 FROM outbox older WHERE older.partition = ?1 AND older.key = o.key
              AND older.id < o.id AND older.key IS NOT NULL
              AND (older.attempts > 0 OR older.pre_lease_ms > 0) AND older.available_at
                > CAST(unixepoch('subsec') * 1000000 AS INTEGER) - older.pre_lease_ms * 1000))
        ORDER BY id LIMIT ?2",
};

/// Moves rows to other partitions, unless there is one of their id already: that is the same event.
pub(crate) const REHOME: Sql = Sql {
    postgres: "UPDATE outbox SET partition = t
        FROM unnest($1::smallint[], $2::uuid[], $3::smallint[]) AS stray (p, i, t)
        WHERE partition = p AND id = i AND NOT EXISTS (
            SELECT 1 FROM outbox other WHERE other.partition = t AND other.id = i)",
    sqlite: "UPDATE outbox SET partition = ?3 WHERE partition = ?1 AND id = ?2 AND NOT EXISTS (
            SELECT 1 FROM outbox other WHERE other.partition = ?3 AND other.id = ?2)",
};

/// A relay is about to publish these in its first pass.
pub(crate) const BEGUN: Sql = Sql {
    postgres: "UPDATE outbox SET started = started + 1
        FROM unnest($1::smallint[], $2::uuid[]) AS begun (p, i) WHERE partition = p AND id = i",
    sqlite: "UPDATE outbox SET started = started + 1 WHERE partition = ?1 AND id = ?2",
};

/// It lived through it.
pub(crate) const SURVIVED: Sql = Sql {
    postgres: "UPDATE outbox SET started = 0
        FROM unnest($1::smallint[], $2::uuid[]) AS begun (p, i)
        WHERE partition = p AND id = i AND started > 0",
    sqlite: "UPDATE outbox SET started = 0 WHERE partition = ?1 AND id = ?2 AND started > 0",
};

/// Counts a failure and waits.
pub(crate) const POSTPONE: Sql = Sql {
    postgres: "UPDATE outbox SET attempts = attempts + 1, last_error = $4, pre_lease_ms = 0,
            delay_ms = NULL,
            available_at = clock_timestamp() + $3 * interval '1 millisecond'
        WHERE partition = $1 AND id = $2",
    sqlite: "UPDATE outbox SET attempts = attempts + 1, last_error = ?4, pre_lease_ms = 0,
            delay_ms = NULL,
            available_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
                + CAST(?3 * 1000 AS INTEGER)
        WHERE partition = ?1 AND id = ?2",
};

/// Keeps an event that used up its attempts; [`DELETE`] follows in the same transaction.
pub(crate) const BURY: Sql = Sql {
    postgres: "INSERT INTO outbox_dead (id, topic, key, headers, body, attempts, last_error,
            aggregate_type, event_type, routing_key, partition_key)
        SELECT id, topic, key, headers, body, attempts + 1, $3,
            aggregate_type, event_type, routing_key, partition_key FROM outbox
        WHERE partition = $1 AND id = $2 ON CONFLICT (id) DO NOTHING",
    sqlite: "INSERT INTO outbox_dead
            (id, topic, key, headers, body, attempts, last_error, died_at,
            aggregate_type, event_type, routing_key, partition_key)
        SELECT id, topic, key, headers, body, attempts + 1, ?3,
            CAST(unixepoch('subsec') * 1000000 AS INTEGER),
            aggregate_type, event_type, routing_key, partition_key FROM outbox
        WHERE partition = ?1 AND id = ?2 ON CONFLICT (id) DO NOTHING",
};

/// Is there an event that was due this many milliseconds ago?
pub(crate) const BEHIND: Sql = Sql {
    postgres: "SELECT EXISTS (SELECT 1 FROM outbox
        WHERE available_at + (pre_lease_ms + coalesce(delay_ms, 0)) * interval '1 millisecond'
            < clock_timestamp() - $1 * interval '1 millisecond')",
    sqlite: "SELECT EXISTS (SELECT 1 FROM outbox WHERE available_at
            + (pre_lease_ms + coalesce(delay_ms, 0)) * 1000
        < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - CAST(?1 * 1000 AS INTEGER))",
};

/// How much waits, is its senders', was refused before; what is dead; the age of the oldest in ms.
pub(crate) const STATUS: Sql = Sql {
    postgres: "SELECT coalesce(sum(events) FILTER (WHERE NOT leased), 0),
            coalesce(sum(events) FILTER (WHERE leased), 0), count(*) FILTER (WHERE attempts > 0),
            (SELECT count(*) FROM outbox_dead), max(age_ms)
        FROM (SELECT events, attempts, available_at + pre_lease_ms * interval '1 millisecond'
                > clock_timestamp() AND pre_lease_ms > 0 AS leased,
            (extract(epoch FROM clock_timestamp() - available_at) * 1000)::float8 AS age_ms
            FROM outbox) it",
    sqlite: "SELECT coalesce(sum(events) FILTER (WHERE NOT leased), 0),
            coalesce(sum(events) FILTER (WHERE leased), 0), count(*) FILTER (WHERE attempts > 0),
            (SELECT count(*) FROM outbox_dead), max(age_ms)
        FROM (SELECT events, attempts, available_at + pre_lease_ms * 1000
                > CAST(unixepoch('subsec') * 1000000 AS INTEGER) AND pre_lease_ms > 0 AS leased,
            (CAST(unixepoch('subsec') * 1000000 AS INTEGER) - available_at) / 1000.0 AS age_ms
            FROM outbox) it",
};

/// For each broker's 16 partitions: the first of them, how much waits, what was refused before, for how
/// many ms the oldest could have been sent, what was said of a refused one, and a topic.
pub(crate) const WAITING: Sql = Sql {
    postgres: "SELECT (partition / 16)::bigint * 16, coalesce(sum(events), 0),
            count(*) FILTER (WHERE attempts > 0),
            max((extract(epoch FROM clock_timestamp() - available_at) * 1000)::float8
                - pre_lease_ms - coalesce(delay_ms, 0)),
            max(last_error), min(topic)
        FROM outbox GROUP BY partition / 16 ORDER BY 1",
    sqlite: "SELECT partition / 16 * 16, coalesce(sum(events), 0),
            count(*) FILTER (WHERE attempts > 0),
            max((CAST(unixepoch('subsec') * 1000000 AS INTEGER) - available_at) / 1000.0
                - pre_lease_ms - coalesce(delay_ms, 0)),
            max(last_error), min(topic)
        FROM outbox GROUP BY partition / 16 ORDER BY 1",
};

/// Dead events, oldest first; columns as in [`DUE`], then what became of them.
pub(crate) const DEAD: Sql = Sql {
    postgres: "SELECT 0, id, topic, key, headers, body, attempts, 1,
            aggregate_type, event_type, routing_key, partition_key, last_error, died_at
        FROM outbox_dead ORDER BY died_at, id LIMIT $1",
    sqlite: "SELECT 0, id, topic, key, headers, body, attempts, 1,
            aggregate_type, event_type, routing_key, partition_key, last_error, died_at
        FROM outbox_dead ORDER BY died_at, id LIMIT ?1",
};

/// Likewise; two operators do not get the same ones.
pub(crate) const DEAD_FOR_RETRY: Sql = Sql {
    postgres: "SELECT 0, id, topic, key, headers, body, attempts, 1,
            aggregate_type, event_type, routing_key, partition_key, last_error, died_at
        FROM outbox_dead ORDER BY died_at, id LIMIT $1 FOR UPDATE SKIP LOCKED",
    sqlite: DEAD.sqlite,
};

/// Likewise, these.
pub(crate) const DEAD_BY_ID: Sql = Sql {
    postgres: "SELECT 0, id, topic, key, headers, body, attempts, 1,
            aggregate_type, event_type, routing_key, partition_key, last_error, died_at
        FROM outbox_dead WHERE id = ANY($1::uuid[]) FOR UPDATE SKIP LOCKED",
    sqlite: "SELECT 0, id, topic, key, headers, body, attempts, 1,
            aggregate_type, event_type, routing_key, partition_key, last_error, died_at
        FROM outbox_dead WHERE id = ?1",
};

/// They go back to the outbox in the same transaction.
pub(crate) const EXHUME: Sql = Sql {
    postgres: "DELETE FROM outbox_dead WHERE id = ANY($1::uuid[])",
    sqlite: "DELETE FROM outbox_dead WHERE id = ?1",
};

/// Wakes the relays of other processes; never in the transaction of an event.
pub(crate) const NOTIFY: Sql = Sql {
    postgres: "SELECT pg_notify('ratebox_outbox', '')",
    sqlite: "SELECT 1",
};

/// Marks messages that are most likely new.
pub(crate) static CLAIM: Insert = Insert::new(
    "consumer_inbox",
    &[
        ("event_id", "uuid"),
        ("consumer", "text"),
        ("topic", "text"),
        ("received_at", "timestamptz"),
    ],
    Conflict::Fail,
)
.alike(3);

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
    ADD_ONE,
    LOCK,
    DELETE,
    PRESENT,
    MOVE,
    SENT,
    DUE,
    REHOME,
    BEGUN,
    SURVIVED,
    POSTPONE,
    BURY,
    BEHIND,
    STATUS,
    WAITING,
    DEAD,
    DEAD_FOR_RETRY,
    DEAD_BY_ID,
    EXHUME,
    NOTIFY,
    OUTBOX_FILE,
    MARK,
    FORGET,
    inbox::TAKE,
    inbox::TAKE_ONE,
    inbox::RESULT,
    inbox::SETTLE,
    inbox::CLEAR,
    inbox::CHARGE,
    inbox::PARK,
    inbox::PARKED,
    inbox::RELEASE,
    inbox::FORGET_ATTEMPTS,
    inbox::PARTITIONS,
    inbox::MAY_PARTITION,
];

/// Every insert, likewise.
pub static INSERTS: [&Insert; 3] = [&ADD, &ADD_ABOUT, &CLAIM];
