//! EMB, nothing but the binary: `ratebox up` on an empty folder, with SQLite for bus and store.
//!
//! How soon the first verdict is there, how many items are judged a second when 16 clients send
//! 100 at a time and wait for the verdicts, and how much memory that takes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use ratebox_kit::Stopwatch;
use ratebox_testkit::{HttpClient, Ratebox};
use serde_json::Value;

use crate::Bench;
use crate::meter::Meter;
use crate::proc;
use crate::report::{Line, rounded};

const PATH: &str = "/api/validation/validate";
const CLIENTS: usize = 16;
const ITEMS: usize = 100;
/// Different requests that are sent, over and over.
const REQUESTS: usize = 200;
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the load lasts unless told.
pub(crate) const SECONDS: u64 = 6;
/// When the memory of the idle process is read, after its start.
const IDLE_AFTER: Duration = Duration::from_secs(3);
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What a service says that waits for its servers or tables.
const STARTING: u16 = 503;
/// What the greeting ends with on every start.
const GREETING: &str = "Try it:";
const HEADERS: [(&str, &str); 2] = [("content-type", "application/json"), ("prefer", "wait=30")];

/// Measures start, load and memory.
///
/// # Errors
/// When the binary does not start, or a request is not answered with its verdicts.
pub(crate) async fn run(bench: &Bench) -> Result<Line> {
    let sample = start_with_sample().await?;
    let watch = Stopwatch::start();
    let mut up = Ratebox::up(|options| options.arg("--no-sample"))?;
    let first_verdict = first_verdict(&mut up, watch).await?;
    tokio::time::sleep(IDLE_AFTER.saturating_sub(watch.elapsed())).await;
    let idle = proc::rss_mib(up.pid());

    let bodies = bodies(bench);
    let clients: Vec<HttpClient> = (0..CLIENTS).map(|_| up.admin()).collect::<Result<_>>()?;
    load(&clients, &bodies, WARM_UP).await?;
    let meter = Meter::start(None, &[up.pid()])?;
    let watch = Stopwatch::start();
    let length = Duration::from_secs(bench.seconds.unwrap_or(SECONDS));
    let mut latencies = load(&clients, &bodies, length).await?;
    let took = watch.elapsed().as_secs_f64();
    let items = latencies.len() * ITEMS;
    let cpu = meter.cpu_s(up.pid());
    let line = Line::new("EMB", "sqlite")
        .with("conc", CLIENTS)
        .with("first_verdict_ms", rounded(first_verdict * 1e3, 1))
        .with("first_start_sample_ms", rounded(sample * 1e3, 1))
        .with("items", items)
        .with("items_per_s", rounded(items as f64 / took, 1))
        .with("req_per_s", rounded(latencies.len() as f64 / took, 1))
        .with_latencies(&mut latencies)
        .with("cpu_us_per_item", rounded(cpu / items as f64 * 1e6, 1))
        .with("idle_rss_mib", rounded(idle, 1))
        .with("rss_mib", rounded(proc::rss_mib(up.pid()), 1))
        .with("rss_peak_mib", rounded(proc::rss_peak_mib(up.pid()), 1))
        .with("errors", 0);
    let line = meter.finish(line)?;
    let code = up.terminate().await?;
    ensure!(
        code == 0,
        "ratebox ended with {code}:\n{}",
        bench.tail_of(&up)
    );
    Ok(line)
}

/// Seconds until the greeting of a first start that judges the sample records.
async fn start_with_sample() -> Result<f64> {
    let watch = Stopwatch::start();
    let mut up = Ratebox::up(|options| options)?;
    while !up.logs().contains(GREETING) {
        ensure!(
            up.exited().is_none() && watch.elapsed() < START_DEADLINE,
            "ratebox does not start:\n{}",
            up.logs()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let took = watch.elapsed().as_secs_f64();
    up.terminate().await?;
    Ok(took)
}

/// Seconds until the first verdict, asked for until there is one: the port answers 503 before the tables stand.
async fn first_verdict(up: &mut Ratebox, watch: Stopwatch) -> Result<f64> {
    let body = br#"{"phone":"0912345678","bank_account":"1234567890","name":"Nguyen Van A"}"#;
    loop {
        if let Ok(client) = up.admin()
            && let Ok(answer) = client.request("POST", PATH, &HEADERS, body).await
            && answer.status != STARTING
        {
            let took = watch.elapsed().as_secs_f64();
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
            ensure!(
                answer.json()?["results"][0]["verdict"] == "DONE",
                "no verdict in {}",
                answer.text()
            );
            return Ok(took);
        }
        ensure!(
            up.exited().is_none() && watch.elapsed() < START_DEADLINE,
            "ratebox does not start:\n{}",
            up.logs()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Requests of 100 items each, from the records that all measurements use.
fn bodies(bench: &Bench) -> Vec<Vec<u8>> {
    let chunks = bench.messages().chunks_exact(ITEMS).take(REQUESTS);
    chunks
        .map(|chunk| {
            let items: Vec<&str> = chunk.iter().map(|it| it.data.as_str()).collect();
            format!(r#"{{"items":[{}]}}"#, items.join(",")).into_bytes()
        })
        .collect()
}

/// Each client sends its next request as soon as its last has its verdicts. Returns the
/// milliseconds of each.
async fn load(clients: &[HttpClient], bodies: &[Vec<u8>], length: Duration) -> Result<Vec<f64>> {
    let watch = Stopwatch::start();
    let senders = clients
        .iter()
        .enumerate()
        .map(|(number, client)| async move {
            let mut latencies = Vec::new();
            let mut bodies = bodies.iter().cycle().skip(number * 11);
            while watch.elapsed() < length {
                let body = bodies.next().context("there are bodies")?;
                let sent = Stopwatch::start();
                let answer = client.request("POST", PATH, &HEADERS, body).await?;
                latencies.push(sent.elapsed().as_secs_f64() * 1e3);
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                if latencies.len() == 1 {
                    check(&answer.json()?)?;
                }
            }
            anyhow::Ok(latencies)
        });
    Ok(try_join_all(senders).await?.concat())
}

/// Every item of a request must have a verdict, the invalid ones an error.
fn check(answer: &Value) -> Result<()> {
    let results = answer["results"].as_array().context("no results")?;
    let wrong = results.iter().filter(|it| it["verdict"] == "ERROR").count();
    ensure!(
        results.len() == ITEMS && wrong == ITEMS * 15 / 100,
        "{} verdicts, {wrong} of them ERROR",
        results.len()
    );
    Ok(())
}
