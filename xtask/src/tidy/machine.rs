//! Nothing in the project speaks of one machine: no home folders, no paths that exist only where
//! somebody happened to write.

use super::{Finding, Text};

const RULE: &str = "machine";
/// First parts of absolute paths that belong to people and their machines.
const TOPS: [&str; 5] = ["home", "root", "Users", "work", "mnt"];

pub(super) fn check(text: &Text) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in text.text.lines().enumerate() {
        let path = TOPS
            .iter()
            .map(|top| format!("/{top}/"))
            .find(|path| names(line, path));
        let shared = ["..", "shared", ""].join("/");
        let path = path.or_else(|| line.contains(&shared).then_some(shared));
        if let Some(path) = path.filter(|_| !line.contains("tidy: ")) {
            let advice =
                format!("`{path}` exists on one machine: use a path from the root of the project");
            found.push(Finding {
                file: text.path.clone(),
                line: index + 1,
                rule: RULE,
                advice,
            });
        }
    }
    found
}

/// Whether the path starts here, rather than going on from another (`docs/home/…`, a URL).
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        !before.is_alphanumeric() && !['.', '_', '-', '/', '}', '~'].contains(&before)
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::text;
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found_in_any_file() {
        for top in TOPS {
            let found = check(&text("deploy/a.yaml", &format!("a\nb: /{top}/c\n")));
            assert_eq!(found.len(), 1, "{top}");
            assert_eq!(found[0].line, 2);
        }
        let above = ["see ..", "shared", "a"].join("/");
        assert_eq!(check(&text("README.md", &above)).len(), 1);
    }

    #[test]
    fn paths_of_the_project_are_fine() {
        for line in [
            "docs/home/a",
            "https://a.example/home/b",
            "/var/lib/ratebox",
            "./root/a",
        ] {
            assert!(check(&text("README.md", line)).is_empty(), "{line}");
        }
    }
}
