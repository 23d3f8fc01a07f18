//! One server to dial: its address, the way there, who we are, and how it proves who it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisFuture, TlsCertificates,
};

use crate::blocking::BLOCKING_GRACE;
use crate::settings::{Address, Login, Tls};
use crate::wire::{Connection, Identity, Place, Trust};
use crate::{Error, Settings};

/// Makes endpoints that differ in nothing but their address.
#[derive(Clone)]
pub(crate) struct Dialer {
    info: ConnectionInfo,
    server_name: Option<String>,
    trust: Arc<Trust>,
}

/// One server to dial.
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: Client,
    /// The real address, where the certificate carries another name.
    via: Option<Address>,
    trust: Arc<Trust>,
}

// === impl Dialer ===

impl Dialer {
    /// Reads URL, user and certificates.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let url = settings.url.reveal();
        let parsed = url.into_connection_info();
        let info = parsed.map_err(|_| {
            wrong("it must look like redis://[user:password@]host[:port][/database], or rediss:// for TLS")
        })?;
        let tls = &settings.tls;
        let addr = match info.addr().clone() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(wrong(
                    "#insecure is not supported; name the CA and, where needed, the server name",
                ));
            }
            ConnectionAddr::TcpTls { .. } => with_certificates(info.clone(), tls)?,
            _ if !tls.is_default() => {
                return Err(wrong(
                    "certificates and server name need TLS: write rediss:// in place of redis://",
                ));
            }
            addr => addr,
        };
        let mut dialer = Self {
            info: info.set_addr(addr),
            server_name: tls.server_name.clone(),
            trust: Arc::new(Trust::new(tls)),
        };
        if tls.ca.is_some() || tls.client.is_some() {
            // Or it would be found with the first connection.
            dialer.trust.check()?;
        }
        let tcp = with_user_timeout(TcpSettings::default().set_nodelay(true), settings);
        // RESP3, because only there a broken connection is noticed before the next command.
        let redis = dialer.info.redis_settings().clone();
        let redis = redis
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        dialer.info = dialer.info.set_redis_settings(redis).set_tcp_settings(tcp);
        Ok(dialer.logged_in(&settings.login))
    }

    /// The same as another user; what is empty stays as it was.
    fn logged_in(mut self, login: &Login) -> Self {
        let mut redis = self.info.redis_settings().clone();
        if !login.user.is_empty() {
            redis = redis.set_username(&login.user);
        }
        if !login.password.is_empty() {
            redis = redis.set_password(login.password.reveal());
        }
        self.info = self.info.set_redis_settings(redis);
        self
    }

    /// The same for Sentinels, which have users of their own and no databases.
    pub(crate) fn for_sentinels(&self, login: &Login) -> Self {
        let bare = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        let mut dialer = self.clone();
        dialer.info = dialer.info.set_redis_settings(bare);
        dialer.logged_in(login)
    }

    /// The database that is selected after the greeting.
    pub(crate) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// The server that the URL names.
    pub(crate) fn home(&self) -> Result<Endpoint, Error> {
        match self.address() {
            Some(address) => self.at(&address),
            None => self.open(self.info.addr().clone(), None),
        }
    }

    /// Host and port in the URL; `None` for a socket file.
    pub(crate) fn address(&self) -> Option<Address> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address {
                    host: host.clone(),
                    port: *port,
                })
            }
            _ => None,
        }
    }

    /// A server at another address.
    pub(crate) fn at(&self, address: &Address) -> Result<Endpoint, Error> {
        let Address { host, port } = address.clone();
        match (self.info.addr().clone(), self.server_name.clone()) {
            (
                ConnectionAddr::TcpTls {
                    insecure,
                    tls_params,
                    ..
                },
                name,
            ) => {
                let via = name.is_some().then(|| address.clone());
                let host = name.unwrap_or(host);
                let addr = ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure,
                    tls_params,
                };
                self.open(addr, via)
            }
            _ => self.open(ConnectionAddr::Tcp(host, port), None),
        }
    }

    fn open(&self, addr: ConnectionAddr, via: Option<Address>) -> Result<Endpoint, Error> {
        let client = Client::open(self.info.clone().set_addr(addr))
            .map_err(|_| wrong("the address cannot be used"))?;
        let trust = Arc::clone(&self.trust);
        Ok(Endpoint { client, via, trust })
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Dials once; `config` holds the same timeout.
    pub(crate) async fn dial(
        &self,
        config: AsyncConnectionConfig,
        timeout: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        let config = match &self.via {
            Some(address) => config.set_dns_resolver(Via(address.clone())),
            None => config,
        };
        let dialled = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        dialled.map_err(|error| match error.is_timeout() {
            true => Error::Connection {
                what: self.silence().to_owned(),
            },
            false => Error::from_redis(&error, timeout),
        })
    }

    /// Dials a connection that speaks the protocol itself.
    pub(crate) async fn wire(&self, timeout: Duration) -> Result<Connection, Error> {
        let info = self.client.get_connection_info();
        let redis = info.redis_settings();
        let identity = Identity {
            user: redis.username(),
            password: redis.password(),
            database: redis.db(),
        };
        let place = self.place()?;
        let dial = Connection::dial(&place, &self.trust, identity);
        match tokio::time::timeout(timeout, dial).await {
            Ok(dialled) => dialled,
            Err(_) => Err(Error::Connection {
                what: self.silence().to_owned(),
            }),
        }
    }

    fn place(&self) -> Result<Place, Error> {
        let there = |host: &str, port| Address {
            host: host.to_owned(),
            port,
        };
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Place::Plain(there(host, *port))),
            ConnectionAddr::TcpTls { host, port, .. } => {
                let address = self.via.clone().unwrap_or_else(|| there(host, *port));
                Ok(Place::Tls(address, host.clone()))
            }
            ConnectionAddr::Unix(path) => Ok(Place::File(path.clone())),
            _ => Err(wrong("the address cannot be used")),
        }
    }

    fn silence(&self) -> &'static str {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { .. } => {
                "no connection in time; is the server there, and does it speak TLS on this port?"
            }
            _ => "no connection in time",
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.via {
            Some(address) => address.fmt(f),
            None => self.client.get_connection_info().addr().fmt(f),
        }
    }
}

/// Goes to a fixed address, whatever name the certificate is checked for.
struct Via(Address);

impl AsyncDNSResolver for Via {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _name: &'b str,
        _port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((self.0.host.as_str(), self.0.port)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send + 'a>)
        })
    }
}

fn with_certificates(info: ConnectionInfo, tls: &Tls) -> Result<ConnectionAddr, Error> {
    for (pem, what) in [
        (tls.ca.as_deref(), "the CA file"),
        (
            tls.client
                .as_ref()
                .map(|client| client.certificate.as_str()),
            "the client certificate",
        ),
    ] {
        if pem.is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
            return Err(wrong(&format!("{what} holds no certificate in PEM")));
        }
    }
    let certificates = TlsCertificates {
        client_tls: tls.client.as_ref().map(|client| ClientTlsConfig {
            client_cert: client.certificate.clone().into_bytes(),
            client_key: client.key.reveal().as_bytes().to_vec(),
        }),
        root_cert: tls.ca.clone().map(String::into_bytes),
    };
    let client = Client::build_with_tls(info, certificates)
        .map_err(|_| wrong("CA, client certificate or its key are no valid PEM"))?;
    Ok(client.get_connection_info().addr().clone())
}

fn wrong(what: &str) -> Error {
    Error::Url {
        what: what.to_owned(),
    }
}

/// Bytes that the peer does not take for this long break the connection.
#[cfg(target_os = "linux")]
fn with_user_timeout(tcp: TcpSettings, settings: &Settings) -> TcpSettings {
    tcp.set_user_timeout(settings.response_timeout + BLOCKING_GRACE)
}

#[cfg(not(target_os = "linux"))]
fn with_user_timeout(tcp: TcpSettings, _settings: &Settings) -> TcpSettings {
    tcp
}
