//! Take, check, record, answer: what happens to a message between the bus and its verdict.
//!
//! [`Worker`] is the handler of the stream's consumer. [`Republisher`] and [`Housekeeping`] are
//! what the relay role does beside the outbox: making good what the bus lost, and keeping tables
//! and streams in shape.

mod answer;
mod figures;
mod held;
mod housekeeping;
mod judge;
mod kept;
mod lookups;
mod message;
mod record;
mod republish;
mod settings;
mod slots;
mod stats;
mod worker;

pub use housekeeping::Housekeeping;
pub use housekeeping::HousekeepingSettings;
pub use lookups::LookupCaches;
pub use lookups::Watched;
pub use republish::Republisher;
pub use settings::AnswerStreams;
pub use settings::Settings;
pub use stats::describe_metrics;
pub use worker::INBOX;
pub use worker::Worker;
