//! `cargo xtask deny`: licences, banned crates, sources and the number of dependencies, from what
//! `cargo metadata` says. The lists are those of deny.toml.

mod licence;
mod policy;

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;
use policy::Policy;

/// Outside crates that libraries and product name themselves, by default and without tests. Each
/// one is code that we ship and did not write.
const DIRECT_MAX: usize = 45;

/// Checks all dependencies.
///
/// # Errors
/// When one breaks the policy; each is printed.
pub(crate) fn run() -> Result<()> {
    let policy = Policy::read(&workspace::root().join("deny.toml"))?;
    let metadata = workspace::metadata(true)?;
    let mut packages = metadata["packages"]
        .as_array()
        .context("metadata without packages")?
        .clone();
    packages.retain(|package| {
        let name = text(package, "name");
        !policy.is_banned(name) || is_built(name)
    });
    let (broken, direct) = check(&policy, &packages);
    for problem in &broken {
        eprintln!("{problem}");
    }
    if !broken.is_empty() {
        bail!("{} problems with dependencies", broken.len());
    }
    let outside = packages
        .iter()
        .filter(|package| is_outside(package))
        .count();
    println!(
        "deny: {outside} outside crates are fine; {direct} of at most {DIRECT_MAX} are direct"
    );
    Ok(())
}

/// Metadata also names crates that no feature turns on, but some feature would extend
/// (`time?/std`); the tree has only what is built.
fn is_built(name: &str) -> bool {
    let tree = [
        "tree",
        "-q",
        "--workspace",
        "--all-features",
        "--target",
        "all",
        "-i",
    ];
    let printed = Command::new(env!("CARGO"))
        .args(tree)
        .arg(name)
        .current_dir(workspace::root())
        .output();
    printed.map_or(true, |output| {
        !output.status.success() || !output.stdout.is_empty()
    })
}

/// What is wrong, and how many outside crates are direct.
fn check(policy: &Policy, packages: &[Value]) -> (Vec<String>, usize) {
    let outside = packages.iter().filter(|package| is_outside(package));
    let mut broken: Vec<String> = outside
        .flat_map(|package| problems(policy, package))
        .collect();
    let direct: BTreeSet<String> = packages
        .iter()
        .filter(|package| is_shipped(package))
        .flat_map(direct_of)
        .collect();
    if direct.len() > DIRECT_MAX {
        let names = direct.iter().cloned().collect::<Vec<_>>().join(", ");
        broken.push(format!(
            "{} direct outside crates, at most {DIRECT_MAX}: do without one of {names}",
            direct.len()
        ));
    }
    (broken, direct.len())
}

fn problems(policy: &Policy, package: &Value) -> Vec<String> {
    let name = text(package, "name");
    let who = format!("{name} {}", text(package, "version"));
    let mut broken = Vec::new();
    let licence = text(package, "license");
    if !policy.allows_licence(name, licence) {
        broken.push(format!(
            "{who}: licence {licence:?} is not on the list of deny.toml"
        ));
    }
    if policy.is_banned(name) {
        broken.push(format!(
            "{who}: is banned by deny.toml; `cargo tree -i {name}` tells who brings it"
        ));
    }
    let source = text(package, "source");
    if !policy.allows_source(source) {
        broken.push(format!(
            "{who}: comes from {source}, not from an allowed registry"
        ));
    }
    broken
}

/// The outside crates that a package names by default, tests apart.
fn direct_of(package: &Value) -> impl Iterator<Item = String> {
    let defaults = package["features"]["default"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let dependencies = package["dependencies"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    dependencies.into_iter().filter_map(move |dependency| {
        let name = text(&dependency, "name").to_owned();
        let named = |feature: &Value| {
            feature
                .as_str()
                .is_some_and(|f| f == name || f.strip_prefix("dep:") == Some(&name))
        };
        let on = dependency["optional"] != true || defaults.iter().any(named);
        let counts = on && dependency["kind"] != "dev" && dependency["path"].is_null();
        counts.then_some(name)
    })
}

fn is_outside(package: &Value) -> bool {
    !package["source"].is_null()
}

/// Whether it is one of our libraries or a part of the product.
fn is_shipped(package: &Value) -> bool {
    let manifest = text(package, "manifest_path");
    let folder = manifest.rsplit('/').nth(2).unwrap_or_default();
    !is_outside(package) && matches!(folder, "libs" | "app")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn broken(package: &Value) -> Vec<String> {
        let policy = Policy::read(&workspace::root().join("deny.toml")).unwrap();
        check(&policy, std::slice::from_ref(package)).0
    }

    fn package(name: &str, licence: &str, source: &str) -> Value {
        json!({"name": name, "version": "1.0.0", "license": licence, "source": source})
    }

    #[test]
    fn a_good_crate_passes() {
        assert!(broken(&package("a", "MIT OR Apache-2.0", REGISTRY)).is_empty());
    }

    #[test]
    fn licences_bans_and_sources_are_checked() {
        assert!(broken(&package("a", "GPL-3.0", REGISTRY))[0].contains("GPL-3.0"));
        assert!(broken(&package("a", "", REGISTRY))[0].contains("licence"));
        assert!(broken(&package("openssl-sys", "MIT", REGISTRY))[0].contains("banned"));
        assert!(broken(&package("a", "MIT", "git+https://a.example/b"))[0].contains("comes from"));
        assert!(
            broken(&package("a", "MIT", "registry+https://a.example"))[0].contains("comes from")
        );
    }

    #[test]
    fn direct_dependencies_are_counted_once_without_tests_and_options() {
        let policy = Policy::read(&workspace::root().join("deny.toml")).unwrap();
        let own = |folder: &str, dependencies: Value| {
            json!({"name": "x", "source": null, "features": {"default": ["dep:on"]},
                   "manifest_path": format!("/a/{folder}/x/Cargo.toml"), "dependencies": dependencies})
        };
        let many: Vec<Value> = (0..46)
            .map(|n| json!({"name": format!("d{n}"), "kind": null}))
            .collect();
        let few = json!([
            {"name": "a", "kind": null}, {"name": "a", "kind": "build"}, {"name": "t", "kind": "dev"},
            {"name": "on", "kind": null, "optional": true}, {"name": "off", "optional": true},
            {"name": "ours", "kind": null, "path": "/a/libs/ours"},
        ]);
        assert_eq!(
            check(&policy, &[own("libs", few.clone()), own("app", few)]),
            (Vec::new(), 2)
        );
        assert_eq!(
            check(&policy, &[own("tests", Value::from(many.clone()))])
                .0
                .len(),
            0
        );
        assert_eq!(check(&policy, &[own("libs", Value::from(many))]).0.len(), 1);
    }
}
