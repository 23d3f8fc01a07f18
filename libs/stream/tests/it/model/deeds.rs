//! What happens to an entry in a member's hands: the handler, and its dead letter.

use super::faults::dead;
use super::protocol::{Deed, Model, NOT_ENABLED, Stepped};
use super::variant::Variant;
use super::world::{InHand, Kind, Stage, World, bit};

impl Model {
    pub(super) fn deed(&self, world: &World, by: u8, deed: Deed, slot: u8) -> Stepped {
        let from: &[Stage] = match deed {
            Deed::Offer => &[Stage::Queued, Stage::Recovered],
            Deed::Fail => &[Stage::Offered, Stage::Recovered],
            Deed::Commit
            | Deed::Condemn
            | Deed::Pause
            | Deed::Drop
            | Deed::TimeOut
            | Deed::Snooze
            | Deed::Die => &[Stage::Offered],
            Deed::Cancel => &[Stage::Queued, Stage::Recovered],
            Deed::GiveUp => &[Stage::Dropped],
            Deed::Keep => &[Stage::Doomed, Stage::Loose],
        };
        let Some(found) = world.member(by).find(slot, from) else {
            return NOT_ENABLED;
        };
        let mut next = world.clone();
        let message = world.slots[usize::from(slot)].message;
        let kind = self.kind(message);
        let cancelled = world.messages[usize::from(message)].cancelled;
        let to = match deed {
            Deed::Offer if !cancelled && self.may_offer(world, by, found) => Stage::Offered,
            Deed::Commit if kind == Kind::Good => {
                self.commit(&mut next, slot);
                Stage::Done
            }
            Deed::Fail if kind == Kind::Failing || harm(&mut next.left.failures, kind) => {
                let failed = &mut next.message_of(slot).failed;
                *failed = (*failed + 1).min(self.scene.retry_max);
                self.after_failure(world, slot)
            }
            Deed::Drop if harm(&mut next.left.failures, kind) => {
                match self.is(Variant::TimeOutTakenForDone) {
                    true => Stage::Done,
                    false => Stage::Dropped,
                }
            }
            Deed::TimeOut if harm(&mut next.left.failures, kind) => {
                self.commit(&mut next, slot);
                Stage::Dropped
            }
            Deed::Snooze if harm(&mut next.left.failures, kind) => Stage::Snoozed,
            Deed::Cancel if cancelled => match self.is(Variant::CancelWithoutLetter) {
                true => Stage::Kept,
                false => Stage::Doomed,
            },
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

    fn commit(&self, next: &mut World, slot: u8) {
        let effects = &mut next.message_of(slot).effects;
        if *effects == 0 || self.is(Variant::NoInbox) {
            *effects += 1;
        }
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
        let in_work =
            |it: &&InHand| !matches!(it.stage, Stage::Queued | Stage::Returned | Stage::Told);
        let others = member.hands.iter().filter(in_work);
        let mut others = others.filter(|it| **it != copy);
        let alone = |it: &InHand| self.is_suspect(it.deliveries);
        let crowd = if alone(&copy) {
            others.next().is_some()
        } else {
            others.any(alone)
        };
        !crowd && (copy.stage == Stage::Recovered || !member.has(Stage::Returned))
    }

    pub(super) fn is_suspect(&self, deliveries: u8) -> bool {
        deliveries == self.scene.deliveries_max && deliveries > 1
    }
}

/// Uses up one fault; a good message only.
fn harm(left: &mut u8, kind: Kind) -> bool {
    let may = *left > 0 && kind == Kind::Good;
    *left -= u8::from(may);
    may
}
