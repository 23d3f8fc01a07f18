//! What is known of a request, and waiting until it is final.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use ratebox_intake::{ITEMS_MAX, decode};
use ratebox_kit::{Stopwatch, Timestamp, id};
use ratebox_store::{RequestStatus, State};
use serde::Serialize;
use uuid::Uuid;

use crate::accept::EntryRef;
use crate::answers::{Answer, Waiter};
use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::settings::AcceptMode;

/// What a client may say behind the path.
#[derive(Debug)]
pub(crate) struct StatusQuery {
    wait: Option<String>,
    entry: Option<String>,
}

impl StatusQuery {
    /// # Errors
    /// 400 when it is no query, or asks for something else.
    pub(crate) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let mut params = Params::of(uri)?;
        let query = Self {
            wait: params.text("wait"),
            entry: params.text("entry"),
        };
        params.finish()?;
        Ok(query)
    }

    /// How long to wait, cut to what is allowed; not at all when nothing is said.
    ///
    /// # Errors
    /// 400 when it is no number of seconds.
    pub(crate) fn wait(&self, shared: &Shared) -> Result<Duration, ApiError> {
        let Some(text) = &self.wait else {
            return Ok(Duration::ZERO);
        };
        let hint = "wait is a number of seconds";
        let wait = seconds(text).ok_or_else(|| ApiError::bad_request("query.malformed", hint))?;
        Ok(wait.min(shared.settings.answers.wait_max))
    }

    /// Where the request is on the bus, if the client knows.
    pub(crate) fn entry(&self, shared: &Shared) -> Option<EntryRef> {
        EntryRef::parse(self.entry.as_deref()?, &shared.lanes)
    }
}

/// Whole seconds, at most nine digits.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        text.parse().ok().map(Duration::from_secs)
    } else {
        None
    }
}

/// A request that is known.
#[derive(Debug)]
pub(crate) enum Found {
    /// To the store.
    Stored(Arc<RequestStatus>),
    /// To the bus only: no worker has written it yet.
    OnBus { id: Uuid, item_count: u32 },
}

/// A request without results, as it is shown.
#[derive(Serialize)]
struct Plain<'a> {
    request_id: Uuid,
    status: &'static str,
    item_count: u32,
    accepted_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    external_ref: Option<&'a str>,
    batch_id: Option<&'a str>,
}

impl Found {
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Stored(status) => status.state.is_terminal(),
            Self::OnBus { .. } => false,
        }
    }

    pub(crate) fn item_count(&self) -> u32 {
        match self {
            Self::Stored(status) => status.item_count,
            Self::OnBus { item_count, .. } => *item_count,
        }
    }

    pub(crate) fn into_json(self) -> String {
        let status = match &self {
            Self::OnBus { id, item_count } => {
                return plain(&Plain {
                    request_id: *id,
                    status: State::Queued.as_str(),
                    item_count: *item_count,
                    accepted_at: accepted_at(*id),
                    finished_at: None,
                    external_ref: None,
                    batch_id: None,
                });
            }
            Self::Stored(status) => status,
        };
        let has_results = status.state.has_verdict();
        let response = status.response.as_deref().filter(|_| has_results);
        if let Some(whole) = response.and_then(|text| full(status.id, status.item_count, text)) {
            return whole;
        }
        plain(&Plain {
            request_id: status.id,
            status: status.state.as_str(),
            item_count: status.item_count,
            accepted_at: status.accepted_at,
            finished_at: status.finished_at,
            external_ref: status.external_ref.as_deref(),
            batch_id: status.batch_id.as_deref(),
        })
    }
}

fn plain(plain: &Plain<'_>) -> String {
    serde_json::to_string(plain).expect("texts and numbers are JSON")
}

/// The response envelope with the number of items in front; nothing of it is read or written
/// again. `None` when it is no object.
fn full(id: Uuid, item_count: u32, response: &str) -> Option<String> {
    let rest = response.trim_start().strip_prefix('{')?;
    let accepted_at = accepted_at(id);
    Some(format!(
        "{{\"item_count\":{item_count},\"accepted_at\":\"{accepted_at}\",{rest}"
    ))
}

/// The time in an id of ours.
fn accepted_at(id: Uuid) -> Timestamp {
    Timestamp::from_millisecond(id::time_ms(id)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A request of `owner`; `None` also when it is somebody else's.
///
/// # Errors
/// 503 when store or bus cannot be asked.
pub(crate) async fn find(
    shared: &Shared,
    id: Uuid,
    owner: &str,
    entry: Option<&EntryRef>,
) -> Result<Option<Found>, ApiError> {
    let stored = shared.statuses.find(&shared.store, id, owner).await;
    match stored.map_err(ApiError::store)? {
        Some(status) => Ok(Some(Found::Stored(status))),
        None => elsewhere(shared, id, owner, entry).await,
    }
}

/// A request that has no row yet: of an import that is still to be cut, or on the bus.
///
/// # Errors
/// As [`find`].
pub(crate) async fn elsewhere(
    shared: &Shared,
    id: Uuid,
    owner: &str,
    entry: Option<&EntryRef>,
) -> Result<Option<Found>, ApiError> {
    if shared.settings.accept.mode == AcceptMode::Stream {
        return on_bus(shared, id, owner, entry).await;
    }
    let part = shared.store.import_part(id, owner).await;
    let part = part.map_err(ApiError::store)?;
    Ok(part.map(|status| Found::Stored(Arc::new(status))))
}

/// A request that is on the bus at the place that the client was given, and nowhere else yet.
async fn on_bus(
    shared: &Shared,
    id: Uuid,
    owner: &str,
    entry: Option<&EntryRef>,
) -> Result<Option<Found>, ApiError> {
    let Some(entry) = entry else { return Ok(None) };
    let entries = shared
        .admin
        .peek(&entry.stream, entry.id, 1)
        .await
        .map_err(ApiError::bus)?;
    let Some(seen) = entries.first().filter(|seen| seen.id == entry.id) else {
        return Ok(None);
    };
    let Ok(request) = decode(&seen.fields, ITEMS_MAX) else {
        return Ok(None);
    };
    let is_it = request.request_id_given.as_deref() == Some(id.to_string().as_str());
    let is_theirs = request.owner_given.as_deref() == Some(owner);
    Ok((is_it && is_theirs).then(|| Found::OnBus {
        id,
        item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
    }))
}

/// A request that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited<'a> {
    pub(crate) id: Uuid,
    pub(crate) owner: &'a str,
    pub(crate) item_count: u32,
    /// Its answer may have gone by before anybody waited.
    pub(crate) may_be_final: bool,
}

/// A place to wait for an answer; `None` when nobody wants to wait, or too many do. Take it before
/// looking into the store, or an answer between the two is missed.
pub(crate) async fn waiter(shared: &Shared, id: Uuid, time: Duration) -> Option<Waiter> {
    if time.is_zero() {
        return None;
    }
    shared.answers.waiter(id).await
}

/// What the next slice of a wait comes to.
pub(crate) enum Turn {
    /// The answer came by.
    Told(Answer),
    /// Nothing came by; perhaps it did before, or was lost: the store knows.
    Look,
    /// The time is over, or this process ends.
    Over,
}

/// One client's wait, slice by slice.
pub(crate) struct Waiting<'a> {
    shared: &'a Shared,
    waiter: Waiter,
    time: Duration,
    watch: Stopwatch,
    /// Length of the next slice.
    slice: Duration,
}

impl<'a> Waiting<'a> {
    /// Waits `time` at most, from now on.
    pub(crate) fn new(shared: &'a Shared, waiter: Waiter, time: Duration) -> Self {
        Self {
            shared,
            waiter,
            time,
            watch: Stopwatch::start(),
            slice: shared.settings.answers.look_again,
        }
    }

    /// The same with a look at once.
    fn looking_at_once(self) -> Self {
        Self {
            slice: Duration::ZERO,
            ..self
        }
    }

    /// Waits for what comes next.
    pub(crate) async fn turn(&mut self) -> Turn {
        let left = self.time.saturating_sub(self.watch.elapsed());
        if left.is_zero() {
            return Turn::Over;
        }
        let slice = left.min(self.slice);
        self.slice = self.shared.settings.answers.look_again;
        let shutdown = &self.shared.shutdown;
        match shutdown.unless(self.waiter.within(slice)).await {
            None => Turn::Over,
            Some(Some(answer)) => Turn::Told(answer),
            Some(None) => Turn::Look,
        }
    }
}

/// Waits until a request is final, `time` at most and not beyond the end of this process. `None`
/// when it is not, or when there is no place to wait.
pub(crate) async fn wait(
    shared: &Shared,
    awaited: Awaited<'_>,
    waiter: Option<Waiter>,
    time: Duration,
) -> Option<String> {
    let mut waiting = Waiting::new(shared, waiter?, time);
    if awaited.may_be_final {
        waiting = waiting.looking_at_once();
    }
    loop {
        match waiting.turn().await {
            Turn::Over => return None,
            Turn::Told(answer) => {
                let text = std::str::from_utf8(&answer.body).ok()?;
                return full(awaited.id, awaited.item_count, text)
                    .filter(|_| answer.owner == awaited.owner);
            }
            Turn::Look => {}
        }
        // An outage is waited out. A request of an import may end without ever having had a row.
        if let Ok(Some(found)) = find(shared, awaited.id, awaited.owner, None).await
            && found.is_final()
        {
            return Some(found.into_json());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_passed_on_as_it_is() {
        let id = id::lowest_at(Timestamp::from_second(1_700_000_000).unwrap());
        let whole = full(id, 3, r#"{"v":1,"status":"partial"}"#).unwrap();
        let read: serde_json::Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(read["item_count"], 3);
        assert_eq!(read["status"], "partial");
        assert_eq!(read["accepted_at"], "2023-11-14T22:13:20Z");
        assert_eq!(full(id, 3, "[]"), None);
    }

    #[test]
    fn seconds_are_digits() {
        assert_eq!(seconds("30"), Some(Duration::from_secs(30)));
        assert!(
            ["", "-1", "1.5", "1e3", "9999999999", " 1"]
                .iter()
                .all(|text| seconds(text).is_none())
        );
    }
}
