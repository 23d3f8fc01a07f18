//! Several keys at once: one read of the shared tier and one load of what is missing, and still one
//! load at a time for each key.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use ratebox_kit::{Stopwatch, id};
use uuid::Uuid;

use super::Engine;
use super::load::{Brought, Rest};
use super::read::{Found, Landing, Look, Spare};
use crate::Error;
use crate::entry::Tagged;
use crate::error::Cause;
use crate::events::Event;
use crate::flight::{Flight, Lead, Outcome, Seat};
use crate::generations::Moment;
use crate::held::{Held, Worth};
use crate::loaded::Loaded;
use crate::policy::{Early, Policy};
use crate::tier::Taken;

/// Brings the values of several keys; those without one are left out.
pub(crate) type LoadMany<V> = Arc<
    dyn Fn(Vec<String>) -> BoxFuture<'static, Result<HashMap<String, Loaded<V>>, Cause>>
        + Send
        + Sync,
>;

/// Rounds after which a read is given up whose flights all came to nothing.
const ROUNDS_MAX: usize = 8;

/// Between two looks at keys that other processes load.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A key that is waited for.
struct Awaited<V> {
    key: String,
    flight: Arc<Flight<V>>,
    joined: Moment,
    spare: Spare<V>,
}

/// A key that this call has to load.
struct Wanted<V> {
    rest: Rest<V>,
    seen: Vec<u8>,
    lead: Lead<V>,
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Reads keys, in order.
    pub(crate) async fn read_many(
        self: &Arc<Self>,
        keys: &[String],
        policy: &Arc<Policy>,
        load: &LoadMany<V>,
    ) -> Result<Vec<Option<Arc<V>>>, Error> {
        let keys_max = self.limits.bulk_keys_max;
        if keys.len() > keys_max {
            let keys = keys.len();
            return Err(Error::TooManyKeys { keys, keys_max });
        }
        let waited = Stopwatch::start();
        let mut found: HashMap<String, Option<Arc<V>>> = HashMap::new();
        for _ in 0..ROUNDS_MAX {
            let missing = keys.iter().filter(|key| !found.contains_key(*key));
            let missing: HashSet<&String> = missing.collect();
            if missing.is_empty() {
                break;
            }
            let awaited = self.set_out(missing, policy, load, &mut found).await;
            let landings = awaited.iter().map(async |awaited| {
                let Awaited {
                    key,
                    flight,
                    joined,
                    spare,
                } = awaited;
                let landing = self
                    .ride((key, flight), *joined, spare, policy, &waited)
                    .await;
                (key, landing)
            });
            for (key, landing) in join_all(landings).await {
                match landing {
                    Landing::Answer(held) => drop(found.insert(key.clone(), held.value.clone())),
                    Landing::Error(error) => return Err(error),
                    Landing::Again => {}
                }
            }
        }
        let values = keys.iter().map(|key| found.get(key).cloned());
        values.collect::<Option<_>>().ok_or(Error::GivenUp)
    }

    /// Takes what memory has, joins the flights of the rest, and sends off those that it leads.
    async fn set_out(
        self: &Arc<Self>,
        keys: HashSet<&String>,
        policy: &Arc<Policy>,
        load: &LoadMany<V>,
        found: &mut HashMap<String, Option<Arc<V>>>,
    ) -> Vec<Awaited<V>> {
        let (mut awaited, mut wanted) = (Vec::new(), Vec::new());
        for key in keys {
            let spare = match self.answer_at_once(key, policy) {
                Ok(value) => {
                    found.insert(key.clone(), value);
                    continue;
                }
                Err(spare) => spare,
            };
            let name = self.name_of(key);
            let joined = self.tier.view.generations.now();
            let flight = match self.flights.join(key, &name, &self.tier.view) {
                Seat::Follow(flight) => {
                    self.figures.shared_loads.one();
                    flight
                }
                Seat::Lead(lead) => {
                    let flight = Arc::clone(&lead.flight);
                    let rest = Rest {
                        engine: Arc::clone(self),
                        key: Arc::clone(&lead.key),
                        name: name.into(),
                        policy: Arc::clone(policy),
                    };
                    let seen = Vec::new();
                    wanted.push(Wanted { rest, seen, lead });
                    flight
                }
            };
            awaited.push(Awaited {
                key: key.clone(),
                flight,
                joined,
                spare,
            });
        }
        if !wanted.is_empty() {
            self.send_many(wanted, policy, load);
        }
        awaited
    }

    /// What memory answers of a key without a load; else what it has instead.
    fn answer_at_once(&self, key: &str, policy: &Policy) -> Result<Option<Arc<V>>, Spare<V>> {
        match self.look(key, policy) {
            Look::Fresh(value) => {
                self.hit(key);
                Ok(value)
            }
            Look::Due(held) => {
                self.hit(key);
                Ok(held.value.clone())
            }
            Look::Miss(spare) => match spare.resting(self.clock.now_ms()) {
                Some(held) => {
                    self.served_stale(key);
                    Ok(held.value.clone())
                }
                None => Err(spare),
            },
        }
    }

    /// Sends a load of several keys on its way.
    fn send_many(
        self: &Arc<Self>,
        wanted: Vec<Wanted<V>>,
        policy: &Arc<Policy>,
        load: &LoadMany<V>,
    ) {
        let (engine, load) = (Arc::clone(self), Arc::clone(load));
        let (policy, limit) = (Arc::clone(policy), policy.load_max);
        let keys = wanted.iter().map(|one| Arc::clone(&one.rest.key));
        let keys: Vec<Arc<str>> = keys.collect();
        self.tasks.spawn("cache load", async move {
            let mut batch = Box::pin(engine.bring_many(wanted, &policy, &load));
            if tokio::time::timeout(limit, &mut batch).await.is_err() {
                // Whatever is not done by then lands as given up when the batch is dropped, which is
                // after this: its readers look once more and are to see the pause.
                engine.rest(keys.iter().map(|key| &**key), &policy);
            }
        });
    }

    /// A load of these keys failed: what memory has of them past its end is the answer for a while.
    fn rest<'a>(&self, keys: impl Iterator<Item = &'a str>, policy: &Policy) {
        let (now_ms, until_ms) = (self.clock.now_ms(), self.in_ms(policy.retry_pause));
        for key in keys {
            if let Some(held) = self.memory.get(key)
                && held.age(now_ms, Early::Never) == Worth::Stale
            {
                held.failed_until(until_ms);
            }
        }
    }

    /// Brings keys that nobody else in this process loads, until all have landed.
    async fn bring_many(&self, wanted: Vec<Wanted<V>>, policy: &Policy, load: &LoadMany<V>) {
        let mut left = self.look_up(wanted).await;
        for one in &left {
            self.missed(&one.rest.key);
        }
        while !left.is_empty() {
            let (batch, others) = self.rights(left, policy).await;
            left = others;
            if batch.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            } else {
                self.load_batch(batch, policy, load).await;
            }
        }
    }

    /// Lands what the shared tier has; answers the rest.
    async fn look_up(&self, wanted: Vec<Wanted<V>>) -> Vec<Wanted<V>> {
        let Ok(Some(store)) = self.tier.live() else {
            return wanted;
        };
        let names: Vec<String> = wanted.iter().map(|one| one.rest.name.to_string()).collect();
        let Ok(entries) = store.get_many(&names).await else {
            self.tier_failed();
            return wanted;
        };
        let mut left = Vec::new();
        for (mut one, entry) in wanted.into_iter().zip(entries) {
            let judged = match entry {
                Some(bytes) => self.judge(&bytes, one.lead.flight.start()).await,
                None => Found::Nothing(Vec::new()),
            };
            match judged {
                Found::Fresh(held) => {
                    self.tier_hit(&one.rest.key);
                    one.land(held);
                }
                Found::Stale(held, stamp) => left.extend(one.stand_in(held, stamp)),
                Found::Nothing(stamp) => {
                    one.seen = stamp;
                    left.push(one);
                }
                Found::Unknown => left.push(one),
            }
        }
        left
    }

    /// Asks for the right to fill each: those that are to be loaded now, and those that another
    /// process loads.
    async fn rights(
        &self,
        wanted: Vec<Wanted<V>>,
        policy: &Policy,
    ) -> (Vec<(Wanted<V>, Option<Uuid>)>, Vec<Wanted<V>>) {
        let (mut batch, mut others) = (Vec::new(), Vec::new());
        let Ok(Some(store)) = self.tier.live() else {
            let free = wanted.into_iter().map(|one| (one, None));
            return (free.collect(), others);
        };
        let at = self.tier.view.generations.now();
        let asked = wanted.iter().map(async |one| {
            let token = id::new();
            let taken = store.take(&one.rest.name, token, policy.lease, &one.seen);
            (token, taken.await)
        });
        let answers = join_all(asked).await;
        for (mut one, (token, taken)) in wanted.into_iter().zip(answers) {
            match taken {
                Ok(Taken::Ours) => batch.push((one, Some(token))),
                Ok(Taken::Busy(_)) => others.push(one),
                Ok(Taken::Newer(bytes)) => match self.judge(&bytes, at).await {
                    Found::Fresh(held) => one.land(held),
                    Found::Stale(held, stamp) => others.extend(one.stand_in(held, stamp)),
                    Found::Nothing(stamp) => {
                        one.seen = stamp;
                        others.push(one);
                    }
                    Found::Unknown => batch.push((one, None)),
                },
                Err(_) => {
                    self.tier_failed();
                    batch.push((one, None));
                }
            }
        }
        (batch, others)
    }

    /// One call of the loader for all, then a fill for each.
    async fn load_batch(
        &self,
        batch: Vec<(Wanted<V>, Option<Uuid>)>,
        policy: &Policy,
        load: &LoadMany<V>,
    ) {
        let renewed = batch
            .iter()
            .map(|(one, token)| self.renew(&one.rest.name, *token, policy.lease));
        let brought = {
            let called = self.call_many(&batch, policy, load);
            tokio::select! {
                brought = called => brought,
                _ = join_all(renewed) => Err(Error::GivenUp),
            }
        };
        match brought {
            Ok((mut values, at, tags, took)) => {
                let landed = batch.into_iter().zip(tags);
                let kept = landed.map(|((one, token), tags)| {
                    let loaded = values.remove(&*one.rest.key);
                    let brought = Brought {
                        loaded: loaded.unwrap_or_else(Loaded::absent),
                        at,
                        tags,
                        took,
                    };
                    async move {
                        let held = one.rest.keep(brought, token, |_| ()).await;
                        one.lead.land(Outcome::Answer(held));
                    }
                });
                join_all(kept).await;
            }
            Err(error) => {
                self.figures.load_failures.one();
                for (one, _) in &batch {
                    let (key, error) = (&one.rest.key, &error);
                    self.event(|| Event::LoadFailed { key, error });
                }
                self.rest(batch.iter().map(|(one, _)| &*one.rest.key), policy);
                let landed = batch.into_iter();
                let failed = landed.map(async |(one, token)| {
                    one.rest.give_back(token).await;
                    one.lead.land(Outcome::Failed(error.clone()));
                });
                join_all(failed).await;
            }
        }
    }

    /// The tags of each key that are known before a load, in order, with their counts.
    async fn tags_of_many(
        &self,
        batch: &[(Wanted<V>, Option<Uuid>)],
        policy: &Policy,
        life: Duration,
    ) -> Vec<Result<Vec<Tagged>, Error>> {
        let mut asked = self.tags_of_all(policy);
        let (of_all, of_each) = (asked.len(), self.made_from.len());
        for (one, _) in batch {
            asked.extend(self.tags_of_one(&one.rest.name));
        }
        let mut all = match self.sample(asked, life).await {
            Ok(sampled) => sampled,
            Err(error) => return vec![Err(error); batch.len()],
        };
        let own = all.split_off(of_all);
        let tags = |at: usize| {
            let own = own.get(at * of_each..(at + 1) * of_each);
            Ok([all.as_slice(), own.unwrap_or_default()].concat())
        };
        (0..batch.len()).map(tags).collect()
    }

    async fn call_many(
        &self,
        batch: &[(Wanted<V>, Option<Uuid>)],
        policy: &Policy,
        load: &LoadMany<V>,
    ) -> Result<Many<V>, Error> {
        let _permit = self.permit().await?;
        let life = batch
            .first()
            .map_or(Duration::ZERO, |(one, _)| one.rest.longest_life());
        let tags = self.tags_of_many(batch, policy, life).await;
        let at = self.tier.view.generations.now();
        let watch = Stopwatch::start();
        let keys = batch.iter().map(|(one, _)| one.rest.key.to_string());
        let (queued, keys) = self.queued_many(keys.collect()).await?;
        if keys.is_empty() {
            return Ok((queued, at, tags, watch.elapsed()));
        }
        self.figures.loads.one();
        let called = async move { load(keys).await };
        let result = AssertUnwindSafe(called).catch_unwind().await;
        let took = watch.elapsed();
        self.figures.load_seconds.record(took.as_secs_f64());
        match result {
            Ok(Ok(mut values)) => {
                values.extend(queued);
                Ok((values, at, tags, took))
            }
            Ok(Err(cause)) => Err(Error::Load(cause)),
            Err(_) => Err(Error::Panicked),
        }
    }
}

/// What one call brought: values, when it was called, the tags of each key before it, and how long
/// it took.
type Many<V> = (
    HashMap<String, Loaded<V>>,
    Moment,
    Vec<Result<Vec<Tagged>, Error>>,
    Duration,
);

// === impl Wanted ===

impl<V: Send + Sync + 'static> Wanted<V> {
    /// Keeps at hand what was found past its end: better than nothing when its load fails, and the
    /// answer within the pause after one that did. `None` when it has landed with that.
    fn stand_in(mut self, held: Arc<Held<V>>, stamp: Vec<u8>) -> Option<Self> {
        let Rest {
            engine, key, name, ..
        } = &self.rest;
        engine.keep_stale(key, name, &held);
        if held.rests(engine.clock.now_ms()) {
            engine.served_stale(key);
            self.lead.land(Outcome::Answer(held));
            return None;
        }
        self.lead.flight.set_spare(held);
        self.seen = stamp;
        Some(self)
    }

    /// Lands with what somebody else loaded.
    fn land(self, held: Arc<Held<V>>) {
        let Rest {
            engine, key, name, ..
        } = &self.rest;
        engine.memory.keep(key, name, &held, &engine.tier.view);
        self.lead.land(Outcome::Answer(held));
    }
}
