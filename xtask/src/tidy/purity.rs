//! app/intake decides and does nothing else: no async, no input or output, no clock.

use super::Finding;
use super::source::{Source, names_path, words};

const RULE: &str = "purity of intake";
const WORDS: [&str; 8] = [
    "async",
    "await",
    "tokio",
    "Clock",
    "Stopwatch",
    "Instant",
    "SystemTime",
    "println",
];
const PATHS: [&str; 6] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.is_in("app/intake/src") {
        return Vec::new();
    }
    source
        .shipped_lines()
        .filter_map(|(line, code)| {
            let path = PATHS.into_iter().find(|path| names_path(code, path));
            let word = || {
                WORDS
                    .into_iter()
                    .find(|word| words(code).any(|other| other == *word))
            };
            Some((line, path.or_else(word)?))
        })
        .map(|(line, name)| {
            let advice = format!("`{name}` is an effect: let the caller do it and pass the result");
            source.finding(line, RULE, advice)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    const SAMPLE: &str = "//! Not async.\nasync fn a() {}\nlet a = std::fs::read(b);\n\
                          use ratebox_kit::Clock;\nlet clockwork = 1;\n";

    #[test]
    fn effects_are_found_in_intake_alone() {
        assert_eq!(
            lines(&check(&source("app/intake/src/a.rs", SAMPLE))),
            [2, 3, 4]
        );
        assert!(check(&source("app/worker/src/a.rs", SAMPLE)).is_empty());
    }
}
