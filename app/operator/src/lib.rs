//! What operators do: dead letters looked at, edited, replayed and purged; streams looked at,
//! trimmed, replayed and carried away; sagas looked at and ordered about.
//!
//! HTTP, command line and console are thin over this crate, so that a deed is checked, masked and
//! written into the audit log in one way. It decides nothing about messages of its own: what a
//! message is says `intake`, what is kept says `store`, what is delivered says `stream`.

mod base64;
mod by;
mod carry;
mod edit;
mod error;
mod letters;
mod lookout;
mod moment;
mod pace;
mod pause;
mod payload;
mod purge;
mod replay;
mod sagas;
mod streams;
mod view;

pub use by::By;
pub use by::REASON_CHARS_MAX;
pub use carry::Identity;
pub use carry::entry_json;
pub use edit::Change;
pub use error::Error;
pub use letters::Letters;
pub use letters::Shown;
pub use lookout::Lookout;
pub use lookout::StreamSeen;
pub use moment::Moment;
pub use moment::span;
pub use payload::Payload;
pub use purge::PurgeOutcome;
pub use replay::ReplayOutcome;
pub use replay::ReplayPlan;
pub use replay::Wanted;
pub use sagas::BulkOutcome;
pub use sagas::Foreseen;
pub use sagas::JournalIn;
pub use sagas::Many;
pub use sagas::SagaFilter;
pub use sagas::SagaOrder;
pub use sagas::SagaOutcome;
pub use sagas::SagaSeen;
pub use sagas::SagaStates;
pub use sagas::Sagas;
pub use sagas::saga_counts;
pub use sagas::saga_definition;
pub use sagas::saga_foreseen;
pub use sagas::saga_head;
pub use sagas::saga_ordered;
pub use sagas::saga_shown;
pub use streams::ClaimOrder;
pub use streams::Streams;
pub use streams::TrimWish;
pub use view::consumers_json;
pub use view::letter_head;
pub use view::letter_shown;
pub use view::letter_whole;
pub use view::stream_json;

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
