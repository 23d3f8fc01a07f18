//! A read: this process' memory, then the shared tier, then the loader.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::Stopwatch;
use tracing::Instrument as _;
use tracing::level_filters::LevelFilter;

use super::load::{Errand, Start};
use super::{Engine, Load};
use crate::Error;
use crate::entry::{Entry, stamp_of};
use crate::events::Event;
use crate::flight::{Flight, Lead, Outcome, Seat};
use crate::generations::Moment;
use crate::held::{Held, Worth};
use crate::key::KeyText;
use crate::memory::Glance;
use crate::policy::Policy;

/// What a reader has at hand that is not the answer yet.
pub(crate) struct Spare<V> {
    /// May be answered instead of waiting.
    pub(super) stale: Option<Arc<Held<V>>>,
    /// May be answered when nothing else can be had.
    doubtful: Option<Arc<Held<V>>>,
}

/// What memory says of a key.
pub(crate) enum Look<V> {
    /// The answer; `None` = there is no value.
    Fresh(Option<Arc<V>>),
    /// The answer, and it is time to load the next.
    Due(Arc<Held<V>>),
    /// No answer; what there is instead.
    Miss(Spare<V>),
}

/// What the shared tier has of a key.
pub(crate) enum Found<V> {
    /// The answer.
    Fresh(Arc<Held<V>>),
    /// What may stand in, and its stamp.
    Stale(Arc<Held<V>>, Vec<u8>),
    /// Nothing of use; the stamp of what is there.
    Nothing(Vec<u8>),
    /// The tier failed, or there is none.
    Unknown,
}

/// What the shared tier had for a flight.
enum Led<V> {
    /// The answer; the flight has landed.
    Answer(Arc<Held<V>>),
    /// None: it is to be loaded. The stamp of what is there.
    Load(Lead<V>, Vec<u8>),
}

/// How the wait for a flight ended.
pub(super) enum Landing<V> {
    Answer(Arc<Held<V>>),
    Error(Error),
    /// What it brought is too old for this reader, or it brought nothing: once more.
    Again,
}

// === impl Spare ===

impl<V> Spare<V> {
    fn none() -> Self {
        Self {
            stale: None,
            doubtful: None,
        }
    }

    /// What is answered past its end and without a load, as the last one failed a moment ago.
    pub(super) fn resting(&self, now_ms: i64) -> Option<Arc<Held<V>>> {
        self.stale.clone().filter(|held| held.rests(now_ms))
    }
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// A fresh value, if memory has one: the way of most reads. Nothing is allocated, and what is
    /// fetched from the machine's memory is the place of the key and the value. Short is fast here
    /// beyond what is saved: the less one read does, the sooner the processor sees the next one, and
    /// fetches for both at a time.
    pub(crate) fn fresh(&self, key: &[u8], glance: Glance) -> Option<Option<Arc<V>>> {
        let front = self.memory.front(key)?;
        let is_fresh = front.is_fresh(&self.tier.view, &self.clock, glance);
        is_fresh.then_some(front.value)
    }

    /// What memory says of a key.
    pub(crate) fn look(&self, key: &str, policy: &Policy) -> Look<V> {
        let Some(front) = self.memory.front(key.as_bytes()) else {
            return Look::Miss(Spare::none());
        };
        let glance = self.memory.glance(policy.early);
        match front.is_fresh(&self.tier.view, &self.clock, glance) {
            true => Look::Fresh(front.value),
            false => self.look_closely(key, policy),
        }
    }

    /// The same for what is no plain hit.
    #[cold]
    fn look_closely(&self, key: &str, policy: &Policy) -> Look<V> {
        let mut spare = Spare::none();
        let Some(held) = self.memory.get(key) else {
            return Look::Miss(spare);
        };
        match held.worth(&self.tier.view, self.clock.now_ms(), policy.early) {
            Worth::Fresh => return Look::Fresh(held.value.clone()),
            Worth::Due => return Look::Due(held),
            Worth::Stale => spare.stale = Some(held),
            Worth::Doubtful => spare.doubtful = Some(held),
            Worth::Dead => {}
        }
        Look::Miss(spare)
    }

    /// What memory or the shared tier has of a key, if it is fresh: a value, or that there is none.
    pub(crate) async fn get(&self, key: &str, policy: &Policy) -> Option<Option<Arc<V>>> {
        let at_hand = match self.look(key, policy) {
            Look::Fresh(value) => Some(value),
            Look::Due(held) => Some(held.value.clone()),
            Look::Miss(_) => None,
        };
        if at_hand.is_some() {
            self.hit(key);
            return at_hand;
        }
        let name = self.name_of(key);
        let at = self.tier.view.generations.now();
        match self.find(&name, at).await {
            Found::Fresh(held) => {
                self.tier_hit(key);
                self.memory.keep(key, &name, &held, &self.tier.view);
                Some(held.value.clone())
            }
            Found::Stale(..) | Found::Nothing(_) | Found::Unknown => {
                self.missed(key);
                None
            }
        }
    }

    /// Reads a key that memory has no answer for.
    pub(crate) async fn read(
        self: &Arc<Self>,
        key: &str,
        policy: &Arc<Policy>,
        mut spare: Spare<V>,
        load: Load<V>,
    ) -> Result<Arc<Held<V>>, Error> {
        let waited = Stopwatch::start();
        let name: Arc<str> = self.name_of(key).into();
        if let Some(stale) = spare.stale.clone()
            && (policy.soft_timeout == Some(Duration::ZERO) || stale.rests(self.clock.now_ms()))
        {
            // Nothing happens within the pause after a load that failed: then nobody calls the loader.
            self.refresh(key, &name, policy, &stale, load);
            self.served_stale(key);
            return Ok(stale);
        }
        let mut load = Some(load);
        loop {
            let joined = self.tier.view.generations.now();
            let flight = match self.flights.join(key, &name, &self.tier.view) {
                Seat::Follow(flight) => {
                    self.figures.shared_loads.one();
                    flight
                }
                Seat::Lead(lead) => {
                    let Some(load) = load.take() else {
                        return Err(Error::GivenUp);
                    };
                    let flight = Arc::clone(&lead.flight);
                    let led = self.set_off(lead, (key, &name), policy, &mut spare, load);
                    if let Some(held) = led.await {
                        return Ok(held);
                    }
                    flight
                }
            };
            // In a place of its own: what needs no wait is the smaller for it.
            let ride = self.ride((key, &flight), joined, &spare, policy, &waited);
            match Box::pin(ride).await {
                Landing::Answer(held) => return Ok(held),
                Landing::Error(error) => return Err(error),
                Landing::Again => {}
            }
        }
    }

    /// Whether the tier is likely to have nothing, and a reader waits for a load in any case: who may
    /// have a stale value at once must see it first.
    fn expects_nothing(&self, policy: &Policy) -> bool {
        policy.soft_timeout.is_none() && self.tier.is_far() && self.outlook.is_poor()
    }

    /// Begins a flight; the answer, when the shared tier has it, or a stale one will do.
    async fn set_off(
        self: &Arc<Self>,
        lead: Lead<V>,
        (key, name): (&str, &Arc<str>),
        policy: &Arc<Policy>,
        spare: &mut Spare<V>,
        load: Load<V>,
    ) -> Option<Arc<Held<V>>> {
        let errand = |lead: &Lead<V>| Errand::new(self, lead, Arc::clone(name), policy, load);
        if self.expects_nothing(policy) {
            let mut errand = errand(&lead);
            errand.start = Start::Opens;
            errand.stale.clone_from(&spare.stale);
            self.send(lead, errand);
            return None;
        }
        match self.lead(lead, key, name, spare).await {
            Led::Answer(held) => Some(held),
            Led::Load(lead, seen) => {
                let mut errand = errand(&lead);
                errand.seen = seen;
                self.send_off(lead, errand, spare)
            }
        }
    }

    /// Asks the shared tier, for all who follow.
    async fn lead(&self, lead: Lead<V>, key: &str, name: &str, spare: &mut Spare<V>) -> Led<V> {
        let found = self.find(name, lead.flight.start()).await;
        self.outlook.note(matches!(found, Found::Fresh(_)));
        let seen = match found {
            Found::Fresh(held) => {
                self.memory.keep(key, name, &held, &self.tier.view);
                self.tier_hit(key);
                lead.land(Outcome::Answer(Arc::clone(&held)));
                return Led::Answer(held);
            }
            Found::Stale(held, stamp) => {
                self.keep_stale(key, name, &held);
                if held.rests(self.clock.now_ms()) {
                    self.served_stale(key);
                    lead.land(Outcome::Answer(Arc::clone(&held)));
                    return Led::Answer(held);
                }
                // For those who follow, too: they do not look themselves.
                lead.flight.set_spare(Arc::clone(&held));
                spare.stale = Some(held);
                stamp
            }
            Found::Nothing(stamp) => stamp,
            Found::Unknown => Vec::new(),
        };
        Led::Load(lead, seen)
    }

    /// Keeps in memory what the tier has of a key past its end. A pause after a load of that very
    /// value goes on: memory may have had it and not been trusted any more.
    pub(super) fn keep_stale(&self, key: &str, name: &str, held: &Arc<Held<V>>) {
        if let Some(known) = self.memory.get(key)
            && known.stamp == held.stamp
        {
            held.rest_as(&known);
        }
        self.memory.keep(key, name, held, &self.tier.view);
    }

    /// Sends a load on its way; the answer, when a stale one will do meanwhile.
    fn send_off(
        &self,
        lead: Lead<V>,
        mut errand: Errand<V>,
        spare: &Spare<V>,
    ) -> Option<Arc<Held<V>>> {
        self.missed(&errand.rest.key);
        let at_once = errand.rest.policy.soft_timeout == Some(Duration::ZERO);
        let answer = spare.stale.clone().filter(|_| at_once);
        errand.stale = spare.stale.clone();
        errand.is_behind = answer.is_some();
        if answer.is_some() {
            self.served_stale(&errand.rest.key);
        }
        self.send(lead, errand);
        answer
    }

    /// A read was answered from memory.
    pub(crate) fn hit(&self, key: &str) {
        self.hit_by(&KeyText::Whole(key));
    }

    /// The same where the key's text was not looked at yet.
    pub(crate) fn hit_by(&self, text: &KeyText<'_>) {
        self.figures.memory_hits.one();
        self.traced("memory");
        self.event(|| Event::MemoryHit { key: text.as_str() });
    }

    pub(super) fn tier_hit(&self, key: &str) {
        self.figures.tier_hits.one();
        self.traced("tier");
        self.event(|| Event::TierHit { key });
    }

    pub(super) fn missed(&self, key: &str) {
        self.figures.misses.one();
        self.traced("miss");
        self.event(|| Event::Miss { key });
    }

    pub(super) fn served_stale(&self, key: &str) {
        self.figures.stale.one();
        self.traced("stale");
        self.event(|| Event::Stale { key });
    }

    /// For whoever follows every read. A comparison when nobody does.
    fn traced(&self, outcome: &'static str) {
        if LevelFilter::current() == LevelFilter::TRACE {
            self.trace(outcome);
        }
    }

    #[cold]
    fn trace(&self, outcome: &'static str) {
        tracing::trace!(cache.name = %self.cache, cache.outcome = outcome, "cache read");
    }

    /// Loads the next value behind the reader's back, unless somebody is at it.
    pub(crate) fn refresh(
        self: &Arc<Self>,
        key: &str,
        name: &str,
        policy: &Arc<Policy>,
        held: &Arc<Held<V>>,
        load: Load<V>,
    ) {
        if !held.may_refresh(self.clock.now_ms()) {
            return;
        }
        if let Seat::Lead(lead) = self.flights.join(key, name, &self.tier.view) {
            let mut errand = Errand::new(self, &lead, name.into(), policy, load);
            errand.stale = Some(Arc::clone(held));
            errand.is_behind = true;
            errand.start = Start::Looks;
            self.send(lead, errand);
        }
    }

    fn send(&self, lead: Lead<V>, errand: Errand<V>) {
        let span = tracing::debug_span!("cache load", cache.name = %self.cache);
        // In one place from the start: it is large, and would be moved by each that passes it on.
        let run = Box::pin(errand.run(lead));
        self.tasks.spawn("cache load", run.instrument(span));
    }

    /// Waits for a flight, as long as the policy says.
    pub(super) async fn ride(
        &self,
        (key, flight): (&str, &Flight<V>),
        joined: Moment,
        spare: &Spare<V>,
        policy: &Policy,
        waited: &Stopwatch,
    ) -> Landing<V> {
        let patience = match (&spare.stale, policy.soft_timeout) {
            (Some(_), Some(soft)) => soft.min(policy.hard_timeout),
            _ => policy.hard_timeout,
        };
        let left = patience.saturating_sub(waited.elapsed());
        let current = |held: &Held<V>| held.at >= joined || self.holds(held);
        let landed = async {
            tokio::select! {
                biased;
                landed = flight.landed() => Ok(landed),
                held = stand_in(flight, spare, policy, waited) => Err(held),
            }
        };
        let landed = match tokio::time::timeout(left, landed).await {
            Ok(Err(held)) if current(&held) => {
                self.served_stale(key);
                return Landing::Answer(held);
            }
            // Something changed since it was found: there is nothing but to wait.
            Ok(Err(_)) => {
                let left = patience.saturating_sub(waited.elapsed());
                tokio::time::timeout(left, flight.landed()).await
            }
            Ok(Ok(landed)) => Ok(landed),
            Err(late) => Err(late),
        };
        let error = match landed {
            Ok(Outcome::Answer(held)) => {
                return if current(&held) {
                    Landing::Answer(held)
                } else {
                    Landing::Again
                };
            }
            Ok(Outcome::GivenUp) => return Landing::Again,
            Ok(Outcome::Failed(error)) => error,
            Err(_) => Error::Timeout {
                waited_ms: waited.elapsed_ms(),
            },
        };
        let on_its_way = flight.spare().filter(|held| current(held));
        let stale = spare.stale.as_ref().or(on_its_way);
        match stale.or(spare.doubtful.as_ref()) {
            Some(held) => {
                self.served_stale(key);
                Landing::Answer(Arc::clone(held))
            }
            None => Landing::Error(error),
        }
    }

    /// Whether nothing was heard of a value since its load began. Its key was checked when the
    /// flight was joined; a value that was not kept may lack its tags, so nothing is known of it.
    fn holds(&self, held: &Held<V>) -> bool {
        let generations = &self.tier.view.generations;
        !held.tags.is_empty() && generations.tags_hold(&held.tags, held.at)
    }

    /// Asks the shared tier for a key.
    pub(crate) async fn find(&self, name: &str, at: Moment) -> Found<V> {
        let got = match self.tier.live() {
            Ok(Some(store)) => store.get(name).await,
            Ok(None) | Err(_) => return Found::Unknown,
        };
        match got {
            Ok(Some(bytes)) => self.judge(&bytes, at).await,
            Ok(None) => Found::Nothing(Vec::new()),
            Err(_) => {
                self.tier_failed();
                Found::Unknown
            }
        }
    }

    /// What an entry's bytes are worth that were asked for after `at`.
    pub(crate) async fn judge(&self, bytes: &[u8], at: Moment) -> Found<V> {
        let stamp = || stamp_of(bytes).to_vec();
        let Some(entry) = Entry::decode(bytes) else {
            return Found::Nothing(stamp());
        };
        if !self.tags_hold(&entry).await {
            return Found::Nothing(stamp());
        }
        let Some(held) = self.hold(&entry, at) else {
            return Found::Nothing(stamp());
        };
        match held.age(self.clock.now_ms(), crate::Early::Never) {
            Worth::Fresh | Worth::Due => Found::Fresh(Arc::new(held)),
            Worth::Stale => Found::Stale(Arc::new(held), stamp()),
            Worth::Doubtful | Worth::Dead => Found::Nothing(stamp()),
        }
    }
}

/// What was found past its end on the way of a flight, once its reader has waited for a fresh value as
/// long as the policy says; never for a reader who has one of its own, and waits no longer anyway.
async fn stand_in<V>(
    flight: &Flight<V>,
    spare: &Spare<V>,
    policy: &Policy,
    waited: &Stopwatch,
) -> Arc<Held<V>> {
    let (None, Some(soft)) = (&spare.stale, policy.soft_timeout) else {
        return std::future::pending().await;
    };
    let held = flight.spared().await;
    tokio::time::sleep(soft.saturating_sub(waited.elapsed())).await;
    held
}
