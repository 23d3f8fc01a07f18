//! The log in memory: for tests, simulations and processes that need no durability.
//!
//! Time comes from a [`Clock`], so a test moves it by hand. Nothing survives the process.

mod admin;
mod backlog;
mod delivery;
mod failed;
mod firings;
mod limits;
mod ownership;
mod rooms;
mod state;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, Timestamp};
use tokio::sync::Notify;

use crate::entry::owned_fields;
use crate::{
    Append, ClaimScope, Claimed, Entry, EntryId, Error, Keep, Lane, LaneQuota, Log, Settlement,
    StreamName, Subscription, Tail, Wait,
};
use state::State;

/// A log in memory.
pub struct MemoryLog {
    clock: Clock,
    state: Mutex<State>,
    appended: Notify,
    /// The last moment of each job of each stream.
    firings: tokio::sync::Mutex<HashMap<(StreamName, String), Timestamp>>,
}

// === impl MemoryLog ===

impl MemoryLog {
    /// An empty log on this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            appended: Notify::new(),
            firings: tokio::sync::Mutex::default(),
        }
    }

    /// Removes a stream with its groups, as a server does that lost its data.
    pub fn lose_stream(&self, stream: &StreamName) {
        self.state().streams.remove(stream);
    }

    /// Removes one entry, as someone does who trims without looking.
    pub fn lose_entry(&self, stream: &StreamName, id: EntryId) {
        self.state().lose_entry(stream, id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_ms()).unwrap_or(0)
    }

    /// Tries until there is something, an append later at most, or until `wait` is over.
    async fn wait_for<T>(
        &self,
        wait: Duration,
        mut attempt: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let search = async {
            loop {
                let appended = self.appended.notified();
                tokio::pin!(appended);
                appended.as_mut().enable();
                if let Some(found) = attempt()? {
                    return Ok(Some(found));
                }
                if wait.is_zero() {
                    return Ok(None);
                }
                appended.await;
            }
        };
        if wait.is_zero() {
            return search.await;
        }
        tokio::time::timeout(wait, search).await.unwrap_or(Ok(None))
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let append = |append: &Append| {
            let stream = state.stream_mut(&append.stream);
            let id = stream.push(now_ms, owned_fields(append));
            if let Keep::About(max_len) = append.keep {
                stream.cut_to(max_len);
            }
            Ok(id)
        };
        let ids = entries.iter().map(append).collect();
        drop(state);
        self.appended.notify_waiters();
        ids
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        let mut state = self.state();
        for (_, stream) in sub.lanes.iter() {
            state
                .stream_mut(stream)
                .groups
                .entry(sub.group.clone())
                .or_default();
        }
        Ok(())
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        let read = || {
            let now_ms = self.now_ms();
            let mut state = self.state();
            let mut entries = Vec::new();
            for quota in quotas {
                entries.extend(state.read(sub, *quota, now_ms)?);
            }
            Ok((!entries.is_empty()).then_some(entries))
        };
        Ok(self.wait_for(wait.time(), read).await?.unwrap_or_default())
    }

    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        match scope {
            ClaimScope::Idle(idle) => state.claim_idle(sub, lane, cursor, idle, max, now_ms),
            ClaimScope::Own { except } => {
                let wanted = |id: &EntryId| !except.contains(id);
                state.claim_own(sub, lane, wanted, max, now_ms)
            }
            ClaimScope::These(ids) => {
                state.claim_own(sub, lane, |id| ids.contains(id), max, now_ms)
            }
        }
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let lost = held
            .iter()
            .filter(|(lane, id)| !state.touch(sub, *lane, *id, now_ms));
        Ok(lost.copied().collect())
    }

    async fn settle(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        for settlement in settlements {
            state.settle(sub, settlement, now_ms)?;
        }
        Ok(())
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        let now_ms = self.now_ms();
        let promoted = self.state().promote(sub, max, now_ms);
        if promoted > 0 {
            self.appended.notify_waiters();
        }
        Ok(promoted)
    }

    async fn tail(
        &self,
        stream: &StreamName,
        after: Option<EntryId>,
        max: usize,
        wait: Duration,
    ) -> Result<Tail, Error> {
        let after = after.unwrap_or_else(|| self.state().last_id(stream));
        let look = || {
            let entries = self.state().range(stream, after.next(), max);
            Ok((!entries.is_empty()).then_some(entries))
        };
        let entries = self.wait_for(wait, look).await?.unwrap_or_default();
        let next = entries.last().map_or(after, |entry| entry.id);
        Ok(Tail { entries, next })
    }
}
