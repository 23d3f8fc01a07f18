//! Gathers what a run left, for the checker.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ratebox_stream::{EntryId, Log as _, RedisLog, StreamName};
use ratebox_testkit::HttpClient;
use ratebox_valkey::{Settings, Valkey};
use serde_json::Value;

use crate::checker::{Evidence, Told};
use crate::lab::Lab;
use crate::{journal, sink};

/// The stream of the answers.
const ANSWERS: &str = "extension_responses";
/// The metric of suppressed duplicates.
const METRIC: &str = "consumer_inbox_duplicates_total";

pub(crate) async fn gather(lab: &Lab) -> Result<Evidence> {
    let postgres = &lab.postgres;
    let stats = "FROM ratebox.stream_consumer_stats";
    Ok(Evidence {
        sent: journal::read(&lab.journal())?,
        effects: sink::by_message(postgres, "effects")?,
        tries: sink::by_message(postgres, "tries")?,
        answers: answers(&lab.redis.url()).await?,
        told_processed: sink::number(
            postgres,
            &format!("SELECT coalesce(sum(messages_processed), 0) {stats}"),
        )?,
        told_suppressed: sink::suppressed(postgres, "")?,
        metrics: metrics(lab).await?,
        dead_letters: sink::number(
            postgres,
            "SELECT count(*) FROM ratebox.dead_letters WHERE state = 'dead'",
        )?,
        pending: lab.owed()?,
        fallen: lab.fallen.clone(),
    })
}

/// What the living workers say of the duplicates that they suppressed.
async fn metrics(lab: &Lab) -> Result<Vec<Told>> {
    let mut all = Vec::new();
    for member in &lab.members {
        let http = HttpClient::new(&member.process.metrics_url());
        let Ok(answer) = http.get("/metrics").await else {
            continue; // Just started: it has judged nothing that a metric would tell.
        };
        let text = answer.text();
        let lines = text.lines().filter(|line| line.starts_with(METRIC));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        all.push(Told {
            worker: member.name.clone(),
            by_metric: values.sum::<f64>() as u64,
            by_figure: sink::suppressed(&lab.postgres, &format!("{}-", member.name))?,
            may_lack: member.saw_postgres_die,
        });
    }
    Ok(all)
}

/// How often each message was answered.
async fn answers(url: &str) -> Result<HashMap<String, u64>> {
    let log = RedisLog::new(Valkey::lazy(&Settings::new(url))?);
    let (stream, mut after) = (StreamName::new(ANSWERS), EntryId::MIN);
    let mut answers = HashMap::new();
    loop {
        let tail = log
            .tail(&stream, Some(after), 1_000, Duration::ZERO)
            .await?;
        if tail.entries.is_empty() {
            return Ok(answers);
        }
        after = tail.next;
        for entry in tail.entries {
            let data = entry.field("data").context("an answer without data")?;
            let data: Value = serde_json::from_slice(data)?;
            let id = data["request_id"].as_str().context("an answer to nobody")?;
            *answers.entry(id.to_owned()).or_default() += 1;
        }
    }
}
