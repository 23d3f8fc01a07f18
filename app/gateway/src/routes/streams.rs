//! The bus as it stands: streams with their groups, and the members of the groups. No payload is
//! among it.

use axum::http::StatusCode;
use ratebox_operator::{consumers_json, stream_json};
use ratebox_stream::{GroupName, StreamName};
use serde_json::{Value, json};

use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::json as answer;
use crate::service::Response;

/// `GET /api/monitoring/streams`
pub(crate) async fn streams(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let mut streams = Vec::new();
    for name in names(shared) {
        let seen = shared.streams.look(&name).await;
        streams.push(stream_json(&seen.map_err(ApiError::operator)?));
    }
    // What waits is counted for all groups alike.
    let delayed = shared.streams.delayed(&GroupName::new("operator")).await;
    let delayed = delayed.map_err(ApiError::operator)?;
    let next_in_ms = delayed.next_in.map(|wait| wait.as_millis() as u64);
    let body = json!({
        "streams": streams,
        "delayed": { "count": delayed.count, "next_in_ms": next_in_ms },
    });
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// `GET /api/monitoring/consumers`
pub(crate) async fn consumers(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let mut consumers: Vec<Value> = Vec::new();
    for name in names(shared) {
        let seen = shared.streams.look(&name).await;
        consumers.extend(consumers_json(&seen.map_err(ApiError::operator)?));
    }
    let body = json!({ "consumers": consumers });
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// The requests' lanes, then the others that the settings name.
fn names(shared: &Shared) -> Vec<StreamName> {
    let lanes = shared.lanes.iter().map(|(_, stream)| stream.clone());
    let settings = &shared.settings.streams;
    let others = [&settings.responses, &settings.importer_responses];
    let others = others.into_iter().chain(&settings.also_watched);
    lanes.chain(others.map(StreamName::new)).collect()
}
