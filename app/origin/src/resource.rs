//! What is served: a name, how its keys look, where its values come from.

use serde::Deserialize;

use crate::problem::Problem;
use crate::source::Source;

/// Longest key that is a text, in bytes.
pub(crate) const KEY_MAX_BYTES: usize = 200;

/// Others that a resource may depend on, over all steps: so many tags an entry of the cache may have.
const SOURCES_MAX: usize = 16;

/// How the keys of a resource look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Whole numbers.
    #[default]
    Integer,
    /// Texts of 1 to 200 bytes without NUL.
    Text,
}

/// A resource as it stands in a file of settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Its keys.
    #[serde(default)]
    pub key: KeyKind,
    /// What one value is called in answers to writes; `item` when it is not said.
    #[serde(default = "item")]
    pub item: String,
    /// The names of the columns that [`Declaration::get`] returns, in order. The first is the key.
    #[serde(default)]
    pub fields: Vec<String>,
    /// SQL with the key as `$1`; returns the fields of at most one row.
    #[serde(default)]
    pub get: String,
    /// SQL that writes: the key as `$1`, then the writable fields, `NULL` where one is not given;
    /// returns the fields. Empty = it cannot be written.
    #[serde(default)]
    pub put: String,
    /// Fields that a write may give, in the order of `$2`, `$3`, …: texts of 1 to 100 characters.
    #[serde(default)]
    pub writable: Vec<String>,
    /// What [`Declaration::put`] makes of a writable field that is not given when the key has no row
    /// yet, in the order of `writable`, with `{key}` for the key. Without it a queued write of a new row
    /// must give every field.
    #[serde(default)]
    pub defaults: Vec<String>,
    /// In place of SQL: an address with `{key}` in it, which answers JSON, or 404.
    #[serde(default)]
    pub http: String,
    /// Other resources whose value of the same key this one is made from: when that changes, or what
    /// that one is made from, this goes too.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Keys that are loaded after a recomputation.
    #[serde(default)]
    pub warm: Vec<String>,
}

/// A resource that can be read.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name: the first part of its paths.
    pub name: String,
    /// How it was declared.
    pub declaration: Declaration,
    /// Where its values come from.
    pub source: Source,
}

/// A key that fits its resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Integer(i64),
    Text(String),
}

// === impl Declaration ===

impl Declaration {
    /// Refuses a declaration that cannot work, with a sentence that says what to change.
    ///
    /// # Errors
    /// That sentence.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let plain = |text: &str| {
            let word =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            !text.is_empty() && text.len() <= 60 && text.chars().all(word)
        };
        let taken = [
            "bulk",
            "calc",
            "healthz",
            "invalidate",
            "metrics",
            "recompute",
            "stats",
        ];
        if !plain(name) || taken.contains(&name) {
            return Err(format!(
                "resource {name}: a name has 1 to 60 small letters, digits, - and _, and is none of {}",
                taken.join(", ")
            ));
        }
        if self.http.is_empty() == self.get.is_empty() {
            return Err(format!("resource {name}: give either get (SQL) or http"));
        }
        if !self.http.is_empty() && !self.http.contains("{key}") {
            return Err(format!("resource {name}: http must hold {{key}}"));
        }
        if !self.get.is_empty() && self.fields.is_empty() {
            return Err(format!(
                "resource {name}: fields must name the columns of get"
            ));
        }
        if self.put.is_empty() != self.writable.is_empty() {
            return Err(format!("resource {name}: put and writable go together"));
        }
        if !self.defaults.is_empty() && self.defaults.len() != self.writable.len() {
            return Err(format!(
                "resource {name}: defaults has one text for each of writable, or is left out"
            ));
        }
        if !self.put.is_empty() && self.get.is_empty() {
            return Err(format!(
                "resource {name}: only SQL resources can be written"
            ));
        }
        if !self.put.is_empty() && !self.depends_on.is_empty() {
            return Err(format!(
                "resource {name}: what depends on others cannot be written"
            ));
        }
        if self.depends_on.len() > 8 || self.warm.len() > 500 {
            return Err(format!(
                "resource {name}: at most 8 depends_on and 500 warm keys"
            ));
        }
        Ok(())
    }
}

fn item() -> String {
    "item".to_owned()
}

/// The names of all resources that the values of one are made from, over all steps, be they cached or
/// not.
///
/// # Errors
/// A sentence that says what to change.
pub(crate) fn sources<'a>(all: &'a [Resource], of: &'a Resource) -> Result<Vec<&'a str>, String> {
    let depends_on = |name: &str| {
        let resource = all.iter().find(|it| it.name == name);
        resource.map(|it| it.declaration.depends_on.as_slice())
    };
    sources_of(&of.name, depends_on)
}

/// The same, where `depends_on` knows what each is made from by itself.
fn sources_of<'a>(
    of: &'a str,
    depends_on: impl Fn(&str) -> Option<&'a [String]>,
) -> Result<Vec<&'a str>, String> {
    let mut found: Vec<&'a str> = Vec::new();
    let mut left = vec![of];
    while let Some(one) = left.pop() {
        for name in depends_on(one).unwrap_or_default() {
            if depends_on(name).is_none() {
                return Err(format!("{one} depends on {name}, which is not declared"));
            }
            // Two may be made from each other.
            if name != of && !found.contains(&name.as_str()) {
                found.push(name);
                left.push(name);
            }
        }
    }
    match found.len() > SOURCES_MAX {
        true => Err(format!(
            "{of} depends on more than {SOURCES_MAX} resources, with those that these depend on"
        )),
        false => Ok(found),
    }
}

// === impl KeyKind ===

impl KeyKind {
    /// Reads a part of a path or of a list.
    ///
    /// # Errors
    /// 422 when it is no key of this kind.
    pub(crate) fn parse(self, text: &str) -> Result<Key, Problem> {
        match self {
            Self::Integer => text
                .parse()
                .map(Key::Integer)
                .map_err(|_| Problem::out_of_range("a key here is a whole number")),
            // PostgreSQL keeps no NUL.
            Self::Text if text.is_empty() || text.len() > KEY_MAX_BYTES || text.contains('\0') => {
                Err(Problem::out_of_range(format!(
                    "a key here is a text of 1 to {KEY_MAX_BYTES} bytes without NUL"
                )))
            }
            Self::Text => Ok(Key::Text(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(declared: &[(&str, &[&str])], of: &str) -> Result<Vec<String>, String> {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let declared: Vec<(&str, Vec<String>)> = declared
            .iter()
            .map(|&(name, names)| (name, own(names)))
            .collect();
        let depends_on = |name: &str| {
            let one = declared.iter().find(|(it, _)| *it == name);
            one.map(|(_, names)| names.as_slice())
        };
        let found = sources_of(of, depends_on)?;
        Ok(found.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn a_resource_depends_on_what_its_sources_are_made_from_too() {
        let declared: [(&str, &[&str]); 4] = [
            ("users", &[]),
            ("cards", &["users"]),
            ("walls", &["cards", "users"]),
            ("twins", &["twins", "walls"]),
        ];
        let found = |of| check(&declared, of).unwrap();
        assert!(found("users").is_empty());
        assert_eq!(found("cards"), ["users"]);
        assert_eq!(found("walls"), ["cards", "users"]);
        assert_eq!(found("twins"), ["walls", "cards", "users"]);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let missing = check(&[("cards", &["users"])], "cards").unwrap_err();
        assert_eq!(missing, "cards depends on users, which is not declared");
        let names: Vec<String> = (0..=SOURCES_MAX).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let alone: &[&str] = &[];
        let mut declared: Vec<(&str, &[&str])> = names.iter().map(|&it| (it, alone)).collect();
        declared.push(("all", &names));
        let refused = check(&declared, "all").unwrap_err();
        assert!(refused.contains("more than 16"), "{refused}");
    }
}
