//! What no handler is to see: entries of other groups, too large ones, late ones, cancelled ones.

use std::collections::VecDeque;

use super::Inflow;
use crate::dead_letter::Doomed;
use crate::held::{Key, key};
use crate::policy::{Expired, FIELDS_MAX};
use crate::shared::Shared;
use crate::{Entry, Settlement, stats};

// === impl Inflow ===

impl Inflow {
    /// Takes out of the queue what no handler is to see: what came too late or was cancelled.
    pub(super) async fn sort_out(&mut self, shared: &Shared) {
        let orders = shared.orders();
        let cancels = |entry: &Entry| {
            orders
                .as_ref()
                .is_some_and(|orders| shared.is_cancelled(orders, entry))
        };
        let now_ms = shared.clock.now_ms();
        let expires = |entry: &Entry| shared.is_expired(entry, now_ms);
        if !self
            .queue
            .iter()
            .any(|entry| expires(entry) || cancels(entry))
        {
            return;
        }
        let mut dropped = Vec::new();
        for entry in std::mem::take(&mut self.queue) {
            if cancels(&entry) {
                self.doomed.push(Doomed::cancelled(entry));
            } else if !expires(&entry) {
                self.queue.push_back(entry);
            } else {
                stats::count(stats::EXPIRED, shared.base(), 1);
                match shared.policy.expired {
                    Expired::Drop => dropped.push(key(&entry)),
                    Expired::Bury | Expired::Offer => self.doomed.push(Doomed::expired(entry)),
                }
            }
        }
        acknowledge(shared, dropped).await;
    }
}

// === impl Shared ===

impl Shared {
    /// Holds fresh entries that did not come through the loop, and returns those that a handler
    /// may see. The others are set aside, where the loop finds them.
    pub(crate) async fn sift(&self, mut entries: Vec<Entry>) -> VecDeque<Entry> {
        self.held.add(&entries);
        let foreign: Vec<Entry> = entries.extract_if(.., |it| self.is_foreign(it)).collect();
        acknowledge(self, foreign.iter().map(key).collect()).await;
        let monsters: Vec<Entry> = entries.extract_if(.., |it| is_monster(it)).collect();
        if !monsters.is_empty() {
            let doomed = monsters.into_iter().map(Doomed::too_many_fields);
            self.park_doomed(doomed.collect());
        }
        let (orders, now_ms) = (self.orders(), self.clock.now_ms());
        let is_unwanted = |entry: &mut Entry| {
            let mut orders = orders.iter();
            self.is_expired(entry, now_ms) || orders.any(|it| self.is_cancelled(it, entry))
        };
        let unwanted: Vec<Entry> = entries.extract_if(.., is_unwanted).collect();
        if !unwanted.is_empty() {
            self.park(unwanted);
        }
        entries.into()
    }

    /// It is the retry of another group.
    pub(super) fn is_foreign(&self, entry: &Entry) -> bool {
        let group = entry.only_for();
        group.is_some_and(|group| group != self.sub.group.as_str())
    }

    fn is_expired(&self, entry: &Entry, now_ms: i64) -> bool {
        self.policy.expired != Expired::Offer
            && entry.expires_at_ms().is_some_and(|at| at <= now_ms)
    }
}

/// No script could move it.
pub(super) fn is_monster(entry: &Entry) -> bool {
    entry.fields.len() > FIELDS_MAX
}

/// Lets go of what no handler here is to see.
pub(super) async fn acknowledge(shared: &Shared, keys: Vec<Key>) {
    let ack = |(lane, id): &Key| Settlement::Ack {
        lane: *lane,
        id: *id,
    };
    let acks: Vec<_> = keys.iter().map(ack).collect();
    shared.settle(&acks).await;
    shared.held.remove(keys.iter().copied());
    if let Some(lines) = shared.lines() {
        shared.forget_failures(keys.iter().copied()).await;
        lines.finish(keys);
    }
}
