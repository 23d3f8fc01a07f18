//! Dead letters: listed, inspected, edited, replayed, purged. Payloads are masked unless an
//! administrator asks for them with a reason, which is written into the audit log first.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use ratebox_operator::{
    By, Change, Payload, PurgeOutcome, ReplayOutcome, ReplayPlan, Wanted, letter_head, letter_shown,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::{Caller, Scope};
use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::json as answer;
use crate::routes::wish::{body, invalid};
use crate::service::Response;

/// Letters of a page.
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 500;
/// Letters that one call replays unless it says otherwise, and at most.
const REPLAY: u64 = 1_000;
const REPLAY_MAX: u64 = 10_000;
/// Ids that one call may name.
const IDS_MAX: usize = 1_000;
/// Replays a second unless the call says otherwise.
const PER_SECOND: u32 = 100;
/// A call is answered before clients and balancers lose patience; the answer says where to go on.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(20);
/// A page of whole letters, one a line.
const LINES: &str = "application/x-ndjson";

/// `GET /api/monitoring/dlq`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let mut params = Params::of(&call.parts.uri)?;
    let filter = params.filter(shared.store.clock().now())?;
    let hint = "limit is a number from 1 to 500";
    let limit = params.value::<u32>("limit", hint)?.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad_request("query.malformed", hint));
    }
    let wish = unmasking(&mut params)?;
    params.finish()?;
    let payload = payload(shared, call, wish, "dead_letters").await?;
    if asks_for_lines(&call.parts.headers) {
        let page = shared.letters.page_of_lines(&filter, limit, payload).await;
        let (lines, next) = page.map_err(ApiError::operator)?;
        return Ok(lines_answer(lines, next));
    }
    let letters = shared.letters.list(&filter, limit).await;
    let letters = letters.map_err(ApiError::operator)?;
    let is_full = u32::try_from(letters.len()).is_ok_and(|count| count == limit);
    let next = letters.last().filter(|_| is_full).map(|last| last.id);
    let letters: Vec<Value> = letters.iter().map(letter_head).collect();
    Ok(ok(&json!({ "letters": letters, "next": next })))
}

/// `GET /api/monitoring/dlq/{id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let id = id(call)?;
    let mut params = Params::of(&call.parts.uri)?;
    let wish = unmasking(&mut params)?;
    params.finish()?;
    // A stranger's guess is not written into the log.
    shared.letters.show(id).await.map_err(ApiError::operator)?;
    let payload = payload(shared, call, wish, &id.to_string()).await?;
    let shown = shared.letters.show(id).await.map_err(ApiError::operator)?;
    Ok(ok(&letter_shown(&shown, payload)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    ids: Option<Vec<Uuid>>,
    filter: Option<BTreeMap<String, String>>,
    max: Option<u64>,
    per_second: Option<u32>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    reason: String,
}

/// `POST /api/monitoring/dlq/replay`
pub(crate) async fn replay(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    // A `dry_run` beside the body would be passed over, and all would be replayed.
    Params::of(&call.parts.uri)?.finish()?;
    let body: ReplayBody = body(&call.body)?;
    let max = body.max.unwrap_or(REPLAY);
    if !(1..=REPLAY_MAX).contains(&max) {
        return Err(invalid("max is a number from 1 to 10000"));
    }
    let wanted = match (body.ids, body.filter) {
        (Some(ids), None) if (1..=IDS_MAX).contains(&ids.len()) => Wanted::Ids(ids),
        (None, Some(filter)) => {
            let mut params = Params::of_pairs(filter.into_iter().collect())?;
            let filter = params.filter(shared.store.clock().now())?;
            params.finish()?;
            Wanted::Matching(filter)
        }
        _ => return Err(invalid("give either ids (1 to 1000 of them) or filter")),
    };
    let by = match body.dry_run {
        true => By::new(actor(call.caller()?), "dry run"),
        false => By::new(actor(call.caller()?), &body.reason),
    };
    let plan = ReplayPlan {
        wanted,
        max,
        per_second: body.per_second.unwrap_or(PER_SECOND),
        force: body.force,
        dry_run: body.dry_run,
        time_max: Some(REPLAY_TIME_MAX),
    };
    let by = by.map_err(ApiError::operator)?;
    let outcome = shared.letters.replay(&plan, &by, |_| {}).await;
    let outcome = outcome.map_err(ApiError::operator)?;
    Ok(ok(&replayed(&outcome, plan.dry_run)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditBody {
    /// Kept as it is written: numbers and their order are not touched.
    data: Option<Box<RawValue>>,
    fields: Option<BTreeMap<String, String>>,
    #[serde(default)]
    original: bool,
    #[serde(default)]
    replay: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    reason: String,
}

/// `PATCH /api/monitoring/dlq/{id}`
pub(crate) async fn edit(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let id = id(call)?;
    Params::of(&call.parts.uri)?.finish()?;
    let body: EditBody = body(&call.body)?;
    let change = match (body.data, body.fields, body.original) {
        (Some(data), None, false) => Change::Data(Bytes::copy_from_slice(data.get().as_bytes())),
        (None, Some(fields), false) => Change::Fields(
            fields
                .into_iter()
                .map(|(name, text)| (name, Bytes::from(text)))
                .collect(),
        ),
        (None, None, true) => Change::Original,
        _ => return Err(invalid("give one of data, fields and original")),
    };
    let by = By::new(actor(call.caller()?), &body.reason).map_err(ApiError::operator)?;
    let edited = shared.letters.edit(id, change, &by).await;
    edited.map_err(ApiError::operator)?;
    let mut outcome = None;
    if body.replay {
        let plan = ReplayPlan {
            wanted: Wanted::Ids(vec![id]),
            max: 1,
            per_second: PER_SECOND,
            force: body.force,
            dry_run: false,
            time_max: None,
        };
        let done = shared.letters.replay(&plan, &by, |_| {}).await;
        outcome = Some(replayed(&done.map_err(ApiError::operator)?, false));
    }
    let shown = shared.letters.show(id).await.map_err(ApiError::operator)?;
    let letter = letter_shown(&shown, Payload::Masked);
    Ok(ok(&json!({ "letter": letter, "replay": outcome })))
}

/// `DELETE /api/monitoring/dlq/{id}`
pub(crate) async fn purge_one(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let id = id(call)?;
    let mut params = Params::of(&call.parts.uri)?;
    let reason = params.text("reason");
    params.finish()?;
    let by = by(call, reason)?;
    let purged = shared.letters.purge_one(id, &by).await;
    purged.map_err(ApiError::operator)?;
    Ok(ok(&json!({ "purged": 1 })))
}

/// `DELETE /api/monitoring/dlq`: a dry run until it says how many letters it expects to purge.
pub(crate) async fn purge(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let mut params = Params::of(&call.parts.uri)?;
    let filter = params.filter(shared.store.clock().now())?;
    let expect = params.value::<u64>("expect", "expect is the number that the dry run gave")?;
    let reason = params.text("reason");
    params.finish()?;
    let Some(expect) = expect else {
        let would = shared.letters.would_purge(&filter).await;
        let would = would.map_err(ApiError::operator)?;
        return Ok(ok(&purged(&would, true)));
    };
    let by = by(call, reason)?;
    let done = shared.letters.purge(&filter, expect, &by).await;
    Ok(ok(&purged(&done.map_err(ApiError::operator)?, false)))
}

fn replayed(outcome: &ReplayOutcome, dry_run: bool) -> Value {
    let refusals = outcome.refusals.iter();
    let refusals: Vec<Value> = refusals
        .map(|(id, why)| json!({ "id": id, "why": why.as_str() }))
        .collect();
    json!({
        "dry_run": dry_run,
        "matched": outcome.matched,
        "replayed": outcome.replayed,
        "published": outcome.published,
        "refused": outcome.refused,
        "refusals": refusals,
        "next": outcome.next,
        "sample": outcome.sample,
    })
}

fn purged(outcome: &PurgeOutcome, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "matched": outcome.matched,
        "bytes": outcome.bytes,
        "purged": outcome.purged,
        "sample": outcome.sample,
    })
}

/// Who wants to see payloads as they are, and why.
struct Unmasking {
    is_wanted: bool,
    reason: Option<String>,
}

fn unmasking(params: &mut Params) -> Result<Unmasking, ApiError> {
    let unmask = params.value::<bool>("unmask", "unmask is true or false")?;
    Ok(Unmasking {
        is_wanted: unmask == Some(true),
        reason: params.text("reason"),
    })
}

/// How much of a payload this caller sees. It is written down before; so nothing may be wrong with the
/// call any more.
async fn payload(
    shared: &Shared,
    call: &Call,
    wish: Unmasking,
    subject: &str,
) -> Result<Payload, ApiError> {
    if !wish.is_wanted {
        return Ok(Payload::Masked);
    }
    call.caller()?.check(Scope::Admin)?;
    let by = by(call, wish.reason)?;
    let noted = shared.letters.note_unmasking(subject.to_owned(), &by).await;
    noted.map_err(ApiError::operator)?;
    Ok(Payload::Plain)
}

pub(super) fn by(call: &Call, reason: Option<String>) -> Result<By, ApiError> {
    By::new(actor(call.caller()?), &reason.unwrap_or_default()).map_err(ApiError::operator)
}

/// Whoever calls, for the audit log.
pub(crate) fn actor(caller: &Caller) -> String {
    format!("token:{} ({})", caller.token_id, caller.owner)
}

/// The id at the end of the path; anything else is no letter.
fn id(call: &Call) -> Result<Uuid, ApiError> {
    let text = call.parts.uri.path().rsplit('/').next().unwrap_or_default();
    Uuid::try_parse(text).map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "dead_letter.unknown",
            "there is no such dead letter",
        )
    })
}

fn asks_for_lines(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with(LINES)))
}

fn lines_answer(lines: String, next: Option<Uuid>) -> Response {
    let mut response = answer(StatusCode::OK, lines);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    if let Some(next) = next {
        let next = HeaderValue::from_str(&next.to_string()).expect("an id is a header value");
        headers.insert("x-next-cursor", next);
    }
    response
}

pub(super) fn ok(body: &Value) -> Response {
    answer(StatusCode::OK, body.to_string())
}
