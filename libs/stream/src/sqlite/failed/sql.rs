//! The statements about failed entries that stay pending. SQLite only, as the log.

use ratebox_db::Sql;

pub(super) const KEEP: Sql = Sql {
    postgres: "",
    sqlite: "INSERT INTO log_failures (base, grp, lane, id, kept) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (base, grp, lane, id) DO UPDATE SET kept = excluded.kept",
};
pub(super) const FORGET: Sql = Sql {
    postgres: "",
    sqlite: "DELETE FROM log_failures WHERE base = ?1 AND grp = ?2 AND lane = ?3 AND id = ?4",
};
pub(super) const ALL: Sql = Sql {
    postgres: "",
    sqlite: "SELECT lane, id, kept FROM log_failures WHERE base = ?1 AND grp = ?2",
};
