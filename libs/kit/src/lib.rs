//! Small things that every part of RateBox needs, and nothing that only one needs.
//!
//! The crate knows no database, no broker and no validation. It is the only place that reads the
//! time ([`Clock`], [`Stopwatch`]), makes ids ([`id`]) and spawns tasks ([`Tasks`]).

mod backoff;
mod causes;
mod clock;
mod dead_letter;
mod decimal;
mod effects;
pub mod fields;
pub mod id;
mod limit;
mod message;
pub mod open_files;
mod secret;
mod tasks;
mod trouble;

pub use backoff::Backoff;
pub use causes::Causes;
pub use clock::Clock;
pub use clock::Stopwatch;
pub use clock::Timestamp;
pub use dead_letter::Attempt;
pub use dead_letter::DeadLetter;
pub use dead_letter::DeadLetterClass;
pub use dead_letter::DeadLetters;
pub use dead_letter::PortError;
pub use decimal::Decimal;
pub use effects::FollowUp;
pub use effects::FollowUps;
pub use effects::Marks;
pub use effects::Staged;
pub use limit::Decision;
pub use limit::Limiter;
pub use limit::Quota;
pub use message::Message;
pub use message::MessageId;
pub use secret::Secret;
pub use tasks::Shutdown;
pub use tasks::Tasks;
pub use trouble::Spell;
pub use trouble::Trouble;
