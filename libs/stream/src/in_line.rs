//! What ordered keys change about settling, fetching and handing back; the lines themselves are in
//! `key_order`.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::gate::Gate;
use crate::held::Key;
use crate::key_order::Lines;
use crate::retry::{retry_fields, snooze_fields};
use crate::shared::Shared;
use crate::{ClaimScope, Entry, Error, HandTo, Settlement, stats};

// === impl Shared ===

impl Shared {
    /// Acknowledges what is done. What failed stays pending in its place and comes again with its
    /// attempt raised; nothing of its key passes it.
    pub(crate) async fn settle_in_line(
        &self,
        lines: &Lines,
        done: &[Key],
        retried: Vec<(Entry, Duration)>,
        snoozed: Vec<(Entry, Duration)>,
    ) {
        let ack = |(lane, id): &Key| Settlement::Ack {
            lane: *lane,
            id: *id,
        };
        let acks: Vec<_> = done.iter().map(ack).collect();
        if self.settle(&acks).await {
            stats::count(stats::ACKED, self.base(), done.len());
        }
        self.held.remove(done.iter().copied());
        self.forget_failures(done.iter().copied()).await;
        lines.finish(done.iter().copied());
        stats::count(stats::RETRIED, self.base(), retried.len());
        stats::count(stats::SNOOZED, self.base(), snoozed.len());
        let (failed_at, now) = (self.clock.now(), self.clock.steady());
        let due = |wait: Duration| now.saturating_add(wait).unwrap_or(now);
        let (mut again, mut waits) = (Vec::new(), Vec::new());
        for (mut entry, wait) in retried {
            entry.fields = retry_fields(&entry, &self.sub.group, failed_at);
            again.push(entry);
            waits.push(wait);
        }
        for (mut entry, wait) in snoozed {
            entry.fields = snooze_fields(&entry, &self.sub.group);
            again.push(entry);
            waits.push(wait);
        }
        // First kept, then offered again: whoever owns it next must know of this attempt.
        self.keep_failures(&again).await;
        for (entry, wait) in again.into_iter().zip(waits) {
            lines.again(entry, due(wait));
        }
    }

    /// What a handler does not want now: another consumer may have it, but where keys are ordered
    /// there is no other, so it comes again after the shortest wait.
    pub(crate) async fn let_go(&self, released: Vec<Entry>) {
        let Some(lines) = self.lines() else {
            return self.release(released, HandTo::Claims).await;
        };
        let now = self.clock.steady();
        let due = now.saturating_add(self.policy.retry_backoff.first);
        let due = due.unwrap_or(now);
        for entry in released {
            lines.again(entry, due);
        }
    }

    /// Gets entries of ours back by their ids, which counts as a delivery. Those that
    /// vanished are told and finished.
    pub(crate) async fn fetch(&self, lines: &Lines, keys: &[Key]) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::with_capacity(keys.len());
        for (fetched, (lane, id)) in keys.iter().enumerate() {
            let scope = ClaimScope::Idle(Duration::ZERO);
            let claimed = self.log.claim(&self.sub, *lane, *id, scope, 1).await;
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(error) => {
                    lines.fetch_later(keys.iter().skip(fetched).copied());
                    return if entries.is_empty() {
                        Err(error)
                    } else {
                        Ok(entries)
                    };
                }
            };
            self.tell_vanished(*lane, &claimed.vanished).await;
            let found = claimed.entries.into_iter().find(|entry| entry.id == *id);
            match found {
                Some(entry) => entries.push(entry),
                None => lines.finish([(*lane, *id)]),
            }
        }
        self.recall_failures(&mut entries);
        self.held.add(&entries);
        Ok(entries)
    }

    /// Gets back what a handler dropped.
    pub(crate) async fn recover_in_line(
        &self,
        lines: &Lines,
        wanted: &HashSet<Key>,
    ) -> Result<Vec<Entry>, Error> {
        let mut keys: Vec<Key> = wanted.iter().copied().collect();
        keys.sort_unstable_by_key(|(lane, id)| (lane.index(), *id));
        self.fetch(lines, &keys).await
    }

    /// Whether entries wait here for others or for a limit.
    pub(crate) fn has_waiting(&self) -> bool {
        let in_line = self.lines().is_some_and(Lines::is_waiting);
        in_line || self.gate.as_ref().is_some_and(Gate::is_waiting)
    }

    /// What is to be handed back at the end: what waits here, too.
    pub(crate) fn drain_waiting(&self, queue: &mut VecDeque<Entry>) {
        if let Some(gate) = &self.gate {
            queue.extend(gate.drain());
        }
        if let Some(lines) = self.lines() {
            let waiting = lines.drain();
            queue.extend(waiting.into_iter().filter(|entry| self.held.has(entry)));
        }
    }
}
