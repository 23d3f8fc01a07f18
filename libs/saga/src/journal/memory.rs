//! A store in memory: for tests, for sagas that need not survive their process, and the plainest
//! statement of what every store does.
//!
//! Clones share what they keep, so that several engines can work on one store and take each
//! other's sagas over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{FollowUp, Timestamp};

use super::store::{
    Adopted, Append, Count, Entry, Filter, Head, HeadChange, Letter, NewSaga, Owner, Posted, Store,
    Stored, Wake, Written,
};
use crate::time::after;
use crate::{Error, Kind, Outline, Record, Result, SagaId, Status, Time};

/// Keeps sagas in memory. Cheap to clone; clones share.
#[derive(Clone)]
pub struct MemoryStore {
    time: Time,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    processes: BTreeMap<i64, Process>,
    epochs: i64,
    sagas: BTreeMap<SagaId, Kept>,
    keys: HashMap<(Arc<str>, String), SagaId>,
    sent: Vec<FollowUp>,
    commits: u64,
    /// In the order in which they were described first.
    outlines: Vec<Outline>,
}

struct Process {
    ends_at: Timestamp,
    fenced: bool,
}

struct Kept {
    head: Head,
    records: Vec<Record>,
    letters: Vec<(Letter, HashSet<i64>)>,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store that judges leases by this time.
    pub fn new(time: Time) -> Self {
        Self {
            time,
            state: Arc::default(),
        }
    }

    /// The messages that appends carried, in order.
    pub fn sent(&self) -> Vec<FollowUp> {
        self.lock().sent.clone()
    }

    /// Batches that were written.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Lets a lease end now, as if its holder had stood still for its length.
    pub fn expire(&self, owner: Owner) {
        if let Some(process) = self.lock().processes.get_mut(&owner.epoch) {
            process.ends_at = Timestamp::UNIX_EPOCH;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The state, for a call under a membership that nobody fenced.
    fn lock_as(&self, owner: Owner) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        match state.processes.get(&owner.epoch) {
            Some(process) if !process.fenced => Ok(state),
            Some(_) | None => Err(Error::Fenced),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn join(&self, _process: &str, lease: Duration) -> Result<Owner> {
        let ends_at = after(self.time.now(), lease);
        let mut state = self.lock();
        state.epochs += 1;
        let epoch = state.epochs;
        let process = Process {
            ends_at,
            fenced: false,
        };
        state.processes.insert(epoch, process);
        Ok(Owner { epoch })
    }

    async fn renew(&self, owner: Owner, lease: Duration) -> Result<()> {
        let ends_at = after(self.time.now(), lease);
        let mut state = self.lock_as(owner)?;
        if let Some(process) = state.processes.get_mut(&owner.epoch) {
            process.ends_at = ends_at;
        }
        Ok(())
    }

    async fn leave(&self, owner: Owner) -> Result<()> {
        if let Some(process) = self.lock().processes.get_mut(&owner.epoch) {
            process.fenced = true;
        }
        Ok(())
    }

    async fn write(&self, owner: Owner, batch: &[&Entry]) -> Result<Vec<Written>> {
        let mut state = self.lock_as(owner)?;
        state.commits += 1;
        let answers = batch.iter().map(|entry| match entry {
            Entry::Start(new) => state.start(owner, new),
            Entry::Append(append) => state.append(owner, append),
        });
        Ok(answers.collect())
    }

    async fn adopt(&self, owner: Owner, limit: usize) -> Result<Adopted> {
        let now = self.time.now();
        let mut state = self.lock_as(owner)?;
        for (epoch, process) in &mut state.processes {
            process.fenced |= process.ends_at < now && *epoch != owner.epoch;
        }
        Ok(state.adopt(owner, limit))
    }

    async fn claim(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        let mut state = self.lock_as(owner)?;
        let Some(kept) = state.sagas.get(&saga) else {
            return Ok(false);
        };
        let is_free = kept.head.status.is_end() || state.is_orphan(&kept.head);
        let is_own = kept.head.owner == Some(owner);
        if is_free && let Some(kept) = state.sagas.get_mut(&saga) {
            kept.head.owner = Some(owner);
        }
        Ok(is_free || is_own)
    }

    async fn take_parked(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        let mut state = self.lock_as(owner)?;
        let Some(kept) = state.sagas.get_mut(&saga) else {
            return Ok(false);
        };
        let is_parked = kept.head.status == Status::Parked
            && kept
                .records
                .last()
                .is_some_and(|it| it.kind == Kind::Parked);
        if is_parked {
            kept.head.owner = Some(owner);
        }
        Ok(is_parked)
    }

    async fn due(&self, owner: Owner, until: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        let state = self.lock_as(owner)?;
        let mut due: Vec<(Timestamp, SagaId)> = state
            .sagas
            .values()
            .filter(|it| it.head.owner == Some(owner) && !it.head.status.is_end())
            .filter_map(|it| match it.head.wake {
                Wake::At(time) if time <= until => Some((time, it.head.id)),
                Wake::At(_) | Wake::Live | Wake::Letter => None,
            })
            .collect();
        due.sort_unstable();
        Ok(due.into_iter().take(limit).map(|(_, id)| id).collect())
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Stored>> {
        let state = self.lock();
        let stored = sagas.iter().filter_map(|id| state.sagas.get(id));
        Ok(stored.map(Kept::stored).collect())
    }

    async fn post(&self, letter: &Letter) -> Result<Posted> {
        let mut state = self.lock();
        let Some(kept) = state.sagas.get_mut(&letter.saga) else {
            return Ok(Posted::NoSuchSaga);
        };
        if kept.letters.iter().all(|(it, _)| it.id != letter.id) {
            kept.letters.push((letter.clone(), HashSet::new()));
            kept.letters.sort_by_key(|(it, _)| it.at);
        }
        Ok(Posted::Kept)
    }

    async fn mail(&self, owner: Owner, limit: usize) -> Result<Vec<Letter>> {
        let mut state = self.lock_as(owner)?;
        let own = state
            .sagas
            .values_mut()
            .filter(|it| it.head.owner == Some(owner));
        let mut fresh: Vec<_> = own
            .flat_map(|it| it.letters.iter_mut())
            .filter(|(_, handed)| !handed.contains(&owner.epoch))
            .collect();
        fresh.sort_by_key(|(letter, _)| letter.at);
        let handed = fresh.into_iter().take(limit).map(|(letter, handed)| {
            handed.insert(owner.epoch);
            letter.clone()
        });
        Ok(handed.collect())
    }

    async fn find(&self, definition: &str, key: &str) -> Result<Option<SagaId>> {
        let key = (Arc::from(definition), key.to_owned());
        Ok(self.lock().keys.get(&key).copied())
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Head>> {
        let state = self.lock();
        let fitting = state.sagas.values().map(|it| &it.head);
        let fitting = fitting.filter(|head| fits(filter, head));
        Ok(fitting.take(filter.limit).cloned().collect())
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        let state = self.lock();
        let mut counts: BTreeMap<(&str, Status), u64> = BTreeMap::new();
        for kept in state.sagas.values() {
            let head = &kept.head;
            *counts.entry((&head.definition, head.status)).or_default() += 1;
        }
        let count = |((definition, status), sagas): ((&str, Status), u64)| Count {
            definition: definition.to_owned(),
            status,
            sagas,
        };
        Ok(counts.into_iter().map(count).collect())
    }

    async fn ended(&self, before: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        let state = self.lock();
        let heads = state.sagas.values().map(|it| &it.head);
        let mut ended: Vec<_> = heads
            .filter_map(|head| head.ended_at.map(|at| (at, head.id)))
            .filter(|(at, _)| *at < before)
            .collect();
        ended.sort_unstable();
        Ok(ended.into_iter().take(limit).map(|(_, id)| id).collect())
    }

    async fn delete(&self, sagas: &[SagaId]) -> Result<u64> {
        let mut state = self.lock();
        let mut deleted = 0;
        for id in sagas {
            let has_ended = state.sagas.get(id).map(|it| it.head.status.is_end());
            if has_ended != Some(true) {
                continue;
            }
            if let Some(kept) = state.sagas.remove(id) {
                deleted += 1;
                if let Some(key) = kept.head.key {
                    state.keys.remove(&(kept.head.definition, key));
                }
            }
        }
        Ok(deleted)
    }

    async fn describe(&self, outlines: &[Outline]) -> Result<()> {
        let mut state = self.lock();
        for new in outlines {
            let is_same = |it: &&mut Outline| it.name() == new.name() && it.hash() == new.hash();
            match state.outlines.iter_mut().find(is_same) {
                Some(old) => old.clone_from(new),
                None => state.outlines.push(new.clone()),
            }
        }
        Ok(())
    }

    async fn outline(&self, name: &str, hash: &str) -> Result<Option<Outline>> {
        let state = self.lock();
        let mut outlines = state.outlines.iter();
        let found = outlines.find(|it| it.name() == name && it.hash() == hash);
        Ok(found.cloned())
    }

    async fn outlines(&self, name: Option<&str>, limit: usize) -> Result<Vec<Outline>> {
        let state = self.lock();
        let newest = state.outlines.iter().rev();
        let fitting = newest.filter(|it| name.is_none_or(|name| it.name() == name));
        Ok(fitting.take(limit).cloned().collect())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

// === impl State ===

impl State {
    fn is_orphan(&self, head: &Head) -> bool {
        let process = head.owner.and_then(|it| self.processes.get(&it.epoch));
        process.is_none_or(|it| it.fenced)
    }

    fn start(&mut self, owner: Owner, new: &NewSaga) -> Written {
        if self.sagas.contains_key(&new.id) {
            return Written::Kept;
        }
        if let Some(key) = &new.key {
            let key = (Arc::clone(&new.definition), key.clone());
            if let Some(other) = self.keys.get(&key) {
                return Written::Exists(*other);
            }
            self.keys.insert(key, new.id);
        }
        self.sagas.insert(new.id, Kept::new(owner, new));
        Written::Kept
    }

    fn append(&mut self, owner: Owner, append: &Append) -> Written {
        let Some(kept) = self.sagas.get_mut(&append.saga) else {
            return Written::NotYours;
        };
        if kept.head.owner != Some(owner) {
            return Written::NotYours;
        }
        let known = |seq: u32| kept.records.iter().any(|it| it.seq == seq);
        let is_repetition = append.records.first().is_some_and(|it| known(it.seq));
        if is_repetition {
            return Written::Kept;
        }
        kept.records.extend(append.records.iter().cloned());
        kept.letters
            .retain(|(it, _)| !append.letters.contains(&it.id));
        if let Some(change) = &append.head {
            kept.change(change);
        }
        self.sent.extend(append.follow_ups.iter().cloned());
        Written::Kept
    }

    fn adopt(&mut self, owner: Owner, limit: usize) -> Adopted {
        let orphans: Vec<SagaId> = self
            .sagas
            .values()
            .filter(|it| !it.head.status.is_end() || !it.letters.is_empty())
            .filter(|it| self.is_orphan(&it.head))
            .map(|it| it.head.id)
            .take(limit + 1)
            .collect();
        let mut adopted = Adopted {
            more: orphans.len() > limit,
            ..Adopted::default()
        };
        for id in orphans.into_iter().take(limit) {
            if let Some(kept) = self.sagas.get_mut(&id) {
                kept.head.owner = Some(owner);
                adopted.sagas += 1;
                if kept.head.wake == Wake::Live || kept.head.status.is_end() {
                    adopted.live.push(id);
                }
            }
        }
        adopted
    }
}

// === impl Kept ===

impl Kept {
    fn new(owner: Owner, new: &NewSaga) -> Self {
        let head = Head {
            id: new.id,
            definition: Arc::clone(&new.definition),
            version: new.version,
            hash: Arc::clone(&new.hash),
            key: new.key.clone(),
            parent: new.parent.clone(),
            input: new.input.clone(),
            status: new.status,
            wake: Wake::Live,
            error: None,
            output: None,
            owner: Some(owner),
            created_at: new.created_at,
            updated_at: new.created_at,
            ended_at: None,
        };
        Self {
            head,
            records: new.records.clone(),
            letters: Vec::new(),
        }
    }

    fn change(&mut self, change: &HeadChange) {
        let head = &mut self.head;
        head.status = change.status;
        head.wake = change.wake;
        head.updated_at = change.at;
        head.ended_at = change.status.is_end().then_some(change.at);
        if head.error.is_none() {
            head.error.clone_from(&change.error);
        }
        if change.output.is_some() {
            head.output.clone_from(&change.output);
        }
        if change.status.is_end() {
            self.letters.clear();
        }
    }

    fn stored(&self) -> Stored {
        Stored {
            head: self.head.clone(),
            records: self.records.clone(),
            letters: self.letters.iter().map(|(it, _)| it.clone()).collect(),
        }
    }
}

pub(super) fn fits(filter: &Filter, head: &Head) -> bool {
    let is = |want: &Option<String>, have: Option<&str>| want.is_none() || want.as_deref() == have;
    let parent = head.parent.as_ref().map(|it| it.saga);
    is(&filter.definition, Some(&head.definition))
        && is(&filter.key, head.key.as_deref())
        && (filter.statuses.is_empty() || filter.statuses.contains(&head.status))
        && (filter.parent.is_none() || filter.parent == parent)
        && filter
            .created_from
            .is_none_or(|from| head.created_at >= from)
        && filter
            .created_before
            .is_none_or(|before| head.created_at < before)
        && filter.after.is_none_or(|after| head.id > after)
}
