//! What a verdict code is: number, slug, field, severity per profile, weight, message, parameters.
//! The list itself is in `code/table.rs`; `docs/Codes.md` is made from it by `code/page.rs`.

mod page;
mod table;

use serde::{Deserialize, Serialize};

use crate::profile::Profile;

pub use page::codes_page;
pub use table::codes;
pub(crate) use table::*;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The verdict is ERROR.
    Error,
    /// The confidence is lower.
    Warning,
    /// Said, with no effect.
    Info,
}

impl Severity {
    /// The severity as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing that the rules can say about an item. Compared by number.
#[derive(Debug)]
pub struct Code {
    /// Stable number.
    pub number: u16,
    /// Stable name, `field.what`.
    pub slug: &'static str,
    /// `phone`, `bank_account`, `email`, `name`, `record` or `system`.
    pub field: &'static str,
    /// Severity under `classic`.
    pub classic: Severity,
    /// Severity under `standard`.
    pub standard: Severity,
    /// Severity under `strict`.
    pub strict: Severity,
    /// Hundredths that the confidence loses while this is a warning.
    pub weight: u8,
    /// Short message; `{…}` stands for a value that only that message repeats.
    pub message: &'static str,
    /// Names of the parameters that come with it.
    pub params: &'static [&'static str],
    /// In the list, but never raised by the pure rules: kept for a later or another part.
    pub reserved: bool,
}

impl Code {
    /// Severity under a profile.
    pub fn severity(&self, profile: Profile) -> Severity {
        match profile {
            Profile::Classic => self.classic,
            Profile::Standard => self.standard,
            Profile::Strict => self.strict,
        }
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Code {}
