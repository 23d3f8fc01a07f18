//! The tour's HTTP client: requests to one service, timed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ratebox_kit::{Secret, Stopwatch};
use serde_json::Value;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A service that limits its callers is waited for so often.
const WAITS_MAX: u32 = 30;

/// One service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    token: Option<Secret>,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub took: Duration,
    pub body: Value,
    pub retry_after: Option<u64>,
    pub has_limit: bool,
}

impl Service {
    /// The service at an address that begins with `http://`.
    ///
    /// # Errors
    /// When it does not.
    pub fn new(url: &str, token: Option<Secret>) -> Result<Self> {
        ensure!(
            url.starts_with("http://"),
            "the URL must begin with http://"
        );
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// # Errors
    /// Without an answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, None).await
    }

    /// # Errors
    /// Without an answer.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.ask(Method::POST, path, body).await
    }

    /// One request; again and again while the limit is used up.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut waits = 0;
        loop {
            let answer = self.once(method.clone(), path, body).await?;
            if answer.status != 429 || waits == WAITS_MAX {
                return Ok(answer);
            }
            waits += 1;
            tokio::time::sleep(Duration::from_secs(answer.retry_after.unwrap_or(1))).await;
        }
    }

    async fn once(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let content = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Full::from(body.to_string())
            }
            None => Full::default(),
        };
        let request = request
            .body(content)
            .context("the request cannot be written")?;
        let watch = Stopwatch::start();
        let asked = async {
            let response = self.client.request(request).await?;
            let (parts, body) = response.into_parts();
            Ok::<_, anyhow::Error>((parts, body.collect().await?.to_bytes()))
        };
        let (parts, body) = tokio::time::timeout(ANSWER_MAX, asked)
            .await
            .with_context(|| format!("no answer from {path} within {ANSWER_MAX:?}"))?
            .with_context(|| format!("{} does not answer", self.base))?;
        let number = |name: &str| parts.headers.get(name)?.to_str().ok()?.parse().ok();
        Ok(Answer {
            status: parts.status.as_u16(),
            took: watch.elapsed(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            retry_after: number("retry-after"),
            has_limit: parts.headers.contains_key("ratelimit"),
        })
    }
}
