//! `GET` over HTTP and HTTPS, for origins and for whatever else the server reads from elsewhere.
//!
//! Redirects are not followed. Over TLS the system's certificates decide (`SSL_CERT_FILE` names
//! others).

use std::time::Duration;

use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::source::SourceError;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Connections to other services. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

// === impl HttpClient ===

impl HttpClient {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// When the system has no certificates.
    pub fn new() -> Result<Self, String> {
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
        })
    }

    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, to stand behind it.
    pub fn address(text: &str) -> Result<Uri, &'static str> {
        let address: Uri = text.parse().map_err(|_| "is no address")?;
        let is_http = matches!(address.scheme_str(), Some("http" | "https"));
        match is_http && address.host().is_some_and(|host| !host.is_empty()) {
            true => Ok(address),
            false => Err("must begin with http:// or https:// and a host"),
        }
    }

    /// The body of a 200, `None` for a 404. Nothing here ends a server that is silent: whoever
    /// calls does.
    ///
    /// # Errors
    /// When it cannot be reached, answers another status, or more than `body_max_bytes`.
    pub async fn get(
        &self,
        address: Uri,
        body_max_bytes: usize,
    ) -> Result<Option<Bytes>, SourceError> {
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
        let body = Limited::new(response.into_body(), body_max_bytes);
        let body = body.collect().await.map_err(|_| SourceError::Answer)?;
        Ok(Some(body.to_bytes()))
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}
