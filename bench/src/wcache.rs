//! WCACHE, the cache by its parts: what a hit costs in memory and on the server, what the guards
//! cost, the service under an open loop of requests over a thousand connections; and whether it is
//! correct: stale values after races and cut links, loads of a crowd, calls of a breaker's crowd.
//!
//! The library is measured in a process of its own, this program with `hit-wcache` as its first word;
//! where several processes share a server, each is this program with `node-wcache` as its first word.

pub(crate) mod client;
mod crowd;
mod cut_link;
mod half_open;
mod load;
pub(crate) mod node;
mod origin;
mod process;
mod races;
mod service;
mod tags;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Bench;
use crate::inputs;
use crate::meter::Meter;
use crate::report::Line;
use crate::servers::Servers;

/// What is measured, in order.
pub(crate) const CASES: [&str; 11] = [
    "l1",
    "l1-all",
    "l2",
    "guards",
    "service",
    "races-1p",
    "races-2p",
    "tags",
    "cut-link",
    "crowd",
    "half-open",
];

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
    let line = match case {
        "service" => return Box::pin(service::run(bench)).await,
        "races-1p" => races::run(servers, 1).await,
        "races-2p" => races::run(servers, 2).await,
        "tags" => tags::run(servers).await,
        "cut-link" => cut_link::run(servers).await,
        "crowd" => crowd::run(servers).await,
        "half-open" => half_open::run(servers).await,
        _ => costs(servers, case),
    };
    Ok(vec![line?])
}

/// What a hit or a guard costs.
fn costs(servers: &Servers, case: &str) -> Result<Line> {
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
    meter.finish(line)
}
