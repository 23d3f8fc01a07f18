//! The model as an acceptor: a trace is accepted when it is a way through the model.
//!
//! The model may be in several states after an event, for not everything is told: which retry was
//! promoted is seen when it is offered. The trace is refused when no state is left.

use std::fmt;

use ratebox_stream::EntryId;

use super::law;
use super::protocol::{Action, Call, Deed, Model, Refusal};
use super::trace::Event;
use super::world::{Slots, Stage, World, bit};

/// Where and why a trace is no way through the model.
pub(crate) struct Refused {
    pub(crate) at: usize,
    event: Event,
    why: Refusal,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, event, why } = self;
        match why {
            Refusal::NotEnabled => write!(f, "event {at} cannot happen here: {event:?}"),
            Refusal::Breaks(law) => {
                let law = law.sentence();
                write!(f, "event {at} breaks a law: {event:?}. {law}")
            }
        }
    }
}

/// Accepts a trace; returns the states in which the model may be after it.
pub(crate) fn replay(model: &Model, events: &[Event]) -> Result<Vec<World>, Refused> {
    let mut replay = Replay {
        model,
        worlds: vec![model.start()],
        ids: Vec::new(),
    };
    for (at, event) in events.iter().enumerate() {
        replay.event(event).map_err(|why| Refused {
            at,
            event: event.clone(),
            why,
        })?;
    }
    Ok(replay.worlds)
}

struct Replay<'a> {
    model: &'a Model,
    worlds: Vec<World>,
    /// The real id of each slot.
    ids: Vec<EntryId>,
}

type Accepted = Result<(), Refusal>;

// === impl Replay ===

impl Replay<'_> {
    fn event(&mut self, event: &Event) -> Accepted {
        match event {
            Event::Appended(id) => {
                self.ids.push(*id);
                self.all(Action::Append)
            }
            Event::GroupEnsured if self.worlds.iter().all(|it| it.group) => Ok(()),
            Event::GroupEnsured => self.all(Action::MakeGroup),
            Event::Read { by, ids, answered } => {
                self.each(ids, |slot| log(*by, Call::Read, slot, *answered))
            }
            Event::Claimed {
                by,
                entries,
                vanished,
                answered,
            } => self.claimed(*by, Call::Claim, entries, vanished, *answered),
            Event::Owned {
                by,
                entries,
                vanished,
            } => self.owned(*by, entries, vanished),
            Event::Beat { by, touched, lost } => {
                let (touched, lost) = (self.slots(touched)?, self.slots(lost)?);
                let by = *by;
                self.all(Action::Beat { by, touched, lost })
            }
            Event::Settled {
                by,
                call,
                id,
                answered,
            } => {
                let slot = self.slot(*id)?;
                self.all(log(*by, *call, slot, *answered))
            }
            Event::Promoted(ids) => self.promoted(ids),
            Event::Offered {
                by,
                id,
                message,
                attempt,
                deliveries,
            } => self.offered(*by, *id, (*message, *attempt, *deliveries)),
            Event::Handled { by, deed, id } => {
                let slot = self.slot(*id)?;
                self.all(hand(*by, *deed, slot))
            }
            Event::Kept { by, message } => self.kept(*by, *message),
            Event::Passed => self.all(Action::Tick),
            // A heart that has nothing to renew does not show that it beats again.
            Event::Stalled { by } if self.worlds.iter().all(|it| it.member(*by).stalled) => Ok(()),
            Event::Stalled { by } => self.all(Action::Stall { by: *by }),
            Event::Crashed { by } => self.all(Action::Crash { by: *by }),
            Event::Trimmed { removed } => (0..*removed).try_for_each(|_| self.trimmed()),
            Event::EntryLost(id) => {
                let slot = self.slot(*id)?;
                self.all(Action::LoseEntry { slot })
            }
            Event::StreamLost => self.all(Action::LoseStream),
        }
    }

    /// Takes the step in every state in which it is enabled; one is enough.
    fn all(&mut self, action: Action) -> Accepted {
        self.any(|_| vec![action])
    }

    /// Takes each of the steps in every state.
    fn any(&mut self, steps: impl Fn(&World) -> Vec<Action>) -> Accepted {
        let mut next: Vec<World> = Vec::new();
        let mut why = Refusal::NotEnabled;
        for world in &self.worlds {
            for action in steps(world) {
                match self.model.step(world, action) {
                    Ok(after) => match law::broken(&after) {
                        Some(law) => why = Refusal::Breaks(law),
                        None if next.contains(&after) => {}
                        None => next.push(after),
                    },
                    Err(Refusal::NotEnabled) => {}
                    Err(breaks) => why = breaks,
                }
            }
        }
        self.worlds = next;
        self.some_left(why)
    }

    fn some_left(&self, why: Refusal) -> Accepted {
        if self.worlds.is_empty() {
            Err(why)
        } else {
            Ok(())
        }
    }

    /// What the consumer does without telling anybody, where it can.
    fn silently(&mut self, by: u8, stage: Stage, deed: Deed) {
        for world in &mut self.worlds {
            let hands = world.member(by).hands.clone();
            for copy in hands.iter().filter(|it| it.stage == stage) {
                if let Ok(next) = self.model.step(world, hand(by, deed, copy.slot)) {
                    *world = next;
                }
            }
        }
    }

    /// What a handler said nothing of has failed; but of a batch that ran beyond its time, those
    /// without a retry left are offered once more. Which it was is seen later.
    fn maybe_failed(&mut self, by: u8) {
        let mut at = 0;
        while at < self.worlds.len() {
            let world = &self.worlds[at];
            let hands = world.member(by).hands.iter();
            let recovered = hands.filter(|it| it.stage == Stage::Recovered);
            let failed: Vec<World> = recovered
                .filter_map(|it| self.model.step(world, hand(by, Deed::Fail, it.slot)).ok())
                .collect();
            for world in failed {
                if !self.worlds.contains(&world) {
                    self.worlds.push(world);
                }
            }
            at += 1;
        }
    }

    fn each(&mut self, ids: &[EntryId], step: impl Fn(u8) -> Action) -> Accepted {
        ids.iter().try_for_each(|id| {
            let slot = self.slot(*id)?;
            self.all(step(slot))
        })
    }

    fn claimed(
        &mut self,
        by: u8,
        call: Call,
        entries: &[(EntryId, u32)],
        vanished: &[EntryId],
        answered: bool,
    ) -> Accepted {
        for (id, deliveries) in entries {
            let slot = self.slot(*id)?;
            self.all(log(by, call, slot, answered))?;
            let deliveries = self.capped(*deliveries);
            self.worlds.retain(|world| {
                let pending = world.slot(slot).and_then(|it| it.pending);
                pending.is_some_and(|it| it.deliveries == deliveries)
            });
            self.some_left(Refusal::NotEnabled)?;
        }
        for id in vanished {
            let slot = self.slot(*id)?;
            self.worlds
                .retain(|world| world.slot(slot).is_some_and(|it| !it.stored));
            self.all(log(by, call, slot, answered))?;
        }
        Ok(())
    }

    /// A member that looks for what its handler dropped gets all that it owns and does not hold,
    /// and leaves alone what it did not look for.
    fn owned(&mut self, by: u8, entries: &[(EntryId, u32)], vanished: &[EntryId]) -> Accepted {
        let looks = self
            .worlds
            .iter()
            .any(|it| it.member(by).has(Stage::Dropped));
        for entry in entries {
            let slot = self.slot(entry.0)?;
            let dropped = |it: &World| it.member(by).find(slot, &[Stage::Dropped]).is_some();
            let wanted = !looks || self.worlds.iter().any(dropped);
            self.claimed(by, Call::Own, &[*entry], &[], wanted)?;
        }
        self.claimed(by, Call::Own, &[], vanished, true)?;
        self.silently(by, Stage::Dropped, Deed::GiveUp);
        self.maybe_failed(by);
        Ok(())
    }

    fn promoted(&mut self, ids: &[EntryId]) -> Accepted {
        for id in ids {
            self.ids.push(*id);
            self.any(|world| {
                let messages = world.delayed.iter().map(|it| it.message);
                messages
                    .map(|message| Action::Promote { message })
                    .collect()
            })?;
        }
        Ok(())
    }

    fn offered(&mut self, by: u8, id: EntryId, seen: (u8, u32, u32)) -> Accepted {
        let slot = self.slot(id)?;
        self.all(hand(by, Deed::Offer, slot))?;
        let (message, attempt, deliveries) = seen;
        let deliveries = self.capped(deliveries);
        self.worlds.retain(|world| {
            let found = world.slot(slot);
            let same =
                found.is_some_and(|it| it.message == message && u32::from(it.attempt) == attempt);
            let mut hands = world.member(by).hands.iter();
            same && hands.any(|it| {
                it.slot == slot && it.stage == Stage::Offered && it.deliveries == deliveries
            })
        });
        self.some_left(Refusal::NotEnabled)
    }

    fn kept(&mut self, by: u8, message: u8) -> Accepted {
        self.any(|world| {
            let hands = world.member(by).hands.iter();
            let of_message = hands.filter(|it| {
                let slot = world.slot(it.slot);
                it.stage == Stage::Doomed && slot.is_some_and(|slot| slot.message == message)
            });
            of_message.map(|it| hand(by, Deed::Keep, it.slot)).collect()
        })
    }

    fn trimmed(&mut self) -> Accepted {
        self.any(|world| {
            let stored = |slot: &u8| world.slot(*slot).is_some_and(|it| it.stored);
            let oldest = world.numbers().find(stored);
            oldest
                .map(|slot| Action::Trim { slot })
                .into_iter()
                .collect()
        })
    }

    /// The newest slot with this id: a stream that was lost begins anew.
    fn slot(&self, id: EntryId) -> Result<u8, Refusal> {
        let found = self.ids.iter().rposition(|it| *it == id);
        let found = found.ok_or(Refusal::NotEnabled)?;
        Ok(u8::try_from(found).expect("few slots"))
    }

    fn slots(&self, ids: &[EntryId]) -> Result<Slots, Refusal> {
        ids.iter()
            .try_fold(0, |all, id| Ok(all | bit(self.slot(*id)?)))
    }

    fn capped(&self, deliveries: u32) -> u8 {
        let most = self.model.scene.count_max;
        u8::try_from(deliveries).map_or(most, |it| it.min(most))
    }
}

fn log(by: u8, call: Call, slot: u8, answered: bool) -> Action {
    Action::Log {
        by,
        call,
        slot,
        answered,
    }
}

fn hand(by: u8, deed: Deed, slot: u8) -> Action {
    Action::Hand { by, deed, slot }
}
