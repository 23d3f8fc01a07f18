//! What a connection needs to know.

use std::time::Duration;

use ratebox_kit::Secret;

/// Longest wait for a connection: name resolution, TCP and the greeting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for an answer. Far above what a healthy server takes, so that only a dead one or
/// a dead link is given up.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://[user:password@]host[:port][/database]`, `valkey://…` or `unix:///path`.
    pub url: Secret,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer to a command that does not block.
    pub response_timeout: Duration,
}

impl Settings {
    /// A URL with the default timeouts.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Secret::new(url),
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }
}
