//! Imports: taken, and how far they are.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use ratebox_kit::Timestamp;
use ratebox_store::{RequestStatus, State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::gateway::Shared;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::{json, validation};
use crate::service::Response;
use crate::status::{self, StatusQuery};
use crate::submit::Kind;

/// `POST /api/importer/import`
pub(crate) async fn import(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let (accepted, kind) = validation::accept(shared, call, Kind::Import).await?;
    Ok(validation::taken(accepted, kind))
}

/// `POST /api/importer/bulk`
pub(crate) async fn bulk(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let (accepted, kind) = validation::accept(shared, call, Kind::Bulk).await?;
    Ok(validation::taken(accepted, kind))
}

/// How far an import is.
#[derive(Debug, Serialize)]
struct Progress<'a> {
    request_id: Uuid,
    status: &'static str,
    source: &'a str,
    batch_id: Option<&'a str>,
    external_ref: Option<&'a str>,
    item_count: u32,
    items_done: u32,
    accepted_at: Timestamp,
    finished_at: Option<Timestamp>,
    verdicts: BTreeMap<&'static str, u32>,
    codes: Vec<CodeCount>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct CodeCount {
    code: u16,
    count: u32,
}

/// What is read of a response to count.
#[derive(Deserialize)]
struct Counted<'a> {
    #[serde(borrow)]
    results: Vec<CountedItem<'a>>,
}

#[derive(Deserialize)]
struct CountedItem<'a> {
    verdict: &'a str,
    errors: Vec<CountedError>,
}

#[derive(Deserialize)]
struct CountedError {
    code: u16,
}

/// `GET /api/importer/status/{id}`
pub(crate) async fn status(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    let id = validation::id(call)?;
    let query = StatusQuery::of(&call.parts.uri)?;
    let found = shared.statuses.find(&shared.store, id, &caller.owner).await;
    let found = found.map_err(ApiError::store)?;
    if let Some(found) = found {
        let body = serde_json::to_vec(&progress(&found)).expect("words and numbers are JSON");
        return Ok(json(StatusCode::OK, body));
    }
    // In stream mode the worker may not have written it yet.
    let entry = query.entry(shared);
    let queued = status::on_bus(shared, id, &caller.owner, entry.as_ref()).await?;
    let queued = queued.ok_or_else(ApiError::unknown_request)?;
    Ok(json(StatusCode::OK, queued.into_json()))
}

fn progress(found: &RequestStatus) -> Progress<'_> {
    let response = found.response.as_deref();
    let counted = response.and_then(|text| serde_json::from_str::<Counted<'_>>(text).ok());
    let items = counted.map(|counted| counted.results).unwrap_or_default();
    let mut verdicts = BTreeMap::from([("DONE", 0), ("ERROR", 0)]);
    let mut codes = BTreeMap::<u16, u32>::new();
    for item in &items {
        let verdict = if item.verdict == "DONE" {
            "DONE"
        } else {
            "ERROR"
        };
        *verdicts.entry(verdict).or_default() += 1;
        for error in &item.errors {
            *codes.entry(error.code).or_default() += 1;
        }
    }
    let is_final = found.state.is_terminal() && found.state != State::Dead;
    Progress {
        request_id: found.id,
        status: found.state.as_str(),
        source: &found.source,
        batch_id: found.batch_id.as_deref(),
        external_ref: found.external_ref.as_deref(),
        item_count: found.item_count,
        items_done: if is_final { found.item_count } else { 0 },
        accepted_at: found.accepted_at,
        finished_at: found.finished_at,
        verdicts,
        codes: codes
            .into_iter()
            .map(|(code, count)| CodeCount { code, count })
            .collect(),
    }
}
