//! Why a server did not do what it was asked to.
//!
//! Texts carry the server's code and the head of its message, never an argument: messages such as
//! "unknown command … with args beginning with" would quote payload.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

/// Characters of a server's message that an error keeps.
const DETAIL_MAX_CHARS: usize = 120;

/// How Redis and Valkey begin to say that a server became a replica.
const FORCED: &str = "force unblock";

/// Why a server did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke. What was sent may or may not have been done.
    #[error("no connection: {what}")]
    Connection {
        /// What the system said.
        what: String,
    },
    /// Nobody knows a primary to write to: no Sentinel answers, they know none of that name, or
    /// the one they name is not promoted yet. Nothing was sent.
    #[error("no primary: {what}")]
    NoPrimary {
        /// Who said what.
        what: String,
    },
    /// The other end has no TLS, or one of the two ends does not accept the other's certificate.
    /// Nothing was sent. It passes when the certificates are put right.
    #[error("no TLS connection: {what}")]
    Tls {
        /// What was wrong with it.
        what: String,
    },
    /// No answer in time. What was sent may or may not have been done.
    #[error("no answer within {} ms", waited.as_millis())]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The consumer group does not exist.
    #[error("the consumer group does not exist")]
    NoGroup,
    /// The memory limit is reached and nothing may be evicted; nothing was written.
    #[error("the server is out of memory")]
    OutOfMemory,
    /// The server is there but does not serve now: it loads its data, is a replica, cannot write
    /// its disk, or is busy.
    #[error("the server does not serve now ({code})")]
    Unavailable {
        /// Its code: `LOADING`, `READONLY`, `MISCONF`, …
        code: String,
    },
    /// User or password are wrong, or the user may not do this.
    #[error("the server refused the user ({code})")]
    Denied {
        /// Its code: `WRONGPASS`, `NOAUTH`, `NOPERM`.
        code: String,
    },
    /// The server refused the command.
    #[error("the server refused the command ({code}): {detail}")]
    Command {
        /// Its code: `ERR`, `WRONGTYPE`, `BUSYGROUP`, …
        code: String,
        /// The head of its message.
        detail: String,
    },
    /// The server answered something else than the protocol says.
    #[error("an answer that nobody understands: {what}")]
    Answer {
        /// What was expected.
        what: String,
    },
    /// The URL cannot be used. Never shows it, since it may hold a password.
    #[error("the URL cannot be used: {what}")]
    Url {
        /// What to change.
        what: String,
    },
    /// The server may throw away stream entries, so it cannot be a bus.
    #[error(
        "maxmemory-policy is {policy}: under memory pressure the server evicts whole streams with \
         everything unread in them; set maxmemory-policy to noeviction, or use a separate \
         instance for the bus"
    )]
    Policy {
        /// The policy it has.
        policy: String,
    },
}

// === impl Error ===

impl Error {
    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection { .. }
            | Self::NoPrimary { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::NoGroup
            | Self::OutOfMemory
            | Self::Unavailable { .. } => true,
            Self::Denied { .. }
            | Self::Command { .. }
            | Self::Answer { .. }
            | Self::Url { .. }
            | Self::Policy { .. } => false,
        }
    }

    /// An answer of another shape than expected.
    pub fn answer(expected: impl Into<String>) -> Self {
        Self::Answer {
            what: expected.into(),
        }
    }

    /// The error that the server put in the place of an answer.
    pub fn from_server(error: &ServerError) -> Self {
        Self::from_code(error.code(), error.details().unwrap_or(""))
    }

    /// What the client library reports; `waited` is the timeout that was in force.
    pub(crate) fn from_redis(error: &RedisError, waited: Duration) -> Self {
        if error.is_timeout() {
            return Self::Timeout { waited };
        }
        if let Some(error) = tls_error(error) {
            return Self::Tls {
                what: head(&error.to_string()),
            };
        }
        match error.kind() {
            ErrorKind::Io => Self::Connection {
                what: head(&error.to_string()),
            },
            ErrorKind::AuthenticationFailed => Self::Denied {
                code: "WRONGPASS".to_owned(),
            },
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Denied {
                code: "NOPERM".to_owned(),
            },
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
                Self::answer("the reply does not parse")
            }
            _ => match error.code() {
                Some(code) => Self::from_code(code, error.detail().unwrap_or("")),
                None => Self::Connection {
                    what: head(error.category()),
                },
            },
        }
    }

    /// An error as it stands on the wire: its code, then its message.
    pub(crate) fn from_line(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let (code, detail) = line.split_once(' ').unwrap_or((&line, ""));
        Self::from_code(code, detail)
    }

    /// What the system, or TLS over it, says of a connection.
    pub(crate) fn from_io(error: &std::io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(error) => Self::Tls {
                what: head(&error.to_string()),
            },
            None => Self::Connection {
                what: head(&error.to_string()),
            },
        }
    }

    /// After it, the slots of a cluster may be elsewhere.
    pub(crate) fn may_have_moved(&self) -> bool {
        matches!(
            self,
            Self::Connection { .. } | Self::Timeout { .. } | Self::Unavailable { .. }
        )
    }

    /// The server became a replica: who writes must look for the new primary.
    pub(crate) fn is_demotion(&self) -> bool {
        matches!(self, Self::Unavailable { code } if code == "READONLY" || code == "UNBLOCKED")
    }

    fn from_code(code: &str, detail: &str) -> Self {
        match code {
            "NOGROUP" => Self::NoGroup,
            // A read that waited is ended where its server becomes a replica, and its stream is there
            // still; and where the stream was deleted.
            "UNBLOCKED" if detail.starts_with(FORCED) => Self::Unavailable {
                code: code.to_owned(),
            },
            "UNBLOCKED" => Self::NoGroup,
            "OOM" => Self::OutOfMemory,
            "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY"
            | "MISCONF" | "NOREPLICAS" => Self::Unavailable {
                code: code.to_owned(),
            },
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied {
                code: code.to_owned(),
            },
            _ => Self::Command {
                code: code.to_owned(),
                detail: head(detail),
            },
        }
    }
}

/// What the TLS layer has to say, if it was it.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    let shared: &Arc<dyn std::error::Error + Send + Sync> = error.source()?.downcast_ref()?;
    let io: &std::io::Error = shared.downcast_ref()?;
    io.get_ref()?.downcast_ref()
}

/// The head of a message, without the arguments that some messages quote at their end.
fn head(message: &str) -> String {
    let message = message.split(", with args").next().unwrap_or("");
    message.chars().take(DETAIL_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_do_not_reach_the_text() {
        let error = Error::from_code(
            "ERR",
            "unknown command 'X', with args beginning with: 'me@x'",
        );
        assert!(!error.to_string().contains("me@x"));
    }

    #[test]
    fn a_read_that_is_ended_by_a_failover_has_lost_no_group() {
        let unblocked = |detail| Error::from_code("UNBLOCKED", detail);
        let moved =
            "force unblock from blocking operation, instance state changed (master -> replica?)";
        assert!(unblocked(moved).is_retryable() && unblocked(moved).is_demotion());
        assert_eq!(unblocked("the stream key no longer exists"), Error::NoGroup);
    }

    #[test]
    fn codes_become_kinds() {
        assert_eq!(
            Error::from_code("OOM", "command not allowed"),
            Error::OutOfMemory
        );
        assert!(Error::from_code("LOADING", "").is_retryable());
        assert!(!Error::from_code("NOAUTH", "").is_retryable());
        assert!(!Error::from_code("WRONGTYPE", "").is_retryable());
    }
}
