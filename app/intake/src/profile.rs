//! The rule profiles: how severe the same findings are taken. Chosen per request, token or configuration.

use serde::{Deserialize, Serialize};

/// Version of the rules, stored with every verdict. It changes when a code, a trigger, a severity or a weight changes.
pub const RULESET: &str = "1.0.0";

/// How severe findings are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Exactly the six rules decide; everything else only lowers the confidence.
    #[default]
    Classic,
    /// Impossible numbers, checksums and unsafe names are errors too.
    Standard,
    /// As standard, and disposable e-mail, fixed lines and mixed scripts are errors.
    Strict,
}

impl Profile {
    /// The words a profile is written with, for messages.
    pub const WORDS: &str = "classic, standard, strict";

    /// Reads a profile from its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "classic" => Some(Self::Classic),
            "standard" => Some(Self::Standard),
            "strict" => Some(Self::Strict),
            _ => None,
        }
    }

    /// The profile as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}
