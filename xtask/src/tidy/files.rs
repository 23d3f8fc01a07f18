//! Every Rust file says what it is for, has its place in the tree, and is compiled: a file that no
//! `mod` names is a forgotten one, and a forgotten test passes for ever.

use super::Finding;
use super::source::Source;

const HEADER: &str = "header";
const NO_MOD_RS: &str = "no mod.rs";
const FORGOTTEN: &str = "forgotten file";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        if !source.text.starts_with("//!") {
            let advice =
                "open the file with `//!`: what it is for and what it leaves out".to_owned();
            found.push(source.finding(1, HEADER, advice));
        }
        if source.name() == "mod" {
            let folder = source.path.trim_end_matches("/mod.rs");
            let advice = format!("call it {folder}.rs, beside its folder");
            found.push(source.finding(1, NO_MOD_RS, advice));
        } else if let Some(parents) = parents(&source.path) {
            let named = sources
                .iter()
                .filter(|other| parents.contains(&other.path))
                .any(|parent| names_module(&parent.code, source.name()));
            if !named {
                let advice = format!(
                    "nobody says `mod {};`: add it to {}",
                    source.name(),
                    parents.join(" or ")
                );
                found.push(source.finding(1, FORGOTTEN, advice));
            }
        }
    }
    found
}

/// The files one of which must declare this one; `None` for the roots that cargo knows.
fn parents(path: &str) -> Option<Vec<String>> {
    let (folder, file) = path.rsplit_once('/')?;
    let is_root = matches!(file, "main.rs" | "lib.rs" | "build.rs");
    let (above, name) = folder.rsplit_once('/').unwrap_or(("", folder));
    // Each of these is a program of its own, as is each file directly in tests/ (we have none).
    let of_their_own = ["bin", "examples", "benches", "fuzz_targets"].contains(&name);
    if is_root || of_their_own || path.split('/').any(|part| part == "examples") {
        return None;
    }
    if name == "src" {
        return Some(vec![
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
        ]);
    }
    if above.ends_with("tests") {
        return Some(vec![format!("{folder}/main.rs"), format!("{folder}.rs")]);
    }
    let crate_root = above.ends_with("/bin").then(|| format!("{folder}/main.rs"));
    Some(
        std::iter::once(format!("{folder}.rs"))
            .chain(crate_root)
            .collect(),
    )
}

fn names_module(code: &str, name: &str) -> bool {
    let declared = [format!("mod {name};"), format!("mod r#{name};")];
    declared.iter().any(|text| code.contains(text))
}

#[cfg(test)]
mod tests {
    use super::super::sample::source;
    use super::*;

    fn rules(files: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let sources: Vec<_> = files
            .iter()
            .map(|(path, code)| source(path, code))
            .collect();
        check(&sources)
            .into_iter()
            .map(|finding| (finding.file, finding.rule))
            .collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let found = rules(&[("libs/a/src/lib.rs", "mod b;\n")]);
        assert_eq!(found, [("libs/a/src/lib.rs".to_owned(), HEADER)]);
    }

    #[test]
    fn a_mod_rs_is_found() {
        let found = rules(&[("libs/a/src/b/mod.rs", "//! b\n")]);
        assert_eq!(found, [("libs/a/src/b/mod.rs".to_owned(), NO_MOD_RS)]);
    }

    #[test]
    fn a_test_that_nobody_runs_is_found() {
        let found = rules(&[
            ("libs/a/tests/it/main.rs", "//! a\nmod one;\n"),
            ("libs/a/tests/it/one.rs", "//! a\nmod deep;\n"),
            ("libs/a/tests/it/one/deep.rs", "//! a\n"),
            ("libs/a/tests/it/two.rs", "//! a\n"),
            ("libs/a/tests/it/one/deeper.rs", "//! a\n"),
        ]);
        assert_eq!(
            found,
            [
                ("libs/a/tests/it/two.rs".to_owned(), FORGOTTEN),
                ("libs/a/tests/it/one/deeper.rs".to_owned(), FORGOTTEN),
            ]
        );
    }

    #[test]
    fn programs_of_their_own_need_no_parent() {
        let files = [
            "libs/a/examples/b.rs",
            "bench/src/bin/c.rs",
            "libs/a/src/main.rs",
            "a/build.rs",
        ];
        assert!(rules(&files.map(|file| (file, "//! a\n"))).is_empty());
    }
}
