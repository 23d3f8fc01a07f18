//! Every setting in config.default.toml says what it means, beside it or on the line above.

use super::{Finding, Text};

const RULE: &str = "settings";

pub(super) fn check(text: &Text) -> Vec<Finding> {
    if text.path != "config.default.toml" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut above_explains = false;
    let mut open_brackets = 0_usize;
    for (index, line) in text.text.lines().enumerate() {
        let line = line.trim();
        let (code, comment) = split_comment(line);
        let continues = open_brackets > 0;
        let opened = open_brackets + code.matches('[').count();
        open_brackets = opened.saturating_sub(code.matches(']').count());
        if let Some(key) = key(code).filter(|_| !continues && comment.is_none() && !above_explains)
        {
            let advice = format!("`{key}` has no comment: say what it means, with its unit");
            found.push(Finding {
                file: text.path.clone(),
                line: index + 1,
                rule: RULE,
                advice,
            });
        }
        above_explains = line.starts_with('#') || (continues && above_explains);
    }
    found
}

/// The name of the setting that a line sets.
fn key(code: &str) -> Option<&str> {
    let (name, _) = code.split_once('=')?;
    let name = name.trim();
    let is_name = |letter: char| letter.is_alphanumeric() || "_-.\"".contains(letter);
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// A line without its comment, and the comment, if it says something.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    let start = line.find(|letter| {
        quoted ^= letter == '"';
        letter == '#' && !quoted
    });
    let Some(start) = start else {
        return (line, None);
    };
    let comment = line[start..].trim_start_matches('#').trim();
    (
        &line[..start],
        Some(comment).filter(|comment| !comment.is_empty()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, text};
    use super::*;

    #[test]
    fn a_setting_without_a_comment_is_found() {
        let settings = "[a]\nb = 1 # The first.\n# The second.\nc = [\n  \"d=e\",\n]\nf = \"#\"\n\n# g = 1\n\nh = 2 #\n";
        assert_eq!(
            lines(&check(&text("config.default.toml", settings))),
            [7, 11]
        );
        assert!(check(&text("deny.toml", settings)).is_empty());
    }
}
