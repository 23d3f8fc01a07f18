//! The handle: commands over one shared connection, blocking reads over their own.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Pipeline, Value};

use crate::cluster::Nodes;
use crate::known::Known;
use crate::link::Link;
use crate::route::{Answers, Line, Route};
use crate::source::Source;
use crate::tracking::Tracking;
use crate::{Blocking, Call, Error, Observer, Settings, Topology};

/// A connection whose caller waits may take the time of so many answers.
const DIAL_ANSWERS: u32 = 2;

/// A server, or several that serve as one. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Valkey {
    shared: Arc<Shared>,
}

struct Shared {
    route: Route,
    settings: Settings,
    known: Known,
}

// === impl Valkey ===

impl Valkey {
    /// Reads the settings; the first call dials. Succeeds while the server is away.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn lazy(settings: &Settings) -> Result<Self, Error> {
        let source = match &settings.topology {
            Topology::Single => Source::fixed(settings)?,
            Topology::Sentinel(sentinels) => Source::sentinels(settings, sentinels)?,
            Topology::Cluster(more) => {
                let nodes = Nodes::new(settings, more)?;
                return Ok(Self::over(Route::Cluster(Box::new(nodes)), settings));
            }
        };
        let link = Link::new(source, settings.connect_timeout);
        let line = Line::new(link);
        Ok(Self::over(Route::One(Box::new(line)), settings))
    }

    fn over(route: Route, settings: &Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                route,
                settings: settings.clone(),
                known: Known::default(),
            }),
        }
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

    /// Asks for a sign of life; on a cluster, every primary.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut ping = redis::pipe();
        ping.cmd("PING");
        for answers in self.everywhere(&ping).await? {
            for answer in answers {
                answer?;
            }
        }
        Ok(())
    }

    /// Runs one command that does not block. On a cluster its first key says where.
    ///
    /// # Errors
    /// Within the response timeout.
    pub async fn query(&self, cmd: &Cmd) -> Result<Value, Error> {
        let timeout = self.shared.settings.response_timeout;
        self.shared.route.query(cmd, timeout).await
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
        let timeout = self.shared.settings.response_timeout;
        self.shared.route.pipeline(pipe, timeout).await
    }

    /// Asks every server that takes writes the same: one, or each primary of a cluster.
    pub(crate) async fn everywhere(&self, pipe: &Pipeline) -> Result<Vec<Answers>, Error> {
        let timeout = self.shared.settings.response_timeout;
        self.shared.route.everywhere(pipe, timeout).await
    }

    pub(crate) fn known(&self) -> &Known {
        &self.shared.known
    }

    /// Connections that were made so far.
    pub(crate) fn dials(&self) -> u64 {
        self.shared.route.dials()
    }

    /// Runs a script by its hash; sends its source where the server does not know it.
    ///
    /// # Errors
    /// As [`Valkey::query`].
    pub async fn run(&self, call: &Call<'_>) -> Result<Value, Error> {
        match self.query(&call.by_hash()).await {
            Err(Error::Command { code, .. }) if code == "NOSCRIPT" => {
                // Rare: its state is not to make that of every call twice as large.
                Box::pin(async move { self.query(&call.by_source()).await }).await
            }
            answer => answer,
        }
    }

    /// The same over connections of its own, dialled when first used: for work that must not
    /// queue behind other work, or that runs on another runtime.
    #[must_use]
    pub fn separate(&self) -> Self {
        let route = self.shared.route.apart();
        Self::over(route, &self.shared.settings)
    }

    /// The same over connections of its own, on which every change of a key with one of the
    /// prefixes is heard, but for those made over the same handle. Waits for an answer at most
    /// `response_timeout`.
    ///
    /// While a connection is away nothing is heard; the observer is told of the loss, and a
    /// [`Valkey::ping`] that is answered without another loss meanwhile says that all of them hear
    /// again.
    #[must_use]
    pub fn tracked(
        &self,
        prefixes: &[&str],
        observer: Arc<dyn Observer>,
        response_timeout: Duration,
    ) -> Self {
        // Whoever waits for an answer waits for the connection before it.
        let dial_max = response_timeout.saturating_mul(DIAL_ANSWERS);
        let tracking = Tracking::new(prefixes, observer, dial_max);
        let mut settings = self.shared.settings.clone();
        settings.response_timeout = response_timeout;
        Self::over(self.shared.route.tracking(tracking), &settings)
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.shared.route, Route::Cluster(_))
    }

    /// Connections of its own, for reads that block and for a caller that sends much. They are
    /// dialled when first used.
    pub fn blocking(&self) -> Blocking {
        self.shared.route.blocking()
    }
}

impl std::fmt::Display for Valkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.shared.route.fmt(f)
    }
}

impl std::fmt::Debug for Valkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Valkey")
            .field("address", &self.shared.route.to_string())
            .finish()
    }
}

/// An error that stands in the place of an answer.
pub(crate) fn answered(value: Value) -> Result<Value, Error> {
    match value {
        Value::ServerError(error) => Err(Error::from_server(&error)),
        value => Ok(value),
    }
}
