//! Statements over the predecessor's tables, which are in PostgreSQL's schema `public`.

use ratebox_db::Sql;

/// Unsent events, oldest first, and dead ones; a worker that still runs keeps what it has locked.
pub(super) const UNSENT: Sql = Sql::both(
    "SELECT event_id, saga_id::text, aggregate_type::text, aggregate_id::text,
        event_type::text, payload::text, headers::text, status::text, coalesce(retry_count, 0)::bigint, last_error::text, created_at
    FROM public.saga_outbox WHERE status <> 'sent'
    ORDER BY created_at, event_id LIMIT 1000 FOR UPDATE SKIP LOCKED",
);

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

/// What was consumed stays known. Theirs is known for one consumer only: the one that came first.
pub(super) const MARKS: Sql = Sql::both(
    "INSERT INTO consumer_inbox (consumer, event_id, topic, event_type, received_at, duration_ms)
    SELECT consumer_name, event_id, coalesce(source_topic, ''), event_type, consumed_at, processing_duration_ms
    FROM public.consumer_inbox WHERE consumer_name IS NOT NULL
    ON CONFLICT (consumer, event_id) DO NOTHING",
);

/// Which of the tables there are.
pub(super) const TABLES: Sql = Sql::both(
    "SELECT to_regclass('public.saga_outbox') IS NOT NULL,
        to_regclass('public.consumer_inbox') IS NOT NULL
            AND to_regclass('public.consumer_inbox') <> to_regclass('consumer_inbox')",
);
