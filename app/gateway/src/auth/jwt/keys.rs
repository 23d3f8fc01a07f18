//! The keys at hand: kept by the cache library, fetched again in time, and when a token names one
//! that nobody knows.
//!
//! One fetch at a time, whoever asks; keys that are not found are remembered for a while, so that
//! invented names cost the issuer one fetch in [`JwtSettings::refetch_min`]. While the issuer is
//! away, the last set stands in, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_cache::{Cache, Early, Error, Loaded, Policy, Stats, Tier};
use ratebox_kit::{Causes, Clock, PortError};
use tokio::sync::Mutex;

use super::key::KeySet;
use crate::settings::{JwksSource, JwtSettings};
use crate::{stats, unshared};

/// The entry of the set; the others are `kid:` and a name.
const SET: &str = "set";
/// What sets and unknown names take in memory.
const MEMORY_BYTES: u64 = 1024 * 1024;
/// What a set is reckoned to take.
const SET_BYTES: u64 = 64 * 1024;
/// A reader waits so long for the next set while the issuer is away and the last one may stand in.
const AWAY_PATIENCE: Duration = Duration::from_millis(250);

/// Keys of an issuer.
pub(super) struct Keys {
    cache: Cache<str, Arc<KeySet>>,
    /// The same, whose readers hardly wait when an older set may stand in.
    while_away: Cache<str, Arc<KeySet>>,
    fetcher: Arc<Fetcher>,
}

/// Asks the issuer, one at a time and not too often.
struct Fetcher {
    source: Arc<dyn JwksSource>,
    settings: JwtSettings,
    clock: Clock,
    last: Mutex<Last>,
    /// Whether the last fetch failed.
    is_away: AtomicBool,
}

/// How the last fetch ended.
#[derive(Default)]
struct Last {
    /// When; `None` before the first one.
    at: Option<Duration>,
    /// What it brought; `None` when it failed.
    set: Option<Arc<KeySet>>,
    /// The last one that succeeded.
    good_at: Option<Duration>,
}

/// What there is of a key that is not in the set at hand.
enum Again {
    Found(Arc<KeySet>),
    /// It is not there; nobody looks again for so long.
    NotFor(Duration),
}

/// Asked a moment ago, and the answer was none.
#[derive(Debug)]
struct Pausing;

impl std::fmt::Display for Pausing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the keys could not be fetched a moment ago")
    }
}

impl std::error::Error for Pausing {}

// === impl Keys ===

impl Keys {
    pub(super) fn new(source: Arc<dyn JwksSource>, settings: JwtSettings, clock: Clock) -> Self {
        let weigh = (|_| SET_BYTES) as fn(&Arc<KeySet>) -> u64;
        let longest = settings.fetch_timeout + Duration::from_secs(1);
        let policy = Policy {
            ttl: settings.keys_max_age,
            stale: settings.keys_stale,
            negative_ttl: settings.refetch_min,
            jitter: 0.0,
            hard_timeout: longest,
            load_max: longest * 2,
            early: Early::Share(0.8),
            retry_pause: settings.refetch_min,
            ..Policy::default()
        };
        let memory = (MEMORY_BYTES, weigh);
        let cache = unshared::cache("jwks", clock.clone(), settings.keys_max_age, memory);
        Self {
            while_away: cache.with_policy(Policy {
                soft_timeout: Some(AWAY_PATIENCE),
                ..policy.clone()
            }),
            cache: cache.with_policy(policy),
            fetcher: Arc::new(Fetcher {
                source,
                settings,
                clock,
                last: Mutex::default(),
                is_away: AtomicBool::new(false),
            }),
        }
    }

    /// The set at hand, fetched when there is none or it is old.
    ///
    /// # Errors
    /// When it cannot be fetched and no older one may stand in.
    pub(super) async fn set(&self) -> Result<Arc<KeySet>, Error> {
        let fetcher = Arc::clone(&self.fetcher);
        let cache = match fetcher.is_away.load(Ordering::Relaxed) {
            true => &self.while_away,
            false => &self.cache,
        };
        let load = move || async move { fetcher.next().await };
        let set = cache.get_or_load(SET, load).await?;
        // The loader never brings an absence.
        set.as_deref().cloned().ok_or(Error::GivenUp)
    }

    /// A newer set that has the key; `None` when there is none, as far as is known.
    ///
    /// # Errors
    /// When the set cannot be fetched.
    pub(super) async fn with(&self, kid: &str) -> Result<Option<Arc<KeySet>>, Error> {
        let (fetcher, cache) = (Arc::clone(&self.fetcher), self.cache.clone());
        let owned = kid.to_owned();
        let load = move || async move {
            let (again, is_new) = fetcher.again(&owned).await?;
            if let Some(set) = is_new {
                // Nothing is written for sharing, so this does not fail.
                let _ = cache.set(SET, set).await;
            }
            Ok::<_, PortError>(match again {
                Again::Found(set) => Loaded::value(set).not_kept(),
                Again::NotFor(pause) => Loaded::absent().ttl(pause).stale(Duration::ZERO),
            })
        };
        let found = self.cache.get_or_load(&format!("kid:{kid}"), load).await?;
        Ok(found.as_deref().cloned())
    }

    /// What was looked up.
    pub(super) fn stats(&self) -> (Stats, &Tier) {
        (self.cache.stats(), self.cache.tier())
    }
}

// === impl Fetcher ===

impl Fetcher {
    /// The next set, for one that is too old or not there.
    async fn next(&self) -> Result<Loaded<Arc<KeySet>>, PortError> {
        let mut last = self.last.lock().await;
        if let Some((set, left)) = last.young(self) {
            return Ok(Loaded::value(set).ttl(left));
        }
        if last.set.is_none() && last.pause(self).is_some() {
            return Err(PortError::new("the keys cannot be fetched", Pausing));
        }
        self.fetch(&mut last).await.map(Loaded::value)
    }

    /// Looks for a key in a newer set, and returns that as well when it was fetched just now.
    async fn again(&self, kid: &str) -> Result<(Again, Option<Arc<KeySet>>), PortError> {
        let mut last = self.last.lock().await;
        let found = |set: &Arc<KeySet>| match set.has(kid) {
            true => Again::Found(Arc::clone(set)),
            false => Again::NotFor(self.settings.refetch_min),
        };
        let Some(pause) = last.pause(self) else {
            let set = self.fetch(&mut last).await?;
            return Ok((found(&set), Some(set)));
        };
        match &last.set {
            Some(set) if set.has(kid) => Ok((found(set), None)),
            Some(_) => Ok((Again::NotFor(pause), None)),
            None => Err(PortError::new("the keys cannot be fetched", Pausing)),
        }
    }

    async fn fetch(&self, last: &mut Last) -> Result<Arc<KeySet>, PortError> {
        let read = async {
            let bytes = self.source.fetch().await?;
            let with_secrets = self.source.is_private();
            KeySet::parse(&bytes, &self.settings.algorithms, with_secrets)
                .map_err(|error| PortError::new("the set of keys cannot be used", error))
        };
        // The source has a limit of its own; this one is for whoever forgot it.
        let limit = self.settings.fetch_timeout + Duration::from_secs(1);
        let read = tokio::time::timeout(limit, read).await;
        let read = read.unwrap_or_else(|late| {
            Err(PortError::new("the set of keys did not come in time", late))
        });
        let now = self.clock.steady_time();
        last.at = Some(now);
        self.is_away.store(read.is_err(), Ordering::Relaxed);
        match read {
            Ok(set) => {
                let set = Arc::new(set);
                last.told(&set, now);
                last.good_at = Some(now);
                last.set = Some(Arc::clone(&set));
                stats::jwks_fetched(true);
                Ok(set)
            }
            Err(error) => {
                last.set = None;
                stats::jwks_fetched(false);
                let age = last.good_at.map(|at| now.saturating_sub(at));
                tracing::warn!(
                    jwks.age_s = age.map(|it| it.as_secs()),
                    cause = %Causes(&error),
                    "the keys of JWTs cannot be fetched; {}", self.meanwhile(age)
                );
                Err(error)
            }
        }
    }

    /// What is done while keys of this age are the last that came.
    fn meanwhile(&self, age: Option<Duration>) -> &'static str {
        let used_for = self.settings.keys_max_age + self.settings.keys_stale;
        match age {
            Some(age) if age < used_for => "the last ones stand in for a while",
            _ => "until they can be, JWTs that need them are answered 503",
        }
    }
}

// === impl Last ===

impl Last {
    /// How long nobody asks again; `None` = it is time.
    fn pause(&self, fetcher: &Fetcher) -> Option<Duration> {
        let since = fetcher.clock.steady_time().saturating_sub(self.at?);
        let left = fetcher.settings.refetch_min.checked_sub(since)?;
        (!left.is_zero()).then_some(left)
    }

    /// The last set and the rest of its life, in the first half of that: many invented names push
    /// it out of memory, and must not have it fetched by that.
    fn young(&self, fetcher: &Fetcher) -> Option<(Arc<KeySet>, Duration)> {
        let (set, life) = (self.set.as_ref()?, fetcher.settings.keys_max_age);
        let age = fetcher.clock.steady_time().saturating_sub(self.at?);
        (age < life / 2).then(|| (Arc::clone(set), life - age))
    }

    /// Says what the first set holds, and the first one after a failure.
    fn told(&self, set: &KeySet, now: Duration) {
        if self.set.is_some() {
            return;
        }
        let away_s = self.good_at.map(|at| now.saturating_sub(at).as_secs());
        tracing::info!(
            jwks.keys = set.len(),
            jwks.away_s = away_s,
            "the keys of JWTs were fetched"
        );
        for why in &set.left_out {
            tracing::warn!(why, "a key of JWTs is not used");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;

    #[derive(Debug, Default)]
    struct Source(AtomicU64);

    #[async_trait]
    impl JwksSource for Source {
        async fn fetch(&self) -> Result<Bytes, PortError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
            let set =
                format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"k"}}]}}"#);
            Ok(Bytes::from(set))
        }

        fn is_private(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn however_many_names_are_invented_the_set_is_not_fetched_for_them() {
        let (source, clock) = (Arc::new(Source::default()), Clock::system());
        let clock = Clock::manual(clock.now());
        let settings = JwtSettings::default();
        let keys = Keys::new(Arc::clone(&source) as _, settings, clock.clone());
        for number in 0..20_000 {
            assert!(keys.set().await.unwrap().has("k"));
            let name = format!("{number} {}", "n".repeat(200));
            assert!(keys.with(&name).await.unwrap().is_none());
        }
        assert_eq!(source.0.load(Ordering::SeqCst), 1);
        let (stats, _) = keys.stats();
        assert!(stats.memory_values < 20_000, "{stats:?}");
        // Read in time all the same, behind the back of whoever asks.
        clock.advance(Duration::from_secs(299));
        assert!(keys.set().await.unwrap().has("k"));
        clock.advance(Duration::from_secs(1));
        assert!(keys.set().await.unwrap().has("k"));
        assert_eq!(source.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_is_done_meanwhile_is_said_by_the_age_of_the_last_keys() {
        let settings = JwtSettings::default();
        let used_for = settings.keys_max_age + settings.keys_stale;
        let keys = Keys::new(Arc::new(Source::default()), settings, Clock::system());
        let stand_in = |age| keys.fetcher.meanwhile(age).contains("stand in");
        assert!(stand_in(Some(used_for - Duration::from_secs(1))));
        assert!(!stand_in(Some(used_for)) && !stand_in(None));
    }
}
