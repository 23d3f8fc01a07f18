//! What must hold, each in a sentence.

use super::protocol::Model;
use super::world::{Harm, World};

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    NothingIsLost,
    AckAfterCommit,
    OneEffect,
    OneLetter,
    TrimKeeps,
    LeaseHolds,
    OneHand,
    InnocentsAreSpared,
    LastCopyIsKept,
    AttemptsAreEarned,
    EverythingEnds,
}

impl Law {
    pub(crate) const ALL: [Self; 11] = [
        Self::NothingIsLost,
        Self::AckAfterCommit,
        Self::OneEffect,
        Self::OneLetter,
        Self::TrimKeeps,
        Self::LeaseHolds,
        Self::OneHand,
        Self::InnocentsAreSpared,
        Self::LastCopyIsKept,
        Self::AttemptsAreEarned,
        Self::EverythingEnds,
    ];

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::NothingIsLost => {
                "Every appended message is undelivered, pending, delayed, dead or done, or the log \
                 lost it and that was told."
            }
            Self::AckAfterCommit => "No entry is acknowledged before its effect is committed.",
            Self::OneEffect => "A message has at most one effect, given the inbox.",
            Self::OneLetter => "A message has at most one dead letter.",
            Self::TrimKeeps => "A trim removes nothing that is pending or undelivered.",
            Self::LeaseHolds => {
                "An entry is not taken from a member that works on it and whose heart beats."
            }
            Self::OneHand => "A member never gets an entry that it holds a second time.",
            Self::InnocentsAreSpared => {
                "While no process is harmed from outside, only what kills processes is poison."
            }
            Self::LastCopyIsKept => {
                "A member that holds the last copy of a message does not give it up."
            }
            Self::AttemptsAreEarned => {
                "A message has used no more attempts than handlers failed with it."
            }
            Self::EverythingEnds => {
                "From every reachable state, with no more faults, everything can end: done, dead \
                 or told as lost, and nobody holds anything."
            }
        }
    }
}

/// The law that a state breaks. The others are about steps, and are checked where they are made.
pub(crate) fn broken(world: &World) -> Option<Law> {
    for (number, message) in (0..).zip(&world.messages) {
        if message.effects > 1 {
            return Some(Law::OneEffect);
        }
        if message.letters > 1 {
            return Some(Law::OneLetter);
        }
        if !world.is_safe(number) && !is_lost_by_the_log(world, number) {
            return Some(Law::NothingIsLost);
        }
    }
    let slots = world.slots.iter().map(|it| (it.message, it.attempt));
    let waiting = world.delayed.iter().map(|it| (it.message, it.attempt));
    let unearned = |(message, attempt): (u8, u8)| {
        let message = world.messages.get(usize::from(message));
        message.is_some_and(|it| attempt > it.failed)
    };
    let mut attempts = slots.chain(waiting);
    attempts.any(unearned).then_some(Law::AttemptsAreEarned)
}

fn is_lost_by_the_log(world: &World, message: u8) -> bool {
    let message = world.messages[usize::from(message)];
    match message.harm {
        Harm::None => false,
        Harm::Pending => message.told,
        Harm::Unseen => true,
    }
}

/// Nothing is left to be done.
pub(crate) fn is_over(model: &Model, world: &World) -> bool {
    world.messages.len() == model.scene.kinds.len()
        && world.group
        && world.delayed.is_empty()
        && world.next_fresh().is_none()
        && world.slots.iter().all(|slot| slot.pending.is_none())
        && world.members.iter().all(|member| member.hands.is_empty())
}

impl World {
    /// Done, dead, or still in the log.
    pub(crate) fn is_safe(&self, message: u8) -> bool {
        let became = self.messages[usize::from(message)];
        became.effects > 0 || became.letters > 0 || self.is_in_log(message)
    }
}
