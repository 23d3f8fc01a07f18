//! One thing that a rule said about one item, with its parameters.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::code::{Code, Severity};

/// What a rule noticed. `Debug` shows neither the message nor the parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was noticed.
    pub code: &'static Code,
    /// How severe that is under the profile that was used.
    pub severity: Severity,
    /// The message for people. Only code 300 repeats a value of the item in it.
    pub message: Cow<'static, str>,
    /// Details without values of the item: lengths, limits, kinds.
    pub params: Params,
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({})",
            self.code.number,
            self.code.slug,
            self.severity.word()
        )
    }
}

/// Parameters of a finding, in the order in which the code lists them. Written as a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<(Cow<'static, str>, Param)>);

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Param {
    /// A count or a limit.
    Number(u64),
    /// A word.
    Text(Cow<'static, str>),
}

impl Params {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a count.
    pub(crate) fn number(mut self, name: &'static str, value: usize) -> Self {
        self.0
            .push((Cow::Borrowed(name), Param::Number(value as u64)));
        self
    }

    /// Adds a word.
    pub(crate) fn text(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.0
            .push((Cow::Borrowed(name), Param::Text(value.into())));
        self
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Params;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
                let mut params = Vec::new();
                while let Some(entry) = map.next_entry::<String, Param>()? {
                    params.push((Cow::Owned(entry.0), entry.1));
                }
                Ok(Params(params))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
