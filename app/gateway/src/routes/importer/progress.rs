//! How far an import is, as JSON: a whole one with its datasets, or one request.

use std::collections::BTreeMap;

use ratebox_intake::Tally;
use ratebox_kit::Timestamp;
use ratebox_store::{ImportStatus, PartStatus, RequestStatus, State};
use serde::Serialize;
use uuid::Uuid;

/// How far one request is.
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
    verdicts: Verdicts,
    codes: Vec<CodeCount>,
}

/// How far a whole import is.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    /// The import, under the name that a single request has.
    request_id: Uuid,
    import_id: Uuid,
    status: &'static str,
    item_count: u32,
    items_done: u32,
    items_cancelled: u32,
    accepted_at: Timestamp,
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_asked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    verdicts: Verdicts,
    codes: Vec<CodeCount>,
    requests: Requests,
    datasets: Vec<Dataset<'a>>,
}

#[derive(Debug, Default, Serialize)]
struct Verdicts {
    #[serde(rename = "DONE")]
    done: u32,
    #[serde(rename = "ERROR")]
    failed: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct CodeCount {
    code: i64,
    count: u64,
}

/// Requests of an import, by where they stand.
#[derive(Debug, Default, Serialize)]
struct Requests {
    total: u32,
    done: u32,
    dead: u32,
    cancelled: u32,
}

#[derive(Debug, Serialize)]
struct Dataset<'a> {
    id: &'a str,
    source: &'a str,
    item_count: u32,
    items_done: u32,
    items_cancelled: u32,
    verdicts: Verdicts,
    request_ids: Vec<Uuid>,
}

pub(super) fn of_request(found: &RequestStatus) -> Vec<u8> {
    let response = found.response.as_deref();
    let tally = response.and_then(Tally::of).unwrap_or_default();
    let items_done = if found.state.has_verdict() {
        found.item_count
    } else {
        0
    };
    let codes = tally.codes.iter().map(|(code, count)| CodeCount {
        code: (*code).into(),
        count: (*count).into(),
    });
    bytes(&Progress {
        request_id: found.id,
        status: found.state.as_str(),
        source: &found.source,
        batch_id: found.batch_id.as_deref(),
        external_ref: found.external_ref.as_deref(),
        item_count: found.item_count,
        items_done,
        accepted_at: found.accepted_at,
        finished_at: found.finished_at,
        verdicts: Verdicts {
            done: tally.done,
            failed: tally.failed,
        },
        codes: codes.collect(),
    })
}

pub(super) fn of_import(found: &ImportStatus) -> Vec<u8> {
    let datasets = found.parts.chunk_by(|a, b| a.dataset_no == b.dataset_no);
    bytes(&Whole {
        request_id: found.id,
        import_id: found.id,
        status: status(found),
        item_count: found.item_count,
        items_done: items(&found.parts, State::has_verdict),
        items_cancelled: items(&found.parts, is_cancelled),
        accepted_at: found.accepted_at,
        finished_at: found.finished_at,
        cancel_asked_at: found.cancel_asked_at,
        error: found.error.as_deref(),
        verdicts: verdicts(&found.parts),
        codes: codes(&found.parts),
        requests: requests(&found.parts),
        datasets: datasets.filter_map(dataset).collect(),
    })
}

/// What was judged may not be counted yet.
fn status(found: &ImportStatus) -> &'static str {
    let has_begun = found.parts.iter().any(|part| part.state != State::Queued);
    match found.state {
        State::Queued if has_begun => State::Processing.as_str(),
        state => state.as_str(),
    }
}

fn is_cancelled(state: State) -> bool {
    state == State::Cancelled
}

fn items(parts: &[PartStatus], of: fn(State) -> bool) -> u32 {
    let parts = parts.iter().filter(|part| of(part.state));
    parts.map(|part| part.item_count).sum()
}

fn verdicts(parts: &[PartStatus]) -> Verdicts {
    Verdicts {
        done: parts.iter().map(|part| part.done).sum(),
        failed: parts.iter().map(|part| part.failed).sum(),
    }
}

fn codes(parts: &[PartStatus]) -> Vec<CodeCount> {
    let mut counts = BTreeMap::<i64, u64>::new();
    for it in parts.iter().flat_map(|part| &part.codes) {
        *counts.entry(it.code).or_default() += it.count;
    }
    let counts = counts.into_iter();
    counts
        .map(|(code, count)| CodeCount { code, count })
        .collect()
}

fn requests(parts: &[PartStatus]) -> Requests {
    let mut requests = Requests::default();
    for part in parts {
        requests.total += 1;
        match part.state {
            State::Success | State::Partial | State::Error => requests.done += 1,
            State::Dead => requests.dead += 1,
            State::Cancelled => requests.cancelled += 1,
            State::Queued | State::Processing => {}
        }
    }
    requests
}

fn dataset(parts: &[PartStatus]) -> Option<Dataset<'_>> {
    let first = parts.first()?;
    Some(Dataset {
        id: &first.dataset,
        source: &first.source,
        item_count: parts.iter().map(|part| part.item_count).sum(),
        items_done: items(parts, State::has_verdict),
        items_cancelled: items(parts, is_cancelled),
        verdicts: verdicts(parts),
        request_ids: parts.iter().map(|part| part.request_id).collect(),
    })
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("words and numbers are JSON")
}
