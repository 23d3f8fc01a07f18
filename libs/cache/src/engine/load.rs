//! A load on its way: the right to fill, the loader, the fill. It runs in a task of its own, so
//! that it ends and fills the cache whoever waits for it or no longer does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use ratebox_kit::{Stopwatch, id};
use uuid::Uuid;

use super::read::Found;
use super::{Engine, Load};
use crate::Error;
use crate::entry::Tagged;
use crate::error::Cause;
use crate::events::Event;
use crate::flight::{Flight, Lead, Outcome};
use crate::generations::Moment;
use crate::held::Held;
use crate::loaded::Loaded;
use crate::policy::Policy;
use crate::tier::{Opened, Taken};

/// Between two looks at a lease that another holds, where changes are not heard.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The same where they are: only for what may get lost.
const LOOK_EVERY_HEARING: Duration = Duration::from_millis(500);

/// A load and what it needs.
pub(crate) struct Errand<V> {
    pub(super) rest: Rest<V>,
    /// Taken when it is called.
    load: Option<Load<V>>,
    pub(super) start: Start,
    /// The stamp of the entry that was found to be of no use.
    pub(super) seen: Vec<u8>,
    /// What is answered while this is under way.
    pub(super) stale: Option<Arc<Held<V>>>,
    /// Nobody waits: if another process is at it, that is enough.
    pub(super) is_behind: bool,
    /// A right that was not needed.
    unused: Option<Uuid>,
}

/// What is known of the tier's entry when an errand sets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// That it is of no use.
    Asked,
    /// Nothing; a newer one than what is to be refreshed ends the errand.
    Looks,
    /// Nothing, and it is likely that there is none: it is asked for together with the right to fill.
    Opens,
}

/// The right to fill.
enum Right<V> {
    /// Until the lease ends.
    Ours(Uuid),
    /// There is nothing to fill but memory, if that.
    None,
    /// Somebody filled.
    Found(Arc<Held<V>>),
    /// Another process is at it.
    Others(Duration),
    /// Another process was at it for longer than a load may take.
    Never,
}

/// What the loader brought.
pub(super) struct Brought<V> {
    pub(super) loaded: Loaded<V>,
    /// When it was called.
    pub(super) at: Moment,
    /// The tags that were known before, with their counts; an error when the tier failed.
    pub(super) tags: Result<Vec<Tagged>, Error>,
    pub(super) took: Duration,
}

// === impl Errand ===

impl<V: Send + Sync + 'static> Errand<V> {
    pub(super) fn new(
        engine: &Arc<Engine<V>>,
        lead: &Lead<V>,
        name: Arc<str>,
        policy: &Arc<Policy>,
        load: Load<V>,
    ) -> Self {
        let rest = Rest {
            engine: Arc::clone(engine),
            key: Arc::clone(&lead.key),
            name,
            policy: Arc::clone(policy),
        };
        Self {
            rest,
            load: Some(load),
            start: Start::Asked,
            seen: Vec::new(),
            stale: None,
            is_behind: false,
            unused: None,
        }
    }

    /// Does all of it.
    pub(super) async fn run(mut self, lead: Lead<V>) {
        let outcome = self.bring(&lead).await;
        let Rest {
            engine, key, name, ..
        } = &self.rest;
        if let Outcome::Failed(error) = &outcome {
            engine.event(|| Event::LoadFailed { key, error });
            if let Some(stale) = &self.stale {
                stale.failed_until(engine.in_ms(self.rest.policy.retry_pause));
            }
        }
        lead.land(outcome);
        // Those who wait for our lease; the tier does not tell us of what we do ourselves.
        engine.tier.view.wake(name);
        if self.unused.is_some() {
            self.rest.give_back(self.unused).await;
        }
    }

    async fn bring(&mut self, lead: &Lead<V>) -> Outcome<V> {
        let right = self.right(&lead.flight).await;
        let rest = &self.rest;
        let token = match right {
            Right::Ours(token) => Some(token),
            Right::None => None,
            Right::Found(held) => return Outcome::Answer(held),
            Right::Never => return Outcome::Failed(Error::GivenUp),
            Right::Others(left) => {
                // No load failed: who wants a fresh value past its end waits for theirs.
                if let Some(stale) = &self.stale {
                    let pause = left.min(rest.policy.retry_pause);
                    stale.retry_at(rest.engine.in_ms(pause));
                }
                return Outcome::GivenUp;
            }
        };
        let Some(load) = self.load.take() else {
            return Outcome::GivenUp;
        };
        match rest.bring(load, token).await {
            Ok(brought) => {
                let tell = |held: &Arc<Held<V>>| lead.tell(Outcome::Answer(Arc::clone(held)));
                Outcome::Answer(rest.keep(brought, token, tell).await)
            }
            Err(error) => {
                rest.engine.figures.load_failures.one();
                rest.give_back(token).await;
                Outcome::Failed(error)
            }
        }
    }

    /// Asks for the right to fill until somebody has filled or the right is ours.
    async fn right(&mut self, flight: &Flight<V>) -> Right<V> {
        let first = match self.start {
            Start::Asked => None,
            Start::Looks => Box::pin(self.look_first()).await,
            Start::Opens => self.open(flight).await,
        };
        match first {
            Some(right) => right,
            None => {
                // Each call of the tier ends within its own time; the wait for another's lease does
                // not.
                let limit = self.rest.policy.load_max;
                let taken = tokio::time::timeout(limit, Box::pin(self.take())).await;
                taken.unwrap_or(Right::Never)
            }
        }
    }

    /// Asks for the right to fill alone.
    async fn take(&mut self) -> Right<V> {
        let Rest {
            engine,
            name,
            policy,
            ..
        } = &self.rest;
        let view = &engine.tier.view;
        let waiting = view.wait(name);
        loop {
            let Ok(Some(store)) = engine.tier.live() else {
                return Right::None;
            };
            let (token, at) = (id::new(), view.generations.now());
            match store.take(name, token, policy.lease, &self.seen).await {
                Ok(Taken::Ours) => return Right::Ours(token),
                Ok(Taken::Busy(left)) if self.is_behind => return Right::Others(left),
                Ok(Taken::Busy(left)) => {
                    let every = match view.is_blind() {
                        true => LOOK_EVERY,
                        false => LOOK_EVERY_HEARING,
                    };
                    let wait = left.clamp(Duration::from_millis(1), every);
                    let _ = tokio::time::timeout(wait, waiting.changed()).await;
                }
                Ok(Taken::Newer(bytes)) => match engine.judge(&bytes, at).await {
                    Found::Fresh(held) => {
                        drop(waiting);
                        return self.found(held);
                    }
                    Found::Stale(_, stamp) | Found::Nothing(stamp) => self.seen = stamp,
                    Found::Unknown => return Right::None,
                },
                Err(_) => {
                    engine.tier_failed();
                    return Right::None;
                }
            }
        }
    }

    /// Asks for the entry; a newer one than what is to be refreshed is the answer.
    async fn look_first(&mut self) -> Option<Right<V>> {
        let Rest { engine, name, .. } = &self.rest;
        let at = engine.tier.view.generations.now();
        match engine.find(name, at).await {
            Found::Fresh(held) if !self.is_the_same(&held) => return Some(self.found(held)),
            Found::Fresh(held) => self.seen = held.stamp.as_bytes().to_vec(),
            Found::Stale(_, stamp) | Found::Nothing(stamp) => self.seen = stamp,
            Found::Unknown => {}
        }
        None
    }

    /// Asks for the entry and the right to fill it in one go; `None` when another has the right.
    async fn open(&mut self, flight: &Flight<V>) -> Option<Right<V>> {
        let Rest {
            engine,
            key,
            name,
            policy,
        } = &self.rest;
        let (token, at) = (id::new(), engine.tier.view.generations.now());
        let opened = match engine.tier.live() {
            Ok(Some(store)) => store.open(name, token, policy.lease).await,
            Ok(None) | Err(_) => Err(Error::Away),
        };
        let (found, ours) = match opened {
            Ok(Opened { entry, is_ours }) => {
                let found = match entry {
                    Some(bytes) => engine.judge(&bytes, at).await,
                    None => Found::Nothing(Vec::new()),
                };
                (found, is_ours)
            }
            Err(error) => {
                if !matches!(error, Error::Away) {
                    engine.tier_failed();
                }
                (Found::Unknown, false)
            }
        };
        if let Found::Fresh(held) = found {
            engine.outlook.note(true);
            engine.tier_hit(key);
            self.unused = ours.then_some(token);
            return Some(self.found(held));
        }
        engine.missed(key);
        engine.outlook.note(false);
        match found {
            Found::Stale(held, stamp) => {
                engine.keep_stale(key, name, &held);
                if held.rests(engine.clock.now_ms()) {
                    engine.served_stale(key);
                    self.unused = ours.then_some(token);
                    return Some(Right::Found(held));
                }
                flight.set_spare(Arc::clone(&held));
                (self.stale, self.seen) = (Some(held), stamp);
            }
            Found::Nothing(stamp) => self.seen = stamp,
            Found::Fresh(_) | Found::Unknown => return Some(Right::None),
        }
        ours.then_some(Right::Ours(token))
    }

    /// Whether it is what is to be refreshed.
    fn is_the_same(&self, held: &Held<V>) -> bool {
        let stale = self.stale.as_ref();
        stale.is_some_and(|stale| stale.stamp == held.stamp)
    }

    fn found(&self, held: Arc<Held<V>>) -> Right<V> {
        let Rest {
            engine, key, name, ..
        } = &self.rest;
        engine.memory.keep(key, name, &held, &engine.tier.view);
        Right::Found(held)
    }
}

/// What is left of an errand once its loader is on its way.
pub(super) struct Rest<V> {
    pub(super) engine: Arc<Engine<V>>,
    pub(super) key: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) policy: Arc<Policy>,
}

// === impl Rest ===

impl<V: Send + Sync + 'static> Rest<V> {
    /// Calls the loader for as long as a load may take, and keeps the right to fill meanwhile.
    async fn bring(&self, load: Load<V>, token: Option<Uuid>) -> Result<Brought<V>, Error> {
        let (limit, lease) = (self.policy.load_max, self.policy.lease);
        let mut call = std::pin::pin!(self.call(load));
        // Most loads are over before anything else is to be waited for.
        let alone = (lease / 6).min(limit);
        if let Ok(brought) = tokio::time::timeout(alone, &mut call).await {
            return brought;
        }
        tokio::select! {
            brought = tokio::time::timeout(limit - alone, call) => {
                brought.unwrap_or(Err(Error::GivenUp))
            }
            never = self.engine.renew(&self.name, token, lease) => match never {},
        }
    }

    /// Calls the loader when it is its turn.
    async fn call(&self, load: Load<V>) -> Result<Brought<V>, Error> {
        let engine = &self.engine;
        let _permit = engine.permit().await?;
        let tags = engine.tags_of(&self.policy, &self.name);
        let tags = engine.sample(tags, self.longest_life()).await;
        if tags.is_err() {
            engine.tier_failed();
        }
        // From here on a change is one that the loader may not have seen.
        let at = engine.tier.view.generations.now();
        let watch = Stopwatch::start();
        if let Some(loaded) = engine.queued(&self.key).await? {
            let took = watch.elapsed();
            return Ok(Brought {
                loaded,
                at,
                tags,
                took,
            });
        }
        engine.figures.loads.one();
        // Within the future, so that a loader that panics before its first wait is caught too.
        let called = async move { load().await };
        let result = AssertUnwindSafe(called).catch_unwind().await;
        let took = watch.elapsed();
        engine.figures.load_seconds.record(took.as_secs_f64());
        match result {
            Ok(Ok(loaded)) => Ok(Brought {
                loaded,
                at,
                tags,
                took,
            }),
            Ok(Err(cause)) => Err(Error::Load(cause)),
            Err(_) => Err(Error::Panicked),
        }
    }

    pub(super) async fn give_back(&self, token: Option<Uuid>) {
        if let (Some(token), Ok(Some(store))) = (token, self.engine.tier.live())
            && store.give_back(&self.name, token).await.is_err()
        {
            // The lease ends by itself.
            self.engine.tier_failed();
        }
    }

    pub(super) fn longest_life(&self) -> Duration {
        let policy = &self.policy;
        policy.ttl.max(policy.negative_ttl) + policy.stale
    }
}

// === impl Engine ===

/// A wait that has no end of its own.
pub(super) enum Never {}

impl<V: Send + Sync + 'static> Engine<V> {
    /// The time in so long.
    pub(super) fn in_ms(&self, pause: Duration) -> i64 {
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        self.clock.now_ms().saturating_add(pause)
    }

    /// Waits for its turn among the loads.
    pub(super) async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst);
        let _leaves = Leaves(&self.waiting);
        if waiting >= self.limits.loads_waiting_max {
            return Err(Error::Overloaded);
        }
        let permit = self.permits.acquire().await;
        permit.map_err(|_| Error::GivenUp)
    }

    /// Keeps a lease alive until it is dropped. When the lease is lost the load goes on; its fill
    /// will be refused.
    pub(super) async fn renew(&self, name: &str, token: Option<Uuid>, lease: Duration) -> Never {
        if let Some(token) = token {
            loop {
                tokio::time::sleep(lease / 3).await;
                let Ok(Some(store)) = self.tier.live() else {
                    continue;
                };
                match store.renew(name, token, lease).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => self.tier_failed(),
                }
            }
        }
        std::future::pending().await
    }
}

/// Counts down when it is dropped.
struct Leaves<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A loader's error as the cause of ours.
pub(crate) fn cause<E>(error: E) -> Cause
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Arc::from(error.into())
}
