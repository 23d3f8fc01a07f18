//! The verdict on one item: DONE or ERROR, why, how sure, and the values in their normal form.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::code::{Code, Severity};
use crate::finding::{Finding, Params};
use crate::profile::Profile;

/// The two verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// No rule of the profile is violated.
    Done,
    /// At least one is.
    Error,
}

impl Decision {
    /// The decision as the word of the contract.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "DONE",
            Self::Error => "ERROR",
        }
    }
}

/// How sure a verdict is, in hundredths: 95 less the weights of the warnings, at least 5.
/// It says how clean the record is, and is computed in the same way for DONE and ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confidence(u8);

impl Confidence {
    /// What a record without warnings has. 1.0 is kept for records that someone outside confirmed.
    pub const CLEAN: Self = Self(95);
    /// What no record goes below.
    pub const LEAST: Self = Self(5);

    /// The confidence in hundredths.
    pub fn hundredths(self) -> u8 {
        self.0
    }

    /// The confidence from 0 to 1.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    fn less(self, weight: u8) -> Self {
        Self(self.0.saturating_sub(weight)).max(Self::LEAST)
    }
}

impl From<f64> for Confidence {
    /// Rounds to hundredths, within 0 and 1.
    fn from(value: f64) -> Self {
        Self((value.clamp(0.0, 1.0) * 100.0).round() as u8)
    }
}

impl Serialize for Confidence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value())
    }
}

impl<'de> Deserialize<'de> for Confidence {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self::from)
    }
}

/// The values of an item in their normal form; absent where a value could not be read. `Debug` hides them.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Normalized {
    /// E.164. Also for numbers that are possible but not in use, so that they can be looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// `mobile`, `fixed_line`, … for numbers in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_type: Option<std::borrow::Cow<'static, str>>,
    /// Digits and upper-case letters, without separators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_account: Option<String>,
    /// NAPAS BIN of the bank, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_bin: Option<std::borrow::Cow<'static, str>>,
    /// Short name of the bank, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank_name: Option<std::borrow::Cow<'static, str>>,
    /// Lower case, with the domain in its ASCII form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// NFC, single spaces, without control and invisible characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Debug for Normalized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = [
            ("phone", self.phone.is_some()),
            ("bank_account", self.bank_account.is_some()),
            ("email", self.email.is_some()),
            ("name", self.name.is_some()),
        ];
        f.debug_set()
            .entries(shown.iter().filter(|(_, is)| *is).map(|(name, _)| name))
            .finish()
    }
}

/// The verdict on one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Profile that was used; the rules are those of [`RULESET`](crate::RULESET).
    pub profile: Profile,
    /// What makes it ERROR, in the order of the fields: phone, bank account, e-mail, name, record.
    pub errors: Vec<Finding>,
    /// Warnings and information, in the same order.
    pub warnings: Vec<Finding>,
    /// How clean the record is.
    pub confidence: Confidence,
    /// The values in their normal form.
    pub normalized: Normalized,
}

impl Verdict {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            errors: Vec::new(),
            warnings: Vec::new(),
            confidence: Confidence::CLEAN,
            normalized: Normalized::default(),
        }
    }

    /// DONE without errors, else ERROR.
    pub fn decision(&self) -> Decision {
        if self.errors.is_empty() {
            Decision::Done
        } else {
            Decision::Error
        }
    }

    /// Number of the first error.
    pub fn error_code(&self) -> Option<u16> {
        self.errors.first().map(|finding| finding.code.number)
    }

    /// Adds a finding with its standing message.
    pub(crate) fn add(&mut self, code: &'static Code, params: Params) {
        self.push(Finding {
            code,
            severity: code.severity(self.profile),
            message: code.message.into(),
            params,
        });
    }

    /// Adds a finding without parameters.
    pub(crate) fn note(&mut self, code: &'static Code) {
        self.add(code, Params::default());
    }

    /// Adds a finding whose message repeats a value.
    pub(crate) fn tell(&mut self, code: &'static Code, message: String, params: Params) {
        let severity = code.severity(self.profile);
        self.push(Finding {
            code,
            severity,
            message: message.into(),
            params,
        });
    }

    fn push(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Error => self.errors.push(finding),
            Severity::Warning => {
                self.confidence = self.confidence.less(finding.code.weight);
                self.warnings.push(finding);
            }
            Severity::Info => self.warnings.push(finding),
        }
    }
}
