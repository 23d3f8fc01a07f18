//! The tables of sagas.

use ratebox_db::Migration;

use super::postgres::function;

/// The owner name of the migrations.
pub const OWNER: &str = "saga";

/// All migrations, in order.
pub const MIGRATIONS: &[Migration] = &[TABLES, DEFINITIONS, PARKED];

const TABLES: Migration = Migration {
    version: 1,
    name: "sagas, their journal, processes and letters",
    // A head is inserted once and updated about once; records are only inserted. Whatever is
    // looked for among sagas that have not ended has an index of these alone, so that history
    // costs nothing. `owner` is an epoch, 0 for nobody; `wake` is 0 while a process holds the saga
    // in memory, else microseconds since 1970. Lists of kinds and classes: `record.rs`.
    postgres: concat!(
        "
        CREATE TABLE saga_processes (
            epoch bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text NOT NULL,
            ends_at timestamptz NOT NULL,
            fenced boolean NOT NULL DEFAULT false
        ) WITH (fillfactor = 50);
        CREATE TABLE sagas (
            id uuid PRIMARY KEY,
            version bigint NOT NULL,
            owner bigint NOT NULL,
            wake bigint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            ended_at timestamptz,
            parent uuid,
            parent_step text,
            definition text NOT NULL,
            hash text NOT NULL,
            key text,
            status text NOT NULL,
            input text NOT NULL,
            output text,
            error text
        );
        CREATE UNIQUE INDEX sagas_key ON sagas (definition, key) WHERE key IS NOT NULL;
        CREATE INDEX sagas_live ON sagas (owner, wake) WHERE ended_at IS NULL;
        CREATE INDEX sagas_ended ON sagas (ended_at) WHERE ended_at IS NOT NULL;
        CREATE INDEX sagas_parent ON sagas (parent) WHERE parent IS NOT NULL;
        CREATE TABLE saga_journal (
            saga uuid NOT NULL,
            took_us bigint NOT NULL,
            at timestamptz NOT NULL,
            due timestamptz,
            seq integer NOT NULL,
            item integer NOT NULL,
            attempt integer NOT NULL,
            kind smallint NOT NULL,
            class smallint,
            step text NOT NULL,
            payload text,
            note text,
            who text,
            PRIMARY KEY (saga, seq)
        );
        CREATE TABLE saga_letters (
            id uuid PRIMARY KEY,
            saga uuid NOT NULL,
            at timestamptz NOT NULL,
            handed_to bigint,
            verb text NOT NULL,
            subject text NOT NULL,
            payload text,
            who text NOT NULL,
            why text NOT NULL
        );
        CREATE INDEX saga_letters_saga ON saga_letters (saga);
        CREATE INDEX saga_letters_fresh ON saga_letters (at) WHERE handed_to IS NULL;",
        function!()
    ),
    sqlite: "
        CREATE TABLE saga_processes (
            epoch INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            ends_at INTEGER NOT NULL,
            fenced INTEGER NOT NULL DEFAULT 0
        );
        CREATE TABLE sagas (
            id BLOB PRIMARY KEY,
            version INTEGER NOT NULL,
            owner INTEGER NOT NULL,
            wake INTEGER NOT NULL DEFAULT 0,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            ended_at INTEGER,
            parent BLOB,
            parent_step TEXT,
            definition TEXT NOT NULL,
            hash TEXT NOT NULL,
            key TEXT,
            status TEXT NOT NULL,
            input TEXT NOT NULL,
            output TEXT,
            error TEXT
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX sagas_key ON sagas (definition, key) WHERE key IS NOT NULL;
        CREATE INDEX sagas_live ON sagas (owner, wake) WHERE ended_at IS NULL;
        CREATE INDEX sagas_ended ON sagas (ended_at) WHERE ended_at IS NOT NULL;
        CREATE INDEX sagas_parent ON sagas (parent) WHERE parent IS NOT NULL;
        CREATE TABLE saga_journal (
            saga BLOB NOT NULL,
            took_us INTEGER NOT NULL,
            at INTEGER NOT NULL,
            due INTEGER,
            seq INTEGER NOT NULL,
            item INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            kind INTEGER NOT NULL,
            class INTEGER,
            step TEXT NOT NULL,
            payload TEXT,
            note TEXT,
            who TEXT,
            PRIMARY KEY (saga, seq)
        ) WITHOUT ROWID;
        CREATE TABLE saga_letters (
            id BLOB PRIMARY KEY,
            saga BLOB NOT NULL,
            at INTEGER NOT NULL,
            handed_to INTEGER,
            verb TEXT NOT NULL,
            subject TEXT NOT NULL,
            payload TEXT,
            who TEXT NOT NULL,
            why TEXT NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX saga_letters_saga ON saga_letters (saga);
        CREATE INDEX saga_letters_fresh ON saga_letters (at) WHERE handed_to IS NULL;",
};

const DEFINITIONS: Migration = Migration {
    version: 2,
    name: "definitions without their functions",
    postgres: "
        CREATE TABLE saga_definitions (
            number bigint GENERATED ALWAYS AS IDENTITY,
            name text NOT NULL,
            hash text NOT NULL,
            outline text NOT NULL,
            PRIMARY KEY (name, hash)
        );",
    sqlite: "
        CREATE TABLE saga_definitions (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            hash TEXT NOT NULL,
            outline TEXT NOT NULL,
            UNIQUE (name, hash)
        );",
};

const PARKED: Migration = Migration {
    version: 3,
    name: "an index of parked sagas",
    postgres: "CREATE INDEX sagas_parked ON sagas (id) WHERE status = 'parked';",
    sqlite: "CREATE INDEX sagas_parked ON sagas (id) WHERE status = 'parked';",
};
