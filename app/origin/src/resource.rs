//! What is served: a name, how its keys look, where its values come from.

use serde::Deserialize;

use crate::problem::Problem;
use crate::source::Source;

/// Longest key that is a text, in bytes.
pub(crate) const KEY_MAX_BYTES: usize = 200;

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
    /// Other resources whose value of the same key this one is made from: when that changes, this
    /// goes too.
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
