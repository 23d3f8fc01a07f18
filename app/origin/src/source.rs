//! Where values come from, behind a breaker and a bound on how many are asked for at once.

mod http;
mod sql;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_cache::{Breaker, BreakerState, CallError, Refused};
use ratebox_db::Committed;
use tokio::sync::Semaphore;

pub use self::http::HttpSource;
pub use self::sql::SqlSource;

use crate::resource::Key;

/// Longest wait for an origin. Readers wait a little longer, to hear why there is no value.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// An origin. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    kind: Kind,
    breaker: Breaker,
    /// Calls under way at once.
    places: Arc<Semaphore>,
    calls: metrics::Counter,
}

#[derive(Clone, Debug)]
enum Kind {
    Sql(Arc<SqlSource>),
    Http(Arc<HttpSource>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("kind", &self.kind)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

/// Why an origin did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is given time to recover.
    #[error(transparent)]
    Refused(Refused),
    /// The database failed.
    #[error("the origin's database failed")]
    Db(#[from] ratebox_db::Error),
    /// A column holds what is no JSON.
    #[error("a column of the origin is declared wrongly")]
    Column,
    /// No connection, or it broke.
    #[error("the origin cannot be reached")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered with another status than 200 and 404.
    #[error("the origin answered {status}")]
    Status {
        /// The status code.
        status: u16,
    },
    /// What it answered is no JSON, or too much.
    #[error("the origin's answer is no JSON, or too large")]
    Answer,
    /// It took too long.
    #[error("the origin did not answer within {} ms", ANSWER_MAX.as_millis())]
    Timeout,
    /// The resource is only read.
    #[error("the resource cannot be written")]
    NotWritable,
}

// === impl SourceError ===

impl SourceError {
    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Db(error) => error.is_retryable(),
            Self::Status { status } => *status >= 500,
            Self::Refused(_) | Self::Connection(_) | Self::Timeout => true,
            Self::Column | Self::Answer | Self::NotWritable => false,
        }
    }

    /// Whether a constraint or a type of the origin refuses what the caller gave: the same call fails for ever.
    pub(crate) fn is_for_the_caller(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_data())
    }

    /// Whether the origin answered, and what it answered is no value.
    pub(crate) fn is_unusable(&self) -> bool {
        match self {
            Self::Column | Self::Answer | Self::Db(ratebox_db::Error::Column { .. }) => true,
            Self::Db(_)
            | Self::Refused(_)
            | Self::Connection(_)
            | Self::Status { .. }
            | Self::Timeout
            | Self::NotWritable => false,
        }
    }
}

// === impl Source ===

impl Source {
    /// Values out of a database; at most `at_once` calls at a time.
    pub fn sql(source: SqlSource, breaker: Breaker, at_once: usize) -> Self {
        Self::of(Kind::Sql(Arc::new(source)), breaker, at_once)
    }

    /// Values that another service answers; at most `at_once` calls at a time.
    pub fn http(source: HttpSource, breaker: Breaker, at_once: usize) -> Self {
        Self::of(Kind::Http(Arc::new(source)), breaker, at_once)
    }

    fn of(kind: Kind, breaker: Breaker, at_once: usize) -> Self {
        let calls = metrics::counter!("ratebox_origin_calls_total",
            "resource" => breaker.endpoint().to_owned());
        Self {
            kind,
            calls,
            breaker,
            places: Arc::new(Semaphore::new(at_once.max(1))),
        }
    }

    /// What its breaker does.
    pub fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Bytes>, SourceError> {
        let asked = async {
            match &self.kind {
                Kind::Sql(source) => source.get(key).await,
                Kind::Http(source) => source.get(key).await,
            }
        };
        self.guarded(Box::pin(asked)).await
    }

    pub(crate) async fn get_many(&self, keys: &[Key]) -> Result<HashMap<Key, Bytes>, SourceError> {
        let asked = async {
            match &self.kind {
                Kind::Sql(source) => source.get_many(keys).await,
                Kind::Http(source) => source.get_many(keys).await,
            }
        };
        self.guarded(Box::pin(asked)).await
    }

    /// Writes, and returns the value that stands now with the proof of the commit.
    pub(crate) async fn put(
        &self,
        key: &Key,
        fields: &[Option<String>],
    ) -> Result<(Bytes, Committed), SourceError> {
        let asked = async {
            match &self.kind {
                Kind::Sql(source) => source.put(key, fields).await,
                Kind::Http(_) => Err(SourceError::NotWritable),
            }
        };
        self.guarded(Box::pin(asked)).await
    }

    async fn guarded<T>(
        &self,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        self.calls.increment(1);
        // Never closed.
        let _place = self.places.acquire().await;
        let timed = async {
            let answer = tokio::time::timeout(ANSWER_MAX, work).await;
            answer.unwrap_or(Err(SourceError::Timeout))
        };
        let answer = self.breaker.call(timed, SourceError::is_retryable).await;
        answer.map_err(|error| match error {
            CallError::Refused(refused) => SourceError::Refused(refused),
            CallError::Failed(error) => error,
        })
    }
}
