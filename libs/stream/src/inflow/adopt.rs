//! What the sole reader of a partition does beside reading: it takes over what owners before it
//! left pending, before anything fresh, and moves the lines of ordered keys.

use std::time::Duration;

use ratebox_kit::Timestamp;

use super::{Inflow, is_suspect, report_claimed};
use crate::dead_letter::Doomed;
use crate::key_order::{Admitted, Came, Lines};
use crate::rooms::ADMIT_MAX;
use crate::shared::Shared;
use crate::{ClaimScope, Entry, EntryId, Error, HandTo, Lane, stats};

/// How often a busy reader looks who waits at the door.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Entries fetched in one turn.
const FETCH_MAX: usize = 100;

/// The longest nap of a reader while a message waits for another of its key or for a limit.
const NAP: Duration = Duration::from_millis(10);

// === impl Inflow ===

impl Inflow {
    /// Whether fresh entries may be read: all that is older is in hand, and there is room.
    pub(super) fn may_read(&self, shared: &Shared) -> bool {
        if let Some(gate) = &shared.gate
            && !gate.may_read(shared.clock.steady())
        {
            return false;
        }
        let Some(alone) = &shared.alone else {
            return true;
        };
        let is_adopted = self.adopting >= Lane::ALL.len();
        is_adopted && alone.lines.as_ref().is_none_or(|lines| !lines.is_full())
    }

    /// Whether a claim finds only what strangers left: not while our own entries look idle.
    pub(super) fn may_claim(&self, shared: &Shared) -> bool {
        let is_adopted = shared.alone.is_none() || self.adopting >= Lane::ALL.len();
        is_adopted && shared.lines().is_none_or(|lines| !lines.has_away())
    }

    /// Takes over everything that is pending, in the order of ids. Goes on in the next turn when
    /// there is enough in hand.
    pub(super) async fn adopt(&mut self, shared: &Shared) -> Result<(), Error> {
        let scope = ClaimScope::Idle(Duration::ZERO);
        let max = shared.policy.batch_max;
        while let Some(lane) = Lane::ALL.get(self.adopting).copied() {
            if !shared.sub.lanes.iter().any(|(one, _)| one == lane) {
                self.adopting += 1;
                continue;
            }
            if self.queue.len() >= max {
                return Ok(());
            }
            shared.learn_failures().await?;
            let cursor = self.cursors[lane.index()];
            let mut claimed = shared
                .log
                .claim(&shared.sub, lane, cursor, scope, max)
                .await?;
            self.cursors[lane.index()] = claimed.next;
            if claimed.next == EntryId::MIN {
                self.adopting += 1;
            }
            shared
                .tell_vanished_of_others(lane, &claimed.vanished)
                .await;
            report_claimed(shared, &claimed.entries);
            if shared.lines().is_some() {
                shared.recall_failures(&mut claimed.entries);
                self.admit(shared, claimed.entries, Came::Adopted).await;
            } else {
                self.admit_again(shared, claimed.entries).await;
                if self.suspects {
                    // The others went back and look idle: from now on claims find them.
                    self.adopting = Lane::ALL.len();
                }
            }
            if self.adopting >= Lane::ALL.len() {
                shared.forget_unseen_failures().await;
            }
        }
        Ok(())
    }

    /// Fetches heads that are away, and queues those that may start.
    pub(super) async fn move_lines(&mut self, shared: &Shared, lines: &Lines) -> Result<(), Error> {
        if self.orphans {
            // What an answer that got lost brought comes after all that was seen.
            for lane in Lane::ALL {
                self.cursors[lane.index()] = lines.unseen(lane);
            }
            (self.adopting, self.orphans) = (0, false);
        }
        let keys = lines.to_fetch(FETCH_MAX);
        if !keys.is_empty() {
            let mut others = Vec::new();
            for entry in shared.fetch(lines, &keys).await? {
                let is_suspect = is_suspect(&shared.policy, &entry);
                if entry.deliveries > shared.policy.deliveries_max {
                    self.doomed.push(Doomed::poison(entry));
                } else if lines.keeps(&entry, is_suspect) {
                    self.queue.push_back(entry);
                } else {
                    others.push(entry);
                }
            }
            shared.release(others, HandTo::Claims).await;
        }
        self.queue.extend(lines.ready(shared.clock.steady()));
        Ok(())
    }

    /// Queues an entry, or puts it in line. Returns it when it must be let go.
    pub(super) fn enqueue(&mut self, shared: &Shared, entry: Entry, came: Came) -> Option<Entry> {
        let Some(lines) = shared.lines() else {
            self.queue.push_back(entry);
            return None;
        };
        let is_suspect = is_suspect(&shared.policy, &entry);
        match lines.admit(entry, came, is_suspect) {
            Admitted::Start(entry) => self.queue.push_back(entry),
            Admitted::Waits => {}
            Admitted::Away(entry) => return Some(entry),
        }
        None
    }

    /// Lets messages of waiting owners in: before a read that may wait, and now and then between
    /// others.
    async fn open_door(&mut self, shared: &Shared) -> Result<(), Error> {
        let Some(keeper) = &shared.doorkeeper else {
            return Ok(());
        };
        let now = shared.clock.steady();
        let looked = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let is_recent = self.looked_at.is_some_and(|at| looked(at) < LOOK_EVERY);
        if is_recent && self.credits.any_busy() {
            return Ok(());
        }
        self.looked_at = Some(now);
        let gate = shared.gate.as_ref();
        let skip = gate.map_or_else(Vec::new, |gate| gate.owners_waiting(keeper.door.turn * 2));
        let admitted = keeper
            .rooms
            .admit(&shared.sub, keeper.door, &skip, ADMIT_MAX);
        stats::count(stats::ADMITTED, shared.base(), admitted.await?);
        Ok(())
    }

    /// Reads, or waits when there is no room for what would come.
    pub(super) async fn read_or_wait(
        &mut self,
        shared: &Shared,
        wait: Duration,
    ) -> Result<(), Error> {
        if self.may_read(shared) {
            self.open_door(shared).await?;
            return self.read(shared, wait).await;
        }
        self.nap(shared, wait).await;
        Ok(())
    }

    /// Waits until a message may start that waited for another or for a limit, and not long.
    pub(super) async fn nap(&self, shared: &Shared, wait: Duration) {
        let lines = async {
            match shared.lines() {
                Some(lines) => lines.changed().await,
                None => std::future::pending().await,
            }
        };
        let gate = async {
            match &shared.gate {
                Some(gate) => gate.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lines => {}
            () = gate => {}
            () = tokio::time::sleep(wait.min(NAP)) => {}
        }
    }
}
