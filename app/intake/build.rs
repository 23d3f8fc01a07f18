//! Makes the automata of all numbering plans, so that no process has to: that took 60 ms of each
//! process that met numbers of all countries, and 2 MB of its memory.

use std::path::Path;
use std::{env, fs};

use regex_automata::MatchKind;
use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

const PLANS: &str = "src/phone/plans.txt";

fn main() {
    println!("cargo::rerun-if-changed={PLANS}");
    let text = fs::read_to_string(PLANS).expect("the file of plans lies beside this one");
    let is_big = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for plan in text.split("\n\n").filter(|it| !it.starts_with('#')) {
        let automaton = automaton(plan);
        let (padded, padding) = if is_big {
            automaton.to_bytes_big_endian()
        } else {
            automaton.to_bytes_little_endian()
        };
        starts.push(bytes.len());
        bytes.extend_from_slice(&padded[padding..]);
        // The next one must begin where a number of four bytes may.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let folder = env::var("OUT_DIR").expect("Cargo sets it for a build");
    let folder = Path::new(&folder);
    let starts = format!("{starts:?}");
    fs::write(folder.join("automata.bin"), bytes).expect("Cargo's folder can be written");
    fs::write(folder.join("automata.starts"), starts).expect("Cargo's folder can be written");
}

/// One automaton for all patterns of a plan: a number is walked once, and its last state says
/// everything.
fn automaton(plan: &str) -> dense::DFA<Vec<u32>> {
    // The first line names the region.
    let patterns: Vec<_> = plan.lines().skip(1).filter_map(pattern).collect();
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored);
    dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build_many(&patterns)
        .expect("every pattern that is shipped can be built")
}

/// The pattern of a line, if it has one: which digits fit from the first to the last.
fn pattern(line: &str) -> Option<String> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "international" | "national" | "transform" => None,
        "leading" => Some(format!("(?:{rest})[0-9]*")),
        _ => rest.split_once(' ').map(|(_, pattern)| pattern.to_owned()),
    }
}
