//! From a body to what is to be accepted: parsed, given ids, and written as it will travel.

mod bulk;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use ratebox_intake::{Request, Submission as Part, Terms};
use ratebox_intake::{parse_batch, parse_import, parse_validation};
use ratebox_kit::id;
use serde::Serialize;
use uuid::Uuid;

use crate::accept::{Parcel, Submission};
use crate::auth::Caller;
use crate::problem::ApiError;
use crate::settings::Settings;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const QUEUED: &str = "queued";

/// Which of the four bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Validation,
    Batch,
    Import,
    Bulk,
}

impl Kind {
    /// Where the status of its requests is.
    pub(crate) fn status_path(self) -> &'static str {
        match self {
            Self::Validation | Self::Batch => "/api/validation/status/",
            Self::Import | Self::Bulk => "/api/importer/status/",
        }
    }

    /// What a client leaves open.
    fn defaults(self, caller: &Caller) -> Terms {
        let profile = caller.profile;
        match self {
            Self::Validation | Self::Batch => Terms {
                profile,
                ..Terms::default()
            },
            Self::Import | Self::Bulk => Terms::of_importer(profile),
        }
    }

    /// The list that its requests stand in, where there may be several.
    fn list(self) -> Option<&'static str> {
        match self {
            Self::Validation | Self::Import => None,
            Self::Batch => Some("batches"),
            Self::Bulk => Some("datasets"),
        }
    }

    /// The name of a part that has none.
    fn part_name(self, number: usize) -> Option<String> {
        (self == Self::Batch).then(|| format!("batch_{number}"))
    }
}

/// What is taken, from whom, and with which headers.
pub(crate) struct Given<'a> {
    pub(crate) body: &'a Bytes,
    pub(crate) caller: &'a Caller,
    pub(crate) headers: &'a HeaderMap,
}

/// Reads a body and makes its requests, with new ids.
///
/// # Errors
/// What is wrong with the shape of the body, or 422 where it asks for what does not exist yet.
pub(crate) fn prepare(
    kind: Kind,
    given: &Given<'_>,
    settings: &Settings,
) -> Result<Submission, ApiError> {
    let Given { body, caller, .. } = *given;
    let items_max = settings.body.items_max;
    let parts = match kind {
        Kind::Validation => vec![parse_validation(body, items_max)?],
        Kind::Import => vec![parse_import(body, items_max)?],
        Kind::Batch => parse_batch(body, items_max)?,
        Kind::Bulk => return bulk::prepare(given, settings),
    };
    check_webhooks(kind, &parts)?;
    let defaults = kind.defaults(caller);
    let traceparent = traceparent(given.headers);
    let mut parcels = Vec::with_capacity(parts.len());
    for (number, mut part) in parts.into_iter().enumerate() {
        part.terms.batch_id = part.terms.batch_id.or_else(|| kind.part_name(number));
        let mut request = part.into_request(id::new(), caller.owner.as_str(), &defaults);
        request.traceparent.clone_from(&traceparent);
        parcels.push(parcel(request));
    }
    let answer = answer(kind, &parcels);
    Ok(Submission {
        parcels,
        import: None,
        key: None,
        answer,
    })
}

fn check_webhooks(kind: Kind, parts: &[Part]) -> Result<(), ApiError> {
    let has_one = |part: &Part| part.terms.webhook_url.is_some();
    let Some(first) = parts.iter().position(has_one) else {
        return Ok(());
    };
    let refusal = ApiError::unprocessable(
        "webhook.unavailable",
        "webhooks are not delivered yet; ask for the status instead",
    );
    // Where all have one it may stand in `defaults`.
    let is_common = parts.iter().all(has_one);
    Err(match kind.list().filter(|_| !is_common) {
        Some(list) => refusal.at_entry(&format!("/{list}/{first}")),
        None => refusal,
    })
}

fn parcel(request: Request) -> Parcel {
    let body = Bytes::from(request.to_message());
    Parcel {
        id: request.request_id,
        accepted_at: request.accepted_at(),
        lane: request.lane,
        action: request.action,
        profile: request.profile,
        item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
        owner: request.owner,
        source: request.source,
        external_ref: request.external_ref,
        batch_id: request.batch_id,
        key: request.key,
        traceparent: request.traceparent,
        body,
    }
}

#[derive(Serialize)]
struct One {
    request_id: Uuid,
    status: &'static str,
    item_count: u32,
}

#[derive(Serialize)]
struct Many<'a> {
    status: &'static str,
    item_count: u64,
    batches: Vec<Batch<'a>>,
}

#[derive(Serialize)]
struct Batch<'a> {
    id: Option<&'a str>,
    request_id: Uuid,
    item_count: u32,
    source: &'a str,
}

impl<'a> Batch<'a> {
    fn of(parcel: &'a Parcel) -> Self {
        Self {
            id: parcel.batch_id.as_deref(),
            request_id: parcel.id,
            item_count: parcel.item_count,
            source: &parcel.source,
        }
    }
}

/// The body of the 202.
fn answer(kind: Kind, parcels: &[Parcel]) -> String {
    let text = match (kind, parcels) {
        (Kind::Validation | Kind::Import, [only]) => serde_json::to_string(&One {
            request_id: only.id,
            status: QUEUED,
            item_count: only.item_count,
        }),
        _ => serde_json::to_string(&Many {
            status: QUEUED,
            item_count: parcels.iter().map(|it| u64::from(it.item_count)).sum(),
            batches: parcels.iter().map(Batch::of).collect(),
        }),
    };
    text.expect("texts and numbers are JSON")
}

/// The W3C trace context, where it has the form of version 00.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut parts = text.split('-').map(|part| {
        let hex = part
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (part.len(), hex)
    });
    let form = [(2, true), (32, true), (16, true), (2, true)];
    let fits = form.into_iter().all(|field| parts.next() == Some(field)) && parts.next().is_none();
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_a_well_formed_trace_context_is_passed_on() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(text));
            traceparent(&headers)
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read(good).as_deref(), Some(good));
        for bad in [
            "",
            "00-4BF9-1-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
