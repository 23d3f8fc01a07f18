//! Statements over the predecessor's tables, which are in PostgreSQL's schema `public`.

use ratebox_db::Sql;

/// Unsent events, oldest first, and dead ones. A worker holds no lock on what it sends: it has claimed
/// it in a transaction that is over, and may be at it for 300 s. That is left to it, and so is what is
/// behind it in its aggregate. No index of theirs helps: the table is read twice, and what is claimed,
/// which is little, is compared with the rest.
pub(super) const UNSENT: Sql = Sql::both(
    "WITH held AS MATERIALIZED (
        SELECT coalesce(aggregate_type, 'saga') AS kind, coalesce(aggregate_id, saga_id) AS id,
            created_at, event_id
        FROM public.saga_outbox WHERE status IN ('claimed', 'failed')
            AND worker_id IS DISTINCT FROM 'ratebox'
            AND claimed_at > clock_timestamp() - interval '300 seconds')
    SELECT event_id, saga_id::text, aggregate_type::text, aggregate_id::text,
        event_type::text, payload::text, headers::text, status::text,
        coalesce(retry_count, 0)::bigint, last_error::text, created_at
    FROM public.saga_outbox o WHERE status <> 'sent' AND NOT EXISTS (
        SELECT 1 FROM held WHERE held.id = coalesce(o.aggregate_id, o.saga_id)
            AND held.kind = coalesce(o.aggregate_type, 'saga')
            AND (held.created_at, held.event_id) <= (o.created_at, o.event_id))
    ORDER BY created_at, event_id LIMIT 1000 FOR UPDATE SKIP LOCKED",
);

/// What stays for the next time.
pub(super) const LEFT: Sql =
    Sql::both("SELECT count(*) FROM public.saga_outbox WHERE status <> 'sent'");

/// They are the new outbox's; `sent` is the one state that no worker of theirs touches.
pub(super) const MOVED: Sql = Sql {
    postgres: "UPDATE public.saga_outbox SET status = 'sent', sent_at = clock_timestamp(),
            last_error = 'moved to the outbox of RateBox'
        WHERE event_id = ANY($1::uuid[])",
    sqlite: "SELECT ?1",
};

/// Dead events, with what became of them.
pub(super) const DEAD: Sql = Sql {
    postgres: "INSERT INTO outbox_dead (id, topic, key, headers, body, attempts, last_error,
            aggregate_type, event_type)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    sqlite: "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9",
};

/// What was consumed stays known, some of it at a time: the marks whose ids follow this one. Answers
/// how many were new, and the last id. With `$1 IS NULL OR …` each would read all before it again. Theirs is known for one consumer only: the one that came first.
pub(super) const MARKS: Sql = Sql {
    postgres: "WITH some_marks AS (
            SELECT event_id, consumer_name, source_topic, event_type, consumed_at,
                processing_duration_ms
            FROM public.consumer_inbox
            WHERE event_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
            ORDER BY event_id LIMIT 10000),
        added AS (
            INSERT INTO consumer_inbox
                (consumer, event_id, topic, event_type, received_at, duration_ms)
            SELECT consumer_name, event_id, coalesce(source_topic, ''), event_type, consumed_at,
                processing_duration_ms
            FROM some_marks WHERE consumer_name IS NOT NULL
            ON CONFLICT (consumer, event_id) DO NOTHING RETURNING 1)
        SELECT (SELECT count(*) FROM added),
            (SELECT event_id FROM some_marks ORDER BY event_id DESC LIMIT 1)",
    sqlite: "SELECT 0, ?1",
};

/// For outbox and inbox: whether there is a table of that name with the predecessor's columns. Others have
/// an inbox of that name, too: we ourselves, where the schema is `public`.
pub(super) const TABLES: Sql = Sql::both(
    "SELECT
        (SELECT count(*) = 14 FROM pg_attribute WHERE attrelid = outbox AND NOT attisdropped
            AND (attname IN ('saga_id', 'aggregate_type', 'aggregate_id', 'event_type', 'payload',
                'headers', 'status', 'claimed_at', 'sent_at', 'retry_count', 'last_error',
                'worker_id')
            OR (attname = 'event_id' AND atttypid = 'uuid'::regtype)
            OR (attname = 'created_at' AND atttypid = 'timestamptz'::regtype))),
        inbox IS DISTINCT FROM to_regclass('consumer_inbox')
        AND (SELECT count(*) = 6 FROM pg_attribute WHERE attrelid = inbox AND NOT attisdropped
            AND (attname IN ('consumer_name', 'source_topic', 'event_type',
                'processing_duration_ms')
            OR (attname = 'event_id' AND atttypid = 'uuid'::regtype)
            OR (attname = 'consumed_at' AND atttypid = 'timestamptz'::regtype)))
    FROM to_regclass('public.saga_outbox') AS outbox, to_regclass('public.consumer_inbox') AS inbox",
);

/// The oldest events that may be sent now, held until the transaction ends: workers of the
/// predecessor skip them. What is behind a claimed event of its aggregate waits; columns as in
/// [`UNSENT`].
pub(super) const DUE: Sql = Sql {
    postgres: "SELECT event_id, saga_id::text, aggregate_type::text, aggregate_id::text,
            event_type::text, payload::text, headers::text, status::text,
            coalesce(retry_count, 0)::bigint, last_error::text, created_at
        FROM public.saga_outbox o WHERE status = 'pending' AND NOT EXISTS (
            SELECT 1 FROM public.saga_outbox older WHERE older.status = 'claimed'
                AND coalesce(older.aggregate_id, older.saga_id) = coalesce(o.aggregate_id, o.saga_id)
                AND coalesce(older.aggregate_type, 'saga') = coalesce(o.aggregate_type, 'saga')
                AND (older.created_at, older.event_id) < (o.created_at, o.event_id))
        ORDER BY created_at, event_id LIMIT $1 FOR UPDATE SKIP LOCKED",
    sqlite: "SELECT ?1",
};

/// What waits for its next try is claimed in our name until then; what a worker claimed and did
/// not send within its 300 s was left by a dead one.
pub(super) const RELEASE: Sql = Sql::both(
    "UPDATE public.saga_outbox SET status = 'pending', worker_id = NULL, claimed_at = NULL
    WHERE status = 'claimed' AND ((worker_id = 'ratebox' AND claimed_at <= clock_timestamp())
        OR (worker_id IS DISTINCT FROM 'ratebox'
            AND claimed_at < clock_timestamp() - interval '300 seconds'))",
);

/// Their workers leave `failed` at once; what is still in it was left by a dead one.
pub(super) const REVIVE: Sql = Sql::both(
    "UPDATE public.saga_outbox SET status = 'pending', worker_id = NULL, claimed_at = NULL
    WHERE status = 'failed' AND coalesce(claimed_at, created_at)
        < clock_timestamp() - interval '300 seconds'",
);

/// These were sent.
pub(super) const SENT: Sql = Sql {
    postgres: "UPDATE public.saga_outbox
        SET status = 'sent', sent_at = clock_timestamp(), worker_id = 'ratebox'
        WHERE event_id = ANY($1::uuid[])",
    sqlite: "SELECT ?1",
};

/// One was refused and waits this many milliseconds, claimed in our name.
pub(super) const POSTPONE: Sql = Sql {
    postgres: "UPDATE public.saga_outbox SET status = 'claimed', worker_id = 'ratebox',
            claimed_at = clock_timestamp() + $2 * interval '1 millisecond',
            retry_count = coalesce(retry_count, 0) + 1, last_error = $3
        WHERE event_id = $1",
    sqlite: "SELECT ?1, ?2, ?3",
};

/// One used up its tries.
pub(super) const BURY: Sql = Sql {
    postgres: "UPDATE public.saga_outbox SET status = 'dead_letter', worker_id = NULL,
            retry_count = coalesce(retry_count, 0) + 1, last_error = $2
        WHERE event_id = $1",
    sqlite: "SELECT ?1, ?2",
};

/// Moves events that were sent so many milliseconds ago out of the hot table, some at a time.
pub(super) const ARCHIVE: Sql = Sql {
    postgres: "WITH old AS (DELETE FROM public.saga_outbox WHERE event_id IN (
            SELECT event_id FROM public.saga_outbox WHERE status = 'sent'
                AND sent_at < clock_timestamp() - $1 * interval '1 millisecond' LIMIT 5000)
            RETURNING *)
        INSERT INTO public.saga_outbox_archive SELECT * FROM old ON CONFLICT DO NOTHING",
    sqlite: "SELECT ?1",
};

/// Is there the table, and the one for old events?
pub(super) const OLD_TABLES: Sql = Sql::both(
    "SELECT to_regclass('public.saga_outbox') IS NOT NULL,
        to_regclass('public.saga_outbox_archive') IS NOT NULL",
);
