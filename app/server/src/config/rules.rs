//! How items are judged.

use anyhow::{Context, Result};
use ratebox_intake::{Profile, Rules};
use serde::Deserialize;

/// How items are judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesConfig {
    /// Rules for requests that ask for none.
    pub profile: String,
    /// Country of phone numbers without a country code.
    pub region: String,
    /// A missing e-mail is noticed.
    pub email_required: bool,
    /// Letters beyond ASCII are taken before the @.
    pub unicode_mailbox: bool,
}

impl RulesConfig {
    /// The rules.
    ///
    /// # Errors
    /// When profile or region are unknown.
    pub fn rules(&self) -> Result<Rules> {
        let profile = Profile::from_word(&self.profile)
            .with_context(|| format!("rules.profile must be one of {}", Profile::WORDS))?;
        let rules = Rules::new(profile)
            .with_region(&self.region)
            .context("rules.region")?;
        Ok(rules
            .with_email_required(self.email_required)
            .with_unicode_mailbox(self.unicode_mailbox))
    }
}
