//! An origin that is another service: `GET` of an address answers JSON, or 404.

use std::collections::HashMap;
use std::fmt::Write as _;

use axum::http::Uri;
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::value::RawValue;

use super::SourceError;
use crate::http_client::HttpClient;
use crate::resource::Key;

/// Largest answer that is read.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Calls for one bulk read under way at once.
const AT_ONCE: usize = 16;

/// An address with the key in it.
pub struct HttpSource {
    client: HttpClient,
    template: String,
}

// === impl HttpSource ===

impl HttpSource {
    /// Values at `template`, whose `{key}` is replaced.
    ///
    /// # Errors
    /// When the address is none, or the system has no certificates.
    pub fn new(template: &str) -> Result<Self, String> {
        HttpClient::address(&template.replace("{key}", "key"))
            .map_err(|why| format!("{template} {why}"))?;
        Ok(Self {
            client: HttpClient::new()?,
            template: template.to_owned(),
        })
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Bytes>, SourceError> {
        let Some(address) = self.address(key) else {
            return Ok(None);
        };
        let Some(body) = self.client.get(address, BODY_MAX_BYTES).await? else {
            return Ok(None);
        };
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
