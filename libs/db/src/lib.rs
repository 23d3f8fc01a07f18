//! One handle and one transaction over PostgreSQL and SQLite.
//!
//! [`Db`] and [`Tx`] are enums, not traits: the set of databases is closed, and a result, its
//! inbox mark and its outbox event must share one transaction. Statements are constants with both
//! dialects side by side ([`Sql`]), where many rows travel as columns in one statement; new rows of one
//! table are an [`Insert`].
//!
//! On SQLite one writer thread runs logical transactions as savepoints inside one physical commit
//! and answers them after its fsync (group commit), with `synchronous=FULL`.

mod column;
mod committed;
mod db;
mod error;
mod insert;
mod lease;
mod migrate;
mod postgres;
mod room;
mod row;
mod rows;
mod sql;
mod sqlite;
mod turn;
mod tx;
mod value;
mod wire;

pub use column::Column;
pub use committed::Committed;
pub use db::Db;
pub use db::Dialect;
pub use error::Error;
pub use insert::ColumnType;
pub use insert::Conflict;
pub use insert::Insert;
pub use lease::Lease;
pub use lease::Leases;
pub use migrate::Migration;
pub use migrate::Unknown;
pub use migrate::applied;
pub use migrate::check_schema;
pub use migrate::migrate;
pub use migrate::unknown;
pub use postgres::Listener;
pub use postgres::PostgresSettings;
pub use row::FromValue;
pub use row::Row;
pub use rows::Rows;
pub use sql::Sql;
pub use sql::Statement;
pub use sqlite::SqliteSettings;
pub use turn::Turn;
pub use tx::Tx;
pub use tx::TxId;
pub use value::Value;
pub use value::ValueRef;

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
