//! Who may name whom: the table of ARCHITECTURE.md, checked against the manifests. Dependencies of
//! tests are free.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, Text};

const RULE: &str = "directions";
const PREFIX: &str = "ratebox-";

/// A crate and whom it may name.
const TABLE: [(&str, &[&str]); 17] = [
    ("kit", &[]),
    ("db", &["kit"]),
    ("valkey", &["kit"]),
    ("stream", &["kit", "db", "valkey"]),
    ("cache", &["kit", "db", "valkey"]),
    ("saga", &["kit", "db", "valkey"]),
    ("outbox", &["kit", "db", "valkey"]),
    ("intake", &[]),
    ("store", &["kit", "db", "intake"]),
    (
        "operator",
        &["kit", "intake", "store", "stream", "outbox", "saga"],
    ),
    (
        "gateway",
        &[
            "kit", "intake", "store", "stream", "outbox", "cache", "operator",
        ],
    ),
    ("worker", &["kit", "intake", "store", "stream", "outbox"]),
    ("delivery", &["kit", "intake", "store", "stream", "outbox"]),
    (
        "imports",
        &["kit", "intake", "store", "stream", "outbox", "saga"],
    ),
    ("origin", &["kit", "db", "cache"]),
    (
        "console",
        &[
            "kit", "intake", "store", "stream", "outbox", "cache", "saga", "operator",
        ],
    ),
    ("testkit", &["kit"]),
];
/// Crates at the top, which may name everything.
const TOP: [&str; 5] = ["server", "e2e", "sim", "crashlab", "bench"];

/// Checks what `cargo metadata --no-deps` says.
pub(super) fn check(metadata: &Value, texts: &[Text]) -> Result<Vec<Finding>> {
    let packages = metadata["packages"]
        .as_array()
        .context("metadata without packages")?;
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("a package without a name")?;
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let file = manifest
            .strip_prefix(root)
            .unwrap_or(manifest)
            .trim_start_matches('/');
        let dependencies = package["dependencies"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        for dependency in dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
        {
            let other = dependency["name"].as_str().unwrap_or_default();
            if let Some(advice) = broken(name, other) {
                let line = line_of(texts, file, other);
                found.push(Finding {
                    file: file.to_owned(),
                    line,
                    rule: RULE,
                    advice,
                });
            }
        }
    }
    Ok(found)
}

/// What to do when one crate may not name the other.
fn broken(name: &str, other: &str) -> Option<String> {
    let other = other.strip_prefix(PREFIX)?;
    let Some(short) = name.strip_prefix(PREFIX) else {
        let free = name != "xtask" || matches!(other, "kit" | "testkit");
        return (!free).then(|| format!("xtask may not name {other}: it must build without it"));
    };
    if TOP.contains(&short) {
        return None;
    }
    let Some((_, allowed)) = TABLE.iter().find(|(own, _)| *own == short) else {
        return Some(format!(
            "{name} is not in the table of xtask/src/tidy/directions.rs: add it"
        ));
    };
    (!allowed.contains(&other)).then(|| {
        format!("{short} may not name {other}: put a small type or port into kit and join them in server")
    })
}

/// Where a manifest names a dependency.
fn line_of(texts: &[Text], file: &str, dependency: &str) -> usize {
    let text = texts.iter().find(|text| text.path == file);
    let lines = text.map_or("", |text| &text.text).lines();
    lines
        .enumerate()
        .find(|(_, line)| line.contains(dependency))
        .map_or(1, |(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::sample::text;
    use super::*;
    use serde_json::json;

    fn found(name: &str, other: &str, kind: Option<&str>) -> Vec<Finding> {
        let metadata = json!({"workspace_root": "/a", "packages": [{
            "name": name,
            "manifest_path": "/a/x/Cargo.toml",
            "dependencies": [{"name": other, "kind": kind}, {"name": "serde", "kind": null}],
        }]});
        let manifest = text(
            "x/Cargo.toml",
            &format!("[dependencies]\n{other} = \"1\"\n"),
        );
        check(&metadata, &[manifest]).unwrap()
    }

    #[test]
    fn the_table_is_enforced_with_file_and_line() {
        for (name, other) in [
            ("ratebox-kit", "ratebox-db"),
            ("ratebox-stream", "ratebox-outbox"),
            ("ratebox-stream", "ratebox-intake"),
            ("ratebox-intake", "ratebox-kit"),
            ("ratebox-gateway", "ratebox-worker"),
            ("ratebox-worker", "ratebox-server"),
            ("ratebox-newcomer", "ratebox-kit"),
            ("xtask", "ratebox-server"),
        ] {
            let found = found(name, other, None);
            assert_eq!(found.len(), 1, "{name} → {other}");
            assert_eq!((&*found[0].file, found[0].line), ("x/Cargo.toml", 2));
        }
    }

    #[test]
    fn what_the_table_allows_and_tests_may_do_passes() {
        assert!(found("ratebox-outbox", "ratebox-db", None).is_empty());
        assert!(found("ratebox-server", "ratebox-worker", None).is_empty());
        assert!(found("ratebox-stream", "ratebox-testkit", Some("dev")).is_empty());
        assert_eq!(found("ratebox-stream", "ratebox-testkit", None).len(), 1);
    }
}
