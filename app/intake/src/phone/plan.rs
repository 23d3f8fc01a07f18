//! One numbering plan: which digits are numbers of a country, and of what kind.

use regex_automata::Anchored;
use regex_automata::dfa::Automaton as _;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;

use super::automata::Automaton;
use super::prefix::Prefix;

/// What a number is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A landline.
    FixedLine,
    /// A mobile.
    Mobile,
    /// Where the plan does not tell the two apart.
    FixedLineOrMobile,
    /// Free for the caller.
    TollFree,
    /// Dear for the caller.
    PremiumRate,
    /// Both sides pay.
    SharedCost,
    /// Over the Internet.
    Voip,
    /// Follows a person.
    PersonalNumber,
    /// A pager.
    Pager,
    /// One number of a company everywhere.
    Uan,
    /// A mailbox.
    VoiceMail,
}

/// What a line of the file of plans describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Any number of the plan; only such a number has a kind.
    Any,
    /// Numbers of this kind.
    Kind(Kind),
    /// Digits that a number of this region begins with, where regions share a calling code.
    Leading,
}

/// Kinds in the order in which they are asked for; the first that fits counts.
const ASKED: [Kind; 8] = [
    Kind::PremiumRate,
    Kind::TollFree,
    Kind::SharedCost,
    Kind::Voip,
    Kind::PersonalNumber,
    Kind::Pager,
    Kind::Uan,
    Kind::VoiceMail,
];

/// Lengths as bits: bit n for n digits.
type Lengths = u64;

/// Whether digits are long enough, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Possible,
    /// Only within a town.
    LocalOnly,
    TooShort,
    TooLong,
    /// Between two possible lengths.
    Invalid,
}

/// The numbering plan of one region.
#[derive(Debug)]
pub(super) struct Plan {
    /// What one dials to leave the country.
    pub(super) international: Prefix,
    /// What one dials before a national number.
    pub(super) national: Prefix,
    /// What takes the place of a national prefix that holds a part of the number: digits, then the
    /// number of the group that follows them.
    pub(super) transform: Option<(&'static str, usize)>,
    possible: Lengths,
    local: Lengths,
    /// Fixed lines and mobiles share one pattern.
    is_shared: bool,
    /// What each pattern of the automaton describes, and the lengths it is for.
    uses: Vec<(Use, Lengths)>,
    automaton: Automaton,
    start: StateID,
}

/// What the digits of a number fit.
#[derive(Debug, Clone, Copy, Default)]
struct Fits {
    /// Any number of the plan, whatever its length.
    any: bool,
    /// Digits that belong to the region.
    leading: bool,
    /// Bits of [`Kind`], and the bit `ANY` when the length fits, too.
    kinds: u16,
}

const ANY: u16 = 1 << 15;

impl Plan {
    /// Reads the lines of a plan, but for its first, whose patterns are those of this automaton.
    pub(super) fn read(lines: &'static str, automaton: Automaton) -> Self {
        let mut plan = Draft::default();
        lines.lines().for_each(|line| plan.line(line));
        plan.with(automaton)
    }

    /// Whether the digits follow the pattern of any number, whatever their count.
    pub(super) fn is_number(&self, digits: &str) -> bool {
        self.fits(digits).any
    }

    /// Whether a number has these first digits that only this region has.
    pub(super) fn is_leading(&self, digits: &str) -> bool {
        self.fits(digits).leading
    }

    /// The kind of a number in use.
    pub(super) fn kind(&self, digits: &str) -> Option<Kind> {
        let kinds = self.fits(digits).kinds;
        let has = |kind: Kind| kinds & bit(kind) != 0;
        if kinds & ANY == 0 {
            return None;
        }
        if let Some(kind) = ASKED.into_iter().find(|kind| has(*kind)) {
            return Some(kind);
        }
        match (has(Kind::FixedLine), has(Kind::Mobile)) {
            (true, is_mobile) if self.is_shared || is_mobile => Some(Kind::FixedLineOrMobile),
            (true, _) => Some(Kind::FixedLine),
            (false, true) if !self.is_shared => Some(Kind::Mobile),
            (false, _) => None,
        }
    }

    /// Whether so many digits can be a number.
    pub(super) fn length(&self, count: usize) -> Length {
        let bit = 1_u64.checked_shl(count.try_into().unwrap_or(u32::MAX));
        let Some(bit) = bit else {
            return Length::TooLong;
        };
        if self.possible == 0 {
            Length::Invalid
        } else if self.local & bit != 0 {
            Length::LocalOnly
        } else if self.possible & bit != 0 {
            Length::Possible
        } else if bit < self.possible & self.possible.wrapping_neg() {
            Length::TooShort
        } else if bit > self.possible {
            Length::TooLong
        } else {
            Length::Invalid
        }
    }

    fn fits(&self, digits: &str) -> Fits {
        let mut state = self.start;
        for byte in digits.bytes() {
            state = self.automaton.next_state(state, byte);
        }
        state = self.automaton.next_eoi_state(state);
        let mut fits = Fits::default();
        if !self.automaton.is_match_state(state) {
            return fits;
        }
        for at in 0..self.automaton.match_len(state) {
            let pattern = self.automaton.match_pattern(state, at);
            let Some((used, lengths)) = self.uses.get(pattern.as_usize()) else {
                continue;
            };
            let is_length = lengths & 1_u64.checked_shl(digits.len() as u32).unwrap_or(0) != 0;
            match used {
                Use::Any => {
                    fits.any = true;
                    fits.kinds |= if is_length { ANY } else { 0 };
                }
                Use::Leading => fits.leading = true,
                Use::Kind(kind) => fits.kinds |= if is_length { bit(*kind) } else { 0 },
            }
        }
        fits
    }
}

fn bit(kind: Kind) -> u16 {
    1 << kind as u16
}

/// What was read of a plan so far.
#[derive(Default)]
struct Draft {
    international: &'static str,
    national: &'static str,
    transform: Option<(&'static str, usize)>,
    possible: Lengths,
    local: Lengths,
    is_shared: bool,
    /// One for each line with a pattern, in the order of the lines.
    uses: Vec<(Use, Lengths)>,
}

impl Draft {
    fn line(&mut self, line: &'static str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "international" => self.international = rest,
            "national" => self.national = rest,
            "transform" => {
                let (digits, group) = rest.split_once('$').expect("every rule names a group");
                self.transform = Some((digits, group.parse().expect("a group has a number")));
            }
            "leading" => self.uses.push((Use::Leading, Lengths::MAX)),
            "shared" => self.is_shared = true,
            "any" => {
                let (lengths, _) = rest.split_once(' ').expect("lengths come first");
                let (possible, local) = lengths.split_once('/').unwrap_or((lengths, ""));
                (self.possible, self.local) = (bits(possible), bits(local));
                self.uses.push((Use::Any, self.possible));
            }
            word => {
                let (lengths, _) = rest.split_once(' ').expect("lengths come first");
                let kind = kind(word).expect("the file knows only these words");
                let lengths = if lengths == "*" {
                    Lengths::MAX
                } else {
                    bits(lengths)
                };
                self.uses.push((Use::Kind(kind), lengths));
            }
        }
    }

    fn with(self, automaton: Automaton) -> Plan {
        let start = automaton
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .expect("it was built for anchored searches");
        Plan {
            international: Prefix::new(self.international),
            national: Prefix::new(self.national),
            transform: self.transform,
            possible: self.possible,
            local: self.local,
            is_shared: self.is_shared,
            uses: self.uses,
            automaton,
            start,
        }
    }
}

fn bits(lengths: &str) -> Lengths {
    let lengths = lengths.split(',').filter(|length| !length.is_empty());
    lengths.fold(0, |bits, length| {
        bits | 1 << length.parse::<u32>().expect("lengths are numbers")
    })
}

fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "fixed_line" => Kind::FixedLine,
        "mobile" => Kind::Mobile,
        "toll_free" => Kind::TollFree,
        "premium_rate" => Kind::PremiumRate,
        "shared_cost" => Kind::SharedCost,
        "voip" => Kind::Voip,
        "personal_number" => Kind::PersonalNumber,
        "pager" => Kind::Pager,
        "uan" => Kind::Uan,
        "voice_mail" => Kind::VoiceMail,
        _ => return None,
    })
}
