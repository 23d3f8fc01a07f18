//! What comes next: parked entries, due retries, entries of dead consumers, fresh ones.
//!
//! Promotion and claim run every second between fresh reads, never only on idle. What is read
//! is queued, cut into batches, and handed back at shutdown.

mod adopt;
mod sift;

use std::collections::VecDeque;
use std::time::Duration;

use ratebox_kit::Timestamp;
use sift::{acknowledge, is_monster};

use crate::credit::Credits;
use crate::dead_letter::Doomed;
use crate::held::key;
use crate::key_order::Came;
use crate::rest::{self, Rest};
use crate::shared::Shared;
use crate::{ClaimScope, Entry, EntryId, Error, HandTo, Lane, LaneQuota, Policy, Wait, stats};

/// Retries promoted by one call, so that no script runs long.
const PROMOTE_MAX: usize = 500;

/// Calls in one turn; what is due beyond that comes in the next turn, after a read.
const PROMOTE_ROUNDS: usize = 10;

/// Claim calls of a lane in one turn that may find nothing but entries still worked on.
const CLAIM_ROUNDS: usize = 10;

/// Entries of bulk work in one read, while more urgent lanes are quiet. A batch is made of several
/// such reads: an urgent entry waits for the rest of one, and not for that of a whole batch.
const BULK_READ_MAX: usize = 64;

/// Fewer entries than this may be the beginning of a burst.
const BURST_BEGINS: usize = 8;

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Work on these.
    Batch(Vec<Entry>),
    /// Work on this one while nothing else runs: its last deliveries ended without an outcome, so
    /// it may take the process down, and must not take innocent neighbours with it.
    Alone(Entry),
    /// Bury these.
    Doomed(Vec<Doomed>),
    /// There is nothing.
    Nothing,
}

impl Taken {
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.len(),
            Self::Alone(_) => 1,
            Self::Doomed(doomed) => doomed.len(),
            Self::Nothing => 0,
        }
    }
}

pub(crate) struct Inflow {
    queue: VecDeque<Entry>,
    /// So many at the front of the queue are more urgent than what lies behind them.
    urgent: usize,
    doomed: Vec<Doomed>,
    credits: Credits,
    cursors: [EntryId; 3],
    maintained_at: Option<Timestamp>,
    /// The last maintenance left something to do.
    more: bool,
    /// Fresh entries had their turn since the last maintenance.
    read_since: bool,
    /// The last claim met suspects, so they are taken one by one.
    suspects: bool,
    /// The group was made.
    ready: bool,
    /// An answer was lost: entries may be ours that we never saw.
    orphans: bool,
    /// The lane in which what owners before us left is taken over; past the last when it is.
    adopting: usize,
    /// When was looked who waits at the door.
    looked_at: Option<Timestamp>,
    /// Running mean, for the bound in bytes.
    entry_bytes: usize,
    /// Another reads the lanes before bulk work.
    pub(crate) leaves_urgent: bool,
    rest: Rest,
}

// === impl Inflow ===

impl Inflow {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            queue: VecDeque::new(),
            urgent: 0,
            doomed: Vec::new(),
            credits: Credits::new(&shared.sub.lanes, shared.policy.lane_weights),
            cursors: [EntryId::MIN; 3],
            maintained_at: None,
            more: false,
            read_since: true,
            suspects: false,
            ready: false,
            orphans: false,
            adopting: 0,
            looked_at: None,
            entry_bytes: 0,
            leaves_urgent: false,
            rest: Rest::default(),
        }
    }

    /// What comes next; waits up to `wait` for it.
    pub(crate) async fn next(&mut self, shared: &Shared, wait: Duration) -> Result<Taken, Error> {
        if !self.ready {
            shared.log.ensure_group(&shared.sub).await?;
            self.ready = true;
        }
        if self.orphans {
            // While the log was away no heart got through: beat before anybody claims, so that what
            // is worked on here does not count as delivered once more.
            shared.touch_held().await;
        }
        if let Some(lines) = shared.lines() {
            self.move_lines(shared, lines).await?;
        } else if self.orphans {
            let recovered = shared.recover(None).await?;
            self.orphans = false;
            self.admit_again(shared, recovered).await;
        }
        self.unpark(shared);
        if self.queue.len() < shared.policy.batch_max && self.is_maintenance_due(shared) {
            self.maintain(shared).await?;
        }
        if shared.alone.is_some() {
            self.adopt(shared).await?;
        }
        if let Some(gate) = &shared.gate {
            self.put_back(gate.due(shared.clock.steady(), shared.policy.batch_max));
        }
        if self.queue.is_empty() && self.doomed.is_empty() {
            self.read_or_wait(shared, wait).await?;
            self.top_up(shared).await?;
        }
        while self.wants_more_bulk(shared) {
            self.read(shared, Duration::ZERO).await?;
        }
        self.sort_out(shared).await;
        if !self.doomed.is_empty() {
            return Ok(Taken::Doomed(std::mem::take(&mut self.doomed)));
        }
        Ok(self.cut(shared))
    }

    /// Whether bulk work is all that there is plenty of, and something more urgent may come.
    pub(crate) fn is_bulk_only(&self) -> bool {
        self.credits.is_bulk_only()
    }

    /// Somebody else found more urgent lanes full.
    pub(crate) fn has_urgent_plenty(&mut self) {
        self.credits.wake();
    }

    /// Whether the last read brought as much as it asked for.
    pub(crate) fn has_backlog(&self) -> bool {
        self.credits.any_busy()
    }

    /// Learns from a failed turn.
    pub(crate) async fn failed(&mut self, shared: &Shared, error: &Error) {
        stats::failed(shared.base(), "inflow");
        match error {
            Error::NoGroup { .. } => self.recreate_group(shared, error).await,
            Error::Connection(_) | Error::Timeout(_) => self.orphans = true,
            Error::Full(_)
            | Error::NotOnDisk(_)
            | Error::Backlog { .. }
            | Error::TooManyFields { .. }
            | Error::Denied { .. }
            | Error::Refused { .. } => {}
        }
    }

    /// Puts back what will not be started.
    pub(crate) fn put_back(&mut self, batch: Vec<Entry>) {
        self.urgent = 0;
        for entry in batch.into_iter().rev() {
            self.queue.push_front(entry);
        }
    }

    /// Hands back what was read and not started, so that others can take it at once.
    pub(crate) async fn hand_back(&mut self, shared: &Shared) {
        self.unpark(shared);
        shared.drain_waiting(&mut self.queue);
        // What another has taken is his.
        self.queue.retain(|entry| shared.held.has(entry));
        let doomed = std::mem::take(&mut self.doomed)
            .into_iter()
            .map(|doomed| doomed.entry);
        let entries: Vec<Entry> = self.queue.drain(..).chain(doomed).collect();
        let count = entries.len();
        shared.release(entries, HandTo::WhoeverWaits).await;
        if count > 0 {
            tracing::info!(stream = %shared.base(), "handed back {count} entries unstarted");
        }
    }

    async fn recreate_group(&mut self, shared: &Shared, error: &Error) {
        stats::count(stats::GROUPS_RECREATED, shared.base(), 1);
        tracing::error!(
            stream = %shared.base(),
            group = %shared.sub.group,
            "{error}: the stream was lost or emptied; making the group again from its start"
        );
        self.ready = shared.log.ensure_group(&shared.sub).await.is_ok();
    }

    /// Parked entries go first: they have waited longest.
    fn unpark(&mut self, shared: &Shared) {
        let parked = shared.unpark();
        self.put_back(parked.entries);
        self.doomed.extend(parked.doomed);
    }

    fn is_maintenance_due(&self, shared: &Shared) -> bool {
        if self.more && self.read_since {
            return true;
        }
        self.until_maintenance(shared).is_zero()
    }

    fn until_maintenance(&self, shared: &Shared) -> Duration {
        let Some(last) = self.maintained_at else {
            return Duration::ZERO;
        };
        let since = shared.clock.steady().duration_since(last);
        let since = Duration::try_from(since).unwrap_or(shared.policy.claim_every);
        shared.policy.claim_every.saturating_sub(since)
    }

    async fn maintain(&mut self, shared: &Shared) -> Result<(), Error> {
        self.maintained_at = Some(shared.clock.steady());
        self.more = false;
        self.read_since = false;
        self.promote(shared).await?;
        metrics::gauge!(stats::HELD, "stream" => shared.base().to_string())
            .set(shared.held.count() as f64);
        if let Some(gate) = &shared.gate {
            gate.refresh(shared).await;
            metrics::gauge!(stats::ASIDE, "stream" => shared.base().to_string())
                .set(gate.waiting() as f64);
        }
        if let Some(lines) = shared.lines() {
            metrics::gauge!(stats::IN_LINE, "stream" => shared.base().to_string())
                .set(lines.waiting() as f64);
        }
        if !self.may_claim(shared) {
            return Ok(());
        }
        for (lane, _) in shared.sub.lanes.iter() {
            self.claim(shared, lane).await?;
        }
        Ok(())
    }

    /// A promotion that fails for now never stops the reading: while a cluster moves the slot, a
    /// script over several keys is told to try again, but single streams go on.
    async fn promote(&mut self, shared: &Shared) -> Result<(), Error> {
        for _ in 0..PROMOTE_ROUNDS {
            let promoted = match shared.log.promote(&shared.sub, PROMOTE_MAX).await {
                Ok(promoted) => promoted,
                Err(error) if error.is_retryable() => {
                    stats::failed(shared.base(), "promote");
                    tracing::debug!(stream = %shared.base(), "due retries wait: {error}");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            stats::count(stats::PROMOTED, shared.base(), promoted);
            if promoted < PROMOTE_MAX {
                return Ok(());
            }
        }
        self.more = true;
        Ok(())
    }

    /// Takes over from the dead. Goes on where the last scan stopped, so that entries still
    /// worked on at the front never hide those behind them.
    async fn claim(&mut self, shared: &Shared, lane: Lane) -> Result<(), Error> {
        let scope = ClaimScope::Idle(shared.policy.claim_idle);
        let max = if self.suspects || shared.is_unable() {
            1
        } else {
            shared.policy.batch_max
        };
        for _ in 0..CLAIM_ROUNDS {
            let cursor = self.cursors[lane.index()];
            let claimed = shared
                .log
                .claim(&shared.sub, lane, cursor, scope, max)
                .await?;
            self.cursors[lane.index()] = claimed.next;
            shared
                .tell_vanished_of_others(lane, &claimed.vanished)
                .await;
            if !claimed.entries.is_empty() {
                self.more = true;
                report_claimed(shared, &claimed.entries);
                self.admit_again(shared, claimed.entries).await;
                break;
            }
            if claimed.next == EntryId::MIN {
                break;
            }
        }
        Ok(())
    }

    /// Admits what was delivered before. What is in our hands stays there once: after a pause of
    /// ours we may claim it from ourselves, or get back what we had lost and not yet dropped.
    ///
    /// Of the suspects, on all lanes, one is in our hands: it is worked on alone. The others go
    /// back uncounted until it is done, for whatever happens to it must not count against them.
    async fn admit_again(&mut self, shared: &Shared, mut entries: Vec<Entry>) {
        entries.retain(|entry| !shared.held.has(entry));
        self.queue.retain(|entry| shared.held.has(entry));
        let is_suspect = |entry: &Entry| is_suspect(&shared.policy, entry);
        let mut seen = self.queue.iter().filter(|entry| is_suspect(entry)).count();
        let others: Vec<Entry> = entries
            .extract_if(.., |entry| {
                seen += usize::from(is_suspect(entry));
                is_suspect(entry) && seen > 1
            })
            .collect();
        self.suspects = seen > 0;
        if let Some(first) = others.first() {
            self.cursors[first.lane.index()] = first.id;
            shared.release(others, HandTo::Claims).await;
        }
        self.admit(shared, entries, Came::Fresh).await;
    }

    /// A batch of bulk work is not full, and nothing more urgent has come.
    fn wants_more_bulk(&self, shared: &Shared) -> bool {
        self.credits.is_bulk_only()
            && self.urgent == 0
            && self.doomed.is_empty()
            && !self.queue.is_empty()
            && self.queue.len() < self.batch_total(shared)
    }

    /// The first entry of a burst wakes a read that waits, and the rest comes with the next one. While
    /// others are in work that one is made at once: a batch of one takes a slot and a transaction as
    /// one of fifty does. A lone entry does not wait.
    async fn top_up(&mut self, shared: &Shared) -> Result<(), Error> {
        let is_burst = (1..BURST_BEGINS).contains(&self.queue.len()) && !self.credits.any_busy();
        if !is_burst || shared.slots.in_work() == 0 || !self.may_read(shared) {
            return Ok(());
        }
        self.credits.wake();
        self.read(shared, Duration::ZERO).await
    }

    async fn read(&mut self, shared: &Shared, wait: Duration) -> Result<(), Error> {
        let is_bulk = self.credits.is_bulk_only();
        self.rest(shared).await;
        let room = self.batch_total(shared).saturating_sub(self.queue.len());
        let total = match is_bulk {
            true => room.clamp(1, BULK_READ_MAX),
            false => room.max(1),
        };
        let wait = if self.more {
            Duration::ZERO
        } else {
            wait.min(self.until_maintenance(shared))
        };
        // What waits here begins at its own time, not with the next entry.
        let minds_waiting = shared.has_waiting();
        let waits = !wait.is_zero() && !minds_waiting && !self.credits.any_busy();
        let mut quotas = if waits {
            self.credits.waiting(total)
        } else {
            self.credits.quotas(total)
        };
        if self.leaves_urgent && is_bulk {
            quotas.retain(|quota| quota.lane == Lane::Low);
        }
        let until = if waits { wait } else { Duration::ZERO };
        let (entries, returned) = self.fetch(shared, &quotas, until).await?;
        self.read_since = true;
        self.credits.learn(&quotas, &entries);
        if entries.is_empty() && minds_waiting && !wait.is_zero() {
            self.nap(shared, wait).await;
        }
        stats::count(stats::READ, shared.base(), entries.len());
        self.rest.after(entries.len());
        let queued = self.queue.len();
        self.admit(shared, entries, Came::Fresh).await;
        if is_bulk {
            self.urgent_first(queued);
        }
        if !returned.is_empty() {
            self.admit_again(shared, returned).await;
        }
        Ok(())
    }

    /// Fresh entries, and what others handed back while this read waited. Not while suspects are
    /// taken one by one: only claims can. And not by the sole reader, whom nobody hands anything.
    async fn fetch(
        &self,
        shared: &Shared,
        quotas: &[LaneQuota],
        wait: Duration,
    ) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
        let (log, sub) = (&shared.log, &shared.sub);
        let one_by_one = self.suspects || shared.is_unable();
        if wait.is_zero() || one_by_one || shared.alone.is_some() {
            let entries = log.read(sub, quotas, Wait::ForFresh(wait)).await?;
            return Ok((entries, Vec::new()));
        }
        let wait = Wait::WithReturned(wait);
        let mut entries = log.read(sub, quotas, wait).await?;
        let returned = entries.extract_if(.., |entry| entry.deliveries > 1);
        let returned = returned.collect();
        Ok((entries, returned))
    }

    /// Leaves the server and the cores to what is urgent for a moment, where it came lately.
    async fn rest(&mut self, shared: &Shared) {
        let lately = || shared.urgent_seen.lately(shared.clock.steady());
        if self.leaves_urgent && self.rest.is_due(lately) {
            stats::count(stats::BULK_RESTS, shared.base(), 1);
            tokio::time::sleep(rest::TIME).await;
        }
    }

    /// What came beside bulk work, behind the first `queued`, goes first.
    fn urgent_first(&mut self, queued: usize) {
        let is_urgent = |entry: &Entry| entry.lane != Lane::Low;
        if !self.queue.range(queued..).any(is_urgent) {
            return;
        }
        let came = self.queue.split_off(queued);
        let (urgent, bulk): (Vec<_>, Vec<_>) = came.into_iter().partition(is_urgent);
        self.queue.extend(bulk);
        let count = urgent.len();
        self.put_back(urgent);
        self.urgent = count;
    }

    /// Entries that fit into a batch by count and, as far as the past tells, by bytes.
    fn batch_total(&self, shared: &Shared) -> usize {
        if shared.is_unable() {
            return 1;
        }
        let fitting = shared.policy.batch_bytes_max / self.entry_bytes.max(1);
        let in_time = shared.policy.batch_time;
        let in_time = in_time.map_or(usize::MAX, |time| shared.pace.fitting(time));
        shared.policy.batch_max.min(fitting).min(in_time).max(1)
    }

    /// Queues what is to be worked on; dooms poison and monsters; drops what belongs to others.
    async fn admit(&mut self, shared: &Shared, entries: Vec<Entry>, came: Came) {
        if entries.is_empty() {
            return;
        }
        shared.held.add(&entries);
        self.learn_bytes(&entries);
        let mut foreign = Vec::new();
        let mut away = Vec::new();
        for entry in entries {
            if entry.deliveries > shared.policy.deliveries_max {
                self.doomed.push(Doomed::poison(entry));
            } else if is_monster(&entry) {
                self.doomed.push(Doomed::too_many_fields(entry));
            } else if shared.is_foreign(&entry) {
                foreign.push(key(&entry));
            } else {
                away.extend(self.enqueue(shared, entry, came));
            }
        }
        shared.release(away, HandTo::Claims).await;
        acknowledge(shared, foreign).await;
    }

    fn learn_bytes(&mut self, entries: &[Entry]) {
        let mean = entries.iter().map(Entry::bytes).sum::<usize>() / entries.len().max(1);
        self.entry_bytes = if self.entry_bytes == 0 {
            mean
        } else {
            (self.entry_bytes * 7 + mean) / 8
        };
    }

    /// The next batch from the queue.
    fn cut(&mut self, shared: &Shared) -> Taken {
        let policy = &shared.policy;
        let entries_max = match std::mem::take(&mut self.urgent) {
            0 => policy.batch_max,
            urgent => urgent.min(policy.batch_max),
        };
        let mut batch = cut_batch(&mut self.queue, policy, entries_max);
        shared.held.keep_held(&mut batch);
        match batch.len() {
            0 => Taken::Nothing,
            1 if is_suspect(policy, &batch[0]) => Taken::Alone(batch.remove(0)),
            _ => Taken::Batch(batch),
        }
    }
}

/// Takes the next batch from a queue, bounded by count and bytes; a suspect is one of its own.
pub(crate) fn cut_batch(
    queue: &mut VecDeque<Entry>,
    policy: &Policy,
    entries_max: usize,
) -> Vec<Entry> {
    let mut batch: Vec<Entry> = Vec::with_capacity(queue.len().min(policy.batch_max));
    let mut bytes = 0;
    while let Some(entry) = queue.front() {
        bytes += entry.bytes();
        let full = batch.len() >= entries_max || bytes > policy.batch_bytes_max;
        let alone = is_suspect(policy, entry);
        if !batch.is_empty() && (full || alone) {
            break;
        }
        batch.extend(queue.pop_front());
        if alone {
            break;
        }
    }
    batch
}

/// Its last deliveries ended without an outcome.
fn is_suspect(policy: &Policy, entry: &Entry) -> bool {
    entry.deliveries == policy.deliveries_max && policy.deliveries_max > 1
}

fn report_claimed(shared: &Shared, entries: &[Entry]) {
    stats::count(stats::CLAIMED, shared.base(), entries.len());
    for entry in entries {
        tracing::info!(
            stream = %entry.stream,
            entry.id = %entry.id,
            deliveries = entry.deliveries,
            "took over an entry from a silent consumer"
        );
    }
}
