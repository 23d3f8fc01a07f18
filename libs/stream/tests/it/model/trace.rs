//! Records what a real consumer does: each call of its log with its outcome, each deed of its
//! handler, each dead letter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{DeadLetter, DeadLetters, PortError};
use ratebox_stream::conformance::Letters;
use ratebox_stream::{
    Admin, Append, ClaimScope, Claimed, Entry, EntryId, Error, Lane, LaneQuota, Log, Settlement,
    StreamName, Subscription, Tail, Wait,
};

use super::protocol::{Call, Deed};

/// What happened, in the words of the real thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Appended(EntryId),
    GroupEnsured,
    Read {
        by: u8,
        ids: Vec<EntryId>,
        answered: bool,
    },
    Claimed {
        by: u8,
        entries: Vec<(EntryId, u32)>,
        vanished: Vec<EntryId>,
        answered: bool,
    },
    Owned {
        by: u8,
        entries: Vec<(EntryId, u32)>,
        vanished: Vec<EntryId>,
    },
    Beat {
        by: u8,
        touched: Vec<EntryId>,
        lost: Vec<EntryId>,
    },
    Settled {
        by: u8,
        call: Call,
        id: EntryId,
        answered: bool,
    },
    Promoted(Vec<EntryId>),
    Offered {
        by: u8,
        id: EntryId,
        message: u8,
        attempt: u32,
        deliveries: u32,
    },
    Handled {
        by: u8,
        deed: Deed,
        id: EntryId,
    },
    Kept {
        by: u8,
        message: u8,
    },
    /// One tick of the lease.
    Passed,
    Stalled {
        by: u8,
    },
    Crashed {
        by: u8,
    },
    Trimmed {
        removed: u64,
    },
    EntryLost(EntryId),
    StreamLost,
}

/// What happened so far, and which answer gets lost next.
#[derive(Default)]
pub(crate) struct Trace {
    events: Mutex<Vec<Event>>,
    lose_answer_of: Mutex<Option<Call>>,
}

// === impl Trace ===

impl Trace {
    pub(crate) fn record(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// The answer of the next such call that did something gets lost.
    pub(crate) fn lose_next_answer_of(&self, call: Call) {
        *self.lose_answer_of.lock().unwrap() = Some(call);
    }

    fn is_lost(&self, call: Call) -> bool {
        self.lose_answer_of
            .lock()
            .unwrap()
            .take_if(|it| *it == call)
            .is_some()
    }
}

/// The number of a message: the rig calls the third one `id-2`.
pub(crate) fn number(message_id: &str) -> u8 {
    message_id.trim_start_matches("id-").parse().unwrap()
}

/// The log of one member.
pub(crate) struct RecordingLog {
    pub(crate) inner: Arc<dyn Log>,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) by: u8,
}

fn lost_answer() -> Error {
    Error::Connection("the answer got lost".into())
}

fn counted(entries: &[Entry]) -> Vec<(EntryId, u32)> {
    entries.iter().map(|it| (it.id, it.deliveries)).collect()
}

fn settled(settlement: &Settlement<'_>) -> (Call, EntryId) {
    match settlement {
        Settlement::Ack { id, .. } => (Call::Ack, *id),
        Settlement::Delay { entry, .. } | Settlement::Snooze { entry, .. } => {
            (Call::Delay, entry.id)
        }
        Settlement::Bury { entry, .. } => (Call::Bury, entry.id),
        Settlement::Release { id, .. } => (Call::Release, *id),
    }
}

#[async_trait]
impl Log for RecordingLog {
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        self.inner.append(entries).await
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        self.inner.ensure_group(sub).await?;
        self.trace.record(Event::GroupEnsured);
        Ok(())
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        let entries = self.inner.read(sub, quotas, wait).await?;
        let answered = entries.is_empty() || !self.trace.is_lost(Call::Read);
        let ids = entries.iter().map(|it| it.id).collect();
        self.trace.record(Event::Read {
            by: self.by,
            ids,
            answered,
        });
        answered.then_some(entries).ok_or_else(lost_answer)
    }

    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        let claimed = self.inner.claim(sub, lane, cursor, scope, max).await?;
        let (by, entries) = (self.by, counted(&claimed.entries));
        let vanished = claimed.vanished.clone();
        if matches!(scope, ClaimScope::Own { .. } | ClaimScope::These(_)) {
            self.trace.record(Event::Owned {
                by,
                entries,
                vanished,
            });
            return Ok(claimed);
        }
        let may_be_lost = !entries.is_empty() || !vanished.is_empty();
        let answered = !(may_be_lost && self.trace.is_lost(Call::Claim));
        self.trace.record(Event::Claimed {
            by,
            entries,
            vanished,
            answered,
        });
        answered.then_some(claimed).ok_or_else(lost_answer)
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        let lost = self.inner.touch(sub, held).await?;
        let ids = |keys: &[(Lane, EntryId)]| keys.iter().map(|it| it.1).collect();
        self.trace.record(Event::Beat {
            by: self.by,
            touched: ids(held),
            lost: ids(&lost),
        });
        Ok(lost)
    }

    async fn settle(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        self.inner.settle(sub, settlements).await?;
        let calls: Vec<(Call, EntryId)> = settlements.iter().map(settled).collect();
        let answered = !calls.iter().any(|(call, _)| self.trace.is_lost(*call));
        for (call, id) in calls {
            self.trace.record(Event::Settled {
                by: self.by,
                call,
                id,
                answered,
            });
        }
        answered.then_some(()).ok_or_else(lost_answer)
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        let promoted = self.inner.promote(sub, max).await?;
        if promoted > 0 {
            // They are the newest: nobody else appends meanwhile.
            let stream = sub.lanes.base();
            let all = self.admin.peek(stream, EntryId::MIN, 1_000).await?;
            let newest = all[all.len() - promoted..].iter().map(|it| it.id);
            self.trace.record(Event::Promoted(newest.collect()));
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
        self.inner.tail(stream, after, max, wait).await
    }
}

/// The dead letters of one member.
pub(crate) struct RecordingLetters {
    pub(crate) inner: Arc<Letters>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) by: u8,
}

#[async_trait]
impl DeadLetters for RecordingLetters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        self.inner.keep(letters).await?;
        for letter in letters {
            self.trace.record(Event::Kept {
                by: self.by,
                message: number(&letter.message_id),
            });
        }
        Ok(())
    }
}
