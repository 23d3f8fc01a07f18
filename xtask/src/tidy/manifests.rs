//! Every crate takes the workspace's lints, and runs the tests that it has.

use super::{Finding, Text};

const RULE: &str = "manifest";

pub(super) fn check(text: &Text) -> Vec<Finding> {
    if !text.path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    let finding = |advice: &str| Finding {
        file: text.path.clone(),
        line: 1,
        rule: RULE,
        advice: advice.to_owned(),
    };
    let Ok(manifest) = text.text.parse::<toml::Table>() else {
        return vec![finding("is no TOML")];
    };
    let mut found = Vec::new();
    let lints = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    // A package that is a workspace of its own is none of ours, and has nothing to inherit.
    let is_foreign = manifest.contains_key("workspace") && manifest.contains_key("package");
    if lints.and_then(toml::Value::as_bool) != Some(true) && !is_foreign {
        found.push(finding(
            "add `[lints] workspace = true`: without it no lint of ours applies",
        ));
    }
    let autotests = manifest
        .get("package")
        .and_then(|package| package.get("autotests"));
    let without_tests = manifest.get("test").is_none();
    if autotests.and_then(toml::Value::as_bool) == Some(false) && without_tests {
        found.push(finding(
            "autotests is off and no [[test]] is declared: its tests never run",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample::text;
    use super::*;

    fn advice(manifest: &str) -> Vec<String> {
        check(&text("libs/a/Cargo.toml", manifest))
            .into_iter()
            .map(|found| found.advice)
            .collect()
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(advice("[package]\nname = \"a\"\n").len(), 1);
        assert!(advice("[lints]\nworkspace = true\n").is_empty());
        assert!(advice("[package]\nname = \"a\"\n[workspace]\n").is_empty());
    }

    #[test]
    fn tests_that_never_run_are_found() {
        let manifest = "[package]\nautotests = false\n[lints]\nworkspace = true\n";
        assert_eq!(advice(manifest).len(), 1);
        assert!(advice(&format!("{manifest}[[test]]\nname = \"it\"\n")).is_empty());
    }
}
