//! One file a command.

pub mod config;
pub mod doctor;
mod figures;
pub mod migrate;
pub mod monitor;
pub mod outbox;
pub mod produce;
pub mod role;
pub mod token;
pub mod up;
pub mod validate;
