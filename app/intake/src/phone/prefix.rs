//! What stands before a number: the digits one dials to leave the country, or to leave the town.

use regex_automata::nfa::thompson::{self, backtrack::BoundedBacktracker};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// A pattern that is looked for at the beginning of the digits.
#[derive(Debug)]
pub(super) enum Prefix {
    /// No number has one.
    None,
    /// The same digits for everybody, as nearly everywhere.
    Digits(&'static str),
    /// Anything else. Boxed, as few plans have one.
    Pattern(Box<BoundedBacktracker>),
}

/// Where a prefix was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it ends.
    pub(super) end: usize,
    /// What the first group of the pattern holds, if it took part.
    pub(super) first: Option<(usize, usize)>,
    /// What the second group holds, if it took part.
    pub(super) second: Option<(usize, usize)>,
}

impl Prefix {
    /// A prefix from its pattern; an empty one stands for none.
    pub(super) fn new(pattern: &'static str) -> Self {
        if pattern.is_empty() {
            Self::None
        } else if pattern.bytes().all(|byte| byte.is_ascii_digit()) {
            Self::Digits(pattern)
        } else {
            let built = BoundedBacktracker::builder()
                .syntax(syntax::Config::new().unicode(false).utf8(false))
                .thompson(thompson::Config::new().utf8(false))
                .build(pattern);
            Self::Pattern(Box::new(
                built.expect("a test builds every pattern that is shipped"),
            ))
        }
    }

    /// Looks for the prefix at the beginning of the digits.
    pub(super) fn find(&self, digits: &str) -> Option<Found> {
        match self {
            Self::None => None,
            Self::Digits(prefix) => digits.starts_with(prefix).then(|| Found {
                end: prefix.len(),
                ..Found::default()
            }),
            Self::Pattern(pattern) => search(pattern, digits),
        }
    }
}

fn search(pattern: &BoundedBacktracker, digits: &str) -> Option<Found> {
    let input = Input::new(digits).anchored(Anchored::Yes);
    let mut slots = [None; 6];
    // Fails only on texts far longer than any that gets here.
    pattern
        .try_search_slots(&mut pattern.create_cache(), &input, &mut slots)
        .ok()
        .flatten()?;
    let [_, end, ..] = slots;
    let group = |from: Option<NonMaxUsize>, to: Option<NonMaxUsize>| Some((from?.get(), to?.get()));
    Some(Found {
        end: end?.get(),
        first: group(slots[2], slots[3]),
        second: group(slots[4], slots[5]),
    })
}
