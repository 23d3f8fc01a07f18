//! The handle: commands over one shared connection, blocking reads over their own.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisResult, Value,
};

use crate::link::{Link, Live};
use crate::{Call, Error, Settings};

/// What a blocking read may take beyond its own wait before the connection is given up. The
/// server may have handed out entries by then, so it must be generous.
const BLOCKING_GRACE: Duration = Duration::from_secs(5);

/// A server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Valkey {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    client: Client,
    settings: Settings,
}

// === impl Valkey ===

impl Valkey {
    /// Reads the URL; the first call dials. Succeeds while the server is away.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn lazy(settings: &Settings) -> Result<Self, Error> {
        let client = open(settings)?;
        let link = Link::new(client.clone(), settings.connect_timeout);
        Ok(Self {
            shared: Arc::new(Shared {
                link,
                client,
                settings: settings.clone(),
            }),
        })
    }

    /// Reads the URL and dials.
    ///
    /// # Errors
    /// [`Error::Url`], or why the server cannot be reached.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let valkey = Self::lazy(settings)?;
        valkey.ping().await?;
        Ok(valkey)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), Error> {
        self.query(&redis::cmd("PING")).await.map(drop)
    }

    /// Runs one command that does not block.
    ///
    /// # Errors
    /// Within the response timeout.
    pub async fn query(&self, cmd: &Cmd) -> Result<Value, Error> {
        let live = self.shared.link.live().await?;
        query(live, cmd, self.shared.settings.response_timeout).await
    }

    /// Runs one command and reads its answer as `T`.
    ///
    /// # Errors
    /// As [`Valkey::query`], and [`Error::Answer`] when the answer is no `T`.
    pub async fn query_as<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Error> {
        let value = self.query(cmd).await?;
        T::from_redis_value(value).map_err(|_| Error::answer(std::any::type_name::<T>()))
    }

    /// Sends commands in one go and returns the answer to each, in order. They are no
    /// transaction: one may fail and the next succeed.
    ///
    /// # Errors
    /// When the pipeline as a whole got no answer.
    pub async fn pipeline(&self, pipe: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let live = self.shared.link.live().await?;
        pipeline(live, pipe, self.shared.settings.response_timeout).await
    }

    /// Runs a script by its hash; loads it where the server does not know it.
    ///
    /// # Errors
    /// As [`Valkey::query`].
    pub async fn run(&self, call: &Call<'_>) -> Result<Value, Error> {
        let mut live = self.shared.link.live().await?;
        let timeout = self.shared.settings.response_timeout;
        live.connection.set_response_timeout(timeout);
        let answer: RedisResult<Value> = call.0.invoke_async(&mut live.connection).await;
        answered(live.judge(answer, timeout)?)
    }

    /// The same server over a connection of its own, dialled when first used: for work that must
    /// not queue behind other work, or that runs on another runtime.
    #[must_use]
    pub fn separate(&self) -> Self {
        let settings = self.shared.settings.clone();
        let client = self.shared.client.clone();
        let link = Link::new(client.clone(), settings.connect_timeout);
        Self {
            shared: Arc::new(Shared {
                link,
                client,
                settings,
            }),
        }
    }

    /// A connection of its own for reads that block. It dials when first used.
    pub fn blocking(&self) -> Blocking {
        let timeout = self.shared.settings.connect_timeout;
        Blocking {
            link: Link::new(self.shared.client.clone(), timeout),
        }
    }
}

impl std::fmt::Debug for Valkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.shared.client.get_connection_info().addr();
        f.debug_struct("Valkey")
            .field("address", &address.to_string())
            .finish()
    }
}

/// A connection for reads that block: `XREADGROUP … BLOCK`, `XREAD … BLOCK`.
///
/// Such a read owns its connection, and its answer must not be given up early: the server hands
/// out entries with it. The answer may therefore take the block time and five seconds more.
pub struct Blocking {
    link: Link,
}

// === impl Blocking ===

impl Blocking {
    /// Runs one command that blocks up to `block`. When the future is dropped before the answer,
    /// the connection is dropped with it, so that the next command does not queue behind.
    ///
    /// # Errors
    /// After [`Error::Connection`] or [`Error::Timeout`] entries may have been handed out that
    /// nobody saw.
    pub async fn query(&mut self, cmd: &Cmd, block: Duration) -> Result<Value, Error> {
        let live = self.link.live().await?;
        let guard = GiveUpOnDrop {
            live: live.clone(),
            armed: true,
        };
        let answer = query(live, cmd, block + BLOCKING_GRACE).await;
        guard.disarm();
        answer
    }

    /// Sends commands that do not block; otherwise as [`Blocking::query`].
    ///
    /// # Errors
    /// As [`Blocking::query`].
    pub async fn pipeline(&mut self, pipe: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let live = self.link.live().await?;
        let guard = GiveUpOnDrop {
            live: live.clone(),
            armed: true,
        };
        let answers = pipeline(live, pipe, BLOCKING_GRACE).await;
        guard.disarm();
        answers
    }
}

struct GiveUpOnDrop {
    live: Live,
    armed: bool,
}

impl GiveUpOnDrop {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.live.give_up();
        }
    }
}

async fn query(mut live: Live, cmd: &Cmd, timeout: Duration) -> Result<Value, Error> {
    live.connection.set_response_timeout(timeout);
    let answer = live.connection.req_packed_command(cmd).await;
    answered(live.judge(answer, timeout)?)
}

async fn pipeline(
    mut live: Live,
    pipe: &Pipeline,
    timeout: Duration,
) -> Result<Vec<Result<Value, Error>>, Error> {
    if pipe.is_empty() {
        return Ok(Vec::new());
    }
    live.connection.set_response_timeout(timeout);
    let answers = live
        .connection
        .req_packed_commands(pipe, 0, pipe.len())
        .await;
    Ok(live
        .judge(answers, timeout)?
        .into_iter()
        .map(answered)
        .collect())
}

/// An error that stands in the place of an answer.
fn answered(value: Value) -> Result<Value, Error> {
    match value {
        Value::ServerError(error) => Err(Error::from_server(&error)),
        value => Ok(value),
    }
}

/// RESP3, because only there a broken connection is noticed before the next command; no Nagle.
fn open(settings: &Settings) -> Result<Client, Error> {
    let url = settings.url.reveal();
    if url.starts_with("rediss://") || url.starts_with("valkeys://") {
        let what = "TLS is not built into this version; use redis:// over a private network or a \
                    TLS proxy beside the process";
        return Err(Error::Url {
            what: what.to_owned(),
        });
    }
    let info: ConnectionInfo = url.into_connection_info().map_err(|_| Error::Url {
        what: "it must look like redis://[user:password@]host[:port][/database]".to_owned(),
    })?;
    let resp3 = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let tcp = with_user_timeout(TcpSettings::default().set_nodelay(true), settings);
    let info = info.set_redis_settings(resp3).set_tcp_settings(tcp);
    Client::open(info).map_err(|_| Error::Url {
        what: "the address cannot be used".to_owned(),
    })
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
