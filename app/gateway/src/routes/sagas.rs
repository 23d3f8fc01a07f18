//! Sagas: listed, inspected, drawn, foreseen, and ordered about. What a saga carries is masked
//! unless an administrator asks for it with a reason, which is written into the audit log first.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use ratebox_kit::Timestamp;
use ratebox_operator::{
    By, Many, Moment, Payload, SagaFilter, SagaOrder, SagaOutcome, SagaStates, saga_counts,
    saga_definition, saga_foreseen, saga_head, saga_ordered, saga_shown,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::auth::Scope;
use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::dead_letters::{actor, by, ok};
use crate::routes::json as answer;
use crate::routes::wish::{body, invalid, other_body};
use crate::service::Response;

/// Sagas of a page.
const PAGE: usize = 50;
const PAGE_MAX: usize = 500;
/// Sagas that one call orders about.
const BULK_MAX: usize = 1_000;
/// Definitions of an answer.
const DEFINITIONS_MAX: usize = 200;
/// How long an order is waited for before it is answered 202.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest time that a step may be said to take.
const TAKES_MAX_MS: u64 = 366 * 24 * 3_600_000;
/// What parameters begin with that say what a step takes.
const TAKES: &str = "takes.";
/// What is said of a time that cannot be read.
const TIMES: &str = "from and until are times as 2026-01-31T12:00:00Z, or how long ago as 15m";

/// `GET /api/monitoring/sagas`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let mut params = Params::of(&call.parts.uri)?;
    let filter = filter(&mut params, shared.store.clock().now())?;
    let hint = "limit is a number from 1 to 500";
    let limit = params.value::<usize>("limit", hint)?.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad_request("query.malformed", hint));
    }
    params.finish()?;
    let heads = shared.sagas.list(&filter, limit).await;
    let heads = heads.map_err(ApiError::operator)?;
    let next = heads.last().filter(|_| heads.len() == limit);
    let next = next.map(|it| it.id);
    let counts = shared.sagas.counts().await.map_err(ApiError::operator)?;
    let sagas: Vec<Value> = heads.iter().map(saga_head).collect();
    Ok(ok(&json!({
        "sagas": sagas, "next": next, "counts": saga_counts(&counts),
    })))
}

fn filter(params: &mut Params, now: Timestamp) -> Result<SagaFilter, ApiError> {
    let states = "state is live, any, or states between commas";
    let id = "parent and cursor are ids of sagas";
    Ok(SagaFilter {
        states: params
            .value::<SagaStates>("state", states)?
            .unwrap_or_default(),
        definition: params.text("definition"),
        key: params.text("key"),
        parent: params.value::<Uuid>("parent", id)?,
        from: params.time("from", now, TIMES)?,
        until: params.time("until", now, TIMES)?,
        after: params.value::<Uuid>("cursor", id)?,
    })
}

/// `GET /api/monitoring/sagas/{id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let id = id(call)?;
    let mut params = Params::of(&call.parts.uri)?;
    let hint = "at is a time as 2026-01-31T12:00:00Z, or how long ago as 15m";
    let at = params.time("at", shared.store.clock().now(), hint)?;
    let unmask = params.value::<bool>("unmask", "unmask is true or false")?;
    let reason = params.text("reason");
    params.finish()?;
    let seen = shared.sagas.show(id, at).await;
    let seen = seen.map_err(ApiError::operator)?;
    let payload = if unmask == Some(true) {
        call.caller()?.check(Scope::Admin)?;
        let noted = shared.sagas.note_unmasking(id, &by(call, reason)?).await;
        noted.map_err(ApiError::operator)?;
        Payload::Plain
    } else {
        Payload::Masked
    };
    Ok(ok(&saga_shown(&seen, payload)))
}

/// `GET /api/monitoring/sagas/{id}/graph`
pub(crate) async fn graph(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let id = id(call)?;
    Params::of(&call.parts.uri)?.finish()?;
    let mermaid = shared.sagas.graph(id).await;
    let mermaid = mermaid.map_err(ApiError::operator)?;
    Ok(ok(&json!({ "id": id, "mermaid": mermaid })))
}

/// `GET /api/monitoring/saga-definitions`
pub(crate) async fn definitions(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let outlines = shared.sagas.definitions(None, DEFINITIONS_MAX).await;
    let outlines = outlines.map_err(ApiError::operator)?;
    let definitions: Vec<Value> = outlines.iter().map(saga_definition).collect();
    Ok(ok(&json!({ "definitions": definitions })))
}

/// `GET /api/monitoring/saga-definitions/{id}`: what the definition of a name would take.
pub(crate) async fn simulate(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let name = call.parts.uri.path().rsplit('/').next().unwrap_or_default();
    let mut params = Params::of(&call.parts.uri)?;
    let mut takes = HashMap::new();
    for (step, text) in params.beginning_with(TAKES) {
        let ms = text.parse().ok().filter(|ms| *ms <= TAKES_MAX_MS);
        let ms = ms.ok_or_else(|| {
            let hint = "takes.<step> is a number of milliseconds, of a year at most";
            ApiError::bad_request("query.malformed", hint)
        })?;
        takes.insert(step, Duration::from_millis(ms));
    }
    params.finish()?;
    let foreseen = shared.sagas.simulate(name, takes).await;
    let foreseen = foreseen.map_err(ApiError::operator)?;
    Ok(ok(&saga_foreseen(&foreseen)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    order: Word,
    step: Option<String>,
    /// Of a step that is supplied, or of a signal.
    value: Option<Value>,
    /// Of an approval.
    yes: Option<bool>,
    #[serde(default)]
    reason: String,
}

/// What can be ordered.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Retry,
    Skip,
    Supply,
    /// The word of the predecessor for `cancel`.
    Compensate,
    Cancel,
    Resume,
    Abandon,
    Approve,
    Signal,
}

/// `POST /api/monitoring/sagas/{id}/orders`
pub(crate) async fn order(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let id = id(call)?;
    Params::of(&call.parts.uri)?.finish()?;
    let body: OrderBody = body(&call.body)?;
    let by = By::new(actor(call.caller()?), &body.reason).map_err(ApiError::operator)?;
    let order = wish(body)?;
    let outcome = shared.sagas.order(id, &order, &by, PATIENCE).await;
    let (status, word) = match outcome.map_err(ApiError::operator)? {
        SagaOutcome::Done => (StatusCode::OK, "done"),
        SagaOutcome::Waiting => (StatusCode::ACCEPTED, "waiting"),
        SagaOutcome::TooLate => (StatusCode::OK, "too_late"),
    };
    let body = json!({ "id": id, "order": order.verb(), "outcome": word });
    Ok(answer(status, body.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrdersBody {
    order: BulkWord,
    /// Of [`BulkFilter`]'s names. An object: of an array serde would take the places for them.
    #[serde(default)]
    filter: Map<String, Value>,
    #[serde(default = "bulk_max")]
    max: usize,
    #[serde(default)]
    reason: String,
}

/// What can be ordered about many.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BulkWord {
    Retry,
    Compensate,
    Cancel,
    Abandon,
}

/// The parameters of the list.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BulkFilter {
    state: Option<String>,
    definition: Option<String>,
    key: Option<String>,
    parent: Option<Uuid>,
    from: Option<String>,
    until: Option<String>,
    cursor: Option<Uuid>,
}

fn bulk_max() -> usize {
    BULK_MAX
}

/// `POST /api/monitoring/sagas/orders`: the same order to each saga that matches. Nobody is waited
/// for.
pub(crate) async fn order_many(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let body: OrdersBody = body(&call.body)?;
    if !(1..=BULK_MAX).contains(&body.max) {
        return Err(invalid("max is a number from 1 to 1000"));
    }
    let by = By::new(actor(call.caller()?), &body.reason).map_err(ApiError::operator)?;
    let order = match body.order {
        BulkWord::Retry => Many::Retry,
        BulkWord::Compensate | BulkWord::Cancel => Many::Cancel,
        BulkWord::Abandon => Many::Abandon,
    };
    let filter = serde_json::from_value::<BulkFilter>(Value::Object(body.filter));
    let now = shared.store.clock().now();
    let filter = filter.map_err(|_| other_body())?.read(now)?;
    let outcome = shared.sagas.order_many(&filter, order, body.max, &by).await;
    Ok(ok(&saga_ordered(&outcome.map_err(ApiError::operator)?)))
}

impl BulkFilter {
    fn read(self, now: Timestamp) -> Result<SagaFilter, ApiError> {
        let states = match self.state.as_deref().map(SagaStates::parse) {
            None => SagaStates::default(),
            Some(Some(states)) => states,
            Some(None) => {
                return Err(invalid("state is live, any, or states between commas"));
            }
        };
        let time = |text: Option<String>| {
            let moment = text.map(|it| it.parse::<Moment>()).transpose();
            let moment = moment.map_err(|_| invalid(TIMES))?;
            Ok::<_, ApiError>(moment.map(|it| it.time(now)))
        };
        Ok(SagaFilter {
            states,
            definition: self.definition,
            key: self.key,
            parent: self.parent,
            from: time(self.from)?,
            until: time(self.until)?,
            after: self.cursor,
        })
    }
}

/// An order of the parts that it needs, and no others.
fn wish(body: OrderBody) -> Result<SagaOrder, ApiError> {
    let parts = (body.step, body.value, body.yes);
    Ok(match (body.order, parts) {
        (Word::Retry, (Some(step), None, None)) => SagaOrder::Retry { step },
        (Word::Skip, (Some(step), None, None)) => SagaOrder::Skip { step },
        (Word::Supply, (Some(step), value, None)) => SagaOrder::Supply {
            step,
            result: value.unwrap_or(Value::Null),
        },
        (Word::Compensate | Word::Cancel, (None, None, None)) => SagaOrder::Cancel,
        (Word::Resume, (None, None, None)) => SagaOrder::Resume,
        (Word::Abandon, (None, None, None)) => SagaOrder::Abandon,
        (Word::Approve, (Some(step), None, yes)) => SagaOrder::Approve {
            step,
            yes: yes.unwrap_or(true),
        },
        (Word::Signal, (Some(name), value, None)) => SagaOrder::Signal {
            name,
            value: value.unwrap_or(Value::Null),
        },
        _ => {
            return Err(invalid(
                "retry, skip, supply, approve and signal need a step, supply and signal a value; \
                 compensate, cancel, resume and abandon take neither",
            ));
        }
    })
}

/// The id in the path; anything else is no saga.
fn id(call: &Call) -> Result<Uuid, ApiError> {
    let mut parts = call.parts.uri.path().split('/');
    let text = parts.nth(4).unwrap_or_default();
    Uuid::try_parse(text).map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "saga.unknown",
            "there is no such saga",
        )
    })
}
