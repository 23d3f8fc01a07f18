//! lib.rs is a table of contents: doc, modules, one `pub use` per line, at most an alias
//! such as `Result`, and no logic.

use super::Finding;
use super::source::Source;

const RULE: &str = "lib.rs";

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if source.name() != "lib" || !source.path.ends_with("src/lib.rs") {
        return Vec::new();
    }
    let mut in_attribute = false;
    let mut found = Vec::new();
    for (line, code) in source.shipped_lines() {
        let code = code.trim();
        let attribute = in_attribute || code.starts_with("#");
        if attribute {
            in_attribute = !code.ends_with(']');
            continue;
        }
        if !is_entry(code) {
            let advice = "lib.rs holds only doc, `mod` and `pub use`, one a line: move this to a file \
                          named for it";
            found.push(source.finding(line, RULE, advice.to_owned()));
        }
    }
    found
}

fn is_entry(code: &str) -> bool {
    let public = code
        .strip_prefix("pub(crate) ")
        .or_else(|| code.strip_prefix("pub "));
    let rest = public.unwrap_or(code);
    let is_module = rest.starts_with("mod ");
    let is_use = rest.starts_with("use ") && !rest.contains('{');
    let is_alias = public.is_some() && rest.starts_with("type ");
    (is_module || is_use || is_alias) && code.ends_with(';')
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    #[test]
    fn logic_and_lists_are_found_in_lib_rs() {
        let code = "//! a\n#![expect(\n  x,\n)]\nmod a;\npub mod b;\n#[cfg(feature = \"c\")]\npub use a::B;\n\
                    pub use a::{C, D};\npub fn e() {}\nconst F: u8 = 1;\n";
        assert_eq!(
            lines(&check(&source("libs/a/src/lib.rs", code))),
            [9, 10, 11]
        );
        assert!(check(&source("libs/a/src/b.rs", code)).is_empty());
    }
}
