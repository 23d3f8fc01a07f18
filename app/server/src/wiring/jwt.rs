//! Where the keys of JWTs come from: a file, or an address.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use axum::http::Uri;
use bytes::Bytes;
use ratebox_gateway::{AuthSettings, JwksReport, JwksSource, JwtSettings, inspect_jwks};
use ratebox_kit::PortError;
use ratebox_origin::HttpClient;

use crate::config::{Config, JwtConfig};

/// Largest set of keys that is read.
const JWKS_MAX_BYTES: usize = 256 * 1024;
/// A file is read again this often; it is how long a change takes.
const FILE_MAX_AGE: Duration = Duration::from_secs(5);

/// A file of keys, read anew each time.
#[derive(Debug)]
struct FileJwks(PathBuf);

/// An address of keys.
#[derive(Debug)]
struct HttpJwks {
    client: HttpClient,
    address: Uri,
    timeout: Duration,
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("there is nothing at the address (404)")]
    NotFound,
    #[error("there was no answer within {ms} ms")]
    TooLate { ms: u128 },
    #[error("the file is larger than {JWKS_MAX_BYTES} bytes")]
    TooLarge,
}

/// How tokens are checked, for the gateway and for the cache service.
///
/// # Errors
/// When a setting cannot work, or a file cannot be used.
pub fn auth(config: &Config) -> Result<AuthSettings> {
    Ok(AuthSettings {
        cache_max_age: Duration::from_millis(config.gateway.token_cache_ms),
        jwt: settings(&config.jwt)?,
        ..AuthSettings::default()
    })
}

/// What is expected of a JWT; `None` when none is taken.
///
/// # Errors
/// When a setting cannot work, or a file cannot be used. An address is not asked.
pub fn settings(config: &JwtConfig) -> Result<Option<JwtSettings>> {
    if !config.is_on() {
        return Ok(None);
    }
    let mut settings = config.settings()?;
    if !config.jwks_file.is_empty() {
        in_file(config)?;
        settings.jwks = Some(Arc::new(FileJwks(PathBuf::from(&config.jwks_file))));
        settings.keys_max_age = settings.keys_max_age.min(FILE_MAX_AGE);
    }
    if !config.jwks_url.is_empty() {
        settings.jwks = Some(Arc::new(HttpJwks::new(config)?));
    }
    Ok(Some(settings))
}

/// What the keys are good for, read now; `None` where a secret is all there is.
///
/// # Errors
/// When they cannot be read, or no token could be checked with them.
pub async fn inspect(config: &JwtConfig) -> Result<Option<JwksReport>> {
    if !config.jwks_file.is_empty() {
        return in_file(config).map(Some);
    }
    if config.jwks_url.is_empty() {
        return Ok(None);
    }
    let source = HttpJwks::new(config)?;
    let set = source.fetch().await?;
    let report = inspect_jwks(&set, &config.algorithms()?, source.is_private());
    report.map(Some).with_context(|| {
        format!(
            "the answer of jwt.jwks_url {} cannot be used",
            config.jwks_url
        )
    })
}

fn in_file(config: &JwtConfig) -> Result<JwksReport> {
    let file = &config.jwks_file;
    let source = FileJwks(PathBuf::from(file));
    let set = source
        .read()
        .with_context(|| format!("jwt.jwks_file names {file}, which cannot be read"))?;
    inspect_jwks(&set, &config.algorithms()?, source.is_private())
        .with_context(|| format!("jwt.jwks_file names {file}, which cannot be used"))
}

// === impl FileJwks ===

impl FileJwks {
    fn read(&self) -> std::io::Result<Bytes> {
        let length = std::fs::metadata(&self.0)?.len();
        if length > JWKS_MAX_BYTES as u64 {
            return Err(std::io::Error::other(Missing::TooLarge));
        }
        std::fs::read(&self.0).map(Bytes::from)
    }
}

#[async_trait]
impl JwksSource for FileJwks {
    async fn fetch(&self) -> Result<Bytes, PortError> {
        let file = Self(self.0.clone());
        let read = tokio::task::spawn_blocking(move || file.read()).await;
        let failed = "jwt.jwks_file cannot be read";
        match read {
            Ok(read) => read.map_err(|error| PortError::new(failed, error)),
            Err(error) => Err(PortError::new(failed, error)),
        }
    }

    fn is_private(&self) -> bool {
        true
    }
}

// === impl HttpJwks ===

impl HttpJwks {
    fn new(config: &JwtConfig) -> Result<Self> {
        let url = &config.jwks_url;
        let address =
            HttpClient::address(url).map_err(|why| anyhow::anyhow!("jwt.jwks_url {url} {why}"))?;
        ensure!(
            config.jwks_plain_http || address.scheme_str() == Some("https") || is_here(&address),
            "jwt.jwks_url {url} is not https: whoever is on the way could put in keys of his own; if \
             the way is safe, set jwt.jwks_plain_http = true"
        );
        let client = HttpClient::new().map_err(anyhow::Error::msg)?;
        Ok(Self {
            client,
            address,
            timeout: Duration::from_millis(config.jwks_timeout_ms),
        })
    }
}

/// Whether nobody is on the way.
fn is_here(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |it: std::net::IpAddr| it.is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

#[async_trait]
impl JwksSource for HttpJwks {
    async fn fetch(&self) -> Result<Bytes, PortError> {
        let failed = "jwt.jwks_url does not answer";
        let asked = self.client.get(self.address.clone(), JWKS_MAX_BYTES);
        let Ok(answer) = tokio::time::timeout(self.timeout, asked).await else {
            let ms = self.timeout.as_millis();
            return Err(PortError::new(failed, Missing::TooLate { ms }));
        };
        let answer = answer.map_err(|error| PortError::new(failed, error))?;
        answer.ok_or_else(|| PortError::new(failed, Missing::NotFound))
    }

    fn is_private(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn said(pairs: &[(&str, &str)]) -> String {
        let mut env = vec![
            ("RATEBOX_JWT__ISSUER".to_owned(), "i".to_owned()),
            ("RATEBOX_JWT__AUDIENCE".to_owned(), "a".to_owned()),
        ];
        let given = pairs.iter();
        env.extend(given.map(|(key, value)| (format!("RATEBOX_JWT__{key}"), (*value).to_owned())));
        let sources = Sources {
            env,
            ..Sources::default()
        };
        match settings(&load(&sources).unwrap().jwt) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn keys_come_over_https_unless_the_way_is_said_to_be_safe() {
        for url in [
            "https://issuer.example/jwks",
            "http://127.0.0.1:1/jwks",
            "http://[::1]:1/jwks",
            "http://localhost/jwks",
        ] {
            assert_eq!(said(&[("JWKS_URL", url)]), "", "{url}");
        }
        for url in [
            "http://issuer.example/jwks",
            "http://10.0.0.1/",
            "http://localhost.example/",
        ] {
            assert!(said(&[("JWKS_URL", url)]).contains("not https"), "{url}");
        }
        let plain = ("JWKS_PLAIN_HTTP", "true");
        assert_eq!(said(&[("JWKS_URL", "http://issuer.example/"), plain]), "");
        for url in [
            "issuer.example",
            "file:///etc/passwd",
            "https://",
            "https:///jwks",
        ] {
            assert!(
                said(&[("JWKS_URL", url), plain]).contains("jwt.jwks_url"),
                "{url}"
            );
        }
    }

    #[test]
    fn a_file_without_a_key_is_refused_at_the_start() {
        let gone = said(&[("JWKS_FILE", "/no/such/file")]);
        assert!(
            gone.contains("jwt.jwks_file") && gone.contains("cannot be read"),
            "{gone}"
        );
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let wrong = said(&[("JWKS_FILE", manifest)]);
        assert!(wrong.contains("is no JWKS"), "{wrong}");
    }
}
