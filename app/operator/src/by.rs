//! Who does something, and why.

use crate::{Error, Result};

/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 500;

/// Who does something, and why. Both go into the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    actor: String,
    reason: String,
}

// === impl By ===

impl By {
    /// Somebody with a reason.
    ///
    /// # Errors
    /// [`Error::NoReason`] when the reason is blank or too long.
    pub fn new(actor: impl Into<String>, reason: &str) -> Result<Self> {
        let reason: String = reason.trim().replace(char::is_control, " ");
        let chars = reason.chars().count();
        if !(1..=REASON_CHARS_MAX).contains(&chars) {
            return Err(Error::NoReason);
        }
        Ok(Self {
            actor: actor.into(),
            reason,
        })
    }

    /// Who.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
