//! One connection layer for Redis and Valkey.
//!
//! [`Valkey`] carries commands, pipelines and scripts over one shared connection that dials again
//! by itself; [`Valkey::blocking`] gives a connection of its own to a read that blocks. Errors
//! say what failed ([`Error`]) and whether another try makes sense. [`Valkey::server_info`] tells
//! how safe entries are with the server.
//!
//! The same calls work on one server, on the primary that Sentinels name, and on a cluster
//! ([`Topology`]); over TLS and as an ACL user.
//!
//! The commands themselves are those of the `redis` crate ([`redis::Cmd`], [`redis::Pipeline`]);
//! what they mean is the caller's business.

mod ability;
mod blocking;
mod cluster;
mod endpoint;
mod error;
mod home;
mod keep;
mod known;
mod lease;
mod link;
mod marks;
mod route;
mod script;
mod server;
mod settings;
mod slot;
mod source;
mod tracking;
mod valkey;
mod wire;

pub use ability::Ability;
pub use blocking::Blocking;
pub use error::Error;
pub use lease::Leases;
pub use marks::MARKS_MAX;
pub use marks::Marks;
pub use script::Call;
pub use script::Script;
pub use server::Appendfsync;
pub use server::Flavour;
pub use server::ServerInfo;
pub use settings::Address;
pub use settings::CONNECT_TIMEOUT;
pub use settings::ClientCertificate;
pub use settings::Login;
pub use settings::PORT;
pub use settings::RESPONSE_TIMEOUT;
pub use settings::SENTINEL_PORT;
pub use settings::Sentinels;
pub use settings::Settings;
pub use settings::Tls;
pub use settings::Topology;
pub use tracking::Observer;
pub use valkey::Valkey;
pub use wire::Part;
pub use wire::Parts;
pub use wire::Reply;
pub use wire::Requests;
pub use wire::Words;

pub(crate) use valkey::answered;
