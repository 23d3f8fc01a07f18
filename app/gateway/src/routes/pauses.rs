//! Pauses of the consumers: those that stand, one more, one less. Each deed is written into the
//! audit log.

use std::time::Duration;

use axum::http::StatusCode;
use ratebox_operator::{By, Error};
use ratebox_stream::{GroupName, ORDERS_MAX, Order};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::dead_letters::{actor, by, ok};
use crate::routes::wish::{body, invalid};
use crate::service::Response;

/// Characters of a group's name.
const GROUP_MAX: usize = 200;
/// A pause for longer than a year is one until it is resumed.
const SECONDS_MAX: u64 = 366 * 24 * 60 * 60;
/// What the name of a pause of one group begins with.
const OF_GROUP: &str = "pause/";

/// `GET /api/monitoring/pauses`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let pauses = shared.streams.pauses(&shared.control).await;
    let pauses = pauses.map_err(ApiError::operator)?;
    let pauses: Vec<Value> = pauses.iter().map(shown).collect();
    Ok(ok(&json!({ "pauses": pauses })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    group: Option<String>,
    seconds: Option<u64>,
    #[serde(default)]
    reason: String,
}

/// `POST /api/monitoring/pauses`
pub(crate) async fn pause(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let body: PauseBody = body(&call.body)?;
    let group = group(body.group)?;
    if body
        .seconds
        .is_some_and(|it| !(1..=SECONDS_MAX).contains(&it))
    {
        return Err(invalid("seconds is a number from 1 to 31622400"));
    }
    let by = By::new(actor(call.caller()?), &body.reason).map_err(ApiError::operator)?;
    let time = body.seconds.map(Duration::from_secs);
    let paused = shared
        .streams
        .pause(&shared.control, group.as_ref(), time, &by);
    let is_paused = match paused.await {
        Err(error) => return Err(not_paused(shared, error).await),
        Ok(is_paused) => is_paused,
    };
    if !is_paused {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "pause.longer",
            "a pause stands that lasts longer; resume it first",
        ));
    }
    let group = group.as_ref().map(GroupName::as_str);
    Ok(ok(&json!({ "group": group, "seconds": body.seconds })))
}

/// Why no pause stands now. A bus that keeps as many orders as it does at most says so in words only;
/// so the orders are counted.
async fn not_paused(shared: &Shared, error: Error) -> ApiError {
    if matches!(error, Error::Bus(ratebox_stream::Error::Refused { .. }))
        && let Ok(orders) = shared.control.orders().await
        && orders.pauses().len() + orders.cancelled().len() >= ORDERS_MAX
    {
        let detail = format!(
            "{ORDERS_MAX} pauses and cancellations stand already, and no more are kept: resume some, or \
             let them end"
        );
        return ApiError::new(StatusCode::CONFLICT, "pause.too_many", detail);
    }
    ApiError::operator(error)
}

/// `DELETE /api/monitoring/pauses`
pub(crate) async fn resume(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let mut params = Params::of(&call.parts.uri)?;
    let (group, reason) = (group(params.text("group"))?, params.text("reason"));
    params.finish()?;
    let by = by(call, reason)?;
    let resumed = shared.streams.resume(&shared.control, group.as_ref(), &by);
    let was_paused = resumed.await.map_err(ApiError::operator)?;
    let group = group.as_ref().map(GroupName::as_str);
    Ok(ok(&json!({ "group": group, "was_paused": was_paused })))
}

/// All groups when none is named.
fn group(name: Option<String>) -> Result<Option<GroupName>, ApiError> {
    let fits = |name: &String| (1..=GROUP_MAX).contains(&name.chars().count());
    if name.as_ref().is_some_and(|name| !fits(name)) {
        return Err(invalid("group is a name of 1 to 200 characters"));
    }
    Ok(name.map(GroupName::new))
}

fn shown(pause: &Order) -> Value {
    let group = pause.name.strip_prefix(OF_GROUP);
    let left_s = pause.left.map(|left| left.as_secs());
    json!({ "group": group, "seconds_left": left_s })
}
