//! The step `tell`: the end of an import goes to whoever listens to the answers to importers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ratebox_kit::{FollowUp, Timestamp};
use ratebox_saga::{Ctx, StepResult};
use ratebox_store::{ImportStatus, State};
use serde::Serialize;
use uuid::Uuid;

use crate::Desk;
use crate::desk::{failed, unknown};

/// The message. Its first fields are those of a response, with no results of single items, so that
/// who reads responses reads it, too.
#[derive(Serialize)]
struct Ended<'a> {
    v: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    request_id: Uuid,
    id: Uuid,
    import_id: Uuid,
    owner: &'a str,
    status: &'static str,
    results: [(); 0],
    item_count: u32,
    items_done: u32,
    items_cancelled: u32,
    verdicts: BTreeMap<&'static str, u32>,
    codes: Vec<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    processing_time_ms: i64,
    timestamp: Timestamp,
}

#[derive(Serialize)]
struct Code {
    code: i64,
    count: u64,
}

impl Desk {
    /// The message leaves with the record of this step.
    pub(crate) async fn tell(self: Arc<Self>, ctx: Ctx, import: Uuid) -> StepResult {
        self.say(&ctx, import).await
    }

    /// Says how an import ended.
    pub(crate) async fn say(&self, ctx: &Ctx, import: Uuid) -> StepResult {
        let status = self.store.import_report(import).await.map_err(failed)?;
        let status = status.ok_or_else(unknown)?;
        let message = serde_json::to_vec(&ended(&status))?;
        ctx.send(FollowUp::new(&self.settings.responses, message));
        Ok(())
    }
}

fn ended(status: &ImportStatus) -> Ended<'_> {
    let items = |of: fn(State) -> bool| {
        let parts = status.parts.iter().filter(|part| of(part.state));
        parts.map(|part| part.item_count).sum()
    };
    let mut codes = BTreeMap::<i64, u64>::new();
    for it in status.parts.iter().flat_map(|part| &part.codes) {
        *codes.entry(it.code).or_default() += it.count;
    }
    let finished_at = status.finished_at.unwrap_or(status.accepted_at);
    let took = finished_at.duration_since(status.accepted_at);
    let done = status.parts.iter().map(|part| part.done).sum();
    let failed = status.parts.iter().map(|part| part.failed).sum();
    Ended {
        v: 1,
        kind: "import",
        request_id: status.id,
        id: status.id,
        import_id: status.id,
        owner: &status.owner,
        status: status.state.as_str(),
        results: [],
        item_count: status.item_count,
        items_done: items(State::has_verdict),
        items_cancelled: items(|state| state == State::Cancelled),
        verdicts: BTreeMap::from([("DONE", done), ("ERROR", failed)]),
        codes: codes
            .into_iter()
            .map(|(code, count)| Code { code, count })
            .collect(),
        error: status.error.as_deref(),
        processing_time_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        timestamp: finished_at,
    }
}
