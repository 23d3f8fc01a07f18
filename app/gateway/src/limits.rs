//! Requests a minute, by class of route, and the headers that tell a client how it stands.
//!
//! Counted in this process: with several gateways behind a balancer a client may get up to that
//! many times its limit. Or counted on a server for all of them, in one round trip a request.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use ratebox_kit::{Decimal, Decision, Limiter, Quota, id};

use crate::auth::Caller;
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
    Lookup,
    ImportCancel,
}

impl Class {
    const ALL: [Self; 8] = [
        Self::Validate,
        Self::Status,
        Self::Batch,
        Self::Import,
        Self::Bulk,
        Self::ImportStatus,
        Self::Lookup,
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
            Self::Lookup => "lookup",
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
            Self::Lookup => settings.lookup,
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
    /// Counts for all gateways.
    shared: Option<ratebox_cache::Limiter>,
}

/// Who is counted, and how much it may.
#[derive(Clone, Copy, Debug)]
enum Counted<'a> {
    User(&'a str, Quota),
    Token(&'a str, Quota),
}

/// How a client stands after its request was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    class: Class,
    quota: Quota,
    decision: Decision,
}

impl Limits {
    /// Counts here, or with the limiter of all gateways.
    pub(crate) fn new(settings: LimitSettings, shared: Option<ratebox_cache::Limiter>) -> Self {
        Self {
            settings,
            by_user: Class::ALL.map(|_| Limiter::new()),
            by_token: Class::ALL.map(|_| Limiter::new()),
            shared,
        }
    }

    /// Whether requests are counted for all gateways.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Counts one request at `now`, a time since this process began.
    pub(crate) fn take(&self, class: Class, caller: &Caller, now: Duration) -> Standing {
        let at = class as usize;
        let (quota, decision) = match self.counted(class, caller) {
            Counted::User(key, quota) => (quota, self.by_user[at].take(key, quota, now)),
            Counted::Token(key, quota) => (quota, self.by_token[at].take(key, quota, now)),
        };
        Standing {
            class,
            quota,
            decision,
        }
    }

    /// Counts one request for all gateways; here while their server is away.
    pub(crate) async fn take_shared(
        &self,
        class: Class,
        caller: &Caller,
        now: Duration,
    ) -> Standing {
        let Some(shared) = &self.shared else {
            return self.take(class, caller, now);
        };
        let (kind, key, quota) = match self.counted(class, caller) {
            Counted::User(key, quota) => ('u', key, quota),
            Counted::Token(key, quota) => ('t', key, quota),
        };
        // Owners may be named after people.
        let digest = id::hex(&id::sha256(key.as_bytes()));
        let key = format!("{}:{kind}:{digest}", class.name());
        let ruling = shared.take_of(&key, quota).await;
        Standing {
            class,
            quota,
            decision: Decision {
                allowed: ruling.allowed,
                remaining: ruling.remaining,
                wait: ruling.retry_after.unwrap_or(ruling.reset_after),
            },
        }
    }

    fn counted<'a>(&self, class: Class, caller: &'a Caller) -> Counted<'a> {
        match caller.limit_per_minute {
            Some(own) => Counted::Token(&caller.token_id, Quota::per_minute(own)),
            None if class.is_per_token() => {
                Counted::Token(&caller.token_id, class.quota(&self.settings))
            }
            None => Counted::User(&caller.owner, class.quota(&self.settings)),
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
    let mut text = Vec::with_capacity(64);
    text.push(b'"');
    text.extend_from_slice(name.as_bytes());
    text.push(b'"');
    for (parameter, number) in parameters {
        text.push(b';');
        text.extend_from_slice(parameter.as_bytes());
        text.push(b'=');
        text.extend_from_slice(Decimal::of(number).as_bytes());
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("names and numbers are a header value")
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
