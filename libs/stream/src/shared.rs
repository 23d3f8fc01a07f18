//! What the parts of a consumer share: reader, batches in work and heartbeat.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use ratebox_kit::{Clock, DeadLetters};

use crate::breaker::Breaker;
use crate::dead_letter::Doomed;
use crate::failed::Failed;
use crate::fence::Fence;
use crate::gate::Gate;
use crate::held::{Held, Key};
use crate::key_order::Lines;
use crate::pace::Pace;
use crate::rest::Seen;
use crate::scaling::Scaler;
use crate::slots::Slots;
use crate::standing::Standing;
use crate::{
    ClaimScope, Door, Entry, EntryId, Error, Lane, Log, Policy, Rooms, Settlement, StreamName,
    Subscription, stats,
};

pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) dead_letters: Arc<dyn DeadLetters>,
    pub(crate) sub: Subscription,
    pub(crate) policy: Policy,
    pub(crate) clock: Clock,
    pub(crate) held: Held,
    pub(crate) breaker: Breaker,
    pub(crate) alone: Option<Alone>,
    /// Who lets messages of waiting owners in, if owners wait.
    pub(crate) doorkeeper: Option<Doorkeeper>,
    /// Where limits are asked, if they are.
    pub(crate) gate: Option<Gate>,
    pub(crate) pace: Pace,
    /// The orders of operators, where the log can keep any.
    pub(crate) standing: Option<Standing>,
    pub(crate) slots: Arc<Slots>,
    /// When an urgent entry overtook bulk work.
    pub(crate) urgent_seen: Seen,
    /// The log could not be read for seconds, several times in a row.
    pub(crate) cannot_read: AtomicBool,
    /// What the handler needs was away for long, and was not back when it was asked last.
    pub(crate) is_without: AtomicBool,
    /// The last letters could not be kept, which stops everything as well.
    pub(crate) keeps_no_letters: AtomicBool,
    parked: Mutex<Parked>,
}

/// The way from the rooms to the lanes.
pub(crate) struct Doorkeeper {
    pub(crate) rooms: Arc<dyn Rooms>,
    pub(crate) door: Door,
}

/// A consumer that has a partition for itself.
pub(crate) struct Alone {
    /// Whether it still has.
    pub(crate) fence: Fence,
    /// Who waits behind whom, where keys are ordered.
    pub(crate) lines: Option<Lines>,
    /// What failed and is still pending, where keys are ordered.
    pub(crate) failed: Failed,
}

/// Held, but not in work: offered again once the breaker allows. Never more than what the batches
/// in flight and one read brought, because inflow stops meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    pub(crate) entries: Vec<Entry>,
    pub(crate) doomed: Vec<Doomed>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        dead_letters: Arc<dyn DeadLetters>,
        sub: Subscription,
        policy: Policy,
        clock: Clock,
    ) -> Self {
        let slots = match policy.scaling {
            Some(scaling) => Scaler::new(scaling).limit(),
            None => policy.batches_in_flight,
        };
        Self {
            log,
            dead_letters,
            sub,
            policy,
            clock,
            held: Held::default(),
            breaker: Breaker::default(),
            alone: None,
            doorkeeper: None,
            gate: None,
            pace: Pace::default(),
            standing: None,
            slots: Slots::new(slots),
            urgent_seen: Seen::default(),
            cannot_read: AtomicBool::new(false),
            is_without: AtomicBool::new(false),
            keeps_no_letters: AtomicBool::new(false),
            parked: Mutex::default(),
        }
    }

    /// The name that metrics and logs use.
    pub(crate) fn base(&self) -> &StreamName {
        self.sub.lanes.base()
    }

    /// Who waits behind whom, where keys are ordered.
    pub(crate) fn lines(&self) -> Option<&Lines> {
        self.alone.as_ref()?.lines.as_ref()
    }

    /// The partition may belong to another by now: nothing is read or begun.
    pub(crate) fn is_fenced_off(&self) -> bool {
        let alone = self.alone.as_ref();
        alone.is_some_and(|alone| !alone.fence.is_open())
    }

    /// What the handler needs has been away for so long that others should have what is held here.
    /// The owner of a partition has no others.
    pub(crate) fn is_unable(&self) -> bool {
        self.alone.is_none() && self.is_stopped_for_long()
    }

    /// Nothing got through for [`Policy::hand_back_after`].
    pub(crate) fn is_stopped_for_long(&self) -> bool {
        let away = self.breaker.tripped_for(self.clock.steady());
        away.is_some_and(|away| away >= self.policy.hand_back_after)
    }

    /// Sets entries aside. They may wait for long, so they leave the buffer of their read.
    pub(crate) fn park(&self, mut entries: Vec<Entry>) {
        entries.iter_mut().for_each(Entry::detach);
        self.parked().entries.extend(entries);
    }

    pub(crate) fn park_doomed(&self, mut doomed: Vec<Doomed>) {
        doomed.iter_mut().for_each(|doomed| doomed.entry.detach());
        self.parked().doomed.extend(doomed);
    }

    pub(crate) fn unpark(&self) -> Parked {
        std::mem::take(&mut *self.parked())
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets back entries of ours that nobody has in hand: all of them, or only `wanted` ones that
    /// a handler dropped. They are not counted as delivered again.
    pub(crate) async fn recover(&self, wanted: Option<&HashSet<Key>>) -> Result<Vec<Entry>, Error> {
        if let (Some(lines), Some(wanted)) = (self.lines(), wanted) {
            return self.recover_in_line(lines, wanted).await;
        }
        let mut recovered = Vec::new();
        for (lane, _) in self.sub.lanes.iter() {
            let on_lane = |wanted: &HashSet<Key>| {
                let on_lane = wanted.iter().filter(|key| key.0 == lane);
                on_lane.map(|(_, id)| *id).collect::<Vec<_>>()
            };
            match wanted.map(on_lane) {
                Some(ids) if ids.is_empty() => {}
                Some(mut ids) => {
                    ids.sort_unstable();
                    let scope = ClaimScope::These(&ids);
                    recovered.extend(self.claim_own(lane, scope, ids.len()).await?);
                }
                None => {
                    let except = self.held.on(lane);
                    let scope = ClaimScope::Own { except: &except };
                    // A read that is under way may own as many again.
                    let max = self.policy.batch_max * 4;
                    recovered.extend(self.claim_own(lane, scope, max).await?);
                }
            }
        }
        Ok(recovered)
    }

    async fn claim_own(
        &self,
        lane: Lane,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        let claim = self
            .log
            .claim(&self.sub, lane, EntryId::MIN, scope, max)
            .await?;
        self.tell_vanished(lane, &claim.vanished).await;
        Ok(claim.entries)
    }

    /// Messages are gone, and only their sender could bring them back: counts them, says it loudly,
    /// and only then lets go of them. When that fails the next claim tells them once more, for once
    /// too often is better than never.
    pub(crate) async fn tell_vanished(&self, lane: Lane, vanished: &[EntryId]) {
        stats::count(stats::MESSAGES_LOST, self.base(), vanished.len());
        for id in vanished {
            tracing::error!(
                stream = %self.sub.lanes.stream(lane),
                group = %self.sub.group,
                entry.id = %id,
                "an entry vanished from the stream before it was acknowledged"
            );
        }
        let ack = |id: &EntryId| Settlement::Ack { lane, id: *id };
        let acks: Vec<_> = vanished.iter().map(ack).collect();
        self.settle(&acks).await;
    }

    /// The same for what a look for idle entries met: who holds one has its last copy, so of what is
    /// in our own hands nothing is told.
    pub(crate) async fn tell_vanished_of_others(&self, lane: Lane, vanished: &[EntryId]) {
        if vanished.is_empty() {
            return;
        }
        let mut gone = vanished.to_vec();
        let held = self.held.on(lane);
        gone.retain(|id| !held.contains(id));
        self.tell_vanished(lane, &gone).await;
    }
}
