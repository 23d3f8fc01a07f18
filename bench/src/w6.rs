//! W6, the cache under a load with few popular keys: 64 clients in one process read keys of a zipf
//! distribution, from an empty cache, and a miss costs its loader 20 ms. Then a crowd of 500 asks
//! for one cold key, in one process and in two.
//!
//! The client is a process of its own, this program with `read-w6` as its first word, as the peers'
//! scripts are. `l1l2` keeps values in the process and on the server, `l2` on the server alone.

pub(crate) mod client;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ratebox_kit::Clock;
use serde_json::Value;

use crate::Bench;
use crate::inputs;
use crate::meter::Meter;
use crate::report::{Line, rounded};
use crate::servers::Servers;

/// Where values are kept.
pub(crate) const CASES: [&str; 2] = ["l1l2", "l2"];

/// The first word of the command line.
pub(crate) const WORD: &str = "read-w6";

/// Length of the load in seconds; the peers' scripts have the same.
pub(crate) const SECONDS: u64 = 20;
/// Readers of the crowd.
const CROWD: usize = 500;
/// From the start of the crowd's processes until all of them ask.
const GATHER: Duration = Duration::from_secs(2);

/// Measures one case.
///
/// # Errors
/// When a client process fails.
pub(crate) async fn run(bench: &Bench, case: &'static str) -> Result<Line> {
    let servers = bench.servers()?;
    let keys = inputs::zipf()?.display().to_string();
    let seconds = bench.seconds.unwrap_or(SECONDS).to_string();
    servers.redis()?.command(&["FLUSHALL"])?;
    servers.settle().await?;
    let meter = Meter::start(Some(servers), &[])?;
    let told = told(start(servers, &[case, "load", &keys, &seconds])?)?;
    let mut line = Line::new("W6", case);
    for key in client::FIGURES {
        let figure = told.get(key).with_context(|| format!("no {key}"))?;
        line = line.with(key, figure.clone());
    }
    for (processes, calls, took, errors) in [
        (
            1,
            "stampede_1p_calls",
            "stampede_1p_s",
            "stampede_1p_errors",
        ),
        (
            2,
            "stampede_2p_calls",
            "stampede_2p_s",
            "stampede_2p_errors",
        ),
    ] {
        let crowd = crowd(servers, case, processes)?;
        line = line
            .with(calls, crowd.calls)
            .with(took, rounded(crowd.seconds, 3))
            .with(errors, crowd.errors);
    }
    meter.finish(line)
}

/// How a crowd fared.
#[derive(Default)]
struct Crowd {
    calls: u64,
    seconds: f64,
    errors: u64,
}

fn crowd(servers: &Servers, case: &str, processes: usize) -> Result<Crowd> {
    servers.redis()?.command(&["FLUSHALL"])?;
    let at = Clock::system().now_ms() + GATHER.as_millis() as i64;
    let (readers, at) = ((CROWD / processes).to_string(), at.to_string());
    let words = [case, "stampede", &readers, &at];
    let started: Result<Vec<Child>> = (0..processes).map(|_| start(servers, &words)).collect();
    let mut crowd = Crowd::default();
    for child in started? {
        let told = told(child)?;
        let number = |key: &str| told[key].as_u64().with_context(|| format!("no {key}"));
        crowd.calls += number("calls")?;
        crowd.errors += number("errors")?;
        crowd.seconds = crowd.seconds.max(told["secs"].as_f64().unwrap_or(f64::NAN));
    }
    Ok(crowd)
}

/// Starts a client process.
fn start(servers: &Servers, words: &[&str]) -> Result<Child> {
    let started = Command::new(std::env::current_exe()?)
        .args([WORD, &servers.redis_url])
        .args(words)
        .stdout(Stdio::piped())
        .spawn();
    started.context("the client does not start")
}

/// Waits for its end, and reads what it tells.
fn told(child: Child) -> Result<Value> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the client: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the client says something else")
}
