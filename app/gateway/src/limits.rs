//! Requests a minute, by class of route, and the headers that tell a client how it stands.
//!
//! Counted in this process: with several gateways behind a balancer a client may get up to that
//! many times its limit.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ratebox_kit::{Decision, Limiter, Quota};

use crate::auth::Caller;
use crate::digits;
use crate::problem::{ApiError, seconds_up};
use crate::settings::LimitSettings;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A class of routes that share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Validate,
    Status,
    Batch,
    Import,
    Bulk,
    ImportStatus,
    ImportCancel,
}

impl Class {
    const ALL: [Self; 7] = [
        Self::Validate,
        Self::Status,
        Self::Batch,
        Self::Import,
        Self::Bulk,
        Self::ImportStatus,
        Self::ImportCancel,
    ];

    /// Its name in the headers.
    fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Status => "status",
            Self::Batch => "batch",
            Self::Import => "import",
            Self::Bulk => "bulk",
            Self::ImportStatus => "import_status",
            Self::ImportCancel => "import_cancel",
        }
    }

    fn quota(self, settings: &LimitSettings) -> Quota {
        match self {
            Self::Validate => settings.validate,
            Self::Status => settings.status,
            Self::Batch => settings.batch,
            Self::Import => settings.import,
            Self::Bulk => settings.bulk,
            Self::ImportStatus => settings.import_status,
            Self::ImportCancel => settings.import_cancel,
        }
    }

    /// Importers are counted by token, everybody else by user.
    fn is_per_token(self) -> bool {
        matches!(
            self,
            Self::Import | Self::Bulk | Self::ImportStatus | Self::ImportCancel
        )
    }
}

/// Counts for all classes.
#[derive(Debug)]
pub(crate) struct Limits {
    settings: LimitSettings,
    by_user: [Limiter; Class::ALL.len()],
    by_token: [Limiter; Class::ALL.len()],
}

/// How a client stands after its request was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    class: Class,
    quota: Quota,
    decision: Decision,
}

impl Limits {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        Self {
            settings,
            by_user: Class::ALL.map(|_| Limiter::new()),
            by_token: Class::ALL.map(|_| Limiter::new()),
        }
    }

    /// Counts one request at `now`, a time since this process began.
    pub(crate) fn take(&self, class: Class, caller: &Caller, now: Duration) -> Standing {
        let at = class as usize;
        let (limiter, key, quota) = match caller.limit_per_minute {
            Some(own) => (
                &self.by_token[at],
                caller.token_id.as_str(),
                Quota::per_minute(own),
            ),
            None if class.is_per_token() => (
                &self.by_token[at],
                caller.token_id.as_str(),
                class.quota(&self.settings),
            ),
            None => (
                &self.by_user[at],
                caller.owner.as_str(),
                class.quota(&self.settings),
            ),
        };
        Standing {
            class,
            quota,
            decision: limiter.take(key, quota, now),
        }
    }
}

impl Standing {
    /// # Errors
    /// 429 when the limit is used up.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.decision.allowed {
            return Ok(());
        }
        let detail = format!(
            "{} requests per {} s are allowed here",
            self.quota.burst,
            self.quota.window.as_secs()
        );
        Err(
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "limit.exceeded", detail)
                .retry_after(self.decision.wait),
        )
    }

    /// The two fields of the IETF draft (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let name = self.class.name();
        let (quota, window) = (self.quota.burst.into(), self.quota.window.as_secs());
        let left = self.decision.remaining.into();
        let reset = seconds_up(self.decision.wait);
        headers.insert(POLICY, member(name, [("q", quota), ("w", window)]));
        headers.insert(STATE, member(name, [("r", left), ("t", reset)]));
    }
}

/// A name with two numbers; written for every request.
fn member(name: &str, parameters: [(&str, u64); 2]) -> HeaderValue {
    let mut text = String::with_capacity(64);
    text.push('"');
    text.push_str(name);
    text.push('"');
    for (parameter, number) in parameters {
        text.push(';');
        text.push_str(parameter);
        text.push('=');
        digits::push(&mut text, number);
    }
    HeaderValue::from_str(&text).expect("names and numbers are a header value")
}

/// A refused token is counted against its address.
pub(crate) fn too_many_failures(wait: Duration) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "auth.too_many_failures",
        "too many refused tokens came from this address",
    )
    .retry_after(wait)
}
