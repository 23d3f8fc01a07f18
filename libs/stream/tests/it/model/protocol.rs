//! The steps of the protocol: which are enabled in a state, and the state after them.

use super::faults::{crash, lose_entry, lose_stream, order, stall};
use super::law::Law;
use super::variant::Variant;
use super::world::{
    Faults, Kind, Member, Message, NOBODY, Slot, Slots, Stage, Waiting, World, bit,
};

/// A call of the log that is about one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Read,
    Claim,
    /// Claims what the member owns and does not hold.
    Own,
    Ack,
    Delay,
    Bury,
    Release,
}

/// What happens to an entry in a member's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    Offer,
    /// The handler commits the effect, or finds its inbox mark.
    Commit,
    Fail,
    Condemn,
    Pause,
    /// The handler panics, says nothing of it, or is stopped before it commits.
    Drop,
    /// The handler commits, and is stopped before it can say so.
    TimeOut,
    /// The handler puts it off.
    Snooze,
    /// An operator's order ends it before it is offered.
    Cancel,
    /// What was dropped is not the member's any more.
    GiveUp,
    /// Its dead letter is kept.
    Keep,
    /// The process dies of it.
    Die,
}

/// One atomic step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Append,
    MakeGroup,
    Tick,
    LoseStream,
    Promote {
        message: u8,
    },
    Trim {
        slot: u8,
    },
    LoseEntry {
        slot: u8,
    },
    Crash {
        by: u8,
    },
    Stall {
        by: u8,
    },
    /// An operator cancels a message.
    Order {
        message: u8,
    },
    Beat {
        by: u8,
        touched: Slots,
        lost: Slots,
    },
    Log {
        by: u8,
        call: Call,
        slot: u8,
        answered: bool,
    },
    Hand {
        by: u8,
        deed: Deed,
        slot: u8,
    },
}

/// A small world to explore.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// The messages that will be appended.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) members: usize,
    pub(crate) faults: Faults,
    /// Ticks.
    pub(crate) lease: u8,
    pub(crate) retry_wait: u8,
    pub(crate) retry_max: u8,
    pub(crate) deliveries_max: u8,
    /// Deliveries are counted no further.
    pub(crate) count_max: u8,
    pub(crate) trims: bool,
    /// Members may stop, and hand back what they did not start.
    pub(crate) hand_backs: bool,
}

/// Why a step does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotEnabled,
    Breaks(Law),
}

pub(super) type Stepped = Result<World, Refusal>;

pub(super) const NOT_ENABLED: Stepped = Err(Refusal::NotEnabled);

/// The protocol in a scene, whole or broken.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) scene: Scene,
    pub(crate) variant: Option<Variant>,
}

impl Model {
    pub(crate) fn start(&self) -> World {
        World {
            slots: Vec::new(),
            delivered: 0,
            group: true,
            delayed: Vec::new(),
            members: vec![Member::default(); self.scene.members],
            messages: Vec::new(),
            left: self.scene.faults,
        }
    }

    pub(crate) fn is(&self, variant: Variant) -> bool {
        self.variant == Some(variant)
    }

    pub(crate) fn kind(&self, message: u8) -> Kind {
        self.scene.kinds[usize::from(message)]
    }

    pub(crate) fn step(&self, world: &World, action: Action) -> Stepped {
        let mut next = match action {
            Action::Append => self.append(world),
            Action::MakeGroup => self.make_group(world),
            Action::Tick => self.tick(world),
            Action::LoseStream => lose_stream(world),
            Action::Promote { message } => self.promote(world, message),
            Action::Trim { slot } => self.trim(world, slot),
            Action::LoseEntry { slot } => lose_entry(world, slot),
            Action::Crash { by } => crash(world, by),
            Action::Stall { by } => stall(world, by),
            Action::Order { message } => order(world, message),
            Action::Beat { by, touched, lost } => self.beat(world, by, touched, lost),
            Action::Hand { by, deed, slot } => self.deed(world, by, deed, slot),
            Action::Log {
                by,
                call,
                slot,
                answered,
            } => self.call(world, by, call, slot, answered),
        }?;
        next.normalize();
        Ok(next)
    }

    fn append(&self, world: &World) -> Stepped {
        let message = u8::try_from(world.messages.len()).expect("few messages");
        if usize::from(message) == self.scene.kinds.len() {
            return NOT_ENABLED;
        }
        let mut next = world.clone();
        next.messages.push(Message::default());
        next.slots.push(fresh(message, 0));
        Ok(next)
    }

    fn make_group(&self, world: &World) -> Stepped {
        if world.group {
            return NOT_ENABLED;
        }
        let mut next = world.clone();
        next.group = true;
        next.delivered = if self.is(Variant::GroupMadeAtTheEnd) {
            world.numbers().end
        } else {
            0
        };
        Ok(next)
    }

    /// Time passes only while every heart that works has beaten: it has just renewed what it
    /// owns, and has heard of what it lost.
    fn tick(&self, world: &World) -> Stepped {
        let beaten = |(by, member): (u8, &Member)| {
            let mut held = world.numbers().filter(|slot| member.holds(*slot));
            member.stalled
                || held.all(|slot| match world.slot(slot).and_then(|it| it.pending) {
                    Some(pending) if pending.owner == by => pending.age == 0,
                    _ => world.is_gone(slot) || !is_firm(member, slot),
                })
        };
        if !(0..).zip(&world.members).all(beaten) {
            return NOT_ENABLED;
        }
        let mut next = world.clone();
        for pending in next.slots.iter_mut().filter_map(|it| it.pending.as_mut()) {
            pending.age = (pending.age + 1).min(self.scene.lease);
        }
        for waiting in &mut next.delayed {
            waiting.due = waiting.due.saturating_sub(1);
        }
        Ok(next)
    }

    fn promote(&self, world: &World, message: u8) -> Stepped {
        let due = |it: &Waiting| it.message == message && it.due == 0;
        let found = world.delayed.iter().position(due);
        let Some(found) = found.filter(|_| !self.is(Variant::NobodyPromotes)) else {
            return NOT_ENABLED;
        };
        let mut next = world.clone();
        let waiting = next.delayed.remove(found);
        if !self.is(Variant::PromoteRemovesFirst) {
            next.slots.push(fresh(message, waiting.attempt));
        }
        Ok(next)
    }

    fn trim(&self, world: &World, slot: u8) -> Stepped {
        let stored = |it: &u8| world.slot(*it).is_some_and(|it| it.stored);
        let owed = |it: &u8| world.owner(*it).is_some() || world.is_undelivered(*it);
        let floor = if self.is(Variant::TrimAtLastDelivered) {
            world.delivered
        } else {
            world.numbers().find(owed).unwrap_or(u8::MAX)
        };
        if !world.group || world.numbers().find(stored) != Some(slot) || slot >= floor {
            return NOT_ENABLED;
        }
        if owed(&slot) {
            return Err(Refusal::Breaks(Law::TrimKeeps));
        }
        let mut next = world.clone();
        next.slot_mut(slot).stored = false;
        Ok(next)
    }

    fn beat(&self, world: &World, by: u8, touched: Slots, told: Slots) -> Stepped {
        let mut next = world.clone();
        let mut lost = 0;
        for slot in world.numbers().filter(|slot| touched & bit(*slot) != 0) {
            let steals = self.is(Variant::TouchWithoutOwnerCheck);
            match world.owner(slot) {
                Some(owner) if owner == by || steals => {
                    check_lease(world, by, slot)?;
                    let pending = next.slot_mut(slot).pending.as_mut();
                    let pending = pending.expect("it has an owner");
                    (pending.owner, pending.age) = (by, 0);
                }
                None if world.is_gone(slot) && !self.is(Variant::TouchForgetsTheLastCopy) => {}
                _ => lost |= bit(slot),
            }
        }
        if lost != told {
            return NOT_ENABLED;
        }
        let member = next.member_mut(by);
        member.stalled &= touched & member.held != member.held;
        for slot in world.numbers().filter(|slot| lost & bit(*slot) != 0) {
            if is_firm(world.member(by), slot) {
                next.member_mut(by).forget(bit(slot));
                check_last_copy(world, &next, slot)?;
            }
        }
        Ok(next)
    }
}

pub(super) fn fresh(message: u8, attempt: u8) -> Slot {
    Slot {
        message,
        attempt,
        stored: true,
        pending: None,
    }
}

/// Not on its way out: it waits for work, is in work, or waits for its letter to be kept.
pub(super) fn is_firm(member: &Member, slot: u8) -> bool {
    use Stage::{Doomed, Dropped, Offered, Queued, Recovered};
    member
        .find(slot, &[Queued, Offered, Dropped, Recovered, Doomed])
        .is_some()
}

/// Nobody takes an entry from a member that works on it and whose heart beats.
pub(super) fn check_lease(world: &World, by: u8, slot: u8) -> Result<(), Refusal> {
    let Some(owner) = world.owner(slot).filter(|it| *it != NOBODY && *it != by) else {
        return Ok(());
    };
    let owner = world.member(owner);
    let goes_back = owner.find(slot, &[Stage::Returned]).is_some();
    if owner.holds(slot) && !goes_back && !owner.stalled {
        return Err(Refusal::Breaks(Law::LeaseHolds));
    }
    Ok(())
}

/// What the log has nothing left of stays in the hands that had it, or is back in the log.
pub(super) fn check_last_copy(before: &World, after: &World, slot: u8) -> Result<(), Refusal> {
    let message = before.slots[usize::from(slot)].message;
    let hands = |world: &World| {
        let mut hands = world.members.iter().flat_map(|member| &member.hands);
        hands.any(|it| world.slots[usize::from(it.slot)].message == message)
    };
    if before.is_gone(slot) && hands(before) && !hands(after) && !after.is_safe(message) {
        return Err(Refusal::Breaks(Law::LastCopyIsKept));
    }
    Ok(())
}
