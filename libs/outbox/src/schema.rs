//! The tables of outbox and inbox.

use ratebox_db::Migration;

/// The owner name of the migrations.
pub const OWNER: &str = "outbox";

/// All migrations, in order.
pub const MIGRATIONS: &[Migration] = &[Migration {
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
}];
