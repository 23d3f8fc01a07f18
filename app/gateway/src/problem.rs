//! The one error of the doors: RFC 9457 `application/problem+json` with a stable `code`.
//!
//! Texts are written here and in `intake::ShapeError`; they name rules and places, never the
//! client's data and never ours (SQL, paths, versions, causes). What went wrong on our side is
//! logged once, where the error becomes a response.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use ratebox_intake::ShapeError;
use ratebox_kit::Causes;
use serde::Serialize;

use crate::service::Response;

/// When to come again while the bus refuses our user: somebody has to change its rules first.
const DENIED_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Why a request was not served.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    /// Where in the body, for errors of its shape. In a box: every answer is moved as a result that
    /// could be such an error.
    at: Option<Box<Where>>,
    retry_after: Option<Duration>,
    allow: Option<Cow<'static, str>>,
    /// The rest of the request's bytes are not worth reading.
    close: bool,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Debug, Default)]
struct Where {
    place: Option<Place>,
    /// The entry of `batches` or `datasets`, as a JSON pointer in the fragment of a URI.
    entry: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Place {
    byte: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<u32>,
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[Fault<'a>; 1]>,
}

/// What is wrong with one part of the body (RFC 9457, section 3).
#[derive(Serialize)]
struct Fault<'a> {
    pointer: &'a str,
    detail: &'a str,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            at: None,
            retry_after: None,
            allow: None,
            close: false,
            cause: None,
        }
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn unprocessable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(crate) fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "route.unknown",
            "there is nothing at this path",
        )
    }

    /// The same for a request that is unknown and for one that belongs to someone else.
    pub(crate) fn unknown_request() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "request.unknown",
            "there is no such request among yours",
        )
    }

    /// `allow` lists methods.
    pub(crate) fn method_not_allowed(allow: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method.not_allowed",
            "this path does not take this method",
        );
        error.allow = Some(allow.into());
        error
    }

    pub(crate) fn unavailable(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(Duration::from_secs(1))
    }

    /// Nobody is to blame, and it may be taken later.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// The store did not answer a look-up.
    pub(crate) fn store(error: ratebox_store::Error) -> Self {
        let found = if error.is_retryable() {
            Self::unavailable("store.unavailable", "the store cannot be reached just now")
        } else {
            Self::internal()
        };
        found.caused_by(error)
    }

    /// An operator's wish was not done.
    pub(crate) fn operator(error: ratebox_operator::Error) -> Self {
        use ratebox_operator::Error;
        let (code, detail) = (error.code(), error.to_string());
        let is_retryable = error.is_retryable();
        match error {
            Error::Store(error) => Self::store(error),
            Error::Bus(error) => Self::bus(error),
            Error::Unwritten(error) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail).caused_by(error)
            }
            Error::Saga(error) => Self::saga(code, detail, is_retryable).caused_by(error),
            Error::UnknownLetter { .. }
            | Error::UnknownConsumer
            | Error::UnknownDefinition { .. } => Self::new(StatusCode::NOT_FOUND, code, detail),
            Error::OnItsWay
            | Error::Resolved
            | Error::CountChanged { .. }
            | Error::Alive { .. }
            | Error::GroupExists => Self::new(StatusCode::CONFLICT, code, detail),
            Error::NoReason
            | Error::NotAMessage { .. }
            | Error::NotTheSame { .. }
            | Error::WrongEdit { .. }
            | Error::NotALine { .. }
            | Error::TooWide
            | Error::OutOfRange { .. } => Self::unprocessable(code, detail),
            Error::Outbox(_) | Error::Io(_) => Self::internal().caused_by(error),
        }
    }

    /// The bus did not serve a call.
    pub(crate) fn bus(error: ratebox_stream::Error) -> Self {
        let found = match denial(&error) {
            Some(advice) => Self::unavailable("bus.denied", advice).retry_after(DENIED_RETRY_AFTER),
            None if error.is_retryable() => {
                Self::unavailable("bus.unavailable", "the bus cannot be asked just now")
            }
            None => Self::internal(),
        };
        found.caused_by(error)
    }

    /// The journal of sagas did not serve a call, or a saga does not take an order.
    fn saga(code: &'static str, detail: String, is_retryable: bool) -> Self {
        match code {
            "saga.unknown" | "saga.unknown_step" | "saga.unknown_definition" => {
                Self::new(StatusCode::NOT_FOUND, code, detail)
            }
            "saga.refused" => Self::new(StatusCode::CONFLICT, code, detail),
            _ if is_retryable => {
                Self::unavailable("saga.unavailable", "the journal cannot be reached just now")
            }
            _ => Self::internal(),
        }
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side; the log knows it by the request id",
        )
    }

    #[must_use]
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Ends the connection with the answer.
    #[must_use]
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Says which entry of `batches` or `datasets` is refused; `pointer` is a JSON pointer.
    #[must_use]
    pub(crate) fn at_entry(mut self, pointer: &str) -> Self {
        self.at.get_or_insert_default().entry = Some(format!("#{pointer}"));
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The response. 5xx are logged here and nowhere else, with their cause.
    pub(crate) fn into_response(self, request_id: &HeaderValue) -> Response {
        if self.status.is_server_error() {
            self.log(request_id);
        }
        let mut response = Response::new(Full::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(challenge) = self.challenge() {
            let challenge = HeaderValue::from_static(challenge);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds_up(wait).into());
        }
        if let Some(allow) = self.allow {
            let allow = HeaderValue::from_str(&allow).expect("methods are a header value");
            headers.insert(header::ALLOW, allow);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// What a client is told of the token that would do (RFC 6750, section 3).
    fn challenge(&self) -> Option<&'static str> {
        match (self.status, self.code) {
            // A request without a token is told of no error.
            (StatusCode::UNAUTHORIZED, "auth.missing") => Some(r#"Bearer realm="ratebox""#),
            (StatusCode::UNAUTHORIZED, _) => {
                Some(r#"Bearer realm="ratebox", error="invalid_token""#)
            }
            (StatusCode::FORBIDDEN, _) => {
                Some(r#"Bearer realm="ratebox", error="insufficient_scope""#)
            }
            _ => None,
        }
    }

    /// The problem as JSON.
    pub(crate) fn body(&self) -> Vec<u8> {
        let at = self.at.as_deref();
        let entry = at.and_then(|at| at.entry.as_deref());
        let problem = Problem {
            kind: format!("urn:ratebox:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            place: at.and_then(|at| at.place),
            errors: entry.map(|pointer| {
                [Fault {
                    pointer,
                    detail: &self.detail,
                }]
            }),
        };
        serde_json::to_vec(&problem).expect("texts and numbers are JSON")
    }

    fn log(&self, request_id: &HeaderValue) {
        let request_id = request_id.to_str().unwrap_or("-");
        let cause = self.cause.as_deref().map(|cause| Causes(cause).to_string());
        let cause = cause.as_deref().unwrap_or("-");
        // An outage refuses every request; the one that fails first of a commit says so louder.
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(
                request.id = request_id,
                code = self.code,
                cause,
                "refused a request"
            );
        } else {
            tracing::error!(
                request.id = request_id,
                code = self.code,
                cause,
                "failed a request"
            );
        }
    }
}

impl From<ShapeError> for ApiError {
    fn from(error: ShapeError) -> Self {
        let mut problem = Self::new(status_of(&error), error.code(), error.to_string());
        if let Some(place) = error.place() {
            problem.at.get_or_insert_default().place = Some(Place {
                byte: place.byte,
                item: place.item,
            });
        }
        match error.entry() {
            Some(pointer) => problem.at_entry(&pointer),
            None => problem,
        }
    }
}

fn status_of(error: &ShapeError) -> StatusCode {
    match error {
        ShapeError::InEntry { error, .. } => status_of(error),
        // As the predecessor did for empty lists.
        ShapeError::NotJson(_)
        | ShapeError::TooDeep(_)
        | ShapeError::Empty(_)
        | ShapeError::EmptyPart { .. } => StatusCode::BAD_REQUEST,
        ShapeError::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ShapeError::NotUtf8(_)
        | ShapeError::NulCharacter(_)
        | ShapeError::NumberOutOfRange(_)
        | ShapeError::LoneSurrogate(_)
        | ShapeError::PartNotObject { .. }
        | ShapeError::BodyNotObject
        | ShapeError::NotAList(_)
        | ShapeError::FieldRepeated(_)
        | ShapeError::RecordFieldRepeated { .. }
        | ShapeError::FieldNotText(_)
        | ShapeError::FieldNotObject(_)
        | ShapeError::FieldTooLong { .. }
        | ShapeError::UnknownWord { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// What to do where the bus refuses our user, which waiting does not mend. The log says so only in
/// words: the server's code between brackets, or what it says of a script (Redis 7.0, and later).
pub(crate) fn denial(error: &ratebox_stream::Error) -> Option<&'static str> {
    let (ratebox_stream::Error::Denied { what } | ratebox_stream::Error::Refused { what, .. }) =
        error
    else {
        return None;
    };
    let says = |word: &str| what.contains(word);
    let script = says("The user executing the script can't") || says("ACL failure in script");
    if says("(NOPERM)") || script {
        Some(
            "the bus does not let the gateway's user do this (NOPERM): give it the rights that \
             the page Bus-Users of the documentation lists",
        )
    } else if says("(WRONGPASS)") || says("(NOAUTH)") {
        Some(
            "the bus refuses the gateway's user or its password (WRONGPASS): set bus.user and \
             bus.password to what the server knows",
        )
    } else {
        None
    }
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds_up(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.max(1)
}
