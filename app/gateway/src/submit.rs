//! From a body to what is to be accepted: parsed, given ids, and written as it will travel.

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use ratebox_intake::{Action, ITEMS_MAX, Lane, Request, ShapeError, Terms};
use ratebox_intake::{parse_batch, parse_bulk, parse_import, parse_validation};
use ratebox_kit::id;
use serde::Serialize;
use uuid::Uuid;

use crate::accept::{Parcel, Submission};
use crate::auth::Caller;
use crate::problem::ApiError;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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
            Self::Import | Self::Bulk => Terms {
                profile,
                source: Some("importer".to_owned()),
                action: Some(Action::Import),
                lane: Some(Lane::Low),
                ..Terms::default()
            },
        }
    }

    fn parse(self, body: &[u8]) -> Result<Vec<ratebox_intake::Submission>, ShapeError> {
        match self {
            Self::Validation => parse_validation(body, ITEMS_MAX).map(|one| vec![one]),
            Self::Import => parse_import(body, ITEMS_MAX).map(|one| vec![one]),
            Self::Batch => parse_batch(body, ITEMS_MAX),
            Self::Bulk => parse_bulk(body, ITEMS_MAX),
        }
    }

    /// The name of a part that has none.
    fn part_name(self, number: usize) -> Option<String> {
        match self {
            Self::Validation | Self::Import => None,
            Self::Batch => Some(format!("batch_{number}")),
            Self::Bulk => Some(format!("dataset_{number}")),
        }
    }
}

/// Reads a body and makes its requests, with new ids.
///
/// # Errors
/// What is wrong with the shape of the body, or 422 where it asks for what does not exist yet.
pub(crate) fn prepare(
    kind: Kind,
    body: &[u8],
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Submission, ApiError> {
    let parts = kind.parse(body)?;
    let defaults = kind.defaults(caller);
    let traceparent = traceparent(headers);
    let mut parcels = Vec::with_capacity(parts.len());
    for (number, mut part) in parts.into_iter().enumerate() {
        if part.terms.webhook_url.is_some() {
            return Err(ApiError::unprocessable(
                "webhook.unavailable",
                "webhooks are not delivered yet; ask for the status instead",
            ));
        }
        part.terms.batch_id = part.terms.batch_id.or_else(|| kind.part_name(number));
        let mut request = part.into_request(id::new(), caller.owner.as_str(), &defaults);
        request.traceparent.clone_from(&traceparent);
        parcels.push(parcel(request));
    }
    let answer = answer(kind, &parcels);
    Ok(Submission {
        parcels,
        key: None,
        answer,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<Vec<Part<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datasets: Option<Vec<Part<'a>>>,
}

#[derive(Serialize)]
struct Part<'a> {
    id: Option<&'a str>,
    request_id: Uuid,
    item_count: u32,
    source: &'a str,
}

impl<'a> Part<'a> {
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
    let status = "queued";
    let parts = || Some(parcels.iter().map(Part::of).collect());
    let item_count = parcels
        .iter()
        .map(|parcel| u64::from(parcel.item_count))
        .sum();
    let many = |batches, datasets| Many {
        status,
        item_count,
        batches,
        datasets,
    };
    let text = match (kind, parcels) {
        (Kind::Validation | Kind::Import, [only]) => serde_json::to_string(&One {
            request_id: only.id,
            status,
            item_count: only.item_count,
        }),
        (Kind::Validation | Kind::Batch, _) => serde_json::to_string(&many(parts(), None)),
        (Kind::Import | Kind::Bulk, _) => serde_json::to_string(&many(None, parts())),
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
