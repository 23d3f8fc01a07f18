//! One state of the model: a stream with a group, its members, and what became of each message.
//!
//! Ids are positions: slot 3 is the fourth entry that the stream ever got. Time is counted in
//! ticks; a heartbeat that works beats once a tick.

/// The owner of entries whose member died: its name never comes back.
pub(crate) const NOBODY: u8 = u8::MAX;

/// A set of slots.
pub(crate) type Slots = u64;

pub(crate) fn bit(slot: u8) -> Slots {
    1 << slot
}

/// What a message does to those who work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its effect can be committed.
    Good,
    /// The handler fails, each time.
    Failing,
    /// The handler says at once that it can never succeed.
    Malformed,
    /// The process dies.
    Killer,
}

/// A delivered entry that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub(crate) owner: u8,
    /// Ticks since it was delivered or touched; no more than the lease, which is also how a
    /// released one looks.
    pub(crate) age: u8,
    pub(crate) deliveries: u8,
}

/// A place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) message: u8,
    pub(crate) attempt: u8,
    /// Its data is there.
    pub(crate) stored: bool,
    pub(crate) pending: Option<Pending>,
}

/// A retry outside the pending list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Waiting {
    pub(crate) message: u8,
    pub(crate) attempt: u8,
    /// Ticks until it is due.
    pub(crate) due: u8,
}

/// How far a member is with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    Queued,
    Offered,
    /// The handler lost it, by a panic or by saying nothing of it.
    Dropped,
    /// It was got back from the log after that.
    Recovered,
    /// Its effect is committed.
    Done,
    Failed,
    /// The handler put it off.
    Snoozed,
    /// It must be buried.
    Doomed,
    /// Its letter is kept.
    Kept,
    /// It goes back before anything else happens here.
    Returned,
    /// It vanished, which was told; what is left of it is still pending.
    Told,
    /// Only in broken variants: acknowledged, and nowhere else yet.
    Loose,
}

/// An entry in a member's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InHand {
    pub(crate) slot: u8,
    pub(crate) stage: Stage,
    pub(crate) deliveries: u8,
}

/// A member of the group. One that died is followed by a new one under the same number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    /// Its heart does not beat: paused, swapped out, cut off.
    pub(crate) stalled: bool,
    pub(crate) hands: Vec<InHand>,
    /// What its heartbeat keeps alive.
    pub(crate) held: Slots,
}

// === impl Member ===

impl Member {
    pub(crate) fn holds(&self, slot: u8) -> bool {
        self.held & bit(slot) != 0
    }

    pub(crate) fn find(&self, slot: u8, stages: &[Stage]) -> Option<usize> {
        let fits = |copy: &InHand| copy.slot == slot && stages.contains(&copy.stage);
        self.hands.iter().position(fits)
    }

    pub(crate) fn has(&self, stage: Stage) -> bool {
        self.hands.iter().any(|copy| copy.stage == stage)
    }

    /// No longer held: what only waited for work is dropped before it is offered.
    pub(crate) fn forget(&mut self, slots: Slots) {
        self.held &= !slots;
        let unstarted = [Stage::Queued, Stage::Dropped, Stage::Recovered];
        self.hands
            .retain(|copy| slots & bit(copy.slot) == 0 || !unstarted.contains(&copy.stage));
    }
}

/// What the log itself did to a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Harm {
    #[default]
    None,
    /// It lost the entry while it was pending: that must be told.
    Pending,
    /// It lost the whole stream, or an entry that nobody had read: nobody can tell.
    Unseen,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) effects: u8,
    pub(crate) letters: u8,
    pub(crate) harm: Harm,
    /// Its loss was told.
    pub(crate) told: bool,
    /// How often a handler failed with it, as far as attempts are counted.
    pub(crate) failed: u8,
    /// An operator cancelled it.
    pub(crate) cancelled: bool,
}

/// How much more may go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub(crate) crashes: u8,
    pub(crate) stalls: u8,
    /// The log did what it was asked, and the answer got lost.
    pub(crate) lost_answers: u8,
    pub(crate) lost_entries: u8,
    pub(crate) lost_streams: u8,
    /// A handler fails with a good message, loses it, puts it off or runs beyond its time.
    pub(crate) failures: u8,
    /// An operator cancels a message.
    pub(crate) cancels: u8,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) slots: Vec<Slot>,
    /// Slots below this were delivered to the group.
    pub(crate) delivered: u8,
    /// The group exists.
    pub(crate) group: bool,
    pub(crate) delayed: Vec<Waiting>,
    pub(crate) members: Vec<Member>,
    /// Those that were appended.
    pub(crate) messages: Vec<Message>,
    pub(crate) left: Faults,
}

// === impl World ===

impl World {
    pub(crate) fn slot(&self, slot: u8) -> Option<Slot> {
        self.slots.get(usize::from(slot)).copied()
    }

    pub(crate) fn slot_mut(&mut self, slot: u8) -> &mut Slot {
        &mut self.slots[usize::from(slot)]
    }

    pub(crate) fn message_of(&mut self, slot: u8) -> &mut Message {
        let message = self.slots[usize::from(slot)].message;
        &mut self.messages[usize::from(message)]
    }

    pub(crate) fn owner(&self, slot: u8) -> Option<u8> {
        Some(self.slot(slot)?.pending?.owner)
    }

    pub(crate) fn member(&self, by: u8) -> &Member {
        &self.members[usize::from(by)]
    }

    pub(crate) fn member_mut(&mut self, by: u8) -> &mut Member {
        &mut self.members[usize::from(by)]
    }

    /// Nobody owns it and its data is gone: whoever holds it has the last copy.
    pub(crate) fn is_gone(&self, slot: u8) -> bool {
        self.slot(slot)
            .is_none_or(|it| !it.stored && it.pending.is_none())
    }

    pub(crate) fn is_undelivered(&self, slot: u8) -> bool {
        slot >= self.delivered && self.slot(slot).is_some_and(|it| it.stored)
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.slots.len()).expect("few slots")
    }

    pub(crate) fn next_fresh(&self) -> Option<u8> {
        self.numbers().find(|slot| self.is_undelivered(*slot))
    }

    /// The message is in the log: undelivered, pending with its data, or waiting for its retry.
    pub(crate) fn is_in_log(&self, message: u8) -> bool {
        let lives = |number: u8| {
            self.slot(number).is_some_and(|slot| {
                slot.message == message && (slot.pending.is_some() || self.is_undelivered(number))
            })
        };
        self.numbers().any(lives) || self.delayed.iter().any(|it| it.message == message)
    }

    /// Equal futures become equal states: order that means nothing goes, and so do slots of which
    /// nothing is left.
    pub(crate) fn normalize(&mut self) {
        self.delayed.sort_unstable();
        let mut used: Slots = 0;
        for member in &mut self.members {
            member.hands.sort_unstable();
            let in_hands = member.hands.iter().map(|copy| bit(copy.slot));
            used |= in_hands.fold(member.held, |all, one| all | one);
        }
        for (number, slot) in (0..).zip(&mut self.slots) {
            if !slot.stored && slot.pending.is_none() && used & bit(number) == 0 {
                (slot.message, slot.attempt) = (0, 0);
            }
        }
    }
}
