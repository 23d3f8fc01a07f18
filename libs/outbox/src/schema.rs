//! The tables of outbox and inbox.

use ratebox_db::Migration;

/// The owner name of the migrations.
pub const OWNER: &str = "outbox";

/// All migrations, in order.
pub const MIGRATIONS: &[Migration] = &[TABLES, HANDLING, SENT, SPARE];

const TABLES: Migration = Migration {
    version: 1,
    name: "outbox and inbox",
    // The outbox is short-lived rows at the right edge of an index: vacuum often, keep no room. A
    // row may hold several events and fill a page (see `bundle.rs`). It is its sender's alone for
    // `pre_lease_ms` from `available_at`.
    postgres: "
        CREATE TABLE outbox (
            partition smallint NOT NULL,
            id uuid NOT NULL,
            topic text NOT NULL,
            key text,
            headers text,
            body bytea NOT NULL,
            events smallint NOT NULL DEFAULT 1,
            attempts smallint NOT NULL DEFAULT 0,
            available_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            pre_lease_ms integer NOT NULL DEFAULT 0,
            last_error text,
            PRIMARY KEY (partition, id)
        ) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0,
                autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
        ALTER TABLE outbox ALTER COLUMN body SET STORAGE EXTERNAL;
        CREATE INDEX outbox_key ON outbox (partition, key, id) WHERE key IS NOT NULL;
        CREATE TABLE outbox_dead (
            id uuid PRIMARY KEY,
            topic text NOT NULL,
            key text,
            headers text,
            body bytea NOT NULL,
            attempts smallint NOT NULL,
            last_error text,
            died_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE TABLE consumer_inbox (
            consumer text NOT NULL,
            event_id uuid NOT NULL,
            topic text NOT NULL,
            received_at timestamptz NOT NULL,
            PRIMARY KEY (consumer, event_id)
        );",
    sqlite: "
        CREATE TABLE outbox (
            partition INTEGER NOT NULL,
            id BLOB NOT NULL,
            topic TEXT NOT NULL,
            key TEXT,
            headers TEXT,
            body BLOB NOT NULL,
            events INTEGER NOT NULL DEFAULT 1,
            attempts INTEGER NOT NULL DEFAULT 0,
            available_at INTEGER NOT NULL
                DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
            pre_lease_ms INTEGER NOT NULL DEFAULT 0,
            last_error TEXT,
            PRIMARY KEY (partition, id)
        );
        CREATE INDEX outbox_key ON outbox (partition, key, id) WHERE key IS NOT NULL;
        CREATE TABLE outbox_dead (
            id BLOB PRIMARY KEY,
            topic TEXT NOT NULL,
            key TEXT,
            headers TEXT,
            body BLOB NOT NULL,
            attempts INTEGER NOT NULL,
            last_error TEXT,
            died_at INTEGER NOT NULL
        );
        CREATE TABLE consumer_inbox (
            consumer TEXT NOT NULL,
            event_id BLOB NOT NULL,
            topic TEXT NOT NULL,
            received_at INTEGER NOT NULL,
            PRIMARY KEY (consumer, event_id)
        ) WITHOUT ROWID;",
};

const HANDLING: Migration = Migration {
    version: 2,
    name: "what an event is about; handling consumers; weekly partitions of the inbox",
    // What was marked before stays where it is, as the DEFAULT partition; programs of the previous
    // version find the same columns under the same name.
    postgres: "
        ALTER TABLE outbox ADD COLUMN aggregate_type text, ADD COLUMN event_type text,
            ADD COLUMN routing_key text, ADD COLUMN partition_key text,
            ADD COLUMN delay_ms bigint;
        CREATE INDEX outbox_blocking ON outbox (partition, key, id)
            WHERE key IS NOT NULL AND (attempts > 0 OR pre_lease_ms > 0);
        ALTER TABLE outbox_dead ADD COLUMN aggregate_type text, ADD COLUMN event_type text,
            ADD COLUMN routing_key text, ADD COLUMN partition_key text;
        ALTER TABLE consumer_inbox RENAME CONSTRAINT consumer_inbox_pkey
            TO consumer_inbox_default_pkey;
        ALTER TABLE consumer_inbox RENAME TO consumer_inbox_default;
        ALTER TABLE consumer_inbox_default ADD COLUMN event_type text,
            ADD COLUMN duration_ms bigint, ADD COLUMN result text;
        CREATE TABLE consumer_inbox (
            consumer text NOT NULL,
            event_id uuid NOT NULL,
            topic text NOT NULL,
            received_at timestamptz NOT NULL,
            event_type text,
            duration_ms bigint,
            result text,
            PRIMARY KEY (consumer, event_id)
        ) PARTITION BY RANGE (event_id);
        ALTER TABLE consumer_inbox ATTACH PARTITION consumer_inbox_default DEFAULT;
        CREATE TABLE inbox_attempts (
            consumer text NOT NULL,
            event_id uuid NOT NULL,
            topic text NOT NULL,
            event_type text,
            attempts bigint NOT NULL,
            last_error text,
            first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            parked_at timestamptz,
            message_id text,
            headers text,
            body bytea,
            PRIMARY KEY (consumer, event_id)
        );",
    sqlite: "
        ALTER TABLE outbox ADD COLUMN aggregate_type TEXT;
        ALTER TABLE outbox ADD COLUMN event_type TEXT;
        ALTER TABLE outbox ADD COLUMN routing_key TEXT;
        ALTER TABLE outbox ADD COLUMN partition_key TEXT;
        ALTER TABLE outbox ADD COLUMN delay_ms INTEGER;
        CREATE INDEX outbox_blocking ON outbox (partition, key, id)
            WHERE key IS NOT NULL AND (attempts > 0 OR pre_lease_ms > 0);
        ALTER TABLE outbox_dead ADD COLUMN aggregate_type TEXT;
        ALTER TABLE outbox_dead ADD COLUMN event_type TEXT;
        ALTER TABLE outbox_dead ADD COLUMN routing_key TEXT;
        ALTER TABLE outbox_dead ADD COLUMN partition_key TEXT;
        ALTER TABLE consumer_inbox ADD COLUMN event_type TEXT;
        ALTER TABLE consumer_inbox ADD COLUMN duration_ms INTEGER;
        ALTER TABLE consumer_inbox ADD COLUMN result TEXT;
        CREATE TABLE inbox_attempts (
            consumer TEXT NOT NULL,
            event_id BLOB NOT NULL,
            topic TEXT NOT NULL,
            event_type TEXT,
            attempts INTEGER NOT NULL,
            last_error TEXT,
            first_at INTEGER NOT NULL
                DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
            parked_at INTEGER,
            message_id TEXT,
            headers TEXT,
            body BLOB,
            PRIMARY KEY (consumer, event_id)
        ) WITHOUT ROWID;",
};

const SENT: Migration = Migration {
    version: 3,
    name: "archive of sent events; lives of relays that ended with a row",
    // Days are made by relays; what is sent before the first one is in the DEFAULT partition.
    postgres: "
        ALTER TABLE outbox ADD COLUMN started smallint NOT NULL DEFAULT 0;
        CREATE TABLE outbox_sent (
            sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            id uuid NOT NULL,
            topic text NOT NULL,
            key text,
            headers text,
            body bytea NOT NULL,
            events smallint NOT NULL,
            attempts smallint NOT NULL,
            aggregate_type text,
            event_type text,
            routing_key text,
            partition_key text
        ) PARTITION BY RANGE (sent_at);
        ALTER TABLE outbox_sent ALTER COLUMN body SET STORAGE EXTERNAL;
        CREATE TABLE outbox_sent_default PARTITION OF outbox_sent DEFAULT
            WITH (toast_tuple_target = 8160);",
    sqlite: "
        ALTER TABLE outbox ADD COLUMN started INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE outbox_sent (
            sent_at INTEGER NOT NULL,
            id BLOB NOT NULL,
            topic TEXT NOT NULL,
            key TEXT,
            headers TEXT,
            body BLOB NOT NULL,
            events INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            aggregate_type TEXT,
            event_type TEXT,
            routing_key TEXT,
            partition_key TEXT
        );",
};

const SPARE: Migration = Migration {
    version: 4,
    name: "a spare table for the outbox's dead rows",
    // The two turn (see `relay/postgres.rs`): a later migration changes both alike, and does not
    // rely on the names of their indexes. Programs of the previous version truncate instead.
    postgres: "
        CREATE TABLE outbox_spare (LIKE outbox INCLUDING ALL)
            WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0,
                autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);",
    // SQLite's dead rows are gone with their transaction.
    sqlite: "SELECT 1;",
};
