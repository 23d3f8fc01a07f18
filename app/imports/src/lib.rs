//! Bulk imports as a saga: cut into requests, followed to their verdicts, reported and told.
//!
//! A gateway keeps an import in the store and answers; nothing here is asked. [`Starter`] finds
//! imports that nobody looks after and starts a saga for each; [`Desk::saga`] is that saga. Any
//! process that runs a starter and a saga engine over the same database can finish what another
//! one began.

mod chores;
mod cut;
mod desk;
mod error;
mod finish;
mod follow;
mod saga;
mod settings;
mod starter;
mod tell;

pub use desk::Desk;
pub use error::Error;
pub use saga::Import;
pub use saga::NAME;
pub use settings::Settings;
pub use starter::Starter;

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
