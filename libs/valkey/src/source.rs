//! Where a link finds the server to dial: a fixed address, or the primary that Sentinels name now.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
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

/// How long is waited, after the first answer of a Sentinel, until most of them say the same.
const AGREE_WITHIN: Duration = Duration::from_millis(500);

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

    /// The address that the Sentinels name, as soon as most of them name it. One alone may be cut off
    /// from the others, or not have heard of a failover yet: it names a primary that is none any more
    /// and, when that comes back, calls itself one. A Sentinel that is away costs no time while most
    /// are there; else what most of the others say counts.
    async fn find(&self, timeout: Duration) -> Result<Address, Error> {
        let asked = self.sentinels.iter();
        let asked = asked.map(|sentinel| Box::pin(self.ask(sentinel, timeout)));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut votes, mut since, mut failure) = (Votes::default(), None, None);
        loop {
            let left = since.map_or(Duration::MAX, |since: Stopwatch| {
                AGREE_WITHIN.saturating_sub(since.elapsed())
            });
            match tokio::time::timeout(left, asked.next()).await {
                Ok(Some(Ok(address))) => {
                    since.get_or_insert_with(Stopwatch::start);
                    if votes.cast(address) * 2 > self.sentinels.len() {
                        break;
                    }
                }
                Ok(Some(Err(error))) => failure = Some(error),
                Ok(None) | Err(_) => break,
            }
        }
        let unasked = || Error::answer("at least one Sentinel");
        votes.most().ok_or_else(|| failure.unwrap_or_else(unasked))
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

/// What Sentinels said, each address in the order in which it was named first.
#[derive(Debug, Default)]
struct Votes(Vec<(Address, usize)>);

// === impl Votes ===

impl Votes {
    /// Counts one more; how many name the same by now.
    fn cast(&mut self, address: Address) -> usize {
        match self.0.iter_mut().find(|(named, _)| *named == address) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.0.push((address, 1));
                1
            }
        }
    }

    /// What was named most often; of several, what was named first.
    fn most(self) -> Option<Address> {
        let named = self.0.into_iter().rev();
        let most = named.max_by_key(|(_, count)| *count);
        most.map(|(address, _)| address)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_name_counts_and_else_what_was_named_first() {
        let most = |named: &[&str]| {
            let (mut votes, mut last) = (Votes::default(), None);
            for address in named {
                last = Some(votes.cast(address.parse().unwrap()));
            }
            (last, votes.most().map(|it| it.to_string()))
        };
        let of = |count, address: &str| (Some(count), Some(address.to_owned()));
        assert_eq!(most(&["a:1", "b:1", "b:1"]), of(2, "b:1"));
        assert_eq!(most(&["a:1", "b:1"]), of(1, "a:1"));
        assert_eq!(most(&["b:1", "a:1", "b:2", "a:1"]), of(2, "a:1"));
        assert_eq!(most(&[]), (None, None));
    }
}
