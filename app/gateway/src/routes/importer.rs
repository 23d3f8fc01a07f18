//! Imports: taken, how far they are, waited for, and told to stop.

mod progress;

use axum::http::{HeaderValue, StatusCode, header};
use ratebox_store::{CancelAnswer, ImportStatus, State};
use uuid::Uuid;

use crate::accept::EntryRef;
use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::{json, validation};
use crate::service::Response;
use crate::status::{self, Found, StatusQuery, Turn, Waiting};
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
    let owner = call.caller()?.owner.as_str();
    let id = validation::id(call)?;
    let query = StatusQuery::of(&call.parts.uri)?;
    let entry = query.entry(shared);
    let wait = query.wait(shared)?;
    // Before the look-up, or an end between the two is missed.
    let waiter = status::waiter(shared, id, wait).await;
    let seen = look(shared, (id, owner), entry.as_ref()).await?;
    let mut seen = seen.ok_or_else(ApiError::unknown_request)?;
    if let Some(waiter) = waiter.filter(|_| !seen.is_final()) {
        let waiting = Waiting::new(shared, waiter, wait);
        until_final(shared, (id, owner), &seen, waiting).await;
        // After a wait in vain, too: more of it may be done by now.
        seen = look(shared, (id, owner), None).await?.unwrap_or(seen);
    }
    Ok(json(StatusCode::OK, seen.into_json()))
}

/// What an id of the caller's stands for.
enum Seen {
    Import(Box<ImportStatus>),
    Request(Found),
}

impl Seen {
    fn is_final(&self) -> bool {
        match self {
            Self::Import(import) => import.state.is_terminal(),
            Self::Request(found) => found.is_final(),
        }
    }

    fn into_json(self) -> Vec<u8> {
        match self {
            Self::Import(import) => progress::of_import(&import),
            Self::Request(Found::Stored(status)) => progress::of_request(&status),
            Self::Request(queued @ Found::OnBus { .. }) => queued.into_json().into_bytes(),
        }
    }
}

/// Looks for an owner's import or request; `None` also when it is somebody else's.
async fn look(
    shared: &Shared,
    (id, owner): (Uuid, &str),
    entry: Option<&EntryRef>,
) -> Result<Option<Seen>, ApiError> {
    let found = shared.statuses.find(&shared.store, id, owner).await;
    if let Some(found) = found.map_err(ApiError::store)? {
        return Ok(Some(Seen::Request(Found::Stored(found))));
    }
    let import = shared.store.import_status(id, owner).await;
    if let Some(import) = import.map_err(ApiError::store)? {
        return Ok(Some(Seen::Import(Box::new(import))));
    }
    // In stream mode the worker may not have written it yet.
    let found = status::elsewhere(shared, id, owner, entry).await?;
    Ok(found.map(Seen::Request))
}

/// Waits for the end of what was seen, as long as there is time. The end of an import is told on
/// the stream of answers, as that of a request is.
async fn until_final(
    shared: &Shared,
    (id, owner): (Uuid, &str),
    seen: &Seen,
    mut waiting: Waiting<'_>,
) {
    loop {
        match waiting.turn().await {
            Turn::Over => return,
            Turn::Told(_) | Turn::Look => {}
        }
        // An outage is waited out. Of an import its parts are not read: it may have thousands.
        let is_final = match seen {
            Seen::Import(_) => {
                let state = shared.store.import_state(id).await;
                state.ok().flatten().is_some_and(State::is_terminal)
            }
            // It may end without ever having had a row.
            Seen::Request(_) => {
                let found = status::find(shared, id, owner, None).await;
                found.ok().flatten().is_some_and(|it| it.is_final())
            }
        };
        if is_final {
            return;
        }
    }
}

/// `POST /api/importer/cancel/{id}`: what has no verdict yet gets none.
pub(crate) async fn cancel(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    let id = validation::id(call)?;
    Params::of(&call.parts.uri)?.finish()?;
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
