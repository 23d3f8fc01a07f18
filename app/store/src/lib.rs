//! What RateBox remembers: requests, items, answers, dead letters, consumers, tokens.
//!
//! The product's SQL stands in this crate and nowhere else. Each file holds one noun with its
//! statements in both dialects.

mod adopt;
mod audit;
mod care;
mod consumers;
mod dead_letters;
mod error;
mod idempotency;
mod imports;
mod lookups;
mod monitor;
mod partitions;
mod requests;
mod results;
mod schema;
mod store;
mod stream_metrics;
mod tokens;
mod unfinished;

pub use adopt::Adoption;
pub use adopt::Compared;
pub use adopt::PREDECESSOR_SCHEMA;
pub use adopt::Progress;
pub use audit::Deed;
pub use audit::NewDeed;
pub use care::ServerSettings;
pub use consumers::BatchCount;
pub use dead_letters::CACHE_WRITERS;
pub use dead_letters::DeadLetterFilter;
pub use dead_letters::Edit;
pub use dead_letters::LetterHead;
pub use dead_letters::LetterState;
pub use dead_letters::LetterStates;
pub use dead_letters::REPLAYS_MAX;
pub use dead_letters::Refusal;
pub use dead_letters::ReplayOrder;
pub use dead_letters::Replaying;
pub use dead_letters::SAME_REASON_MAX;
pub use dead_letters::StoredLetter;
pub use error::Error;
pub use idempotency::Claim;
pub use idempotency::IdempotencyKey;
pub use imports::CancelAnswer;
pub use imports::CountedPart;
pub use imports::FinishedPart;
pub use imports::ImportFilter;
pub use imports::ImportPulse;
pub use imports::ImportStatus;
pub use imports::ImportSummary;
pub use imports::NewImport;
pub use imports::NewPart;
pub use imports::OpenImport;
pub use imports::PartStatus;
pub use lookups::LookupScope;
pub use lookups::SOURCES_MAX;
pub use lookups::Sightings;
pub use monitor::Activity;
pub use monitor::ConsumerPerformance;
pub use monitor::ItemCounts;
pub use monitor::TopError;
pub use requests::CodeCount;
pub use requests::NewRequest;
pub use requests::RequestStatus;
pub use requests::State;
pub use results::Batch;
pub use results::Finished;
pub use results::ItemRow;
pub use results::Rewrite;
pub use results::Stamp;
pub use schema::MIGRATIONS;
pub use schema::OWNER;
pub use schema::inserts;
pub use schema::statements;
pub use store::Store;
pub use stream_metrics::StreamMetric;
pub use tokens::NewToken;
pub use tokens::Token;
pub use unfinished::Unfinished;

pub use ratebox_db::Committed;
pub use ratebox_db::Db;
pub use ratebox_db::Statement;
pub use ratebox_db::Turn;
pub use ratebox_db::Tx;

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
