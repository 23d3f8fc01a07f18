//! Imports: taken, how far they are, and told to stop.

mod progress;

use axum::http::{HeaderValue, StatusCode, header};
use ratebox_store::{CancelAnswer, State};
use uuid::Uuid;

use crate::gateway::Shared;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::{json, validation};
use crate::service::Response;
use crate::status::{self, Found, StatusQuery};
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

/// `GET /api/importer/status/{id}`: of a whole import, or of one request.
pub(crate) async fn status(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    let id = validation::id(call)?;
    let query = StatusQuery::of(&call.parts.uri)?;
    let found = shared.statuses.find(&shared.store, id, &caller.owner).await;
    let found = found.map_err(ApiError::store)?;
    if let Some(found) = found {
        return Ok(json(StatusCode::OK, progress::of_request(&found)));
    }
    if let Some(whole) = of_import(shared, id, &caller.owner).await? {
        return Ok(json(StatusCode::OK, whole));
    }
    // In stream mode the worker may not have written it yet.
    let entry = query.entry(shared);
    let found = status::elsewhere(shared, id, &caller.owner, entry.as_ref()).await?;
    let body = match found.ok_or_else(ApiError::unknown_request)? {
        Found::Stored(status) => progress::of_request(&status),
        queued @ Found::OnBus { .. } => queued.into_json().into_bytes(),
    };
    Ok(json(StatusCode::OK, body))
}

/// `POST /api/importer/cancel/{id}`: what has no verdict yet gets none.
pub(crate) async fn cancel(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    let id = validation::id(call)?;
    let asked = shared.store.ask_import_cancel(id, &caller.owner).await;
    let asked = asked.map_err(ApiError::store)?;
    let code = match asked.ok_or_else(ApiError::unknown_request)? {
        CancelAnswer::Asked => StatusCode::ACCEPTED,
        CancelAnswer::Ended(State::Cancelled) => StatusCode::OK,
        CancelAnswer::Ended(_) => {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "import.ended",
                "this import has ended; there is nothing left to cancel",
            ));
        }
    };
    let body = of_import(shared, id, &caller.owner).await?;
    let mut response = json(code, body.ok_or_else(ApiError::unknown_request)?);
    let location = format!("{}{id}", Kind::Bulk.status_path());
    let location = HeaderValue::from_str(&location).expect("a path without spaces");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

async fn of_import(shared: &Shared, id: Uuid, owner: &str) -> Result<Option<Vec<u8>>, ApiError> {
    let found = shared.store.import_status(id, owner).await;
    let found = found.map_err(ApiError::store)?;
    Ok(found.as_ref().map(progress::of_import))
}
