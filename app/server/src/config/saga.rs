//! Sagas: where their journal is, and how an engine runs them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use ratebox_kit::Secret;
use ratebox_saga::EngineSettings;
use serde::Deserialize;

use super::store::secret;

/// Sagas.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SagaConfig {
    /// Where the journal is; empty = in the store's database.
    pub store_url: Secret,
    /// File that holds the address instead.
    pub store_url_file: String,
    /// Kind of the journal's server, when it is named by its parts.
    pub store_type: String,
    /// Its host.
    pub store_host: String,
    /// Its port; 0 = the usual one.
    pub store_port: u16,
    /// Its database.
    pub store_database: String,
    /// Its user.
    pub store_user: String,
    /// The user's password.
    pub store_password: Secret,
    /// Milliseconds after which a silent process is dead.
    pub lease_ms: u64,
    /// Milliseconds between two signs of life.
    pub renew_ms: u64,
    /// Milliseconds between looks for dead processes, times and orders.
    pub poll_ms: u64,
    /// Sagas in memory at most.
    pub live_max: usize,
    /// Days that ended sagas are kept.
    pub keep_days: u64,
    /// Folder of ended sagas; empty = they are not archived.
    pub archive_dir: String,
    /// Counters and histograms.
    pub metrics: bool,
    /// Spans.
    pub tracing: bool,
    /// Log lines.
    pub logging: bool,
}

/// Where the journal is.
#[derive(Clone, Debug)]
pub enum JournalPlace {
    /// In the store's database.
    Store,
    /// PostgreSQL of its own.
    Postgres(Secret),
    /// A file of its own.
    Sqlite(PathBuf),
    /// Redis or Valkey.
    Redis(Secret),
}

impl SagaConfig {
    /// Where the journal is: its address, or the parts of one.
    ///
    /// # Errors
    /// When the address is of no known kind, or its file cannot be read.
    pub fn place(&self) -> Result<JournalPlace> {
        if let Some(url) = secret("saga.store_url_file", &self.store_url, &self.store_url_file)? {
            return place_of(&url);
        }
        let host = if self.store_host.is_empty() {
            "localhost"
        } else {
            &self.store_host
        };
        match self.store_type.as_str() {
            "" => Ok(JournalPlace::Store),
            "postgresql" | "postgres" => {
                Ok(JournalPlace::Postgres(self.url("postgresql", host, 5432)))
            }
            "redis" => Ok(JournalPlace::Redis(self.url("redis", host, 6379))),
            "sqlite" => {
                ensure!(
                    !self.store_database.is_empty(),
                    "saga.store_type sqlite needs a file: set saga.store_database"
                );
                Ok(JournalPlace::Sqlite(PathBuf::from(&self.store_database)))
            }
            "memory" => bail!(
                "saga.store_type memory would forget every saga with the process; leave it empty to \
                 keep them in the store"
            ),
            other => bail!("saga.store_type {other} is none of postgresql, redis, sqlite"),
        }
    }

    fn url(&self, scheme: &str, host: &str, port: u16) -> Secret {
        let port = if self.store_port == 0 {
            port
        } else {
            self.store_port
        };
        let user = match (self.store_user.as_str(), self.store_password.reveal()) {
            ("", "") => String::new(),
            (user, "") => format!("{}@", escaped(user)),
            (user, password) => format!("{}:{}@", escaped(user), escaped(password)),
        };
        Secret::new(format!(
            "{scheme}://{user}{host}:{port}/{}",
            self.store_database
        ))
    }

    /// How an engine runs sagas.
    pub fn engine(&self) -> EngineSettings {
        let keep = Duration::from_secs(self.keep_days.saturating_mul(86_400));
        EngineSettings {
            lease: Duration::from_millis(self.lease_ms),
            renew_every: Duration::from_millis(self.renew_ms),
            poll_every: Duration::from_millis(self.poll_ms),
            live_max: self.live_max,
            metrics: self.metrics,
            spans: self.tracing,
            keep_ended: Some(keep).filter(|it| !it.is_zero()),
            ..EngineSettings::default()
        }
    }

    /// # Errors
    /// With a sentence that says what to change.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.renew_ms > 0 && self.renew_ms.saturating_mul(2) <= self.lease_ms,
            "saga.renew_ms must be at most half of saga.lease_ms, or a lease ends between two \
             signs of life"
        );
        ensure!(
            (10..=60_000).contains(&self.poll_ms),
            "saga.poll_ms must be between 10 and 60000"
        );
        ensure!(self.live_max > 0, "saga.live_max must be at least 1");
        self.place().map(drop)
    }
}

fn place_of(url: &Secret) -> Result<JournalPlace> {
    let text = url.reveal();
    let Some((scheme, rest)) = text.split_once(':') else {
        bail!("saga.store_url must begin with postgresql://, redis://, rediss:// or sqlite:");
    };
    match scheme {
        "postgresql" | "postgres" => Ok(JournalPlace::Postgres(url.clone())),
        "redis" | "rediss" => Ok(JournalPlace::Redis(url.clone())),
        "sqlite" => Ok(JournalPlace::Sqlite(PathBuf::from(
            rest.strip_prefix("//").unwrap_or(rest),
        ))),
        "memory" => bail!(
            "saga.store_url memory:// would forget every saga with the process; leave it empty to \
             keep them in the store"
        ),
        _ => bail!("saga.store_url must begin with postgresql://, redis://, rediss:// or sqlite:"),
    }
}

/// A part of an address in which `/`, `@` and others stand for themselves.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
