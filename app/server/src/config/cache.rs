//! The cache service.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use ratebox_kit::Secret;
use serde::Deserialize;

use super::store::secret;

/// Who may call the cache service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheAuth {
    /// Whoever has a token.
    Token,
    /// Anybody.
    Off,
}

/// The cache service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Address of the service.
    pub listen: SocketAddr,
    /// Who may call.
    pub auth: CacheAuth,
    /// Header that names the limited party where tokens are not asked for.
    pub identity_header: String,
    /// In this process alone.
    pub fake: bool,
    /// URL of Redis or Valkey.
    pub url: Secret,
    /// File that holds the URL instead.
    pub url_file: String,
    /// Host of the server that takes writes.
    pub writer: String,
    /// Its port.
    pub writer_port: u16,
    /// Host of a replica that serves what it is known to have.
    pub reader: String,
    /// Its port.
    pub reader_port: u16,
    /// TLS to `writer` and `reader`.
    pub tls: bool,
    /// CA that signed the servers' certificates.
    pub tls_ca_file: String,
    /// Name that the certificates carry.
    pub tls_server_name: String,
    /// Database number.
    pub database: u16,
    /// ACL user.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// File that holds the password instead.
    pub password_file: String,
    /// Sentinels.
    pub sentinels: Vec<String>,
    /// The name that they know the primary by.
    pub sentinel_primary: String,
    /// User of the Sentinels themselves.
    pub sentinel_user: String,
    /// Its password.
    pub sentinel_password: Secret,
    /// File that holds the password instead.
    pub sentinel_password_file: String,
    /// The server is a node of a cluster.
    pub cluster: bool,
    /// Milliseconds to wait for a connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds to wait for an answer.
    pub response_timeout_ms: u64,
    /// Milliseconds after which a read goes on without the server.
    pub away_after_ms: u64,
    /// Begins all keys.
    pub prefix: String,
    /// Part of all names.
    pub version: String,
    /// Lives are shortened by up to this share.
    pub jitter: f64,
    /// Seconds that an absent value is remembered.
    pub negative_ttl_s: u64,
    /// Seconds of a refresh's lease.
    pub swr_lock_s: u64,
    /// Seconds of a load's lease.
    pub rebuild_lock_s: u64,
    /// Bytes of each resource's values in this process.
    pub memory_max_bytes: u64,
    /// Stream of queued writes.
    pub write_queue: String,
    /// Requests at once and per window.
    pub rate_burst: u32,
    /// Seconds of the window.
    pub rate_window_s: u64,
    /// File that declares the resources.
    pub resources_file: String,
    /// Database of the resources.
    pub origin_url: Secret,
    /// File that holds it instead.
    pub origin_url_file: String,
    /// Calls of one origin at once.
    pub origin_calls_max: usize,
}

// === impl CacheConfig ===

impl CacheConfig {
    /// URL of the server; `None` = embedded.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn address(&self) -> Result<Option<Secret>> {
        if self.fake {
            return Ok(None);
        }
        if let Some(url) = secret("cache.url_file", &self.url, &self.url_file)? {
            return Ok(Some(url));
        }
        let writer = (!self.writer.is_empty()).then(|| self.url_of(&self.writer, self.writer_port));
        Ok(writer)
    }

    /// URL of the replica, if there is one.
    pub fn reader_address(&self) -> Option<Secret> {
        let is_other = (&self.reader, self.reader_port) != (&self.writer, self.writer_port);
        (!self.fake && !self.reader.is_empty() && is_other)
            .then(|| self.url_of(&self.reader, self.reader_port))
    }

    fn url_of(&self, host: &str, port: u16) -> Secret {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        Secret::new(format!("{scheme}://{host}:{port}/{}", self.database))
    }

    /// The password, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn password(&self) -> Result<Secret> {
        let found = secret("cache.password_file", &self.password, &self.password_file)?;
        Ok(found.unwrap_or_default())
    }

    /// Password of the Sentinels, from the setting or its file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sentinel_password(&self) -> Result<Secret> {
        let (direct, file) = (&self.sentinel_password, &self.sentinel_password_file);
        let found = secret("cache.sentinel_password_file", direct, file)?;
        Ok(found.unwrap_or_default())
    }

    /// DSN of the resources' database; `None` = SQLite in the data folder.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn origin(&self) -> Result<Option<Secret>> {
        secret(
            "cache.origin_url_file",
            &self.origin_url,
            &self.origin_url_file,
        )
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.auth == CacheAuth::Token || self.fake || self.listen.ip().is_loopback(),
            "cache.auth = \"off\" needs a loopback address in cache.listen, or cache.fake = true: \
             anybody could read and write"
        );
        ensure!(
            self.identity_header.is_empty() || self.auth == CacheAuth::Off,
            "cache.identity_header needs cache.auth = \"off\": with tokens their owner is counted"
        );
        ensure!(
            (0.0..1.0).contains(&self.jitter),
            "cache.jitter must be at least 0 and below 1"
        );
        // A cluster would place keys by what stands between them.
        ensure!(
            !self.prefix.contains(['{', '}']),
            "cache.prefix ({:?}) must hold no braces; leave them out",
            self.prefix
        );
        ensure!(
            self.reader.is_empty() || !self.writer.is_empty() || self.fake,
            "cache.reader (VALKEY_READER_ENDPOINT) is a replica of cache.writer (VALKEY_WRITER_ENDPOINT), which \
             is empty; name the writer in place of a URL, or leave the reader out"
        );
        ensure!(
            self.sentinels.is_empty() || !self.cluster,
            "cache.sentinels and cache.cluster exclude each other; leave one out"
        );
        ensure!(
            self.sentinels.is_empty() || !self.sentinel_primary.is_empty(),
            "cache.sentinels needs cache.sentinel_primary, the name that they know the primary by"
        );
        let login = self.sentinel_user.is_empty()
            && self.sentinel_password.is_empty()
            && self.sentinel_password_file.is_empty();
        ensure!(
            login || !self.sentinels.is_empty(),
            "a user or password for Sentinels is set but cache.sentinels is empty; name them"
        );
        for (key, value) in [
            ("cache.rate_burst", u64::from(self.rate_burst)),
            ("cache.rate_window_s", self.rate_window_s),
            ("cache.swr_lock_s", self.swr_lock_s),
            ("cache.rebuild_lock_s", self.rebuild_lock_s),
        ] {
            ensure!(value >= 1, "{key} must be at least 1");
        }
        Ok(())
    }
}
