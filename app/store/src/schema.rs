//! The tables, and the lists of all statements for the test that prepares them.

use ratebox_db::{Insert, Migration, Sql};

/// The owner name of the migrations.
pub const OWNER: &str = "store";

/// All migrations, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "the pipeline",
        postgres: include_str!("../migrations/postgres/0001_pipeline.sql"),
        sqlite: include_str!("../migrations/sqlite/0001_pipeline.sql"),
    },
    Migration {
        version: 2,
        name: "what operators do",
        postgres: include_str!("../migrations/postgres/0002_operators.sql"),
        sqlite: include_str!("../migrations/sqlite/0002_operators.sql"),
    },
    Migration {
        version: 3,
        name: "suppressed duplicates",
        postgres: include_str!("../migrations/postgres/0003_suppressed.sql"),
        sqlite: include_str!("../migrations/sqlite/0003_suppressed.sql"),
    },
    Migration {
        version: 4,
        name: "cheaper rows: lz4, hashed look-ups",
        postgres: include_str!("../migrations/postgres/0004_cheaper_rows.sql"),
        sqlite: include_str!("../migrations/sqlite/0004_cheaper_rows.sql"),
    },
    Migration {
        version: 5,
        name: "bulk imports",
        postgres: include_str!("../migrations/postgres/0005_imports.sql"),
        sqlite: include_str!("../migrations/sqlite/0005_imports.sql"),
    },
    Migration {
        version: 6,
        name: "replays of imports",
        postgres: include_str!("../migrations/postgres/0006_imports_care.sql"),
        sqlite: include_str!("../migrations/sqlite/0006_imports_care.sql"),
    },
];

/// Every statement of the crate.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    [
        crate::audit::STATEMENTS,
        crate::dead_letters::STATEMENTS,
        crate::dead_letters::CHANGES,
        crate::dead_letters::REPLAYS,
        crate::dead_letters::LOOKS,
        crate::idempotency::STATEMENTS,
        crate::imports::STATEMENTS,
        crate::imports::STEPS,
        crate::imports::CARE,
        crate::lookups::STATEMENTS,
        crate::monitor::STATEMENTS,
        crate::requests::STATEMENTS,
        crate::stream_metrics::STATEMENTS,
        crate::tokens::STATEMENTS,
        crate::unfinished::STATEMENTS,
    ]
    .into_iter()
    .flatten()
}

/// Every insert of the crate.
pub fn inserts() -> impl Iterator<Item = &'static Insert> {
    crate::results::INSERTS.into_iter().chain([
        &crate::requests::INSERT,
        &crate::requests::INSERT_MISSING,
        &crate::imports::INSERT,
        &crate::imports::INSERT_PARTS,
        &crate::consumers::COUNT,
        &crate::audit::INSERT,
        &crate::stream_metrics::INSERT,
        &crate::consumers::COUNT,
    ])
}
