//! What a connection needs to know.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ratebox_kit::Secret;

use crate::Error;

/// Longest wait for a connection: name resolution, TCP, TLS and the greeting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for an answer. Far above what a healthy server takes, so that only a dead one or
/// a dead link is given up.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The port of a server whose address names none.
pub const PORT: u16 = 6379;

/// The port of a Sentinel whose address names none.
pub const SENTINEL_PORT: u16 = 26_379;

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, `valkey://…`,
    /// `valkeys://…` or `unix:///path`.
    pub url: Secret,
    /// The ACL user; what it leaves empty is taken from the URL.
    pub login: Login,
    /// How the server proves who it is, and how we do. Only with TLS.
    pub tls: Tls,
    /// One server, one of several that Sentinels choose, or a cluster.
    pub topology: Topology,
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
            login: Login::default(),
            tls: Tls::default(),
            topology: Topology::Single,
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }
}

/// An ACL user.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// Its name; empty = the one in the URL, or the default user.
    pub user: String,
    /// Its password; empty = the one in the URL, or none.
    pub password: Secret,
}

/// How many servers there are, and who says which one to talk to.
#[derive(Clone, Debug, Default)]
pub enum Topology {
    /// The server of the URL.
    #[default]
    Single,
    /// The primary that the Sentinels name. Of the URL, only scheme, user and database count.
    Sentinel(Sentinels),
    /// A cluster. The URL names one of its nodes; these are others to ask when that one is down.
    Cluster(Vec<Address>),
}

/// Who knows the primary.
#[derive(Clone, Debug)]
pub struct Sentinels {
    /// The name that they watch the primary under.
    pub primary: String,
    /// Where they listen; at least one. With a `rediss://` URL they are asked over TLS too, with
    /// the same certificates.
    pub addresses: Vec<Address>,
    /// Their user; empty = none. It is never the one of the URL.
    pub login: Login,
}

/// How both ends of a TLS connection prove who they are.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates in PEM, one of which must have signed the server's; `None` = those of the
    /// system.
    pub ca: Option<String>,
    /// What we show to a server that asks for a certificate.
    pub client: Option<ClientCertificate>,
    /// The name that the server's certificate must carry; `None` = the host of the address.
    pub server_name: Option<String>,
}

// === impl Tls ===

impl Tls {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        self.ca.is_none() && self.client.is_none() && self.server_name.is_none()
    }
}

/// A certificate of ours.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate and those between it and the CA, in PEM.
    pub certificate: String,
    /// Its private key in PEM, not encrypted.
    pub key: Secret,
}

/// Where a server listens: `host`, `host:port`, `[::1]:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

// === impl Address ===

impl Address {
    /// Reads an address that may leave its port out.
    ///
    /// # Errors
    /// [`Error::Url`] when it is none.
    pub fn parse(text: &str, port_default: u16) -> Result<Self, Error> {
        let text = text.trim();
        // Never shown: somebody may have put a URL with a password here.
        let wrong = || Error::Url {
            what: "an address must look like host:port".to_owned(),
        };
        let (host, port) = match text.rsplit_once(':') {
            // A colon before the last one: an IPv6 address, whose port stands after a bracket.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (text, port_default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text, PORT)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("a", "a:6379"),
            ("a:1", "a:1"),
            ("10.0.0.1:26379", "10.0.0.1:26379"),
            ("[::1]:7", "[::1]:7"),
            ("::1", "[::1]:6379"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in ["", ":1", "a:b", "a:70000", "redis://a:1", "u:p@a:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
