//! The protocol spoken by ourselves, for connections of their own: requests written straight into
//! one buffer, replies read as slices of another.
//!
//! The hot path of a consumer reads and acknowledges hundreds of entries a round trip; building a
//! tree of values for each costs more than the work. Here a reply is measured once
//! ([`scan`]), and its parts are looked at where they lie ([`Reply::parts`]).

mod connection;
mod reply;
mod request;
mod scan;
mod socket;
mod tls;

pub(crate) use connection::{Connection, Identity};
pub use reply::Part;
pub use reply::Parts;
pub use reply::Reply;
pub use request::Requests;
pub use request::Words;
pub(crate) use socket::Place;
pub(crate) use tls::Trust;

/// Answers to requests, one for each command.
pub(crate) type Replies = Vec<Result<Reply, crate::Error>>;
