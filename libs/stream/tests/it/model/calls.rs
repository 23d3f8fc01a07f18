//! The calls of the log that are about one entry, and what a member admits into its hands.

use super::law::Law;
use super::protocol::{Call, Model, NOT_ENABLED, Refusal, Stepped, check_last_copy, check_lease};
use super::variant::Variant;
use super::world::{InHand, Kind, Pending, Slot, Stage, Waiting, World, bit};

impl Model {
    pub(super) fn call(
        &self,
        world: &World,
        by: u8,
        call: Call,
        slot: u8,
        answered: bool,
    ) -> Stepped {
        if world.slot(slot).is_none() {
            return NOT_ENABLED;
        }
        match call {
            Call::Read => self.read(world, by, slot, answered),
            Call::Claim => self.claim(world, by, slot, answered),
            Call::Own => self.own(world, by, slot, answered),
            Call::Ack => self.ack(world, by, slot, answered),
            Call::Delay => self.delay(world, by, slot, answered),
            Call::Bury => self.bury(world, by, slot, answered),
            Call::Release => self.release(world, by, slot, answered),
        }
    }

    /// While a suspect is in work, the member takes nothing in. One that only waits for its
    /// letter to be kept is in no work.
    fn takes_in(&self, world: &World, by: u8) -> bool {
        let waits = [Stage::Queued, Stage::Returned, Stage::Doomed, Stage::Told];
        let in_work = |it: &InHand| !waits.contains(&it.stage);
        let mut hands = world.member(by).hands.iter();
        world.group && !hands.any(|it| in_work(it) && self.is_suspect(it.deliveries))
    }

    fn read(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        // One claim may bring many of which some go back; nothing else happens before they did.
        let goes_back = world.member(by).has(Stage::Returned);
        if !self.takes_in(world, by) || goes_back || world.next_fresh() != Some(slot) {
            return NOT_ENABLED;
        }
        let mut next = asked(world, answered)?;
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

    fn claim(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        let Some(pending) = world.slot(slot).and_then(|it| it.pending) else {
            return NOT_ENABLED;
        };
        // Redis cannot renew what vanished: it may look idle although the heart of its owner beats.
        let vanished = !world.slots[usize::from(slot)].stored;
        let idle = pending.age >= self.lease() || self.is(Variant::ClaimWithoutIdleCheck);
        if !self.takes_in(world, by) || !(idle || vanished) || self.is(Variant::NobodyClaims) {
            return NOT_ENABLED;
        }
        let mut next = asked(world, answered)?;
        if vanished {
            // Who holds it has the last copy, and says nothing.
            let holds = world.member(by).holds(slot);
            return Ok(match holds {
                true => next,
                false => self.vanish(next, by, slot, answered),
            });
        }
        check_lease(world, by, slot)?;
        let deliveries = (pending.deliveries + 1).min(self.scene.count_max);
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

    /// It stays pending until whoever was told has said so: an answer that gets lost hides nothing.
    fn vanish(&self, mut next: World, by: u8, slot: u8, answered: bool) -> World {
        if self.is(Variant::VanishedForgottenAtOnce) {
            next.slot_mut(slot).pending = None;
        }
        if !answered {
            return next;
        }
        if !self.is(Variant::VanishedUntold) {
            next.message_of(slot).told = true;
        }
        let member = next.member_mut(by);
        if member.find(slot, &[Stage::Told]).is_none() {
            member.hands.push(InHand {
                slot,
                stage: Stage::Told,
                deliveries: 0,
            });
        }
        next
    }

    /// Unanswered: the member looked for something else, and has only touched this one.
    fn own(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        let dropped = world.member(by).find(slot, &[Stage::Dropped]);
        let pending = world.slot(slot).and_then(|it| it.pending);
        let mine = pending.filter(|it| it.owner == by);
        let (Some(pending), true) = (mine, dropped.is_some() || !world.member(by).holds(slot))
        else {
            return NOT_ENABLED;
        };
        let mut next = asked(world, answered)?;
        if answered && !world.slots[usize::from(slot)].stored {
            next.member_mut(by).forget(bit(slot));
            return Ok(self.vanish(next, by, slot, true));
        }
        next.slot_mut(slot).pending = Some(Pending { age: 0, ..pending });
        match dropped {
            _ if !answered => {}
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
        let suspect = |it: &InHand| {
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
        member.hands.push(InHand {
            slot,
            stage,
            deliveries,
        });
        Ok(())
    }

    /// Takes effect whoever owns the entry.
    fn ack(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        let from: &[Stage] = if self.is(Variant::AckBeforeCommit) {
            &[Stage::Offered, Stage::Done]
        } else {
            &[Stage::Done, Stage::Told]
        };
        let Some(found) = world.member(by).find(slot, from) else {
            return NOT_ENABLED;
        };
        let message = world.slots[usize::from(slot)].message;
        let told = world.member(by).hands[found].stage == Stage::Told;
        if world.messages[usize::from(message)].effects == 0 && !told {
            return Err(Refusal::Breaks(Law::AckAfterCommit));
        }
        let mut next = asked(world, answered)?;
        next.slot_mut(slot).pending = None;
        if answered {
            next.settled(by, found);
        }
        Ok(next)
    }

    fn delay(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        let from = [Stage::Failed, Stage::Snoozed, Stage::Loose];
        let Some(found) = world.member(by).find(slot, &from) else {
            return NOT_ENABLED;
        };
        let snoozed = world.member(by).hands[found].stage == Stage::Snoozed;
        let spends = !snoozed || self.is(Variant::SnoozeSpendsAnAttempt);
        let loose = world.member(by).hands[found].stage == Stage::Loose;
        let mine = world.owner(slot) == Some(by);
        let saves = world.is_gone(slot) && !self.is(Variant::DelayWithoutSavingTheLastCopy);
        let mut next = asked(world, answered)?;
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
                attempt: (attempt + u8::from(spends)).min(self.scene.retry_max),
                due: self.scene.retry_wait,
            });
        }
        if answered {
            next.settled(by, found);
        }
        check_last_copy(world, &next, slot)?;
        Ok(next)
    }

    fn bury(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        let hasty = self.is(Variant::AckBeforeLetter);
        let from = if hasty { Stage::Doomed } else { Stage::Kept };
        let Some(found) = world.member(by).find(slot, &[from]) else {
            return NOT_ENABLED;
        };
        let mut next = asked(world, answered)?;
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

    fn release(&self, world: &World, by: u8, slot: u8, answered: bool) -> Stepped {
        let member = world.member(by);
        let unstarted = [Stage::Queued, Stage::Offered, Stage::Doomed];
        let found = member.find(slot, &[Stage::Returned]);
        let Some(found) = found.or_else(|| member.find(slot, &unstarted)) else {
            return NOT_ENABLED;
        };
        let deliveries = member.hands[found].deliveries;
        let owned =
            |it: &&mut Pending| it.owner == by || self.is(Variant::ReleaseWithoutOwnerCheck);
        let mut next = asked(world, answered)?;
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

/// The state in which the log is asked; an answer that gets lost uses up a fault.
fn asked(world: &World, answered: bool) -> Stepped {
    if !answered && world.left.lost_answers == 0 {
        return NOT_ENABLED;
    }
    let mut next = world.clone();
    next.left.lost_answers -= u8::from(!answered);
    Ok(next)
}
