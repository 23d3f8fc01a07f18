//! What may go wrong, as often as the scene allows.

use super::protocol::{NOT_ENABLED, Stepped};
use super::world::{Faults, Harm, Member, NOBODY, World};

pub(super) fn dead(mut next: World, by: u8) -> World {
    *next.member_mut(by) = Member::default();
    for pending in next.slots.iter_mut().filter_map(|it| it.pending.as_mut()) {
        if pending.owner == by {
            pending.owner = NOBODY;
        }
    }
    next
}

pub(super) fn crash(world: &World, by: u8) -> Stepped {
    if world.left.crashes == 0 {
        return NOT_ENABLED;
    }
    let mut next = world.clone();
    next.left.crashes -= 1;
    Ok(dead(next, by))
}

pub(super) fn stall(world: &World, by: u8) -> Stepped {
    let member = world.member(by);
    if world.left.stalls == 0 || member.stalled || member.held == 0 {
        return NOT_ENABLED;
    }
    let mut next = world.clone();
    next.left.stalls -= 1;
    next.member_mut(by).stalled = true;
    Ok(next)
}

pub(super) fn order(world: &World, message: u8) -> Stepped {
    let found = world.messages.get(usize::from(message));
    if world.left.cancels == 0 || found.is_none_or(|it| it.cancelled) {
        return NOT_ENABLED;
    }
    let mut next = world.clone();
    next.left.cancels -= 1;
    next.messages[usize::from(message)].cancelled = true;
    Ok(next)
}

pub(super) fn lose_entry(world: &World, slot: u8) -> Stepped {
    if world.left.lost_entries == 0 || world.slot(slot).is_none_or(|it| !it.stored) {
        return NOT_ENABLED;
    }
    let mut next = world.clone();
    next.left.lost_entries -= 1;
    let harm = if world.owner(slot).is_some() {
        Harm::Pending
    } else {
        Harm::Unseen
    };
    if harm == Harm::Pending || world.is_undelivered(slot) {
        let message = next.message_of(slot);
        (message.harm, message.told) = (harm, false);
    }
    next.slot_mut(slot).stored = false;
    Ok(next)
}

pub(super) fn lose_stream(world: &World) -> Stepped {
    if world.left.lost_streams == 0 {
        return NOT_ENABLED;
    }
    let mut next = world.clone();
    next.left.lost_streams -= 1;
    (next.group, next.delivered) = (false, 0);
    for slot in world.numbers() {
        if world.owner(slot).is_some() || world.is_undelivered(slot) {
            next.message_of(slot).harm = Harm::Unseen;
        }
        let slot = next.slot_mut(slot);
        (slot.stored, slot.pending) = (false, None);
    }
    Ok(next)
}

impl Faults {
    /// What is left of those that harm a process.
    pub(super) fn harms(self) -> [u8; 3] {
        [self.crashes, self.stalls, self.lost_answers]
    }
}
