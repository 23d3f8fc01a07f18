//! What is left to do carries the number of its issue, so that somebody finds it.

use super::Finding;
use super::source::Source;

const RULE: &str = "todo";
const MARKS: [&str; 3] = ["TODO", "FIXME", "XXX"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let nameless = source.comments.iter().filter(|(_, comment)| {
        let mut words = comment.split(|letter: char| !letter.is_alphanumeric());
        !comment.contains("(#") && words.any(|word| MARKS.contains(&word))
    });
    nameless
        .map(|(line, _)| {
            let advice = "write TODO(#n) with the number of its issue, or do it now".to_owned();
            source.finding(*line, RULE, advice)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    #[test]
    fn a_todo_needs_a_number() {
        let code = "// TODO later\n// TODO(#7) later\nf(\"// TODO\"); // FIXME\nlet todo = 1;\n";
        assert_eq!(lines(&check(&source("libs/a/src/a.rs", code))), [1, 3]);
    }
}
