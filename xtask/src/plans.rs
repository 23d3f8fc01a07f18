//! `cargo xtask plans`: writes the numbering plans that `app/intake` reads, from the metadata of
//! Google's libphonenumber, which comes with the crate `rlibphonenumber`. That crate is used by tests
//! only; Cargo.lock says which release, so the same commit writes the same file on every machine.
//! To take newer plans: `cargo update -p rlibphonenumber`, `cargo xtask plans`, and read the change.

mod wire;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace;
use wire::Fields;

/// The crate that brings the metadata, and where in it.
const CRATE: &str = "rlibphonenumber";
const METADATA: &str = "src/generated/metadata/metadata.bin";
/// What is written.
const FILE: &str = "app/intake/src/phone/plans.txt";

const HEAD: &str = "\
# Numbering plans of the world, from the metadata of Google's libphonenumber,
# Copyright (C) The Libphonenumber Authors, licensed under the Apache License, Version 2.0
# (LICENSE-APACHE). Changed: patterns for formatting, examples and short numbers are left out, and
# the rest is written as lines.
# Written by `cargo xtask plans`; edits by hand are lost.
#
# A block: region, calling code, `main` for the first of several regions; then what is dialled
# before a number (international, national; transform = what replaces a national prefix), digits
# that only this region has (leading), `shared` where fixed lines and mobiles have one pattern,
# and per kind of number its lengths and its pattern; `any` has the lengths of numbers within a
# town behind a slash.
";

/// Field numbers of `PhoneMetadata` and the words of our file, in the order of the file.
const KINDS: [(u64, &str); 11] = [
    (1, "any"),
    (2, "fixed_line"),
    (3, "mobile"),
    (4, "toll_free"),
    (5, "premium_rate"),
    (6, "shared_cost"),
    (7, "personal_number"),
    (8, "voip"),
    (21, "pager"),
    (25, "uan"),
    (28, "voice_mail"),
];

/// Writes the file, or says that it is not what would be written.
///
/// # Errors
/// When the crate is missing or says something that the file cannot hold.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let path = workspace::root().join(FILE);
    let text = text(&metadata()?)?;
    match arguments {
        [] => std::fs::write(&path, &text).context("could not write the plans")?,
        [flag] if flag == "--check" => check(&path, &text)?,
        _ => bail!("cargo xtask plans [--check]"),
    }
    println!("plans: {} regions, {} bytes", regions(&text), text.len());
    Ok(())
}

fn check(path: &Path, text: &str) -> Result<()> {
    let found = std::fs::read_to_string(path).context("could not read the plans")?;
    ensure!(
        found == text,
        "{FILE} is not what {CRATE} says: run `cargo xtask plans`"
    );
    Ok(())
}

fn regions(text: &str) -> usize {
    text.split("\n\n").count() - 1
}

/// The metadata of the release that Cargo.lock names.
fn metadata() -> Result<Vec<u8>> {
    let file = workspace::folder_of(CRATE)?.join(METADATA);
    std::fs::read(&file).with_context(|| format!("{CRATE} has no {METADATA}"))
}

fn text(metadata: &[u8]) -> Result<String> {
    let mut text = HEAD.to_owned();
    for region in Fields::read(metadata)?.messages(1) {
        text.push('\n');
        self::region(&mut text, &Fields::read(region)?)?;
    }
    Ok(text)
}

fn region(text: &mut String, region: &Fields<'_>) -> Result<()> {
    let letters = region.text(9)?.context("a region without letters")?;
    let code = region.number(10).context("a region without calling code")?;
    let main = if region.is_set(22) { " main" } else { "" };
    writeln!(text, "{letters} {code}{main}")?;
    for (field, word) in [(11, "international"), (15, "national"), (23, "leading")] {
        if let Some(pattern) = region.text(field)? {
            writeln!(text, "{word} {}", bare(pattern)?)?;
        }
    }
    if let Some(rule) = region.text(16)? {
        let (digits, group) = rule.split_once('$').unwrap_or((rule, ""));
        let is_known = digits.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(
            is_known && matches!(group, "1" | "2"),
            "{letters}: a new sort of rule: {rule}"
        );
        writeln!(text, "transform {rule}")?;
    }
    if region.is_set(18) {
        writeln!(text, "shared")?;
    }
    for (field, word) in KINDS {
        if let Some(kind) = region.messages(field).next() {
            self::kind(text, word, &Fields::read(kind)?)?;
        }
    }
    Ok(())
}

/// One line: the lengths, and the pattern. A kind without pattern has no numbers.
fn kind(text: &mut String, word: &str, kind: &Fields<'_>) -> Result<()> {
    let Some(pattern) = kind.text(2)? else {
        return Ok(());
    };
    let possible = lengths(kind, 9)?;
    let local = lengths(kind, 10)?;
    let possible = if possible.is_empty() { "*" } else { &possible };
    let slash = if word == "any" && !local.is_empty() {
        "/"
    } else {
        ""
    };
    let local = if slash.is_empty() { "" } else { &local };
    writeln!(text, "{word} {possible}{slash}{local} {}", bare(pattern)?)?;
    Ok(())
}

fn lengths(kind: &Fields<'_>, field: u64) -> Result<String> {
    let lengths = kind.numbers(field)?;
    ensure!(
        lengths.iter().all(|length| *length < 64),
        "a number of 64 digits or none"
    );
    let lengths: Vec<_> = lengths.iter().map(u64::to_string).collect();
    Ok(lengths.join(","))
}

/// A pattern without the anchors that the crate puts around it.
fn bare(pattern: &str) -> Result<&str> {
    let inner = pattern.strip_prefix("^(?:");
    inner
        .and_then(|it| it.strip_suffix(")$"))
        .with_context(|| format!("a pattern without anchors: {pattern}"))
}
