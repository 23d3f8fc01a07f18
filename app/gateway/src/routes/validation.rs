//! Validations: taken, waited for, looked up.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use uuid::Uuid;

use crate::accept::{Accepted, EntryRef, Submission};
use crate::auth::Caller;
use crate::gateway::Shared;
use crate::idempotency;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::json;
use crate::service::Response;
use crate::status::{self, Awaited, Found, StatusQuery, seconds};
use crate::submit::{self, Given, Kind};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /api/validation/validate`
pub(crate) async fn validate(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    match preferred_wait(&call.parts.headers) {
        Some(wait) => Box::pin(validate_and_wait(shared, call, wait)).await,
        None => {
            let (accepted, kind) = accept(shared, call, Kind::Validation).await?;
            Ok(taken(accepted, kind))
        }
    }
}

async fn validate_and_wait(
    shared: &Shared,
    call: &Call,
    wait: Duration,
) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    let wait = wait.min(shared.settings.answers.wait_max);
    let submission = submission(shared, call, Kind::Validation, caller)?;
    let item_count = submission
        .parcels
        .first()
        .map_or(0, |parcel| parcel.item_count);
    let expected = submission.id();
    // Before the submission, or a quick answer is missed.
    let waiter = shared.answers.waiter(expected).await;
    let accepted = shared.queue.submit(submission).await?;
    let waiter = match accepted.id == expected {
        true => waiter,
        // The earlier submission's request, of which this is a repetition.
        false => shared.answers.waiter(accepted.id).await,
    };
    let replayed = accepted.replayed;
    let awaited = Awaited {
        id: accepted.id,
        owner: &caller.owner,
        item_count,
        may_be_final: replayed,
    };
    let mut response = match status::wait(shared, awaited, waiter, wait).await {
        Some(answer) => json(StatusCode::OK, answer),
        None => taken(accepted, Kind::Validation),
    };
    let applied = format!("wait={}", wait.as_secs());
    let applied = HeaderValue::try_from(applied).expect("a number is a header value");
    response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    if replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// `POST /api/validation/batch`
pub(crate) async fn batch(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let (accepted, kind) = accept(shared, call, Kind::Batch).await?;
    Ok(taken(accepted, kind))
}

/// `GET /api/validation/status/{id}`
pub(crate) async fn status(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    let caller = call.caller()?;
    let id = id(call)?;
    let query = StatusQuery::of(&call.parts.uri)?;
    let entry = query.entry(shared);
    let wait = query.wait(shared)?;
    // Before the look-up, or an answer between the two is missed.
    let waiter = status::waiter(shared, id, wait).await;
    let found = status::find(shared, id, &caller.owner, entry.as_ref()).await?;
    let found = found.ok_or_else(ApiError::unknown_request)?;
    if found.is_final() || wait.is_zero() {
        return Ok(json(StatusCode::OK, found.into_json()));
    }
    let awaited = Awaited {
        id,
        owner: &caller.owner,
        item_count: found.item_count(),
        may_be_final: false,
    };
    match status::wait(shared, awaited, waiter, wait).await {
        Some(answer) => Ok(json(StatusCode::OK, answer)),
        None => still(shared, id, caller, found).await,
    }
}

/// What is so after a wait in vain; it may be processing by now.
async fn still(
    shared: &Shared,
    id: Uuid,
    caller: &Caller,
    before: Found,
) -> Result<Response, ApiError> {
    let now = status::find(shared, id, &caller.owner, None).await?;
    Ok(json(StatusCode::OK, now.unwrap_or(before).into_json()))
}

/// Parses a body and hands it in.
pub(crate) async fn accept(
    shared: &Shared,
    call: &Call,
    kind: Kind,
) -> Result<(Accepted, Kind), ApiError> {
    let submission = submission(shared, call, kind, call.caller()?)?;
    Ok((shared.queue.submit(submission).await?, kind))
}

fn submission(
    shared: &Shared,
    call: &Call,
    kind: Kind,
    caller: &Caller,
) -> Result<Submission, ApiError> {
    let parts = &call.parts;
    // All that a client may say stands in body and headers.
    Params::of(&parts.uri)?.finish()?;
    let path = parts.uri.path();
    let key = idempotency::key(
        &parts.headers,
        &parts.method,
        path,
        &caller.owner,
        &call.body,
    )?;
    let given = Given {
        body: &call.body,
        caller,
        headers: &parts.headers,
    };
    let mut submission = submit::prepare(kind, &given, &shared.settings)?;
    submission.key = key;
    Ok(submission)
}

/// The 202.
pub(crate) fn taken(accepted: Accepted, kind: Kind) -> Response {
    let location = location(kind, accepted.id, accepted.entry.as_ref());
    let mut response = json(StatusCode::ACCEPTED, accepted.answer);
    response.headers_mut().insert(header::LOCATION, location);
    if accepted.replayed {
        mark_replayed(&mut response);
    }
    response
}

/// Where the status of a request is.
fn location(kind: Kind, id: Uuid, entry: Option<&EntryRef>) -> HeaderValue {
    let mut location = String::with_capacity(192);
    location.push_str(kind.status_path());
    location.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    if let Some(entry) = entry {
        location.push_str("?entry=");
        entry.push_query(&mut location);
    }
    HeaderValue::from_str(&location).expect("a path without spaces")
}

fn mark_replayed(response: &mut Response) {
    response
        .headers_mut()
        .insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
}

/// The id at the end of the path, in its one form, whose letters may be capitals (RFC 9562). Anything
/// else is no request of anybody's.
pub(crate) fn id(call: &Call) -> Result<Uuid, ApiError> {
    let text = call.parts.uri.path().rsplit('/').next().unwrap_or_default();
    let id = Uuid::try_parse(text)
        .ok()
        .filter(|id| id.to_string().eq_ignore_ascii_case(text));
    id.ok_or_else(ApiError::unknown_request)
}

/// `Prefer: wait=N` (RFC 7240). Preferences that cannot be read are passed over.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(preferences)
        .filter_map(|preference| preference.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, value)| seconds(value.trim().trim_matches('"')))
        .filter(|wait| !wait.is_zero())
}

/// What stands between commas and semicolons; within quotes they are text.
fn preferences(value: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.split(move |letter: char| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        !is_quoted && matches!(letter, ',' | ';')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(prefer: &'static str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(PREFER, HeaderValue::from_static(prefer));
        preferred_wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_preferred_wait_is_read_among_others() {
        assert_eq!(wait("wait=10"), Some(10));
        assert_eq!(wait("respond-async, Wait=\"5\"; x"), Some(5));
        assert_eq!(wait(r#"foo="a,wait=5", wait=7"#), Some(7));
        assert_eq!(wait(r#"foo="\";wait=5", wait=7"#), Some(7));
        for none in [
            "",
            "wait",
            "wait=",
            "wait=-1",
            "wait=1.5",
            "wait=0",
            "handling=lenient",
            r#"foo="a,wait=5""#,
            r#"foo="a\",wait=5"#,
        ] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}
