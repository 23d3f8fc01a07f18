//! Durable sagas: a typed graph of steps, a journal of their outcomes, and undo.
//!
//! [`Saga::builder`] declares what is done, what each step reads, and how it is undone. An [`Engine`]
//! runs sagas of a [`Journal`], undoes what fails, and takes over what a dead process left. Steps run
//! at least once, under keys that never change; a step in a transaction takes effect once.
//!
//! Not here: a server, a scheduler by calendar, replay of code. The stores are behind [`Store`].
#![warn(missing_docs)]

mod archive;
mod ctx;
mod definition;
mod desk;
mod draw;
mod dry_run;
mod engine;
mod error;
#[cfg(feature = "testing")]
mod explore;
mod flaw;
mod journal;
mod listener;
mod log_listener;
mod machine;
mod parked;
#[cfg(doctest)]
mod readme;
mod record;
mod retry;
mod saga_id;
mod stats;
mod status;
mod step_error;
mod strategy;
mod time;
mod view;

pub use archive::Archive;
pub use archive::FolderArchive;
pub use ctx::Ctx;
pub use definition::Saga;
pub use definition::after::After;
pub use definition::after::Approval;
pub use definition::after::When;
pub use definition::builder::Builder;
pub use definition::builder::Returning;
pub use definition::inputs::Inputs;
pub use definition::inputs::Source;
pub use definition::outline::Outline;
pub use definition::plan::OnStuck;
pub use definition::step::Step;
pub use definition::transaction::TxStep;
pub use definition::transaction::TxUndo;
pub use desk::Desk;
pub use desk::Order;
pub use desk::Outcome;
pub use desk::Sent;
pub use dry_run::DryRun;
pub use engine::By;
pub use engine::Engine;
pub use engine::EngineBuilder;
pub use engine::EngineSettings;
pub use engine::Handle;
pub use engine::History;
pub use engine::Start;
pub use engine::Started;
pub use error::Error;
#[cfg(feature = "testing")]
pub use explore::Break;
#[cfg(feature = "testing")]
pub use explore::Explore;
#[cfg(feature = "testing")]
pub use explore::Harm;
#[cfg(feature = "testing")]
pub use explore::Report;
#[cfg(feature = "testing")]
pub use explore::explore;
#[cfg(feature = "testing")]
pub use explore::random;
pub use flaw::Flaw;
pub use journal::Journal;
pub use journal::database::SqlStore;
pub use journal::database::postgres::POSTGRES_STATEMENTS;
pub use journal::database::predecessor::PREDECESSOR;
pub use journal::database::predecessor::TakenOver;
pub use journal::database::predecessor::take_over_predecessor;
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
pub use listener::About;
pub use listener::Heard;
pub use listener::Listener;
pub use log_listener::LogListener;
pub use parked::ParkedWatch;
pub use record::Class;
pub use record::Kind;
pub use record::NOTE_CHARS_MAX;
pub use record::Record;
pub use retry::Retry;
pub use saga_id::SagaId;
pub use stats::describe_metrics;
pub use status::Status;
pub use step_error::StepError;
pub use step_error::StepResult;
pub use strategy::CANCEL_MAX;
pub use strategy::OnFailure;
pub use time::Time;
pub use view::StepState;
pub use view::StepView;
pub use view::View;

/// What every call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
