//! One connection that dials again by itself.
//!
//! A call never waits for a server that is known to be away: after a failed dial, calls fail at
//! once until a short pause has passed, then one of them dials again.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratebox_kit::{Backoff, Stopwatch};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult};

use crate::home::Home;
use crate::source::Source;
use crate::tracking::Tracking;
use crate::valkey::answered;
use crate::{Blocking, Error};

/// Pauses between dials. The longest bounds how long a server that is back goes unnoticed.
pub(crate) const DIAL_PAUSE: Backoff = Backoff {
    first: Duration::from_millis(50),
    max: Duration::from_millis(500),
};

/// Timeouts in a row after which the connection is taken for dead and dialled anew.
const TIMEOUTS_MAX: u32 = 2;

/// A caller that gives up after this long counts as a timeout: it may have less patience than the
/// timeout, and be the only one who asks.
const GIVEN_UP_LATE: Duration = Duration::from_secs(1);

/// Commands that may wait for the writer of one connection before senders wait.
const PIPELINE_BUFFER: usize = 1_024;

pub(crate) struct Link {
    source: Source,
    connect_timeout: Duration,
    tracking: Option<Arc<Tracking>>,
    live: Mutex<Option<Live>>,
    dialling: tokio::sync::Mutex<Dialling>,
    running: Stopwatch,
    dials: Arc<AtomicU64>,
}

/// A connection that worked when it was made.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) standing: Arc<Standing>,
}

/// What is known of a connection.
pub(crate) struct Standing {
    broken: Arc<AtomicBool>,
    timeouts: AtomicU32,
    tracking: Option<Arc<Tracking>>,
    home: Option<Arc<Home>>,
}

/// Somebody waits for an answer.
struct Waiting<'a> {
    on: Option<&'a Standing>,
    since: Stopwatch,
}

struct Dialling {
    failures: u32,
    not_before: Duration,
    last_error: Option<Error>,
}

// === impl Link ===

impl Link {
    pub(crate) fn new(source: Source, connect_timeout: Duration) -> Self {
        Self {
            source,
            connect_timeout,
            tracking: None,
            live: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(Dialling {
                failures: 0,
                not_before: Duration::ZERO,
                last_error: None,
            }),
            running: Stopwatch::start(),
            dials: Arc::default(),
        }
    }

    /// The same, counting its connections together with others'.
    pub(crate) fn counting(mut self, dials: &Arc<AtomicU64>) -> Self {
        self.dials = Arc::clone(dials);
        self
    }

    /// Connections that were made so far.
    pub(crate) fn dials(&self) -> u64 {
        self.dials.load(Ordering::SeqCst)
    }

    /// Another to the same server.
    pub(crate) fn apart(&self) -> Self {
        Self::new(self.source.clone(), self.connect_timeout)
    }

    /// The same for keys whose changes are listened to.
    pub(crate) fn tracking(mut self, tracking: Option<Arc<Tracking>>) -> Self {
        self.tracking = tracking;
        self
    }

    /// A connection to the same server for one caller at a time.
    pub(crate) fn blocking(&self) -> Blocking {
        Blocking::to(self.source.clone(), self.connect_timeout)
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The connection, dialled if there is none that works.
    pub(crate) async fn live(&self) -> Result<Live, Error> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let mut dialling = self.dialling.lock().await;
        if let Some(live) = self.current() {
            return Ok(live);
        }
        if let Some(error) = &dialling.last_error
            && self.running.elapsed() < dialling.not_before
        {
            return Err(error.clone());
        }
        match self.dial().await {
            Ok(live) => {
                self.dials.fetch_add(1, Ordering::SeqCst);
                *dialling = Dialling {
                    failures: 0,
                    not_before: Duration::ZERO,
                    last_error: None,
                };
                *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                dialling.failures = dialling.failures.saturating_add(1);
                let pause = DIAL_PAUSE.bound(dialling.failures);
                dialling.not_before = self.running.elapsed() + pause;
                dialling.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    fn current(&self) -> Option<Live> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.as_ref()
            .filter(|live| !live.standing.is_broken())
            .cloned()
    }

    async fn dial(&self) -> Result<Live, Error> {
        let broken = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&broken);
        let tracking = self.tracking.clone();
        if let Some(tracking) = &tracking {
            // The connection before may be half open and say nothing any more.
            tracking.lost();
        }
        let timeout = match &self.tracking {
            Some(tracking) => self.connect_timeout.min(tracking.dial_max),
            None => self.connect_timeout,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    watched.store(true, Ordering::SeqCst);
                }
                if let Some(tracking) = &tracking {
                    tracking.pushed(&push);
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let (mut connection, home) = self.source.dial(config, timeout).await?;
        if let Some(tracking) = &self.tracking {
            connection.set_response_timeout(timeout);
            let answer = connection.req_packed_command(&tracking.command()).await;
            answer
                .map_err(|error| Error::from_redis(&error, timeout))
                .and_then(answered)?;
        }
        let standing = Standing {
            broken,
            timeouts: AtomicU32::new(0),
            tracking: self.tracking.clone(),
            home,
        };
        Ok(Live {
            connection,
            standing: Arc::new(standing),
        })
    }
}

// === impl Standing ===

impl Standing {
    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// The connection is never to be used again.
    pub(crate) fn give_up(&self) {
        self.broken.store(true, Ordering::SeqCst);
        if let Some(tracking) = &self.tracking {
            tracking.lost();
        }
    }

    /// Awaits an answer, learns from how that goes, and puts its error into our words.
    pub(crate) async fn hear<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
        timeout: Duration,
    ) -> Result<T, Error> {
        let mut waiting = Waiting {
            on: Some(self),
            since: Stopwatch::start(),
        };
        let answer = Home::while_kept(self.home.as_deref(), Duration::ZERO, answer).await;
        waiting.on = None;
        match answer {
            Ok(answer) => self.judge(answer, timeout),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    fn judge<T>(&self, result: RedisResult<T>, waited: Duration) -> Result<T, Error> {
        match result {
            Ok(answer) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => {
                if error.is_timeout() {
                    self.timed_out();
                } else if error.is_unrecoverable_error() || error.is_io_error() {
                    self.give_up();
                }
                Err(Error::from_redis(&error, waited))
            }
        }
    }

    fn timed_out(&self) {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.give_up();
        }
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(standing) = self.on
            && self.since.elapsed() >= GIVEN_UP_LATE
        {
            standing.timed_out();
        }
    }
}
