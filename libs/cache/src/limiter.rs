//! A rate limit by key: at most so many at once, and so many over each window in the long run.
//!
//! The algorithm is GCRA (ITU-T I.371): a key remembers one moment, so there is no window whose
//! edge lets twice as much through, and a refused request costs its sender nothing. [`Limiter::local`]
//! counts in this process; [`Limiter::shared`] counts on a Redis or Valkey server for all processes, in
//! one round trip, on the server's clock.
//!
//! While the server is away a shared limiter does what its [`WhenAway`] says. With
//! [`WhenAway::Local`] each process counts for itself from zero: N processes together then let up to
//! N times as much through, and each key may use its burst once more at the change.

mod script;

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Clock, Quota};
use ratebox_valkey::Valkey;

use crate::{Breaker, BreakerSettings};

/// A server that has not answered for this long is taken for away: the request it holds up is
/// judged without it.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// How long a server that is away is left alone.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// What a shared limiter does while the server is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// Counts in this process.
    #[default]
    Local,
    /// Refuses everything.
    Refuse,
    /// Lets everything through.
    Allow,
}

/// Who counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedBy {
    /// This process.
    Process,
    /// The server, for all processes.
    Server,
    /// Nobody: the server is away and the settings say what then.
    Nobody,
}

/// What the limiter says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// May it go on?
    pub allowed: bool,
    /// Requests allowed at once, and per window.
    pub limit: u32,
    /// Further requests that would be allowed at once.
    pub remaining: u32,
    /// When refused: how long until the next is allowed.
    pub retry_after: Option<Duration>,
    /// How long until the full limit is there again.
    pub reset_after: Duration,
    /// Who counted.
    pub counted_by: CountedBy,
}

/// Decides by key. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quota: Quota,
    clock: Clock,
    local: ratebox_kit::Limiter,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    valkey: Valkey,
    prefix: String,
    when_away: WhenAway,
    breaker: Breaker,
}

// === impl Limiter ===

impl Limiter {
    /// Counts in this process. A burst of 0 counts as 1.
    pub fn local(quota: Quota, clock: Clock) -> Self {
        Self::over(quota, clock, None)
    }

    /// Counts on a server. `prefix` stands before each key there; limiters with the same prefix
    /// count together and must have the same quota.
    pub fn shared(
        valkey: Valkey,
        prefix: impl Into<String>,
        quota: Quota,
        when_away: WhenAway,
        clock: Clock,
    ) -> Self {
        let prefix = prefix.into();
        let settings = BreakerSettings {
            failures_in_a_row: 1,
            open_for: AWAY_FOR,
            slow_after: ANSWER_MAX,
            probes: 1,
            probe_deadline: ANSWER_MAX * 2,
            ramp: Duration::ZERO,
            ..BreakerSettings::default()
        };
        let breaker = Breaker::new(format!("limiter {prefix}"), settings, clock.clone());
        let server = Server {
            valkey,
            prefix,
            when_away,
            breaker,
        };
        Self::over(quota, clock, Some(server))
    }

    fn over(quota: Quota, clock: Clock, server: Option<Server>) -> Self {
        Self {
            inner: Arc::new(Inner {
                quota,
                clock,
                local: ratebox_kit::Limiter::new(),
                server,
            }),
        }
    }

    /// Takes one request of `key`. Always answers, and within a quarter of a second when the
    /// server does not.
    ///
    /// Keys are kept as they are: whoever takes them from requests bounds their length.
    pub async fn take(&self, key: &str) -> Ruling {
        self.take_of(key, self.inner.quota).await
    }

    /// As [`Limiter::take`], of a key with a quota of its own. A key must have the same quota each
    /// time.
    pub async fn take_of(&self, key: &str, quota: Quota) -> Ruling {
        let Some(server) = &self.inner.server else {
            return self.here(key, quota);
        };
        match server.take(key, quota).await {
            Some(ruling) => ruling,
            None => match server.when_away {
                WhenAway::Local => self.here(key, quota),
                WhenAway::Refuse => uncounted(false, quota),
                WhenAway::Allow => uncounted(true, quota),
            },
        }
    }

    /// As [`Limiter::take`], counted in this process whatever the server says.
    pub fn take_here(&self, key: &str) -> Ruling {
        self.here(key, self.inner.quota)
    }

    fn here(&self, key: &str, quota: Quota) -> Ruling {
        let Inner { clock, local, .. } = &*self.inner;
        let decision = local.take(key, quota, clock.steady_time());
        Ruling {
            allowed: decision.allowed,
            limit: quota.burst.max(1),
            remaining: decision.remaining,
            retry_after: (!decision.allowed).then_some(decision.wait),
            reset_after: match decision.allowed {
                true => decision.wait,
                false => full_after(decision.wait, quota),
            },
            counted_by: CountedBy::Process,
        }
    }
}

// === impl Server ===

impl Server {
    /// The server's word, or nothing when it has none.
    async fn take(&self, key: &str, quota: Quota) -> Option<Ruling> {
        let permit = self.breaker.acquire().ok()?;
        let key = format!("{}{key}", self.prefix);
        let asked = script::take(&self.valkey, &key, quota);
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(ruling)) => {
                permit.success();
                Some(ruling)
            }
            Ok(Err(error)) => {
                permit.failure();
                tracing::warn!(%error, "the shared limit cannot be asked");
                None
            }
            Err(_) => {
                permit.failure();
                tracing::warn!("the shared limit did not answer in time");
                None
            }
        }
    }
}

/// How long until the full limit is there again, for a key whose next request is `wait` away.
fn full_after(wait: Duration, quota: Quota) -> Duration {
    (wait + quota.window).saturating_sub(quota.window / quota.burst.max(1))
}

/// What is said when nobody counts.
fn uncounted(allowed: bool, quota: Quota) -> Ruling {
    let limit = quota.burst.max(1);
    Ruling {
        allowed,
        limit,
        remaining: if allowed { limit } else { 0 },
        retry_after: (!allowed).then_some(AWAY_FOR),
        reset_after: AWAY_FOR,
        counted_by: CountedBy::Nobody,
    }
}
