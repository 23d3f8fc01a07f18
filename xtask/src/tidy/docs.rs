//! Documents are named in Pascal-Case-With-Dashes, so that they look alike in a listing.

use super::{Finding, Text};

const RULE: &str = "name of a document";

pub(super) fn check(text: &Text) -> Vec<Finding> {
    let in_docs = text.path.starts_with("docs/") || text.path.contains("/docs/");
    let file = text.path.rsplit('/').next().unwrap_or_default();
    let Some(name) = file.strip_suffix(".md").filter(|_| in_docs) else {
        return Vec::new();
    };
    let fits = name.split('-').all(|word| {
        let letters = word.chars().all(|letter| letter.is_ascii_alphanumeric());
        letters
            && word.starts_with(|first: char| first.is_ascii_uppercase() || first.is_ascii_digit())
    });
    if fits || name == "README" {
        return Vec::new();
    }
    let advice = "name it in Pascal-Case-With-Dashes, such as House-Style.md".to_owned();
    vec![Finding {
        file: text.path.clone(),
        line: 1,
        rule: RULE,
        advice,
    }]
}

#[cfg(test)]
mod tests {
    use super::super::sample::text;
    use super::*;

    #[test]
    fn names_are_in_pascal_case_with_dashes() {
        for (path, fits) in [
            ("docs/House-Style.md", true),
            ("docs/Decisions/0001-One-Binary.md", true),
            ("docs/Codes/100.md", true),
            ("libs/stream/docs/Lanes.md", true),
            ("docs/house-style.md", false),
            ("docs/House_Style.md", false),
            ("libs/stream/docs/How it works.md", false),
            ("libs/stream/README.md", true),
            ("examples/notes.md", true),
        ] {
            assert_eq!(check(&text(path, "")).is_empty(), fits, "{path}");
        }
    }
}
