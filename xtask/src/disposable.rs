//! `cargo xtask disposable`: writes the domains of throw-away mail addresses that `app/intake` knows, from the
//! list of the crate `mailchecker`, which is used by tests only: Cargo.lock says which release, so the
//! same commit writes the same file on every machine.
//! To take a newer list: `cargo update -p mailchecker`, `cargo xtask disposable`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace;

/// The crate that brings the list, and where in it.
const CRATE: &str = "mailchecker";
const SOURCE: &str = "src/lib.rs";
const LIST: (&str, &str) = ("BLACKLIST: &'static [&'static str] = &[", "];");
/// What is written.
const FILE: &str = "app/intake/src/check/disposable.txt";

const HEAD: &str = "\
# Domains that give out throw-away mail addresses, from mailchecker,
# Copyright (c) Francois-Guillaume Ribreau, licensed under the MIT licence.
# Written by `cargo xtask disposable`; edits by hand are lost.
";

/// Writes the file, or says that it is not what would be written.
///
/// # Errors
/// When the crate is missing or its list is not found in it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let path = workspace::root().join(FILE);
    let domains = domains()?;
    let lines: Vec<&str> = domains.iter().map(String::as_str).collect();
    let text = format!("{HEAD}{}\n", lines.join("\n"));
    match arguments {
        [] => std::fs::write(&path, &text).context("could not write the list")?,
        [flag] if flag == "--check" => {
            let found = std::fs::read_to_string(&path).context("could not read the list")?;
            let is_same = found == text;
            ensure!(
                is_same,
                "{FILE} is not what {CRATE} says: run `cargo xtask disposable`"
            );
        }
        _ => bail!("cargo xtask disposable [--check]"),
    }
    println!("disposable: {} domains, {} bytes", lines.len(), text.len());
    Ok(())
}

/// The domains of the release that Cargo.lock names, in order.
fn domains() -> Result<BTreeSet<String>> {
    let file = workspace::folder_of(CRATE)?.join(SOURCE);
    let source = std::fs::read_to_string(&file).context("could not read the crate")?;
    let (_, list) = source.split_once(LIST.0).context("the list has moved")?;
    let (list, _) = list.split_once(LIST.1).context("the list has no end")?;
    let domains = list.split(',').map(|word| word.trim().trim_matches('"'));
    let domains = domains.filter(|domain| !domain.is_empty());
    Ok(domains.map(str::to_owned).collect())
}
