//! Durable sagas.
#![warn(missing_docs)]

mod error;
mod flaw;
mod journal;
mod record;
mod saga_id;
mod status;
mod time;

pub use error::Error;
pub use flaw::Flaw;
pub use journal::Journal;
pub use journal::database::SqlStore;
pub use journal::database::postgres::POSTGRES_STATEMENTS;
pub use journal::database::schema::MIGRATIONS;
pub use journal::database::schema::OWNER;
pub use journal::database::sql::STATEMENTS;
pub use journal::memory::MemoryStore;
pub use journal::redis::RedisStore;
pub use journal::store::Adopted;
pub use journal::store::Append;
pub use journal::store::Count;
pub use journal::store::Entry;
pub use journal::store::Filter;
pub use journal::store::Head;
pub use journal::store::HeadChange;
pub use journal::store::Letter;
pub use journal::store::NewSaga;
pub use journal::store::Owner;
pub use journal::store::Parent;
pub use journal::store::Posted;
pub use journal::store::Store;
pub use journal::store::Stored;
pub use journal::store::Wake;
pub use journal::store::Written;
pub use journal::store::WrittenIn;
pub use record::Class;
pub use record::Kind;
pub use record::NOTE_CHARS_MAX;
pub use record::Record;
pub use saga_id::SagaId;
pub use status::Status;
pub use time::Time;

/// What every call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
