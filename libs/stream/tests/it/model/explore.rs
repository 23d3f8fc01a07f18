//! Visits every state, breadth first: the first broken law comes with a shortest way there.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use super::hasher::Fast;
use super::law::{self, Law};
use super::protocol::{Action, Model, Refusal};
use super::world::World;

/// More states than any scene has: a mistake in the model ends here, not in a full memory.
const STATES_MAX: usize = 2_000_000;

/// What was found.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    pub(crate) broken: Option<Broken>,
}

/// A law that does not hold, and a shortest way to see it.
pub(crate) struct Broken {
    pub(crate) law: Law,
    pub(crate) way: Vec<Action>,
}

/// Every reachable state, how it was reached first, and the steps between that are no faults.
#[derive(Default)]
struct Visited {
    numbers: HashMap<Rc<World>, u32, BuildHasherDefault<Fast>>,
    worlds: Vec<Rc<World>>,
    /// For each state where it was reached from, and by what.
    from: Vec<Option<(u32, Action)>>,
    faultless: Vec<(u32, u32)>,
}

// === impl Visited ===

impl Visited {
    /// Returns the number of a state, and whether it is new.
    fn add(&mut self, world: World, from: Option<(u32, Action)>) -> (u32, bool) {
        if let Some(number) = self.numbers.get(&world) {
            return (*number, false);
        }
        assert!(self.worlds.len() < STATES_MAX, "no bound: {world:#?}");
        let number = u32::try_from(self.worlds.len()).expect("fewer states");
        let world = Rc::new(world);
        self.numbers.insert(Rc::clone(&world), number);
        self.worlds.push(world);
        self.from.push(from);
        (number, true)
    }

    fn way_to(&self, mut number: u32) -> Vec<Action> {
        let mut way = Vec::new();
        while let Some((from, action)) = self.from[number as usize] {
            way.push(action);
            number = from;
        }
        way.reverse();
        way
    }

    /// The first state from which nothing leads to an end without a fault.
    fn stuck(&self, model: &Model) -> Option<u32> {
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); self.worlds.len()];
        for (from, to) in &self.faultless {
            into[*to as usize].push(*from);
        }
        let over = |number: &u32| law::is_over(model, &self.worlds[*number as usize]);
        let mut open: Vec<u32> = (0..).take(self.worlds.len()).filter(over).collect();
        let mut ends = vec![false; self.worlds.len()];
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut ends[number as usize], true) {
                open.append(&mut into[number as usize]);
            }
        }
        let stuck = ends.iter().position(|ends| !ends)?;
        u32::try_from(stuck).ok()
    }
}

/// Visits every state of the model, up to the first that breaks a law.
pub(crate) fn explore(model: &Model) -> Explored {
    let mut visited = Visited::default();
    visited.add(model.start(), None);
    let (mut next, mut steps) = (0, 0);
    let mut broken = None;
    while broken.is_none() && (next as usize) < visited.worlds.len() {
        let world = Rc::clone(&visited.worlds[next as usize]);
        for action in model.candidates(&world) {
            let after = match model.step(&world, action) {
                Ok(after) => after,
                Err(Refusal::NotEnabled) => continue,
                Err(Refusal::Breaks(law)) => {
                    let mut way = visited.way_to(next);
                    way.push(action);
                    broken = Some(Broken { law, way });
                    break;
                }
            };
            steps += 1;
            let (number, new) = visited.add(after, Some((next, action)));
            if !action.is_fault() {
                visited.faultless.push((next, number));
            }
            if let Some(law) = law::broken(&visited.worlds[number as usize]).filter(|_| new) {
                let way = visited.way_to(number);
                broken = Some(Broken { law, way });
                break;
            }
        }
        next += 1;
    }
    let broken = broken.or_else(|| {
        let way = visited.way_to(visited.stuck(model)?);
        let law = Law::EverythingEnds;
        Some(Broken { law, way })
    });
    let states = visited.worlds.len();
    Explored {
        states,
        steps,
        broken,
    }
}
