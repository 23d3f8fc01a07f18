//! Statements of the handling half of the inbox, both dialects side by side.

use ratebox_db::Sql;

/// Marks messages that are neither marked nor parked; answers those that were marked now. Sorted,
/// so that two batches that share messages wait for one another instead of deadlocking.
pub(crate) const TAKE: Sql = Sql {
    postgres: "INSERT INTO consumer_inbox (consumer, event_id, topic, event_type, received_at)
        SELECT $4, id, topic, type, clock_timestamp()
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS it (id, topic, type)
        WHERE NOT EXISTS (SELECT 1 FROM inbox_attempts
            WHERE consumer = $4 AND event_id = id AND parked_at IS NOT NULL)
        ORDER BY id
        ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id",
    sqlite: "INSERT INTO consumer_inbox (consumer, event_id, topic, event_type, received_at)
        SELECT ?4, ?1, ?2, ?3, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
        WHERE NOT EXISTS (SELECT 1 FROM inbox_attempts
            WHERE consumer = ?4 AND event_id = ?1 AND parked_at IS NOT NULL)
        ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id",
};

/// Likewise for one message; answers whether it is new, and what the first delivery left when it is
/// not. No row when it is parked, or was marked while this waited; on SQLite also when it was marked
/// before.
pub(crate) const TAKE_ONE: Sql = Sql {
    postgres: "WITH taken AS (
            INSERT INTO consumer_inbox (consumer, event_id, topic, event_type, received_at)
            SELECT $1, $2, $3, $4, clock_timestamp()
            WHERE NOT EXISTS (SELECT 1 FROM inbox_attempts
                WHERE consumer = $1 AND event_id = $2 AND parked_at IS NOT NULL)
            ON CONFLICT (consumer, event_id) DO NOTHING RETURNING 1)
        SELECT true, NULL::text FROM taken UNION ALL
        SELECT false, result FROM consumer_inbox WHERE consumer = $1 AND event_id = $2",
    sqlite: "INSERT INTO consumer_inbox (consumer, event_id, topic, event_type, received_at)
        SELECT ?1, ?2, ?3, ?4, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
        WHERE NOT EXISTS (SELECT 1 FROM inbox_attempts
            WHERE consumer = ?1 AND event_id = ?2 AND parked_at IS NOT NULL)
        ON CONFLICT (consumer, event_id) DO NOTHING RETURNING 1, NULL",
};

/// What the first delivery left; no row when the message is parked.
pub(crate) const RESULT: Sql = Sql {
    postgres: "SELECT result FROM consumer_inbox WHERE consumer = $1 AND event_id = $2",
    sqlite: "SELECT result FROM consumer_inbox WHERE consumer = ?1 AND event_id = ?2",
};

/// Completes a mark in the transaction of its effect.
pub(crate) const SETTLE: Sql = Sql {
    postgres: "UPDATE consumer_inbox SET duration_ms = $3, result = $4
        WHERE consumer = $1 AND event_id = $2",
    sqlite: "UPDATE consumer_inbox SET duration_ms = ?3, result = ?4
        WHERE consumer = ?1 AND event_id = ?2",
};

/// Forgets the failures of messages that had their effect.
pub(crate) const CLEAR: Sql = Sql {
    postgres: "DELETE FROM inbox_attempts WHERE event_id = ANY($1::uuid[]) AND consumer = $2",
    sqlite: "DELETE FROM inbox_attempts WHERE event_id = ?1 AND consumer = ?2",
};

/// Counts an attempt; answers how many there were, and whether the message is parked.
pub(crate) const CHARGE: Sql = Sql {
    postgres:
        "INSERT INTO inbox_attempts (consumer, event_id, topic, event_type, attempts, last_error)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (consumer, event_id) DO UPDATE SET
            attempts = inbox_attempts.attempts + excluded.attempts,
            last_error = coalesce(excluded.last_error, inbox_attempts.last_error)
        RETURNING attempts, parked_at IS NOT NULL",
    sqlite:
        "INSERT INTO inbox_attempts (consumer, event_id, topic, event_type, attempts, last_error)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (consumer, event_id) DO UPDATE SET
            attempts = attempts + excluded.attempts,
            last_error = coalesce(excluded.last_error, last_error)
        RETURNING attempts, parked_at IS NOT NULL",
};

/// Keeps a message that was given up, with its bytes.
pub(crate) const PARK: Sql = Sql {
    postgres: "UPDATE inbox_attempts SET parked_at = clock_timestamp(), message_id = $3,
            headers = $4, body = $5, last_error = coalesce(last_error, $6)
        WHERE consumer = $1 AND event_id = $2 AND parked_at IS NULL",
    sqlite: "UPDATE inbox_attempts SET
            parked_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER), message_id = ?3,
            headers = ?4, body = ?5, last_error = coalesce(last_error, ?6)
        WHERE consumer = ?1 AND event_id = ?2 AND parked_at IS NULL",
};

/// Messages that were given up, oldest first.
pub(crate) const PARKED: Sql = Sql {
    postgres: "SELECT event_id, topic, event_type, attempts, last_error, parked_at
        FROM inbox_attempts WHERE consumer = $1 AND parked_at IS NOT NULL
        ORDER BY parked_at LIMIT $2",
    sqlite: "SELECT event_id, topic, event_type, attempts, last_error, parked_at
        FROM inbox_attempts WHERE consumer = ?1 AND parked_at IS NOT NULL
        ORDER BY parked_at LIMIT ?2",
};

/// Takes a message out of the parked ones.
pub(crate) const RELEASE: Sql = Sql {
    postgres: "DELETE FROM inbox_attempts
        WHERE consumer = $1 AND event_id = $2 AND parked_at IS NOT NULL
        RETURNING message_id, topic, event_type, headers, body",
    sqlite: "DELETE FROM inbox_attempts
        WHERE consumer = ?1 AND event_id = ?2 AND parked_at IS NOT NULL
        RETURNING message_id, topic, event_type, headers, body",
};

/// Failures of messages that never came again, after the window. Parked ones stay.
pub(crate) const FORGET_ATTEMPTS: Sql = Sql {
    postgres: "DELETE FROM inbox_attempts
        WHERE consumer = $1 AND first_at < $2 AND parked_at IS NULL",
    sqlite: "DELETE FROM inbox_attempts
        WHERE consumer = ?1 AND first_at < ?2 AND parked_at IS NULL",
};

/// The weeks that have a partition, by name, and whether this user may drop it. SQLite has none.
pub(crate) const PARTITIONS: Sql = Sql {
    postgres: "SELECT c.relname::text, pg_has_role(c.relowner, 'USAGE')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'consumer_inbox'::regclass AND c.relname ~ '^consumer_inbox_[0-9]{8}$'
        ORDER BY 1",
    sqlite: "SELECT '', true WHERE false",
};

/// Whether this user may make partitions: the owner of the table, in a schema where he may.
pub(crate) const MAY_PARTITION: Sql = Sql {
    postgres: "SELECT pg_has_role(relowner, 'USAGE')
            AND has_schema_privilege(relnamespace, 'CREATE')
        FROM pg_class WHERE oid = 'consumer_inbox'::regclass",
    sqlite: "SELECT false",
};
