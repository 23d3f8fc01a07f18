//! The one error of the service: RFC 9457 `application/problem+json` with a stable `code`.
//!
//! Texts name rules, never a value of the client's and never ours. 5xx are logged here, once.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use ratebox_kit::Causes;

use crate::source::SourceError;

/// What all routes answer.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// Why a request was not served.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// Which request an answer belongs to, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// As in `X-Request-Id`.
    pub(crate) request_id: &'a str,
    /// The name of the resource; never the key, which may say who somebody is.
    pub(crate) resource: &'a str,
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
            allow: None,
            cause: None,
        }
    }

    pub(crate) fn malformed(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn out_of_range(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "value.out_of_range",
            detail,
        )
    }

    pub(crate) fn unknown_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "route.unknown",
            "there is nothing at this path",
        )
    }

    pub(crate) fn no_value() -> Self {
        Self::new(StatusCode::NOT_FOUND, "resource.no_value", "not found")
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = "this path does not take this method";
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method.not_allowed", detail);
        problem.allow = Some(allow);
        problem
    }

    pub(crate) fn unavailable(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(Duration::from_secs(1))
    }

    /// A value that could be neither found nor loaded, or not written.
    pub(crate) fn cache(error: ratebox_cache::Error) -> Self {
        let origin = of_origin(&error);
        if let Some(SourceError::Refused(refused)) = origin {
            return Self::unavailable("origin.open", "the origin is given time to recover")
                .retry_after(refused.retry_after);
        }
        if origin.is_some_and(SourceError::is_for_the_caller) {
            let detail = "the origin's database refuses this key or value; another one may do";
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, "value.refused", detail);
        }
        let problem = match &error {
            _ if origin.is_some_and(SourceError::is_unusable) => {
                let detail = "what the origin answers is no value; the log says why";
                Self::unavailable("origin.unusable", detail)
            }
            ratebox_cache::Error::TooLarge { .. } | ratebox_cache::Error::KeyTooLong { .. } => {
                return Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "value.too_large",
                    "the key or its value is larger than the cache takes",
                );
            }
            ratebox_cache::Error::Overloaded => {
                Self::unavailable("origin.overloaded", "too many values are being loaded")
            }
            _ => Self::unavailable("origin.unavailable", "the origin does not answer just now"),
        };
        problem.caused_by(error)
    }

    /// Some of the declared keys could not be loaded.
    pub(crate) fn not_loaded(error: ratebox_cache::Error, detail: String) -> Self {
        let wait = match of_origin(&error) {
            Some(SourceError::Refused(refused)) => refused.retry_after,
            _ => Duration::from_secs(1),
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "recompute.not_loaded",
            detail,
        )
        .retry_after(wait)
        .caused_by(error)
    }

    #[must_use]
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The response.
    pub(crate) fn into_response(self, about: About<'_>) -> Response {
        if self.status.is_server_error() {
            let cause = self.cause.as_deref().map(|it| Causes(it).to_string());
            let cause = cause.as_deref().unwrap_or("-");
            tracing::warn!(
                request.id = about.request_id,
                resource = about.resource,
                code = self.code,
                cause,
                "refused a request"
            );
        }
        let body = serde_json::json!({
            "type": format!("urn:ratebox:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds_up(wait).into());
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// What the origin said, when that is why a load or a write failed.
fn of_origin(error: &ratebox_cache::Error) -> Option<&SourceError> {
    use ratebox_cache::Error::{Load, Write};
    let (Load(cause) | Write(cause)) = error else {
        return None;
    };
    let cause: &(dyn Error + 'static) = cause.as_ref();
    cause.downcast_ref()
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds_up(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.max(1)
}

/// An answer in JSON.
pub(crate) fn json(body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
