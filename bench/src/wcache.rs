//! WCACHE, the cache by its parts: what a hit costs in memory and on the server, what the guards
//! cost, and the service under an open loop of requests over a thousand connections.
//!
//! The library is measured in a process of its own, this program with `hit-wcache` as its first word.

pub(crate) mod client;
mod load;
mod origin;
mod service;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Bench;
use crate::inputs;
use crate::meter::Meter;
use crate::report::Line;

/// What is measured, in order.
pub(crate) const CASES: [&str; 5] = ["l1", "l1-all", "l2", "guards", "service"];

/// The first word of the command line.
pub(crate) const WORD: &str = "hit-wcache";

/// Measures one case.
///
/// # Errors
/// When a process fails, or an answer is not what it should be.
pub(crate) async fn run(bench: &Bench, case: &'static str) -> Result<Vec<Line>> {
    let servers = bench.servers()?;
    servers.redis()?.command(&["FLUSHALL"])?;
    servers.settle().await?;
    if case == "service" {
        return Box::pin(service::run(bench)).await;
    }
    let keys = inputs::zipf()?.display().to_string();
    let meter = Meter::start(Some(servers), &[])?;
    let output = Command::new(std::env::current_exe()?)
        .args([WORD, &servers.redis_url, case, &keys])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client: {}", output.status);
    let told: Vec<(String, Value)> =
        serde_json::from_slice(&output.stdout).context("the client says something else")?;
    let mut line = Line::new("WCACHE", case);
    for (key, figure) in told {
        let known = client::FIGURES.iter().find(|known| **known == key);
        line = line.with(known.context("an unknown figure")?, figure);
    }
    Ok(vec![meter.finish(line)?])
}
