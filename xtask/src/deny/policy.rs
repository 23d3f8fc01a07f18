//! The lists of deny.toml, in cargo-deny's own format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::licence;

/// What dependencies may be.
#[derive(Debug)]
pub(super) struct Policy {
    licences: BTreeSet<String>,
    exceptions: BTreeMap<String, BTreeSet<String>>,
    banned: BTreeSet<String>,
    registries: BTreeSet<String>,
}

impl Policy {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("could not read {}", file.display()))?;
        let table: Table = text.parse()?;
        let section = |name: &str| table.get(name).and_then(Value::as_table);
        let licences = section("licenses").context("deny.toml has no [licenses]")?;
        let bans = section("bans").context("deny.toml has no [bans]")?;
        let sources = section("sources").context("deny.toml has no [sources]")?;
        let exceptions = entries(licences, "exceptions").filter_map(|entry| {
            Some((
                entry.get("crate")?.as_str()?.to_owned(),
                strings(entry, "allow"),
            ))
        });
        let banned = entries(bans, "deny").filter_map(|entry| entry.get("crate")?.as_str());
        Ok(Self {
            licences: strings(licences, "allow"),
            exceptions: exceptions.collect(),
            banned: banned.map(str::to_owned).collect(),
            registries: strings(sources, "allow-registry"),
        })
    }

    pub(super) fn allows_licence(&self, name: &str, expression: &str) -> bool {
        let excepted = self.exceptions.get(name);
        licence::satisfied(expression, &|licence| {
            self.licences.contains(licence) || excepted.is_some_and(|allow| allow.contains(licence))
        })
    }

    pub(super) fn is_banned(&self, name: &str) -> bool {
        self.banned.contains(name)
    }

    pub(super) fn allows_source(&self, source: &str) -> bool {
        source
            .strip_prefix("registry+")
            .is_some_and(|registry| self.registries.contains(registry))
    }
}

fn strings(table: &Table, key: &str) -> BTreeSet<String> {
    let values = table
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    values
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn entries<'a>(table: &'a Table, key: &str) -> impl Iterator<Item = &'a Table> {
    table
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_table)
}
