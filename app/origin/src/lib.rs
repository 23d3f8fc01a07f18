//! The cache service: resources that are declared in settings, each with a SQL or an HTTP origin,
//! read and written through the cache.
//!
//! [`Service`] answers requests whose caller is known: who listens, and who may call, is the
//! server's business. A [`Resource`] says where its values come from; a request says by which
//! strategy it is read. What stands before an origin: the cache's singleflight, a breaker, a limit
//! on loads.

mod body;
mod bulk;
mod change;
mod example;
mod health;
mod heavy;
mod http_client;
mod openapi;
mod overlay;
mod params;
mod pending;
mod problem;
mod read;
mod recompute;
mod resource;
mod router;
mod served;
mod service;
mod source;
mod stats;
mod strategy;
mod untold;

pub use example::Example;
pub use http_client::HttpClient;
pub use pending::NotApplied;
pub use pending::PendingWrite;
pub use resource::Declaration;
pub use resource::KeyKind;
pub use resource::Resource;
pub use router::Need;
pub use service::Caller;
pub use service::Deps;
pub use service::Probe;
pub use service::Service;
pub use service::Settings;
pub use source::HttpSource;
pub use source::Source;
pub use source::SourceError;
pub use source::SqlSource;
