//! Files of at most 600 lines and functions of at most 70 lines of code (blank lines and comments
//! do not count, as in clippy's `too_many_lines`).

use super::Finding;
use super::source::{Source, item_length};

const RULE: &str = "size";
const FILE_MAX: usize = 600;
const FUNCTION_MAX: usize = 70;

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_MAX && !source.is_excepted_as_a_whole() {
        let advice = format!("{lines} lines, at most {FILE_MAX}: split it by step");
        found.push(source.finding(1, RULE, advice));
    }
    for (line, length) in functions(&source.code) {
        if length > FUNCTION_MAX && !is_excepted(source, line) {
            let advice =
                format!("{length} lines of code, at most {FUNCTION_MAX}: split it by step");
            found.push(source.finding(line, RULE, advice));
        }
    }
    found
}

/// The line of each function and its lines of code between the braces.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let named =
            code[at + 3..].starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
        if before.is_alphanumeric() || before == '_' || !named {
            continue;
        }
        let item = &code[at..at + item_length(&code[at..])];
        let Some((_, body)) = item.split_once('{') else {
            continue;
        };
        let body = body.strip_suffix('}').unwrap_or(body);
        let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
        found.push((1 + code[..at].matches('\n').count(), lines));
    }
    found
}

/// An exception stands above the function, above its attributes, or clippy's own is among them.
fn is_excepted(source: &Source, line: usize) -> bool {
    let above: Vec<&str> = source.text.lines().take(line.saturating_sub(1)).collect();
    let attached = above.iter().rev().take_while(|text| {
        let text = text.trim_start();
        text.starts_with("//") || text.starts_with("#[") || text.ends_with(")]")
    });
    let by_clippy = attached.clone().any(|text| text.contains("too_many_lines"));
    let first = line.saturating_sub(attached.count());
    by_clippy || (first..=line).any(|line| source.is_excepted(line))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    fn function(statements: usize) -> String {
        format!(
            "fn a(b: [u8; 2]) -> c {{\n{}}}\n",
            "    // no code\n\n    d();\n".repeat(statements)
        )
    }

    #[test]
    fn a_long_function_is_found() {
        let code = format!("//! a\n{}{}", function(70), function(71));
        assert_eq!(lines(&check(&source("libs/a/src/a.rs", &code))), [214]);
    }

    #[test]
    fn a_long_function_may_say_why() {
        for reason in [
            "// tidy: one arm for each pair\n",
            "// tidy: one arm for each pair\n#[inline]\n",
            "#[expect(clippy::too_many_lines, reason = \"one arm for each pair\")]\n",
        ] {
            let code = format!("//! a\n{reason}{}", function(71));
            assert!(
                check(&source("libs/a/src/a.rs", &code)).is_empty(),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_long_file_is_found_and_may_say_why() {
        let long = "let a = 1;\n".repeat(600);
        assert_eq!(
            lines(&check(&source(
                "libs/a/src/a.rs",
                &format!("//! a\n{long}")
            ))),
            [1]
        );
        let excused = format!("//! a\n\n// tidy: a table reads best whole\n{long}");
        assert!(check(&source("libs/a/src/a.rs", &excused)).is_empty());
    }
}
