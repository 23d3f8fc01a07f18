//! The steps of the protocol: which are enabled in a state, and the state after them.

use super::law::Law;
use super::variant::Variant;
use super::world::{
    Copy_, Faults, Harm, Kind, Member, Message, NOBODY, Pending, Slot, Slots, Stage, Waiting,
    World, bit,
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
    /// The handler panics or says nothing of it.
    Drop,
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

type Stepped = Result<World, Refusal>;

const NOT_ENABLED: Stepped = Err(Refusal::NotEnabled);

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

    fn deed(&self, world: &World, by: u8, deed: Deed, slot: u8) -> Stepped {
        let from: &[Stage] = match deed {
            Deed::Offer => &[Stage::Queued, Stage::Recovered],
            Deed::Fail => &[Stage::Offered, Stage::Recovered],
            Deed::Commit | Deed::Condemn | Deed::Pause | Deed::Drop | Deed::Die => {
                &[Stage::Offered]
            }
            Deed::GiveUp => &[Stage::Dropped],
            Deed::Keep => &[Stage::Doomed, Stage::Loose],
        };
        let Some(found) = world.member(by).find(slot, from) else {
            return NOT_ENABLED;
        };
        let mut next = world.clone();
        let message = world.slots[usize::from(slot)].message;
        let kind = self.kind(message);
        let to = match deed {
            Deed::Offer if self.may_offer(world, by, found) => Stage::Offered,
            Deed::Commit if kind == Kind::Good => {
                let effects = &mut next.message_of(slot).effects;
                if *effects == 0 || self.is(Variant::NoInbox) {
                    *effects += 1;
                }
                Stage::Done
            }
            Deed::Fail if kind == Kind::Failing || harm(&mut next.left.failures, kind) => {
                self.after_failure(world, slot)
            }
            Deed::Drop if harm(&mut next.left.failures, kind) => Stage::Dropped,
            Deed::Condemn if kind == Kind::Malformed => Stage::Doomed,
            Deed::Pause if world.member(by).holds(slot) => Stage::Queued,
            Deed::Pause => {
                // Another took it meanwhile: it is not offered again.
                next.member_mut(by).hands.remove(found);
                return Ok(next);
            }
            Deed::GiveUp if world.owner(slot) != Some(by) => {
                next.member_mut(by).forget(bit(slot));
                return Ok(next);
            }
            Deed::Keep => {
                let letters = &mut next.message_of(slot).letters;
                if *letters == 0 || self.is(Variant::LetterWithoutKey) {
                    *letters += 1;
                }
                Stage::Kept
            }
            Deed::Die if kind == Kind::Killer => return Ok(dead(next, by)),
            _ => return NOT_ENABLED,
        };
        next.member_mut(by).hands[found].stage = to;
        Ok(next)
    }

    fn after_failure(&self, world: &World, slot: u8) -> Stage {
        let attempt = world.slots[usize::from(slot)].attempt;
        if attempt < self.scene.retry_max {
            Stage::Failed
        } else {
            Stage::Doomed
        }
    }

    /// A suspect is worked on while nothing else is, settlement included. What was got back within
    /// a batch goes on with it.
    fn may_offer(&self, world: &World, by: u8, found: usize) -> bool {
        let member = world.member(by);
        let copy = member.hands[found];
        let in_work = |it: &&Copy_| !matches!(it.stage, Stage::Queued | Stage::Returned);
        let others = member.hands.iter().filter(in_work);
        let mut others = others.filter(|it| **it != copy);
        let alone = |it: &Copy_| self.is_suspect(it.deliveries);
        let crowd = if alone(&copy) {
            others.next().is_some()
        } else {
            others.any(alone)
        };
        !crowd && (copy.stage == Stage::Recovered || !member.has(Stage::Returned))
    }

    fn is_suspect(&self, deliveries: u8) -> bool {
        deliveries == self.scene.deliveries_max && deliveries > 1
    }

    fn call(&self, world: &World, by: u8, call: Call, slot: u8, answered: bool) -> Stepped {
        let mut next = world.clone();
        if !answered {
            if world.left.lost_answers == 0 {
                return NOT_ENABLED;
            }
            next.left.lost_answers -= 1;
        }
        if world.slot(slot).is_none() {
            return NOT_ENABLED;
        }
        match call {
            Call::Read => self.read(world, next, by, slot, answered),
            Call::Claim => self.claim(world, next, by, slot, answered),
            Call::Own => self.own(world, next, by, slot),
            Call::Ack => self.ack(world, next, by, slot, answered),
            Call::Delay => self.delay(world, next, by, slot, answered),
            Call::Bury => self.bury(world, next, by, slot, answered),
            Call::Release => self.release(world, next, by, slot, answered),
        }
    }

    /// While a suspect is in work or others go back, the member takes nothing in.
    fn takes_in(&self, world: &World, by: u8) -> bool {
        let suspect = |it: &Copy_| it.stage != Stage::Queued && self.is_suspect(it.deliveries);
        let member = world.member(by);
        world.group && !member.hands.iter().any(suspect) && !member.has(Stage::Returned)
    }

    fn read(&self, world: &World, mut next: World, by: u8, slot: u8, answered: bool) -> Stepped {
        if !self.takes_in(world, by) || world.next_fresh() != Some(slot) {
            return NOT_ENABLED;
        }
        next.slot_mut(slot).pending = Some(Pending {
            owner: by,
            age: 0,
            deliveries: 1,
        });
        next.delivered = slot + 1;
        if answered {
            self.admit(&mut next, by, slot, 1)?;
        }
        Ok(next)
    }

    fn claim(&self, world: &World, mut next: World, by: u8, slot: u8, answered: bool) -> Stepped {
        let Some(pending) = world.slot(slot).and_then(|it| it.pending) else {
            return NOT_ENABLED;
        };
        let idle = pending.age >= self.lease() || self.is(Variant::ClaimWithoutIdleCheck);
        if !self.takes_in(world, by) || !idle || self.is(Variant::NobodyClaims) {
            return NOT_ENABLED;
        }
        if !world.slots[usize::from(slot)].stored {
            // A vanished entry of which the answer is lost is not told: a known hole.
            return if answered {
                Ok(self.vanish(next, slot))
            } else {
                NOT_ENABLED
            };
        }
        check_lease(world, by, slot)?;
        let deliveries = (pending.deliveries + 1).min(self.scene.deliveries_max + 1);
        next.slot_mut(slot).pending = Some(Pending {
            owner: by,
            age: 0,
            deliveries,
        });
        if answered {
            self.admit(&mut next, by, slot, deliveries)?;
        }
        Ok(next)
    }

    fn lease(&self) -> u8 {
        if self.is(Variant::LeaseOfOneBeat) {
            1
        } else {
            self.scene.lease
        }
    }

    fn vanish(&self, mut next: World, slot: u8) -> World {
        next.slot_mut(slot).pending = None;
        if !self.is(Variant::VanishedUntold) {
            next.message_of(slot).told = true;
        }
        next
    }

    fn own(&self, world: &World, mut next: World, by: u8, slot: u8) -> Stepped {
        let dropped = world.member(by).find(slot, &[Stage::Dropped]);
        let pending = world.slot(slot).and_then(|it| it.pending);
        let mine = pending.filter(|it| it.owner == by);
        let (Some(pending), true) = (mine, dropped.is_some() || !world.member(by).holds(slot))
        else {
            return NOT_ENABLED;
        };
        if !world.slots[usize::from(slot)].stored {
            next.member_mut(by).forget(bit(slot));
            return Ok(self.vanish(next, slot));
        }
        next.slot_mut(slot).pending = Some(Pending { age: 0, ..pending });
        match dropped {
            Some(found) => {
                let copy = &mut next.member_mut(by).hands[found];
                (copy.stage, copy.deliveries) = (Stage::Recovered, pending.deliveries);
            }
            None => self.admit(&mut next, by, slot, pending.deliveries)?,
        }
        Ok(next)
    }

    /// Takes an entry into a member's hands, unless it is there.
    fn admit(&self, next: &mut World, by: u8, slot: u8, deliveries: u8) -> Result<(), Refusal> {
        let message = next.slots[usize::from(slot)].message;
        let harmed = next.left.harms() != self.scene.faults.harms();
        let member = next.member_mut(by);
        if member.holds(slot) {
            return if self.is(Variant::AdmitsWhatItHolds) {
                Err(Refusal::Breaks(Law::OneHand))
            } else {
                Ok(())
            };
        }
        let suspect = |it: &Copy_| {
            self.is_suspect(it.deliveries) && matches!(it.stage, Stage::Queued | Stage::Offered)
        };
        let poison = deliveries > self.scene.deliveries_max;
        let stage = if poison && !self.is(Variant::PoisonNeverBuried) {
            if self.kind(message) != Kind::Killer && !harmed {
                return Err(Refusal::Breaks(Law::InnocentsAreSpared));
            }
            Stage::Doomed
        } else if self.is_suspect(deliveries)
            && member.hands.iter().any(suspect)
            && !self.is(Variant::SuspectsTogether)
        {
            Stage::Returned
        } else {
            Stage::Queued
        };
        member.held |= bit(slot);
        member.hands.push(Copy_ {
            slot,
            stage,
            deliveries,
        });
        Ok(())
    }

    /// Takes effect whoever owns the entry.
    fn ack(&self, world: &World, mut next: World, by: u8, slot: u8, answered: bool) -> Stepped {
        let from: &[Stage] = if self.is(Variant::AckBeforeCommit) {
            &[Stage::Offered, Stage::Done]
        } else {
            &[Stage::Done]
        };
        let Some(found) = world.member(by).find(slot, from) else {
            return NOT_ENABLED;
        };
        let message = world.slots[usize::from(slot)].message;
        if world.messages[usize::from(message)].effects == 0 {
            return Err(Refusal::Breaks(Law::AckAfterCommit));
        }
        next.slot_mut(slot).pending = None;
        if answered {
            next.settled(by, found);
        }
        Ok(next)
    }

    fn delay(&self, world: &World, mut next: World, by: u8, slot: u8, answered: bool) -> Stepped {
        let Some(found) = world.member(by).find(slot, &[Stage::Failed, Stage::Loose]) else {
            return NOT_ENABLED;
        };
        let loose = world.member(by).hands[found].stage == Stage::Loose;
        let mine = world.owner(slot) == Some(by);
        let saves = world.is_gone(slot) && !self.is(Variant::DelayWithoutSavingTheLastCopy);
        if mine {
            next.slot_mut(slot).pending = None;
            if self.is(Variant::AckBeforeDelay) {
                next.member_mut(by).hands[found].stage = Stage::Loose;
                return Ok(next);
            }
        }
        if mine || saves || loose {
            let Slot {
                message, attempt, ..
            } = world.slots[usize::from(slot)];
            next.delayed.push(Waiting {
                message,
                attempt: (attempt + 1).min(self.scene.retry_max),
                due: self.scene.retry_wait,
            });
        }
        if answered {
            next.settled(by, found);
        }
        check_last_copy(world, &next, slot)?;
        Ok(next)
    }

    fn bury(&self, world: &World, mut next: World, by: u8, slot: u8, answered: bool) -> Stepped {
        let hasty = self.is(Variant::AckBeforeLetter);
        let from = if hasty { Stage::Doomed } else { Stage::Kept };
        let Some(found) = world.member(by).find(slot, &[from]) else {
            return NOT_ENABLED;
        };
        if world.owner(slot) == Some(by) {
            next.slot_mut(slot).pending = None;
        }
        if hasty {
            next.member_mut(by).hands[found].stage = Stage::Loose;
        } else if answered {
            next.settled(by, found);
        }
        Ok(next)
    }

    fn release(&self, world: &World, mut next: World, by: u8, slot: u8, answered: bool) -> Stepped {
        let from = [
            Stage::Queued,
            Stage::Offered,
            Stage::Doomed,
            Stage::Returned,
        ];
        let Some(found) = world.member(by).find(slot, &from) else {
            return NOT_ENABLED;
        };
        let deliveries = world.member(by).hands[found].deliveries;
        let owned =
            |it: &&mut Pending| it.owner == by || self.is(Variant::ReleaseWithoutOwnerCheck);
        if let Some(pending) = next.slot_mut(slot).pending.as_mut().filter(owned) {
            pending.age = self.scene.lease;
            pending.deliveries = deliveries.saturating_sub(1);
        }
        if answered {
            next.settled(by, found);
        } else {
            next.member_mut(by).hands[found].stage = Stage::Returned;
        }
        Ok(next)
    }
}

impl World {
    /// The log answered: the entry leaves the member's hands.
    fn settled(&mut self, by: u8, found: usize) {
        let member = self.member_mut(by);
        let copy = member.hands.remove(found);
        member.forget(bit(copy.slot));
    }
}

fn fresh(message: u8, attempt: u8) -> Slot {
    Slot {
        message,
        attempt,
        stored: true,
        pending: None,
    }
}

/// Not on its way out: it waits for work, is in work, or waits for its letter to be kept.
fn is_firm(member: &Member, slot: u8) -> bool {
    use Stage::{Doomed, Dropped, Offered, Queued, Recovered};
    member
        .find(slot, &[Queued, Offered, Dropped, Recovered, Doomed])
        .is_some()
}

/// Uses up one fault; a good message only.
fn harm(left: &mut u8, kind: Kind) -> bool {
    let may = *left > 0 && kind == Kind::Good;
    *left -= u8::from(may);
    may
}

/// Nobody takes an entry from a member that works on it and whose heart beats.
fn check_lease(world: &World, by: u8, slot: u8) -> Result<(), Refusal> {
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
fn check_last_copy(before: &World, after: &World, slot: u8) -> Result<(), Refusal> {
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

fn dead(mut next: World, by: u8) -> World {
    *next.member_mut(by) = Member::default();
    for pending in next.slots.iter_mut().filter_map(|it| it.pending.as_mut()) {
        if pending.owner == by {
            pending.owner = NOBODY;
        }
    }
    next
}

// === faults ===

fn crash(world: &World, by: u8) -> Stepped {
    let mut next = world.clone();
    if next.left.crashes == 0 {
        return NOT_ENABLED;
    }
    next.left.crashes -= 1;
    Ok(dead(next, by))
}

fn stall(world: &World, by: u8) -> Stepped {
    let mut next = world.clone();
    let member = world.member(by);
    if next.left.stalls == 0 || member.stalled || member.held == 0 {
        return NOT_ENABLED;
    }
    next.left.stalls -= 1;
    next.member_mut(by).stalled = true;
    Ok(next)
}

fn lose_entry(world: &World, slot: u8) -> Stepped {
    let mut next = world.clone();
    if next.left.lost_entries == 0 || world.slot(slot).is_none_or(|it| !it.stored) {
        return NOT_ENABLED;
    }
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

fn lose_stream(world: &World) -> Stepped {
    let mut next = world.clone();
    if next.left.lost_streams == 0 {
        return NOT_ENABLED;
    }
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
    fn harms(self) -> [u8; 3] {
        [self.crashes, self.stalls, self.lost_answers]
    }
}
