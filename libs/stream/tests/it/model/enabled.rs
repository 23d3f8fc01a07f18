//! The steps worth trying in a state. Those that are not enabled are refused by the protocol.

use super::protocol::{Action, Call, Deed, Model};
use super::variant::Variant;
use super::world::{InHand, Kind, Stage, World, bit};

/// What may become of a good message in the handler.
const GOOD: [Deed; 6] = [
    Deed::Commit,
    Deed::Fail,
    Deed::Drop,
    Deed::TimeOut,
    Deed::Snooze,
    Deed::Pause,
];

impl Model {
    /// Every step that may be enabled, faults included.
    pub(crate) fn candidates(&self, world: &World) -> Vec<Action> {
        let mut actions = vec![Action::Append, Action::MakeGroup, Action::Tick];
        for by in (0..).take(world.members.len()) {
            self.intake(world, by, &mut actions);
            let mut before = None;
            for copy in &world.member(by).hands {
                if before != Some(copy) {
                    self.work(world, by, *copy, &mut actions);
                }
                before = Some(copy);
            }
            actions.extend([Action::Crash { by }, Action::Stall { by }]);
        }
        if self.scene.faults.cancels > 0 {
            let messages = (0..).take(world.messages.len());
            actions.extend(messages.map(|message| Action::Order { message }));
        }
        let waiting = world.delayed.iter().map(|it| it.message);
        actions.extend(waiting.map(|message| Action::Promote { message }));
        let mut stored = world
            .numbers()
            .filter(|it| world.slots[usize::from(*it)].stored);
        if self.scene.faults.lost_entries > 0 {
            let owed = |it: &u8| world.owner(*it).is_some() || world.is_undelivered(*it);
            let lost = stored.clone().filter(owed);
            actions.extend(lost.map(|slot| Action::LoseEntry { slot }));
        }
        if let Some(slot) = stored.next().filter(|_| self.scene.trims) {
            actions.push(Action::Trim { slot });
        }
        if self.scene.faults.lost_streams > 0 {
            actions.push(Action::LoseStream);
        }
        actions
    }

    fn intake(&self, world: &World, by: u8, actions: &mut Vec<Action>) {
        let member = world.member(by);
        if let Some(slot) = world.next_fresh() {
            self.log(by, Call::Read, slot, actions);
        }
        for slot in world.numbers().filter(|slot| world.owner(*slot).is_some()) {
            self.log(by, Call::Claim, slot, actions);
            if self.scene.faults.lost_answers > 0 && world.owner(slot) == Some(by) {
                self.log(by, Call::Own, slot, actions);
            }
        }
        if member.held != 0 {
            let lost = |slot: &u8| {
                let gone = world.is_gone(*slot) && !self.is(Variant::TouchForgetsTheLastCopy);
                let stolen =
                    world.owner(*slot).is_some() && self.is(Variant::TouchWithoutOwnerCheck);
                member.holds(*slot) && world.owner(*slot) != Some(by) && !gone && !stolen
            };
            let lost = world.numbers().filter(lost).map(bit).sum();
            let touched = member.held;
            actions.push(Action::Beat { by, touched, lost });
        }
    }

    fn work(&self, world: &World, by: u8, copy: InHand, actions: &mut Vec<Action>) {
        let slot = copy.slot;
        let message = world.slots[usize::from(slot)].message;
        let kind = self.kind(message);
        let cancelled = world.messages[usize::from(message)].cancelled;
        let mut deed = |deed| actions.push(Action::Hand { by, deed, slot });
        match copy.stage {
            Stage::Queued | Stage::Recovered if cancelled => deed(Deed::Cancel),
            Stage::Queued => deed(Deed::Offer),
            Stage::Offered => match kind {
                Kind::Good => GOOD.into_iter().for_each(deed),
                Kind::Failing => deed(Deed::Fail),
                Kind::Malformed => deed(Deed::Condemn),
                Kind::Killer => deed(Deed::Die),
            },
            Stage::Recovered => [Deed::Offer, Deed::Fail].into_iter().for_each(deed),
            Stage::Dropped => deed(Deed::GiveUp),
            Stage::Doomed => deed(Deed::Keep),
            Stage::Loose => deed(Deed::Keep),
            Stage::Done
            | Stage::Failed
            | Stage::Snoozed
            | Stage::Kept
            | Stage::Returned
            | Stage::Told => {}
        }
        let hand_back = self.scene.hand_backs.then_some(Call::Release);
        let call = match copy.stage {
            Stage::Queued | Stage::Offered => hand_back,
            Stage::Dropped => return self.answered(by, Call::Own, slot, actions),
            Stage::Done | Stage::Told => Some(Call::Ack),
            Stage::Failed | Stage::Snoozed | Stage::Loose => Some(Call::Delay),
            Stage::Kept => Some(Call::Bury),
            Stage::Returned => Some(Call::Release),
            Stage::Doomed | Stage::Recovered => None,
        };
        if let Some(call) = call {
            self.log(by, call, slot, actions);
        }
        if self.is(Variant::AckBeforeCommit) {
            self.answered(by, Call::Ack, slot, actions);
        }
        if self.is(Variant::AckBeforeLetter) {
            self.answered(by, Call::Bury, slot, actions);
        }
    }

    /// With its answer, and without where that may happen.
    fn log(&self, by: u8, call: Call, slot: u8, actions: &mut Vec<Action>) {
        self.answered(by, call, slot, actions);
        if self.scene.faults.lost_answers > 0 {
            actions.push(Action::Log {
                by,
                call,
                slot,
                answered: false,
            });
        }
    }

    fn answered(&self, by: u8, call: Call, slot: u8, actions: &mut Vec<Action>) {
        actions.push(Action::Log {
            by,
            call,
            slot,
            answered: true,
        });
    }
}

impl Action {
    /// Something goes wrong that did not have to.
    pub(crate) fn is_fault(self) -> bool {
        match self {
            Self::LoseStream
            | Self::LoseEntry { .. }
            | Self::Crash { .. }
            | Self::Stall { .. }
            | Self::Order { .. }
            | Self::Log {
                answered: false, ..
            } => true,
            Self::Append
            | Self::MakeGroup
            | Self::Tick
            | Self::Promote { .. }
            | Self::Trim { .. }
            | Self::Beat { .. }
            | Self::Log { answered: true, .. }
            | Self::Hand { .. } => false,
        }
    }
}
