-- Requests, items, answers and what surrounds them. Partitions by month are made by
-- `partitions.rs`; the DEFAULT partitions catch ids whose month has none.

CREATE TABLE validation_requests (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    source text NOT NULL,
    action text NOT NULL,
    lane text NOT NULL,
    profile text,
    item_count integer NOT NULL,
    external_ref text,
    batch_id text,
    -- queued, success, partial, error or dead
    state text NOT NULL,
    -- The envelope as published, until the state is terminal.
    body bytea,
    accepted_at timestamptz NOT NULL,
    republished_at timestamptz,
    finished_at timestamptz
) WITH (fillfactor = 85);
CREATE INDEX validation_requests_unfinished ON validation_requests (lane, accepted_at)
    WHERE body IS NOT NULL;

CREATE TABLE raw_items (
    id uuid NOT NULL,
    request_id uuid NOT NULL,
    item_no integer NOT NULL,
    payload jsonb NOT NULL,
    source text NOT NULL,
    -- pending, success, error or dlq
    status text NOT NULL,
    result jsonb,
    error jsonb,
    -- Looked up by equality only: a byte order keeps their indexes cheap in a database of any locale.
    phone text COLLATE "C",
    bank_account text COLLATE "C",
    email text COLLATE "C",
    profile text NOT NULL,
    ruleset text NOT NULL,
    confidence real NOT NULL,
    owner text NOT NULL,
    stream_id text NOT NULL,
    consumer_group text NOT NULL,
    consumer_name text NOT NULL,
    retry_count integer NOT NULL DEFAULT 0,
    processing_started_at timestamptz NOT NULL,
    processing_completed_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE raw_items_default PARTITION OF raw_items DEFAULT;
CREATE INDEX raw_items_phone ON raw_items (phone) WHERE phone IS NOT NULL;
CREATE INDEX raw_items_bank_account ON raw_items (bank_account) WHERE bank_account IS NOT NULL;
CREATE INDEX raw_items_email ON raw_items (email) WHERE email IS NOT NULL;

CREATE TABLE raw_item_errors (
    item_id uuid NOT NULL,
    error_no smallint NOT NULL,
    error_code integer NOT NULL,
    field text,
    message text NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (item_id, error_no)
) PARTITION BY RANGE (item_id);
CREATE TABLE raw_item_errors_default PARTITION OF raw_item_errors DEFAULT;

CREATE TABLE validation_responses (
    id uuid NOT NULL,
    owner text NOT NULL,
    status text NOT NULL,
    -- The response envelope as sent: JSON text, written by us only, so not parsed again.
    response text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE validation_responses_default PARTITION OF validation_responses DEFAULT;

-- A consumer's figures are the sum over its slots: batches of one consumer that are under way at
-- the same time count in different rows, or each would wait for the other's commit.
CREATE TABLE stream_consumer_stats (
    consumer_group text NOT NULL,
    consumer_name text NOT NULL,
    stream_name text NOT NULL,
    slot smallint NOT NULL DEFAULT 0,
    messages_processed bigint NOT NULL DEFAULT 0,
    messages_with_errors bigint NOT NULL DEFAULT 0,
    last_message_id text,
    last_processed_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, consumer_name, stream_name, slot)
) WITH (fillfactor = 50);

CREATE TABLE stream_processing_metrics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_name text NOT NULL,
    metric_name text NOT NULL,
    metric_value bigint NOT NULL,
    metric_timestamp timestamptz NOT NULL DEFAULT now(),
    tags jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX stream_processing_metrics_lookup
    ON stream_processing_metrics (stream_name, metric_name, metric_timestamp);

CREATE FUNCTION update_consumer_stats(
    p_group text, p_name text, p_stream text, p_message_id text, p_has_errors boolean DEFAULT false
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO stream_consumer_stats AS s (consumer_group, consumer_name, stream_name,
        messages_processed, messages_with_errors, last_message_id, last_processed_at)
    VALUES (p_group, p_name, p_stream, 1, p_has_errors::int, p_message_id, now())
    ON CONFLICT (consumer_group, consumer_name, stream_name, slot) DO UPDATE SET
        messages_processed = s.messages_processed + 1,
        messages_with_errors = s.messages_with_errors + p_has_errors::int,
        last_message_id = excluded.last_message_id,
        last_processed_at = excluded.last_processed_at,
        updated_at = now()
$$;

CREATE FUNCTION record_stream_metric(
    p_stream text, p_metric text, p_value bigint, p_tags jsonb DEFAULT '{}'
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO stream_processing_metrics (stream_name, metric_name, metric_value, tags)
    VALUES (p_stream, p_metric, p_value, p_tags)
$$;

CREATE VIEW v_consumer_performance AS
    SELECT consumer_group, consumer_name, stream_name, messages_processed, messages_with_errors,
        round(100.0 * messages_with_errors / greatest(messages_processed, 1), 2)
            AS error_rate_percent,
        last_message_id, last_processed_at,
        extract(epoch FROM now() - last_processed_at) AS seconds_since_last_message,
        created_at, updated_at
    FROM (SELECT consumer_group, consumer_name, stream_name,
            sum(messages_processed)::bigint AS messages_processed,
            sum(messages_with_errors)::bigint AS messages_with_errors,
            (array_agg(last_message_id ORDER BY last_processed_at DESC))[1] AS last_message_id,
            max(last_processed_at) AS last_processed_at, min(created_at) AS created_at,
            max(updated_at) AS updated_at
        FROM stream_consumer_stats
        GROUP BY consumer_group, consumer_name, stream_name) AS consumers
    ORDER BY last_processed_at DESC;

CREATE VIEW v_recent_stream_activity AS
    SELECT id, request_id, item_no, status, source, stream_id, consumer_group, consumer_name,
        retry_count, processing_started_at, processing_completed_at,
        extract(epoch FROM processing_completed_at - processing_started_at)
            AS processing_duration_seconds,
        coalesce(jsonb_array_length(error), 0) AS error_count, created_at, updated_at
    FROM raw_items ORDER BY id DESC LIMIT 1000;

CREATE TABLE dead_letters (
    id uuid PRIMARY KEY,
    message_id text NOT NULL,
    stream text NOT NULL,
    entry_id text NOT NULL,
    lane text NOT NULL,
    fields bytea NOT NULL,
    class text NOT NULL,
    error text NOT NULL,
    code text NOT NULL,
    fail_count integer NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    consumer text NOT NULL,
    replay_count integer NOT NULL DEFAULT 0,
    request_id uuid,
    owner text,
    UNIQUE (stream, entry_id)
);

CREATE TABLE api_tokens (
    id text PRIMARY KEY,
    owner text NOT NULL,
    name text NOT NULL,
    scopes text NOT NULL,
    profile text,
    limit_per_minute bigint,
    live boolean NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE idempotency_keys (
    owner text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    request_id uuid NOT NULL,
    answer text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
