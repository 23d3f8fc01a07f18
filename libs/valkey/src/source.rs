//! Where a link finds the server to dial: a fixed address, or the primary that Sentinels name now.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use ratebox_kit::Stopwatch;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, FromRedisValue as _, Value, cmd};

use crate::endpoint::{Dialer, Endpoint};
use crate::home::{ASK_EVERY, Home};
use crate::settings::{Address, Sentinels};
use crate::valkey::answered;
use crate::wire::{Connection, Part, Requests};
use crate::{Error, Settings};

/// Where a link finds the server to dial.
#[derive(Clone)]
pub(crate) enum Source {
    /// Always there.
    Fixed(Arc<Endpoint>),
    /// Looked up at each dial.
    Sentinels(Arc<Watched>),
}

/// A primary that Sentinels watch.
pub(crate) struct Watched {
    name: String,
    sentinels: Vec<Endpoint>,
    dialer: Dialer,
    /// What the Sentinels said last, for all who ask at the same time.
    last: tokio::sync::Mutex<Option<(Stopwatch, Option<Address>)>>,
}

/// A connection with the primary that it leads to, where Sentinels name that.
pub(crate) type Dialled<T> = (T, Option<Arc<Home>>);

// === impl Source ===

impl Source {
    /// The server of the URL.
    pub(crate) fn fixed(settings: &Settings) -> Result<Self, Error> {
        Ok(Self::at(Dialer::new(settings)?.home()?))
    }

    /// The primary that the Sentinels name.
    pub(crate) fn sentinels(settings: &Settings, sentinels: &Sentinels) -> Result<Self, Error> {
        let dialer = Dialer::new(settings)?;
        let wrong = |what: &str| Error::Url {
            what: what.to_owned(),
        };
        if dialer.address().is_none() {
            return Err(wrong("Sentinels name hosts; a socket file has none"));
        }
        if sentinels.addresses.is_empty() || sentinels.primary.is_empty() {
            return Err(wrong(
                "at least one Sentinel and the name of the primary are needed",
            ));
        }
        let asked = dialer.for_sentinels(&sentinels.login);
        let endpoints = sentinels.addresses.iter().map(|address| asked.at(address));
        Ok(Self::Sentinels(Arc::new(Watched {
            name: sentinels.primary.clone(),
            sentinels: endpoints.collect::<Result<_, _>>()?,
            dialer,
            last: tokio::sync::Mutex::default(),
        })))
    }

    /// The server at an address that was found out otherwise.
    pub(crate) fn at(endpoint: Endpoint) -> Self {
        Self::Fixed(Arc::new(endpoint))
    }

    /// Dials a connection that speaks the protocol itself; each step within the timeout.
    pub(crate) async fn dial_wire(&self, timeout: Duration) -> Result<Dialled<Connection>, Error> {
        match self {
            Self::Fixed(endpoint) => Ok((endpoint.wire(timeout).await?, None)),
            Self::Sentinels(watched) => {
                let home = watched.home(timeout).await?;
                let dialled = watched.dial_wire(&home, timeout);
                let connection = Home::while_kept(Some(&home), Duration::ZERO, dialled).await??;
                Ok((connection, Some(home)))
            }
        }
    }

    /// Dials once; each step within the timeout.
    pub(crate) async fn dial(
        &self,
        config: AsyncConnectionConfig,
        timeout: Duration,
    ) -> Result<Dialled<MultiplexedConnection>, Error> {
        match self {
            Self::Fixed(endpoint) => Ok((endpoint.dial(config, timeout).await?, None)),
            Self::Sentinels(watched) => {
                let home = watched.home(timeout).await?;
                let dialled = watched.dial(&home, config, timeout);
                let connection = Home::while_kept(Some(&home), Duration::ZERO, dialled).await??;
                Ok((connection, Some(home)))
            }
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(endpoint) => endpoint.fmt(f),
            Self::Sentinels(watched) => write!(f, "primary {}", watched.name),
        }
    }
}

// === impl Watched ===

impl Watched {
    /// What the Sentinels name now, to be dialled.
    async fn home(self: &Arc<Self>, timeout: Duration) -> Result<Arc<Home>, Error> {
        let address = self.find(timeout).await?;
        Ok(Arc::new(Home::new(self, address)))
    }

    /// What the Sentinels name, asked for by many at once; `None` when none of them answers.
    pub(crate) async fn named(&self) -> Option<Address> {
        let mut last = self.last.lock().await;
        if let Some((asked, named)) = &*last
            && asked.elapsed() < ASK_EVERY / 2
        {
            return named.clone();
        }
        let named = self.find(ASK_EVERY).await.ok();
        *last = Some((Stopwatch::start(), named.clone()));
        named
    }

    async fn dial(
        &self,
        home: &Home,
        config: AsyncConnectionConfig,
        timeout: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        let address = home.address();
        let endpoint = self.dialer.at(address)?;
        let connection = endpoint.dial(config, timeout).await?;
        self.check(connection, address, timeout).await
    }

    async fn dial_wire(&self, home: &Home, timeout: Duration) -> Result<Connection, Error> {
        let address = home.address();
        let mut connection = self.dialer.at(address)?.wire(timeout).await?;
        let mut role = Requests::new();
        role.command("ROLE", |_| {});
        let asked = connection.exchange(role.bytes(), role.len());
        let asked = tokio::time::timeout(timeout, asked).await;
        let mut replies = asked.map_err(|_| Error::Timeout { waited: timeout })??;
        let role = match replies.pop() {
            // A user that may not ask learns it from the first write.
            Some(Err(_)) => return Ok(connection),
            Some(Ok(reply)) => {
                let mut parts = reply.parts();
                match (parts.next(), parts.next()) {
                    (Ok(Part::List(_)), Ok(Part::Text(role))) => {
                        Some(String::from_utf8_lossy(role).into_owned())
                    }
                    _ => None,
                }
            }
            None => None,
        };
        is_primary(role.as_deref(), address).map(|()| connection)
    }

    /// The address that the Sentinels name.
    async fn find(&self, timeout: Duration) -> Result<Address, Error> {
        let asked = self.sentinels.iter();
        let asked = asked.map(|sentinel| Box::pin(self.ask(sentinel, timeout)));
        // The first answer counts; a Sentinel that is away costs no time.
        let (address, _) = select_ok(asked).await?;
        Ok(address)
    }

    /// Asks one Sentinel for the address of the primary.
    async fn ask(&self, sentinel: &Endpoint, timeout: Duration) -> Result<Address, Error> {
        let said = |what: String| Error::NoPrimary {
            what: format!("Sentinel {sentinel}: {what}"),
        };
        let config = short(timeout);
        let dialled = sentinel.dial(config, timeout).await;
        let mut connection = dialled.map_err(|error| said(error.to_string()))?;
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let answer = connection.req_packed_command(&ask).await;
        let answer = answer
            .map_err(|error| Error::from_redis(&error, timeout))
            .and_then(answered)
            .map_err(|error| said(error.to_string()))?;
        if answer == Value::Nil {
            return Err(said(format!("it knows no primary named {}", self.name)));
        }
        let address = <(String, u16)>::from_redis_value(answer);
        let (host, port) = address.map_err(|_| said("an answer that is no address".to_owned()))?;
        Ok(Address { host, port })
    }

    /// Asks a server for its role.
    async fn check(
        &self,
        mut connection: MultiplexedConnection,
        address: &Address,
        timeout: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        connection.set_response_timeout(timeout);
        let answer = connection.req_packed_command(&cmd("ROLE")).await;
        let role = match answer.map_err(|error| Error::from_redis(&error, timeout)) {
            Ok(Value::Array(parts)) => parts.into_iter().next(),
            // A user that may not ask learns it from the first write.
            Ok(Value::ServerError(_)) | Err(Error::Denied { .. }) => return Ok(connection),
            Ok(_) => None,
            Err(error) => return Err(error),
        };
        let role = role.and_then(|role| String::from_redis_value(role).ok());
        is_primary(role.as_deref(), address).map(|()| connection)
    }
}

/// A Sentinel may name a server that it has not promoted yet, or not demoted yet.
fn is_primary(role: Option<&str>, address: &Address) -> Result<(), Error> {
    if role == Some("master") {
        return Ok(());
    }
    Err(Error::NoPrimary {
        what: format!(
            "the Sentinels name {address}, which is a {} still",
            role.unwrap_or("server of unknown role")
        ),
    })
}

/// For a connection that is asked once.
pub(crate) fn short(timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout))
}
