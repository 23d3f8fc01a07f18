//! The gate before the handler: what is over a limit waits here, held and unharmed.
//!
//! A batch that is about to start leases permits for what its rules ask, in one call. What gets
//! none waits aside by its scopes, in order, and is offered again when the limit may allow it; it
//! uses up no attempt and blocks nothing of other scopes. Without rules a batch passes untouched.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ratebox_kit::{Causes, Stopwatch, Timestamp};
use tokio::sync::Notify;

use crate::held::{Key, key};
use crate::limits::{Ask, AtWork, Limits, Permits, Rate, Rules, Scope};
use crate::shared::Shared;
use crate::{Entry, Subscription, field, stats};

/// Entries that wait aside in one consumer. Beyond it, nothing fresh is read.
const ASIDE_MAX: usize = 10_000;

/// How long entries wait aside when the limits cannot be asked.
const UNKNOWN_WAIT: Duration = Duration::from_millis(200);

/// How long no more of a scope are let out to ask while some are on their way.
const ASKING_WAIT: Duration = Duration::from_millis(50);

pub(crate) struct Gate {
    limits: Arc<dyn Limits>,
    /// The stream that the rules are about, and this consumer under a name of its own.
    sub: Subscription,
    /// One call at a time, so that what is told to be at work is true.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// As of the last look; what holds is decided where permits are leased.
    rules: Rules,
    at_work: AtWork,
    aside: BTreeMap<Vec<Scope>, Aside>,
    count: usize,
    /// The limit of the whole stream is used up until then.
    closed_until: Option<Timestamp>,
}

struct Aside {
    due: Timestamp,
    entries: VecDeque<Entry>,
    /// Those of them that were let out to ask again, and are older than the rest.
    asking: HashSet<Key>,
}

/// What may start, and the permits to be at work that go back when it ended.
pub(crate) struct Passed {
    pub(crate) batch: Vec<Entry>,
    at_work: AtWork,
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(limits: Arc<dyn Limits>, sub: Subscription) -> Self {
        Self {
            limits,
            sub,
            turn: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Looks which rules there are.
    pub(crate) async fn refresh(&self, shared: &Shared) {
        match self.limits.rules(&self.sub).await {
            Ok(rules) => self.state().rules = rules,
            Err(error) => {
                stats::failed(shared.base(), "rules");
                tracing::debug!(stream = %shared.base(), "the rules stay as they were: {error}");
            }
        }
    }

    /// Lets of a batch pass what gets permits, and puts the rest aside.
    pub(crate) async fn pass(&self, shared: &Shared, batch: Vec<Entry>) -> Passed {
        if self.state().is_open() {
            let at_work = AtWork::new();
            return Passed { batch, at_work };
        }
        let _turn = self.turn.lock().await;
        let now = shared.clock.steady();
        let (mut free, mut groups) = self.state().sort(batch, now);
        if !groups.is_empty() {
            let ask = |(scopes, entries): &(Vec<Scope>, VecDeque<Entry>)| Ask {
                scopes: scopes.clone(),
                count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            };
            let asks: Vec<Ask> = groups.iter().map(ask).collect();
            let lease = shared.policy.claim_idle;
            let told = self.state().told(&asks);
            let watch = Stopwatch::start();
            let answer = self.limits.acquire(&self.sub, &asks, &told, lease).await;
            let mut permits = answer.unwrap_or_else(|error| {
                stats::failed(shared.base(), "permits");
                tracing::warn!(stream = %shared.base(), error = %Causes(&error), "no permits for now");
                let none = Permits {
                    granted: 0,
                    wait: UNKNOWN_WAIT,
                    limited_by: None,
                };
                vec![none; asks.len()]
            });
            self.state().void_late(&asks, &mut permits, watch.elapsed());
            let at_work = self.state().settle(&mut groups, &permits, &mut free, now);
            return Passed {
                batch: free,
                at_work,
            };
        }
        Passed {
            batch: free,
            at_work: AtWork::new(),
        }
    }

    /// What passed has ended: others may begin.
    pub(crate) async fn ended(&self, shared: &Shared, at_work: AtWork) {
        if at_work.is_empty() {
            return;
        }
        let _turn = self.turn.lock().await;
        let now = shared.clock.steady();
        let left = self.state().end(&at_work, now);
        self.tell(shared, &left).await;
        self.changed.notify_one();
    }

    /// The heartbeat: what is at work here still is.
    pub(crate) async fn renew(&self, shared: &Shared) {
        let at_work = self.state().at_work.clone();
        if !at_work.is_empty() {
            let _turn = self.turn.lock().await;
            let at_work = self.state().at_work.clone();
            self.tell(shared, &at_work).await;
        }
    }

    /// A failure is no harm: permits that are not told back end with their lease.
    async fn tell(&self, shared: &Shared, at_work: &AtWork) {
        let lease = shared.policy.claim_idle;
        if let Err(error) = self.limits.renew(&self.sub, at_work, lease).await {
            stats::failed(shared.base(), "permits");
            tracing::debug!(stream = %shared.base(), "permits are not told back: {error}");
        }
    }

    /// What may be tried again, oldest of each scope first, at most `max`.
    pub(crate) fn due(&self, now: Timestamp, max: usize) -> Vec<Entry> {
        let mut state = self.state();
        let mut due = Vec::new();
        if state.count == 0 {
            return due;
        }
        let later = now.saturating_add(ASKING_WAIT).unwrap_or(now);
        // One whose entries were all let out and did not come back is nobody's any more.
        state
            .aside
            .retain(|_, aside| aside.due > now || !aside.entries.is_empty());
        for aside in state.aside.values_mut().filter(|aside| aside.due <= now) {
            let room = max.saturating_sub(due.len()).min(aside.entries.len());
            if room > 0 {
                aside.due = later;
            }
            for entry in aside.entries.drain(..room) {
                aside.asking.insert(key(&entry));
                due.push(entry);
            }
        }
        state.count -= due.len();
        due
    }

    /// Whether fresh entries may be read.
    pub(crate) fn may_read(&self, now: Timestamp) -> bool {
        let state = self.state();
        state.count < ASIDE_MAX && state.closed_until.is_none_or(|until| until <= now)
    }

    /// Whether somebody waits aside, so that a reader should not sleep long.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state().count > 0
    }

    /// Entries that wait aside, for the metric.
    pub(crate) fn waiting(&self) -> usize {
        self.state().count
    }

    /// Owners of whom at least `count` entries wait aside: more of them help nobody.
    pub(crate) fn owners_waiting(&self, count: usize) -> Vec<String> {
        let state = self.state();
        let many = state
            .aside
            .iter()
            .filter(|(_, aside)| aside.entries.len() >= count);
        let owners = many.flat_map(|(scopes, _)| scopes.iter().filter_map(Scope::as_owner));
        owners.map(str::to_owned).collect()
    }

    /// Waits until something ended here.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Everything that waits aside, to be handed back.
    pub(crate) fn drain(&self) -> Vec<Entry> {
        let mut state = self.state();
        let aside = std::mem::take(&mut state.aside);
        state.count = 0;
        aside
            .into_values()
            .flat_map(|aside| aside.entries)
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_open(&self) -> bool {
        self.rules.is_empty() && self.count == 0 && self.at_work.is_empty()
    }

    /// The scopes of an entry that have a rule.
    fn scopes(&self, entry: &Entry) -> Vec<Scope> {
        let named = |name: &str, scope: fn(&str) -> Scope| {
            let value = std::str::from_utf8(entry.field(name)?).ok()?;
            Some(scope(value)).filter(|_| !value.is_empty())
        };
        let all = Some(Scope::all());
        let owner = named(field::OWNER, Scope::owner);
        let key = named(field::KEY, Scope::key);
        let scopes = [all, owner, key].into_iter().flatten();
        let has_rule = |scope: &Scope| {
            let of_kind = scope
                .kind()
                .is_some_and(|kind| self.rules.contains_key(&kind));
            of_kind || self.rules.contains_key(scope)
        };
        scopes.filter(has_rule).collect()
    }

    /// What no rule is about, and the rest by scopes. Nobody passes those who wait already.
    #[expect(clippy::type_complexity, reason = "a pair of lists")]
    fn sort(
        &mut self,
        batch: Vec<Entry>,
        now: Timestamp,
    ) -> (Vec<Entry>, Vec<(Vec<Scope>, VecDeque<Entry>)>) {
        let (mut free, mut groups) = (Vec::with_capacity(batch.len()), BTreeMap::new());
        let closed = self.closed_until.filter(|until| *until > now);
        for entry in batch {
            let scopes = self.scopes(&entry);
            if scopes.is_empty() {
                free.push(entry);
                continue;
            }
            let is_closed = closed.filter(|_| scopes.contains(&Scope::all()));
            let asks_again = self
                .aside
                .get_mut(&scopes)
                .map(|aside| aside.asking.remove(&key(&entry)));
            if asks_again == Some(false) || (asks_again.is_none() && is_closed.is_some()) {
                let due = is_closed.unwrap_or(now);
                self.aside(scopes, due).entries.push_back(entry);
                self.count += 1;
            } else {
                let group: &mut VecDeque<Entry> = groups.entry(scopes).or_default();
                group.push_back(entry);
            }
        }
        (free, groups.into_iter().collect())
    }

    /// What is at work here, under the scopes that are asked for.
    fn told(&self, asks: &[Ask]) -> AtWork {
        let scopes = asks.iter().flat_map(|ask| &ask.scopes);
        let capped = scopes.filter(|scope| scope.rule(&self.rules).at_work.is_some());
        let count = |scope: &Scope| self.at_work.get(scope).copied().unwrap_or(0);
        capped.map(|scope| (scope.clone(), count(scope))).collect()
    }

    /// Lets go what was granted, and puts the rest aside.
    fn settle(
        &mut self,
        groups: &mut Vec<(Vec<Scope>, VecDeque<Entry>)>,
        permits: &[Permits],
        free: &mut Vec<Entry>,
        now: Timestamp,
    ) -> AtWork {
        let mut begun = AtWork::new();
        for ((scopes, mut entries), permit) in groups.drain(..).zip(permits) {
            let granted = entries.len().min(permit.granted as usize);
            free.extend(entries.drain(..granted));
            let count = u32::try_from(granted).unwrap_or(u32::MAX);
            for scope in scopes.iter().filter(|_| count > 0) {
                if scope.rule(&self.rules).at_work.is_some() {
                    *begun.entry(scope.clone()).or_default() += count;
                    *self.at_work.entry(scope.clone()).or_default() += count;
                }
            }
            if entries.is_empty() {
                let is_over = |aside: &Aside| aside.entries.is_empty() && aside.asking.is_empty();
                if self.aside.get(&scopes).is_some_and(is_over) {
                    self.aside.remove(&scopes);
                }
                continue;
            }
            let due = now.saturating_add(permit.wait).unwrap_or(now);
            let limit = permit.limited_by.and_then(|place| scopes.get(place));
            if limit == Some(&Scope::all()) {
                self.closed_until = Some(due);
            }
            self.count += entries.len();
            let aside = self.aside(scopes, due);
            aside.due = due;
            while let Some(entry) = entries.pop_back() {
                aside.entries.push_front(entry);
            }
        }
        begun
    }

    fn aside(&mut self, scopes: Vec<Scope>, due: Timestamp) -> &mut Aside {
        self.aside.entry(scopes).or_insert_with(|| Aside {
            due,
            entries: VecDeque::new(),
            asking: HashSet::new(),
        })
    }

    /// Permits of a rate that were too long on their way are void.
    fn void_late(&self, asks: &[Ask], permits: &mut [Permits], took: Duration) {
        for (ask, permit) in asks.iter().zip(permits) {
            let rates = ask.scopes.iter().filter_map(|it| it.rule(&self.rules).rate);
            let is_late = rates
                .map(Rate::validity)
                .min()
                .is_some_and(|valid| took > valid);
            if is_late && permit.granted > 0 {
                (permit.granted, permit.wait) = (0, permit.wait.max(UNKNOWN_WAIT));
            }
        }
    }

    /// Takes off what ended; returns what is left under those scopes.
    fn end(&mut self, ended: &AtWork, now: Timestamp) -> AtWork {
        let mut left = AtWork::new();
        for (scope, count) in ended {
            let at_work = self.at_work.entry(scope.clone()).or_default();
            *at_work = at_work.saturating_sub(*count);
            left.insert(scope.clone(), *at_work);
            if *at_work == 0 {
                self.at_work.remove(scope);
            }
            if *scope == Scope::all() {
                self.closed_until = None;
            }
        }
        for (scopes, aside) in &mut self.aside {
            // Only those that may go on because something ended here.
            let only_caps = scopes
                .iter()
                .all(|scope| scope.rule(&self.rules).rate.is_none());
            if only_caps && scopes.iter().any(|scope| ended.contains_key(scope)) {
                aside.due = now;
            }
        }
        left
    }
}

// === impl Passed ===

impl Passed {
    /// The batch, and what is to be told when it ended.
    pub(crate) fn split(self) -> (Vec<Entry>, AtWork) {
        (self.batch, self.at_work)
    }
}
