//! One Rust file as the rules see it: where it stands, its code without comments and literals, and
//! which lines are tests or excepted.

use std::ops::Range;

use super::lexer::lex;
use super::{Finding, Text};

/// Marks an exception; a reason follows.
const EXCEPTION: &str = "// tidy: ";

/// A Rust file.
#[derive(Debug)]
pub(super) struct Source {
    pub path: String,
    pub text: String,
    /// Comments blank, contents of literals quotes; same lines as the text.
    pub code: String,
    pub literals: Vec<(usize, String)>,
    pub comments: Vec<(usize, String)>,
    /// Lines (from 1) below `#[cfg(test)]`.
    tests: Vec<Range<usize>>,
}

impl Source {
    pub(super) fn new(text: &Text) -> Self {
        let lexed = lex(&text.text);
        Self {
            path: text.path.clone(),
            text: text.text.clone(),
            tests: test_lines(&lexed.code),
            code: lexed.code,
            literals: lexed.literals,
            comments: lexed.comments,
        }
    }

    /// Whether the file ships: the sources of libraries and product, without tests and examples.
    pub(super) fn is_product(&self) -> bool {
        let mut parts = self.path.split('/');
        matches!(parts.next(), Some("libs" | "app")) && parts.nth(1) == Some("src")
    }

    /// Whether the file belongs to this folder or is this file.
    pub(super) fn is_in(&self, folder: &str) -> bool {
        self.path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The file's name without folder and `.rs`.
    pub(super) fn name(&self) -> &str {
        let file = self.path.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(".rs").unwrap_or(file)
    }

    /// Whether the file, or a folder that it stands in, has one of these names.
    pub(super) fn is_named(&self, names: &[&str]) -> bool {
        names.contains(&self.name()) || self.path.split('/').any(|part| names.contains(&part))
    }

    /// Code lines that ship, with their numbers, but for written exceptions.
    pub(super) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self
            .code
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line));
        lines.filter(|(line, code)| !code.trim().is_empty() && self.ships(*line))
    }

    /// Literals that ship, with their lines, but for written exceptions.
    pub(super) fn shipped_literals(&self) -> impl Iterator<Item = (usize, &str)> {
        let literals = self
            .literals
            .iter()
            .map(|(line, literal)| (*line, literal.as_str()));
        literals.filter(|(line, _)| self.ships(*line))
    }

    fn ships(&self, line: usize) -> bool {
        !self.tests.iter().any(|range| range.contains(&line)) && !self.is_excepted(line)
    }

    /// Whether an exception with a reason stands on this line or the one above.
    pub(super) fn is_excepted(&self, line: usize) -> bool {
        let on = |line: usize| {
            self.text
                .lines()
                .nth(line.wrapping_sub(1))
                .is_some_and(excepts)
        };
        on(line) || on(line.wrapping_sub(1))
    }

    /// Whether an exception stands in the header, before the first line of code.
    pub(super) fn is_excepted_as_a_whole(&self) -> bool {
        let header = self.text.lines().zip(self.code.lines());
        header
            .take_while(|(_, code)| code.trim().is_empty())
            .any(|(line, _)| excepts(line))
    }

    pub(super) fn finding(&self, line: usize, rule: &'static str, advice: String) -> Finding {
        Finding {
            file: self.path.clone(),
            line,
            rule,
            advice,
        }
    }
}

fn excepts(line: &str) -> bool {
    line.split_once(EXCEPTION)
        .is_some_and(|(_, reason)| reason.trim().len() >= 10)
}

/// The words of a line of code: identifiers and keywords.
pub(super) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// Whether `path` (such as `std::fs`) stands in the code as a path that starts there.
pub(super) fn names_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + path.len()..].chars().next().unwrap_or(' ');
        let joins = |letter: char| letter.is_alphanumeric() || letter == '_';
        !joins(before) && !joins(after) && !code[..at].ends_with("::") && before != '.'
    })
}

/// The lines of everything that stands below a `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let start = 1 + code[..at].matches('\n').count();
        let length = item_length(&code[at..]);
        ranges.push(start..start + code[at..at + length].matches('\n').count() + 1);
    }
    ranges
}

/// The length of the item at the start: up to its closing brace, or the semicolon of one without.
pub(super) fn item_length(code: &str) -> usize {
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for (at, letter) in code.char_indices() {
        match letter {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return at + 1;
                }
            }
            ';' if braces == 0 && brackets == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::super::sample::source;
    use super::*;

    #[test]
    fn test_modules_and_exceptions_do_not_ship() {
        let code =
            "a\n#[cfg(test)]\nmod tests {\n  b\n}\nc\n// tidy: it has to be so\nd\ne // tidy: \n";
        let source = source("libs/a/src/b.rs", code);
        let shipped: Vec<usize> = source.shipped_lines().map(|(line, _)| line).collect();
        assert_eq!(shipped, [1, 6, 9]);
    }

    #[test]
    fn a_path_counts_only_where_it_starts() {
        assert!(names_path("use redis::x;", "redis"));
        assert!(!names_path("crate::redis::x", "redis"));
        assert!(!names_path("my_redis::x", "redis"));
        assert!(!names_path("self.redis", "redis"));
    }

    #[test]
    fn only_sources_of_libraries_and_product_ship() {
        for (path, ships) in [
            ("libs/kit/src/clock.rs", true),
            ("app/server/src/main.rs", true),
            ("libs/kit/tests/it/main.rs", false),
            ("libs/kit/examples/a.rs", false),
            ("tests/e2e/src/lib.rs", false),
            ("xtask/src/main.rs", false),
        ] {
            assert_eq!(source(path, "").is_product(), ships, "{path}");
        }
    }
}
