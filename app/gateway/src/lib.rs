//! The doors in: HTTP.
//!
//! A request passes a followed socket (`listen`, `connection`, `framing`), one table of routes
//! (`router`), token, scope, limit and body (`auth`, `limits`, `body`), and becomes a submission
//! (`submit`) that is kept before its 202 (`accept`). Answers come back by `answers` and `status`.

mod accept;
mod answers;
mod auth;
mod body;
mod connection;
mod framing;
mod gateway;
mod health;
mod idempotency;
mod limits;
mod listen;
mod lookups;
mod loss_window;
mod openapi;
mod params;
mod problem;
mod pulse;
mod refusal;
mod request_id;
mod router;
mod routes;
mod service;
mod settings;
mod socket;
mod stats;
mod status;
mod statuses;
mod submit;
mod tokens;
mod unshared;

pub use auth::JwksError;
pub use auth::JwksReport;
pub use auth::inspect_jwks;
pub use gateway::Deps;
pub use gateway::Gateway;
pub use health::Condition;
pub use health::Health;
pub use health::Weight;
pub use idempotency::IdempotencyKeys;
pub use listen::bind;
pub use listen::serve;
pub use lookups::LOOKUP_CACHE;
pub use lookups::LookupDeps;
pub use lookups::LookupWatch;
pub use lookups::lookup_tag;
pub use openapi::OPENAPI;
pub use router::Router;
pub use service::Service;
pub use settings::AcceptMode;
pub use settings::AcceptSettings;
pub use settings::AnswerSettings;
pub use settings::AuthSettings;
pub use settings::BodySettings;
pub use settings::JwksSource;
pub use settings::JwtAlgorithm;
pub use settings::JwtSettings;
pub use settings::LimitSettings;
pub use settings::ListenSettings;
pub use settings::LookupSettings;
pub use settings::Settings;
pub use settings::StreamSettings;
pub use settings::WhoseRecords;
pub use stats::describe_metrics;
pub use tokens::Right;
pub use tokens::Tokens;
pub use tokens::request_id;
