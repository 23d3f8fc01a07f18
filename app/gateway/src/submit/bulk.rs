//! Bulk imports: datasets become requests of at most a thousand items each. A small import is
//! accepted together with its requests; a larger one is kept as it came, and its saga cuts it into
//! the same requests.

use ratebox_intake::{Cut, ITEMS_MAX, Part, Terms, parse_bulk};
use ratebox_kit::{Timestamp, id};
use ratebox_store::{NewImport, NewPart};
use serde::Serialize;
use uuid::Uuid;

use super::{Given, Kind, QUEUED, check_webhooks, parcel, traceparent};
use crate::accept::Submission;
use crate::problem::ApiError;
use crate::settings::{AcceptMode, Settings};

/// Datasets of one import.
const DATASETS_MAX: usize = 1000;

pub(super) fn prepare(given: &Given<'_>, settings: &Settings) -> Result<Submission, ApiError> {
    let Given { body, caller, .. } = *given;
    let datasets = parse_bulk(body, DATASETS_MAX, settings.imports.items_max)?;
    check_webhooks(Kind::Bulk, &datasets)?;
    let traceparent = traceparent(given.headers);
    let import = id::new();
    let cut = Cut {
        import,
        owner: caller.owner.as_str(),
        defaults: &Terms::of_importer(caller.profile),
        traceparent: traceparent.as_deref(),
        items_max: ITEMS_MAX,
    };
    let parts = cut.parts(datasets);
    let new_parts: Vec<NewPart> = parts.iter().map(new_part).collect();
    let item_count = new_parts.iter().map(|part| part.item_count).sum();
    // Without the store there is nothing that could look after an import.
    let is_kept = settings.accept.mode == AcceptMode::Durable;
    let at_once = !is_kept || item_count <= settings.imports.at_once_max;
    let answer = answer(is_kept.then_some(import), item_count, &new_parts);
    let import = NewImport {
        id: import,
        owner: caller.owner.clone(),
        item_count,
        body: (!at_once).then(|| body.clone()),
        profile: caller.profile.map(ratebox_intake::Profile::word),
        traceparent,
        accepted_at: Timestamp::from_millisecond(id::time_ms(import)).unwrap_or_default(),
        parts: new_parts,
    };
    let parcels = match at_once {
        true => parts.into_iter().map(|part| parcel(part.request)).collect(),
        false => Vec::new(),
    };
    Ok(Submission {
        parcels,
        import: is_kept.then(|| Box::new(import)),
        key: None,
        answer,
    })
}

fn new_part(part: &Part) -> NewPart {
    let request = &part.request;
    NewPart {
        number: part.number,
        request_id: request.request_id,
        dataset_no: part.dataset,
        dataset: request.batch_id.clone().unwrap_or_default(),
        source: request.source.clone(),
        item_count: u32::try_from(request.items.len()).unwrap_or(u32::MAX),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    import_id: Option<Uuid>,
    status: &'static str,
    item_count: u32,
    datasets: Vec<Dataset<'a>>,
}

#[derive(Serialize)]
struct Dataset<'a> {
    id: &'a str,
    /// The first of its requests.
    request_id: Uuid,
    item_count: u32,
    source: &'a str,
    /// All of them, where there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_ids: Vec<Uuid>,
}

/// The body of the 202.
fn answer(import_id: Option<Uuid>, item_count: u32, parts: &[NewPart]) -> String {
    let datasets = parts.chunk_by(|a, b| a.dataset_no == b.dataset_no);
    let answer = Answer {
        import_id,
        status: QUEUED,
        item_count,
        datasets: datasets.filter_map(dataset).collect(),
    };
    serde_json::to_string(&answer).expect("texts and numbers are JSON")
}

fn dataset(parts: &[NewPart]) -> Option<Dataset<'_>> {
    let first = parts.first()?;
    let ids = || parts.iter().map(|part| part.request_id).collect();
    Some(Dataset {
        id: &first.dataset,
        request_id: first.request_id,
        item_count: parts.iter().map(|part| part.item_count).sum(),
        source: &first.source,
        request_ids: if parts.len() > 1 { ids() } else { Vec::new() },
    })
}
