//! All numbering plans, by region and by calling code. A plan is read when it is first asked for:
//! most workers see the numbers of a few countries.

use std::sync::{LazyLock, OnceLock};

use super::automata;
use super::plan::{Kind, Plan};

/// What `cargo xtask plans` writes.
const TEXT: &str = include_str!("plans.txt");

/// Calling codes have at most three digits.
const CALLING_CODES: usize = 1_000;
/// Longest calling code, in digits.
const CALLING_CODE_DIGITS_MAX: usize = 3;

/// A region with its calling code, and its plan once that was asked for.
#[derive(Debug)]
pub(super) struct Region {
    /// Two letters, or `001` for the codes of no country.
    pub(super) letters: &'static str,
    pub(super) calling_code: u16,
    /// Which plan of the file it is.
    place: usize,
    lines: &'static str,
    plan: OnceLock<Box<Plan>>,
}

impl Region {
    pub(super) fn plan(&self) -> &Plan {
        self.plan
            .get_or_init(|| Box::new(Plan::read(self.lines, automata::at(self.place))))
    }
}

struct Plans {
    regions: Vec<Region>,
    /// Places in `regions` by calling code; the main region of a code comes first.
    by_code: Vec<Vec<u16>>,
}

static PLANS: LazyLock<Plans> = LazyLock::new(Plans::read);

impl Plans {
    fn read() -> Self {
        let mut plans = Self {
            regions: Vec::new(),
            by_code: vec![Vec::new(); CALLING_CODES],
        };
        let blocks = TEXT.split("\n\n").filter(|block| !block.starts_with('#'));
        blocks.for_each(|block| plans.add(block));
        plans
    }

    /// A block begins with letters, calling code and, for the first of several regions, `main`.
    fn add(&mut self, block: &'static str) {
        let (first, lines) = block.split_once('\n').unwrap_or((block, ""));
        let mut words = first.split(' ');
        let (Some(letters), Some(code)) = (words.next(), words.next()) else {
            return;
        };
        let calling_code: u16 = code.parse().expect("a calling code is a number");
        let place = self.regions.len();
        let shared = place.try_into().expect("the world is small");
        let places = &mut self.by_code[usize::from(calling_code)];
        match words.next() {
            Some(_) => places.insert(0, shared),
            None => places.push(shared),
        }
        self.regions.push(Region {
            letters,
            calling_code,
            place,
            lines,
            plan: OnceLock::new(),
        });
    }
}

/// The region with these letters, if it has a numbering plan.
pub(super) fn by_letters(letters: &str) -> Option<&'static Region> {
    PLANS.regions.iter().find(|it| it.letters == letters)
}

/// The regions that share a calling code, the main one first.
pub(super) fn by_code(calling_code: u16) -> impl Iterator<Item = &'static Region> {
    let places = PLANS.by_code.get(usize::from(calling_code));
    let places = places.map(Vec::as_slice).unwrap_or_default();
    places
        .iter()
        .filter_map(|place| PLANS.regions.get(usize::from(*place)))
}

/// The main region of a calling code.
pub(super) fn main_of(calling_code: u16) -> Option<&'static Region> {
    by_code(calling_code).next()
}

/// The calling code that digits begin with, and how many digits it has.
pub(super) fn leading_code(digits: &str) -> Option<(u16, usize)> {
    if digits.starts_with('0') {
        return None;
    }
    (1..=CALLING_CODE_DIGITS_MAX).find_map(|count| {
        let code = digits.get(..count)?.parse().ok()?;
        main_of(code).map(|_| (code, count))
    })
}

/// The kind of a number in use, in whichever region of its calling code it belongs to.
pub(super) fn kind(calling_code: u16, digits: &str) -> Option<Kind> {
    let mut regions = by_code(calling_code);
    let first = regions.next()?;
    let mut rest = regions.peekable();
    if rest.peek().is_none() {
        return first.plan().kind(digits);
    }
    for region in std::iter::once(first).chain(rest) {
        let plan = region.plan();
        let kind = plan.kind(digits);
        if kind.is_some() || plan.is_leading(digits) {
            return kind;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_that_is_shipped_can_be_built() {
        for region in &PLANS.regions {
            assert!(region.plan().is_number("1") || !region.letters.is_empty());
        }
        assert_eq!(PLANS.regions.len(), 254);
        assert_eq!(main_of(1).map(|it| it.letters), Some("US"));
        assert_eq!(main_of(800).map(|it| it.letters), Some("001"));
    }
}
