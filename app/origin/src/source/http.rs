//! An origin that is another service: `GET` of an address answers JSON, or 404.
//!
//! Redirects are not followed. Over TLS the system's certificates decide.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::value::RawValue;

use super::SourceError;
use crate::resource::Key;

/// Largest answer that is read.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Calls for one bulk read under way at once.
const AT_ONCE: usize = 16;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An address with the key in it.
pub struct HttpSource {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    template: String,
}

// === impl HttpSource ===

impl HttpSource {
    /// Values at `template`, whose `{key}` is replaced.
    ///
    /// # Errors
    /// When the address is none, or the system has no certificates.
    pub fn new(template: &str) -> Result<Self, String> {
        let address: Uri = template
            .replace("{key}", "key")
            .parse()
            .map_err(|_| format!("{template} is no address"))?;
        if !matches!(address.scheme_str(), Some("http" | "https")) {
            return Err(format!("{template} must begin with http:// or https://"));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("the system's certificates cannot be read: {error}"))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            template: template.to_owned(),
        })
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Bytes>, SourceError> {
        let Some(address) = self.address(key) else {
            return Ok(None);
        };
        let response = self
            .client
            .get(address)
            .await
            .map_err(|error| SourceError::Connection(error.into()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => {
                let status = status.as_u16();
                return Err(SourceError::Status { status });
            }
        }
        let body = Limited::new(response.into_body(), BODY_MAX_BYTES);
        let body = body.collect().await.map_err(|_| SourceError::Answer)?;
        let body = body.to_bytes();
        serde_json::from_slice::<&RawValue>(&body).map_err(|_| SourceError::Answer)?;
        Ok(Some(body))
    }

    pub(super) async fn get_many(&self, keys: &[Key]) -> Result<HashMap<Key, Bytes>, SourceError> {
        let mut found = HashMap::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            let answers = join_all(some.iter().map(|key| self.get(key))).await;
            for (key, answer) in some.iter().zip(answers) {
                found.extend(answer?.map(|body| (key.clone(), body)));
            }
        }
        Ok(found)
    }

    /// `None` for a key that would be another path.
    fn address(&self, key: &Key) -> Option<Uri> {
        let text = key.to_string();
        if text == "." || text == ".." {
            return None;
        }
        let mut escaped = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                escaped.push(char::from(byte));
            } else {
                // Writing to a text does not fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        self.template.replace("{key}", &escaped).parse().ok()
    }
}

impl std::fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSource").finish_non_exhaustive()
    }
}
