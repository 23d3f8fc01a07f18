//! The shipped sample records, judged on the first start by the pipeline itself.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratebox_intake::{Action, Item, Request, Response, codes};
use ratebox_kit::{Stopwatch, id};
use ratebox_outbox::{Event, Outbox};
use ratebox_store::NewRequest;
use uuid::Uuid;

use crate::command::private_file;
use crate::wiring::Parts;

/// Made-up scam reports, good and bad, Vietnamese and international.
const REPORTS: &str = include_str!("../../../examples/reports.csv");
/// Records of one request.
const CHUNK: usize = 100;
/// How long the verdicts may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first token is for trying things out, load tests included.
pub const ADMIN_LIMIT_PER_MINUTE: u32 = 1_000_000;

/// What became of the samples.
pub struct Summary {
    records: usize,
    done: usize,
    took: Duration,
    codes: BTreeMap<u16, usize>,
}

/// Sends the samples through the pipeline and waits for their verdicts.
///
/// # Errors
/// When the pipeline does not answer in a minute.
pub async fn judge(parts: &Parts, outbox: &Outbox) -> Result<Summary> {
    let watch = Stopwatch::start();
    private_file(&parts.config.server.data_dir.join("reports.csv"))
        .and_then(|mut file| file.write_all(REPORTS.as_bytes()))
        .context("cannot write the sample file into the data folder")?;
    let requests = requests()?;
    let ids: Vec<Uuid> = requests.iter().map(|it| it.request_id).collect();
    submit(parts, outbox, &requests).await?;
    let mut summary = Summary {
        records: 0,
        done: 0,
        took: Duration::ZERO,
        codes: BTreeMap::new(),
    };
    for id in ids {
        summary.add(&answer(parts, id, watch).await?);
    }
    summary.took = watch.elapsed();
    Ok(summary)
}

fn requests() -> Result<Vec<Request>> {
    let mut reader = csv::Reader::from_reader(REPORTS.as_bytes());
    let header = reader.headers()?.clone();
    let mut items = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cells = header
            .iter()
            .zip(record.iter())
            .filter(|(_, cell)| !cell.is_empty());
        let object: serde_json::Map<String, serde_json::Value> = cells
            .map(|(name, cell)| (name.to_owned(), cell.into()))
            .collect();
        items.push(Item::parse(&serde_json::to_vec(&object)?)?);
    }
    let mut requests = Vec::new();
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(CHUNK));
        let mut request = Request::new(id::new(), "admin", "sample");
        request.action = Action::Import;
        request.items = std::mem::replace(&mut items, rest);
        requests.push(request);
    }
    Ok(requests)
}

async fn submit(parts: &Parts, outbox: &Outbox, requests: &[Request]) -> Result<()> {
    let (mut rows, mut events) = (Vec::new(), Vec::new());
    for request in requests {
        let body: bytes::Bytes = request.to_message().into();
        let topic = parts.config.bus.stream.as_str();
        events.push(Event::with_id(request.request_id, topic, body.clone()));
        rows.push(NewRequest {
            id: request.request_id,
            owner: request.owner.clone(),
            source: request.source.clone(),
            action: request.action.word(),
            lane: request.lane.word(),
            profile: None,
            item_count: u32::try_from(request.items.len())?,
            external_ref: None,
            batch_id: None,
            body,
            accepted_at: parts.clock.now(),
        });
    }
    let (statement, staged) = outbox.stage(events)?;
    let statements = vec![parts.store.insert_requests(&rows)?, statement];
    let (_, proof) = parts.store.db().run(statements).await?;
    outbox.publish(staged, &proof).await;
    Ok(())
}

async fn answer(parts: &Parts, id: Uuid, watch: Stopwatch) -> Result<Response> {
    loop {
        let status = parts
            .store
            .status(id, None)
            .await?
            .context("the request is gone")?;
        if let Some(text) = status.response {
            return Ok(Response::from_message(text.as_bytes())?);
        }
        ensure!(
            watch.elapsed() < PATIENCE,
            "no verdict within {PATIENCE:?}; see the log"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Summary {
    fn add(&mut self, response: &Response) {
        for result in &response.results {
            self.records += 1;
            self.done += usize::from(result.errors.is_empty());
            for error in &result.errors {
                *self.codes.entry(error.code).or_default() += 1;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  sample   {} records of examples/reports.csv judged in {:.2} s: {} DONE, {} ERROR",
            self.records,
            self.took.as_secs_f64(),
            self.done,
            self.records - self.done
        )?;
        for (number, count) in &self.codes {
            let slug = codes()
                .find(|it| it.number == *number)
                .map_or("", |it| it.slug);
            writeln!(f, "           {count:>5} × {number} {slug}")?;
        }
        Ok(())
    }
}
