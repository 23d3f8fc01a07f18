//! What the Rust peers of BUS share: how they count, and what they print.

mod run;

pub use run::count;
pub use run::messages;
pub use run::redis_url;
pub use run::start;
