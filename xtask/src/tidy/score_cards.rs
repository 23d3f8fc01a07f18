//! A score card names the test that shows a feature, a fault matrix the one that shows a fault to be
//! harmless; a test that was renamed or deleted must not go on being named, and no line of a matrix
//! may stand there without one, or under the number of another.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Finding, Text};

const RULE: &str = "test of a score card";

/// A word in backticks of at least so many characters, in small letters and underscores, is meant
/// to be the name of a test.
const NAME_MIN: usize = 20;

/// A fault matrix: each row that begins with a number needs a test.
const MATRIX: &str = "Fault-Matrix.md";

const KINDS: [&str; 2] = ["-Score-Card.md", MATRIX];

pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let is_source = |text: &&Text| text.path.ends_with(".rs");
    let sources: Vec<&Text> = texts.iter().filter(is_source).collect();
    let functions: HashSet<&str> = sources.iter().flat_map(|it| functions(&it.text)).collect();
    let cards = texts
        .iter()
        .filter(|text| KINDS.iter().any(|kind| text.path.ends_with(kind)));
    let mut found = Vec::new();
    for card in cards {
        for (number, line) in (1..).zip(card.text.lines()) {
            let is_said = |name: &str| sources.iter().any(|it| it.text.contains(&quoted(name)));
            let missing = names(line).filter(|name| !functions.contains(name) && !is_said(name));
            found.extend(missing.map(|name| Finding {
                file: card.path.clone(),
                line: number,
                rule: RULE,
                advice: format!("there is no test {name}; name the one that shows it"),
            }));
        }
        if card.path.ends_with(MATRIX) {
            found.extend(rows(card));
        }
    }
    found.sort();
    found
}

/// What is wrong with the numbered rows of a matrix.
fn rows(card: &Text) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut first_lines = HashMap::new();
    for (number, line) in (1..).zip(card.text.lines()) {
        let Some(row) = row(line) else { continue };
        let mut tell = |advice: String| {
            found.push(Finding {
                file: card.path.clone(),
                line: number,
                rule: RULE,
                advice,
            });
        };
        if names(line).next().is_none() {
            tell("a fault without a test: name the one that injects it".to_owned());
        }
        match first_lines.entry(row) {
            Entry::Vacant(free) => {
                free.insert(number);
            }
            Entry::Occupied(first) => tell(format!(
                "line {} has the number {row} already; give this fault the next free one",
                first.get()
            )),
        }
    }
    found
}

/// A name as a text of the program: that of a metric.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Names that follow the word `fn`.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.split("fn ").skip(1).map(|rest| {
        let end = rest.find(|letter: char| !is_of_a_name(letter));
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn names(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.len() >= NAME_MIN && word.chars().all(is_of_a_name))
}

/// The number of a row of a table, where it has one.
fn row(line: &str) -> Option<u32> {
    let first = line.strip_prefix('|')?.split('|').next()?;
    first.trim().parse().ok()
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::super::sample::text;
    use super::*;

    #[test]
    fn a_fault_needs_a_test_that_exists() {
        let source = text(
            "tests/a/tests/it/b.rs",
            "async fn a_killed_worker_costs_no_message() {}",
        );
        let matrix = text(
            "docs/Fault-Matrix.md",
            "| # | Fault | Test |\n|---|---|---|\n\
             | 1 | kill | `a_killed_worker_costs_no_message` |\n\
             | 2 | flood | by hand |\n\
             | 3 | fire | `a_burning_worker_costs_no_message` |",
        );
        let found = check(&[source, matrix]);
        let lines: Vec<usize> = found.iter().map(|it| it.line).collect();
        assert_eq!(lines, [4, 5], "{found:?}");
    }

    #[test]
    fn two_faults_of_one_number_are_told() {
        let source = text(
            "tests/a/tests/it/b.rs",
            "async fn a_killed_worker_costs_no_message() {}",
        );
        let matrix = text(
            "docs/Fault-Matrix.md",
            "| 1 | kill | `a_killed_worker_costs_no_message` |\n\
             | 2 | stop | `a_killed_worker_costs_no_message` |\n\
             | 1 | fire | `a_killed_worker_costs_no_message` |",
        );
        let found = check(&[source, matrix]);
        let lines: Vec<usize> = found.iter().map(|it| it.line).collect();
        assert_eq!(lines, [3], "{found:?}");
        assert!(found[0].advice.contains("line 1"), "{found:?}");
    }

    #[test]
    fn a_test_that_is_named_must_exist() {
        let source = text(
            "libs/a/tests/it/b.rs",
            "async fn what_is_owed_is_never_trimmed() {}",
        );
        let card = text(
            "docs/Bus-Score-Card.md",
            "| 1 | yes | `what_is_owed_is_never_trimmed`, `relay.rs` |\n\
             | 2 | yes | `what_is_owed_is_sometimes_trimmed` |",
        );
        let found = check(&[source, card]);
        let lines: Vec<usize> = found.iter().map(|it| it.line).collect();
        assert_eq!(lines, [2], "{found:?}");
    }
}
