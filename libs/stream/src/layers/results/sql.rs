//! The table of kept answers and its statements. Times are milliseconds since 1970 by the
//! database's clock.

use ratebox_db::{Migration, Sql};

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "handler_results",
    postgres: "CREATE TABLE handler_results (consumer text NOT NULL, message text NOT NULL,
        number bigint NOT NULL, stream text NOT NULL, headers text NOT NULL, body bytea NOT NULL,
        kept_ms bigint NOT NULL, PRIMARY KEY (consumer, message, number));
        CREATE INDEX handler_results_kept ON handler_results (consumer, kept_ms)",
    sqlite: "CREATE TABLE handler_results (consumer TEXT NOT NULL, message TEXT NOT NULL,
        number INTEGER NOT NULL, stream TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL,
        kept_ms INTEGER NOT NULL, PRIMARY KEY (consumer, message, number)) WITHOUT ROWID;
        CREATE INDEX handler_results_kept ON handler_results (consumer, kept_ms);",
}];

pub(super) const KEEP: Sql = Sql {
    postgres:
        "INSERT INTO handler_results (consumer, message, number, stream, headers, body, kept_ms)
        VALUES ($1, $2, $3, $4, $5, $6, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
        ON CONFLICT DO NOTHING",
    sqlite:
        "INSERT INTO handler_results (consumer, message, number, stream, headers, body, kept_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(unixepoch('subsec') * 1000 AS INTEGER))
        ON CONFLICT DO NOTHING",
};

pub(super) const FIND: Sql = Sql {
    postgres: "SELECT stream, headers, body FROM handler_results
        WHERE consumer = $1 AND message = $2 ORDER BY number",
    sqlite: "SELECT stream, headers, body FROM handler_results
        WHERE consumer = ?1 AND message = ?2 ORDER BY number",
};

pub(super) const FORGET: Sql = Sql {
    postgres: "DELETE FROM handler_results WHERE consumer = $1 AND kept_ms < $2",
    sqlite: "DELETE FROM handler_results WHERE consumer = ?1 AND kept_ms < ?2",
};

pub(super) const STATEMENTS: &[Sql] = &[KEEP, FIND, FORGET];
