-- The same tables as on PostgreSQL, without partitions and functions. Ids are 16 bytes, times are
-- microseconds since 1970, JSON is text.

CREATE TABLE validation_requests (
    id BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    source TEXT NOT NULL,
    action TEXT NOT NULL,
    lane TEXT NOT NULL,
    profile TEXT,
    item_count INTEGER NOT NULL,
    external_ref TEXT,
    batch_id TEXT,
    state TEXT NOT NULL,
    body BLOB,
    accepted_at INTEGER NOT NULL,
    republished_at INTEGER,
    finished_at INTEGER
) WITHOUT ROWID;
CREATE INDEX validation_requests_unfinished ON validation_requests (lane, accepted_at)
    WHERE body IS NOT NULL;

CREATE TABLE raw_items (
    id BLOB PRIMARY KEY,
    request_id BLOB NOT NULL,
    item_no INTEGER NOT NULL,
    payload TEXT NOT NULL,
    source TEXT NOT NULL,
    status TEXT NOT NULL,
    result TEXT,
    error TEXT,
    phone TEXT,
    bank_account TEXT,
    email TEXT,
    profile TEXT NOT NULL,
    ruleset TEXT NOT NULL,
    confidence REAL NOT NULL,
    owner TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    consumer_group TEXT NOT NULL,
    consumer_name TEXT NOT NULL,
    retry_count INTEGER NOT NULL DEFAULT 0,
    processing_started_at INTEGER NOT NULL,
    processing_completed_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX raw_items_phone ON raw_items (phone) WHERE phone IS NOT NULL;
CREATE INDEX raw_items_bank_account ON raw_items (bank_account) WHERE bank_account IS NOT NULL;
CREATE INDEX raw_items_email ON raw_items (email) WHERE email IS NOT NULL;

CREATE TABLE raw_item_errors (
    item_id BLOB NOT NULL,
    error_no INTEGER NOT NULL,
    error_code INTEGER NOT NULL,
    field TEXT,
    message TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    PRIMARY KEY (item_id, error_no)
) WITHOUT ROWID;

CREATE TABLE validation_responses (
    id BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    response TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE stream_consumer_stats (
    consumer_group TEXT NOT NULL,
    consumer_name TEXT NOT NULL,
    stream_name TEXT NOT NULL,
    slot INTEGER NOT NULL DEFAULT 0,
    messages_processed INTEGER NOT NULL DEFAULT 0,
    messages_with_errors INTEGER NOT NULL DEFAULT 0,
    last_message_id TEXT,
    last_processed_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, consumer_name, stream_name, slot)
) WITHOUT ROWID;

CREATE TABLE stream_processing_metrics (
    id INTEGER PRIMARY KEY,
    stream_name TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    metric_value INTEGER NOT NULL,
    metric_timestamp INTEGER NOT NULL,
    tags TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX stream_processing_metrics_lookup
    ON stream_processing_metrics (stream_name, metric_name, metric_timestamp);

-- With max(), the other columns are those of the row that has the maximum.
CREATE VIEW v_consumer_performance AS
    SELECT consumer_group, consumer_name, stream_name, messages_processed, messages_with_errors,
        round(100.0 * messages_with_errors / max(messages_processed, 1), 2) AS error_rate_percent,
        last_message_id, last_processed_at,
        unixepoch('subsec') - last_processed_at / 1000000.0 AS seconds_since_last_message,
        created_at, updated_at
    FROM (SELECT consumer_group, consumer_name, stream_name,
            sum(messages_processed) AS messages_processed,
            sum(messages_with_errors) AS messages_with_errors, last_message_id,
            max(last_processed_at) AS last_processed_at,
            (SELECT min(created_at) FROM stream_consumer_stats o
                WHERE o.consumer_group = s.consumer_group AND o.consumer_name = s.consumer_name
                    AND o.stream_name = s.stream_name) AS created_at, updated_at
        FROM stream_consumer_stats s
        GROUP BY consumer_group, consumer_name, stream_name) AS consumers
    ORDER BY last_processed_at DESC;

CREATE VIEW v_recent_stream_activity AS
    SELECT id, request_id, item_no, status, source, stream_id, consumer_group, consumer_name,
        retry_count, processing_started_at, processing_completed_at,
        (processing_completed_at - processing_started_at) / 1000000.0
            AS processing_duration_seconds,
        coalesce(json_array_length(error), 0) AS error_count, created_at, updated_at
    FROM raw_items ORDER BY id DESC LIMIT 1000;

CREATE TABLE dead_letters (
    id BLOB PRIMARY KEY,
    message_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    lane TEXT NOT NULL,
    fields BLOB NOT NULL,
    class TEXT NOT NULL,
    error TEXT NOT NULL,
    code TEXT NOT NULL,
    fail_count INTEGER NOT NULL,
    first_failed_at INTEGER NOT NULL,
    last_failed_at INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    replay_count INTEGER NOT NULL DEFAULT 0,
    request_id BLOB,
    owner TEXT,
    UNIQUE (stream, entry_id)
) WITHOUT ROWID;

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    profile TEXT,
    limit_per_minute INTEGER,
    live INTEGER NOT NULL,
    secret_hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    request_id BLOB NOT NULL,
    answer TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
