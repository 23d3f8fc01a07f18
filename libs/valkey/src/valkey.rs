//! The handle: commands over one shared connection, blocking reads over their own.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue, Pipeline, Value};

use crate::endpoint::{Dialer, Endpoint};
use crate::link::{Link, Live};
use crate::{Call, Error, Settings};

/// What a blocking read may take beyond its own wait before the connection is given up. The
/// server may have handed out entries by then, so it must be generous.
pub(crate) const BLOCKING_GRACE: Duration = Duration::from_secs(5);

/// A server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Valkey {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    endpoint: Endpoint,
    settings: Settings,
}

// === impl Valkey ===

impl Valkey {
    /// Reads the settings; the first call dials. Succeeds while the server is away.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn lazy(settings: &Settings) -> Result<Self, Error> {
        let endpoint = Dialer::new(settings)?.home()?;
        let link = Link::new(endpoint.clone(), settings.connect_timeout);
        Ok(Self {
            shared: Arc::new(Shared {
                link,
                endpoint,
                settings: settings.clone(),
            }),
        })
    }

    /// Reads the settings and dials.
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

    /// Runs a script by its hash; sends its source where the server does not know it.
    ///
    /// # Errors
    /// As [`Valkey::query`].
    pub async fn run(&self, call: &Call<'_>) -> Result<Value, Error> {
        match self.query(&call.by_hash()).await {
            Err(Error::Command { code, .. }) if code == "NOSCRIPT" => {
                self.query(&call.by_source()).await
            }
            answer => answer,
        }
    }

    /// The same server over a connection of its own, dialled when first used: for work that must
    /// not queue behind other work, or that runs on another runtime.
    #[must_use]
    pub fn separate(&self) -> Self {
        let settings = self.shared.settings.clone();
        let endpoint = self.shared.endpoint.clone();
        let link = Link::new(endpoint.clone(), settings.connect_timeout);
        Self {
            shared: Arc::new(Shared {
                link,
                endpoint,
                settings,
            }),
        }
    }

    /// A connection of its own for reads that block. It dials when first used.
    pub fn blocking(&self) -> Blocking {
        let timeout = self.shared.settings.connect_timeout;
        Blocking {
            link: Link::new(self.shared.endpoint.clone(), timeout),
        }
    }
}

impl std::fmt::Debug for Valkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Valkey")
            .field("address", &self.shared.endpoint.to_string())
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
