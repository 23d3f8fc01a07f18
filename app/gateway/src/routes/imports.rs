//! Imports of all owners, for operators: what they are and how far, never what is in them.

use ratebox_store::{ImportFilter, ImportSummary, State};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::dead_letters::ok;
use crate::service::Response;

/// Imports of a page.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 500;

/// `GET /api/monitoring/imports`: the latest first.
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let mut params = Params::of(&call.parts.uri)?;
    let filter = ImportFilter {
        states: states(params.text("state").as_deref())?,
        owner: params.text("owner"),
        before: params.value::<Uuid>("cursor", "cursor is the id of an import")?,
    };
    let hint = "limit is a number from 1 to 500";
    let limit = params.value::<u32>("limit", hint)?.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad_request("query.malformed", hint));
    }
    params.finish()?;
    let imports = shared.store.imports(&filter, limit).await;
    let imports = imports.map_err(ApiError::store)?;
    let is_full = imports.len() == limit as usize;
    let next = imports.last().filter(|_| is_full).map(|it| it.id);
    let imports: Vec<Value> = imports.iter().map(shown).collect();
    Ok(ok(&json!({ "imports": imports, "next": next })))
}

fn states(words: Option<&str>) -> Result<Vec<State>, ApiError> {
    let hint = "state is open, any, or states between commas";
    match words.unwrap_or("any") {
        "any" => Ok(Vec::new()),
        "open" => Ok(vec![State::Queued, State::Processing]),
        words => {
            let states = words.split(',').map(|it| State::from_word(it.trim()));
            let states: Option<Vec<State>> = states.collect();
            states.ok_or_else(|| ApiError::bad_request("query.malformed", hint))
        }
    }
}

fn shown(import: &ImportSummary) -> Value {
    json!({
        "id": import.id,
        "owner": import.owner,
        "status": import.state.as_str(),
        "error": import.error,
        "saga": import.saga,
        "accepted_at": import.accepted_at,
        "cancel_asked_at": import.cancel_asked_at,
        "finished_at": import.finished_at,
        "item_count": import.item_count,
        "items_done": import.items_done,
        "items_cancelled": import.items_cancelled,
        "verdicts": { "DONE": import.done, "ERROR": import.failed },
        "requests": {
            "total": import.requests,
            "done": import.requests_done,
            "dead": import.requests_dead,
            "cancelled": import.requests_cancelled,
        },
    })
}
