//! Sent events on SQLite.

use ratebox_db::Sql;

/// Deletes the oldest rows, as far as they were sent so many microseconds ago. They lie in the order
/// in which they were sent.
pub(super) const FORGET: Sql = Sql {
    postgres: "SELECT $1::bigint",
    sqlite: "DELETE FROM outbox_sent WHERE rowid IN (
            SELECT rowid FROM outbox_sent ORDER BY rowid LIMIT 1000)
        AND sent_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - ?1",
};
