//! Look-ups of phones, accounts and e-mails.

use std::time::Duration;

use anyhow::{Result, ensure};
use ratebox_gateway::{LookupSettings, WhoseRecords};
use ratebox_kit::Secret;
use serde::Deserialize;

use super::store::secret;

/// Whose records are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// Those of whoever asks.
    Own,
    /// Everybody's.
    All,
}

/// Look-ups of phones, accounts and e-mails.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupConfig {
    /// Whose records are counted.
    pub whose: Whose,
    /// Milliseconds that an answer lives.
    pub max_age_ms: u64,
    /// Whether workers tell what they record.
    pub tell: bool,
    /// Seconds that an answer stands in for a store that is away.
    pub stale_on_error_s: u64,
    /// Records of one value that are looked at, at most.
    pub rows_max: u32,
    /// Reads of the store at the same time.
    pub loads_max: usize,
    /// Bytes of answers in this process.
    pub memory_max_bytes: u64,
    /// Keys the digests that stand for values.
    pub digest_key: Secret,
    /// File that holds the key instead.
    pub digest_key_file: String,
}

impl LookupConfig {
    /// The gateway's settings.
    ///
    /// # Errors
    /// When a file cannot be read or a number cannot work.
    pub fn settings(&self) -> Result<LookupSettings> {
        ensure!(
            (1..=60_000).contains(&self.max_age_ms),
            "lookup.max_age_ms is from 1 to 60000: so old may an answer be when a worker dies"
        );
        ensure!(
            self.rows_max > 0 && self.loads_max > 0,
            "lookup.rows_max and lookup.loads_max must be at least 1"
        );
        let key = secret(
            "lookup.digest_key_file",
            &self.digest_key,
            &self.digest_key_file,
        )?;
        Ok(LookupSettings {
            whose: match self.whose {
                Whose::Own => WhoseRecords::Own,
                Whose::All => WhoseRecords::All,
            },
            max_age: Duration::from_millis(self.max_age_ms),
            stale_on_error: Duration::from_secs(self.stale_on_error_s),
            rows_max: self.rows_max,
            loads_max: self.loads_max,
            memory_max_bytes: self.memory_max_bytes,
            digest_key: key.unwrap_or_default(),
            ..LookupSettings::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load, show};

    fn sources(key: &str, value: &str) -> Sources {
        Sources {
            env: vec![(format!("RATEBOX_LOOKUP__{key}"), value.to_owned())],
            ..Sources::default()
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_gateway() {
        let (ours, theirs) = (
            load(&Sources::default())
                .unwrap()
                .lookup
                .settings()
                .unwrap(),
            LookupSettings::default(),
        );
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_name_and_the_key_is_hidden() {
        for (key, value) in [
            ("MAX_AGE_MS", "0"),
            ("MAX_AGE_MS", "60001"),
            ("ROWS_MAX", "0"),
        ] {
            let error = load(&sources(key, value)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("lookup.{}", key.to_lowercase())),
                "{error}"
            );
        }
        assert!(load(&sources("WHOSE", "theirs")).is_err());
        let shown = show(&sources("DIGEST_KEY", "hunter2")).unwrap();
        assert!(shown.contains("digest_key = \"***\"") && !shown.contains("hunter2"));
    }
}
