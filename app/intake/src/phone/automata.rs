//! The automata of the plans, which the build made of their patterns.

use regex_automata::dfa::dense;

/// Digits in, and out comes which patterns of a plan they fit.
pub(super) type Automaton = dense::DFA<&'static [u32]>;

/// An automaton is read where it lies, as numbers of four bytes.
#[repr(C, align(4))]
struct Aligned<Bytes: ?Sized>(Bytes);

static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/automata.bin")));
static STARTS: &[usize] = &include!(concat!(env!("OUT_DIR"), "/automata.starts"));

/// The automaton of the plan at this place in the file of plans.
pub(super) fn at(place: usize) -> Automaton {
    let bytes = STARTS.get(place).and_then(|start| BYTES.0.get(*start..));
    let bytes = bytes.expect("the build made one for each plan");
    let (automaton, _) = dense::DFA::from_bytes(bytes).expect("the build wrote it");
    automaton
}
