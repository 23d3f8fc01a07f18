//! The example's table and its first rows.

use ratebox_db::{Migration, Sql};

/// The table.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "users",
    postgres: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, title text NOT NULL)",
    sqlite: "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, title TEXT NOT NULL)",
}];

/// The first rows, unless somebody has written them already.
pub(super) const STATEMENTS: &[Sql] = &[Sql::both(
    "INSERT INTO users (id, name, title) VALUES (1, 'Ada', 'Engineer'), (2, 'Grace', 'Scientist')
        ON CONFLICT (id) DO NOTHING",
)];
