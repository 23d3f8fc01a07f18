//! `ratebox cache` under an open loop: 5,000 requests a second over 1,000 connections, one of fifty
//! for a key that nobody has asked for. Values come from an HTTP origin that takes 20 ms.

use std::time::Duration;

use anyhow::{Result, ensure};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_testkit::{Ratebox, RateboxOptions, TempDir};

use super::load::{self, Plan, Taken};
use super::origin::Origin;
use crate::Bench;
use crate::meter::Meter;
use crate::proc;
use crate::report::{Line, rounded};
use crate::servers::Servers;

/// How long the load lasts unless told.
pub(crate) const SECONDS: u64 = 10;
const CONNECTIONS: u64 = 1_000;
const PER_SECOND: u64 = 5_000;
/// How long the origin takes.
const TAKES: Duration = Duration::from_millis(20);
/// Keys that everybody reads.
const WARM_KEYS: u64 = 1_000;
/// One request of so many asks for a new key.
const MISS_EVERY: u64 = 50;
const SOON: Duration = Duration::from_secs(60);

/// Measures hits and misses of one load.
///
/// # Errors
/// When the service does not start, or a request is not answered with 200.
pub(super) async fn run(bench: &Bench) -> Result<Vec<Line>> {
    let servers = bench.servers()?;
    let tasks = Tasks::new();
    let origin = Origin::start(TAKES, &tasks).await?;
    let folder = TempDir::new()?;
    let mut service = start(servers, &origin, &folder)?;
    until_well(bench, &mut service).await?;
    let address = service.base_url().replace("http://", "");
    let plan = |per_second, length, path| Plan {
        address: address.clone(),
        connections: CONNECTIONS,
        per_second,
        length,
        path,
    };
    // Each warm key once, at the pace that the origin bears.
    let warming = Duration::from_millis(WARM_KEYS);
    load::run(&plan(1_000, warming, warm)).await?;
    // Then as it will be, so that connections and buffers are what they will be.
    load::run(&plan(PER_SECOND, Duration::from_secs(1), warm)).await?;

    let length = Duration::from_secs(bench.seconds.unwrap_or(SECONDS));
    origin.calls();
    let meter = Meter::start(Some(servers), &[service.pid()])?;
    let taken = load::run(&plan(PER_SECOND, length, mixed)).await?;
    let cpu = meter.cpu_s(service.pid());
    let rss = proc::rss_peak_mib(service.pid());
    let (misses, hits): (Taken, Taken) = taken.iter().partition(|(number, _)| is_miss(*number));
    let calls = origin.calls();
    ensure!(
        calls.len() == misses.len(),
        "{} calls of the origin for {} new keys",
        calls.len(),
        misses.len()
    );
    let line = |case: &str, of: &Taken| {
        let mut ms: Vec<f64> = of
            .iter()
            .map(|(_, took)| took.as_secs_f64() * 1e3)
            .collect();
        Line::new("WCACHE", case)
            .with("conc", CONNECTIONS)
            .with("requests", of.len())
            .with(
                "req_per_s",
                rounded(taken.len() as f64 / length.as_secs_f64(), 0),
            )
            .with_latencies(&mut ms)
            .with(
                "server_cpu_us_per_req",
                rounded(cpu / taken.len() as f64 * 1e6, 1),
            )
            .with("server_rss_mib", rounded(rss, 1))
    };
    let hits = meter.finish(line("service-hit", &hits))?;
    let ms = |took: &Duration| took.as_secs_f64() * 1e3;
    let of_origin = middle(calls.iter().map(ms).collect());
    let of_misses = middle(misses.iter().map(|(_, took)| ms(took)).collect());
    let misses = line("service-miss", &misses)
        .with("origin_p50_ms", of_origin)
        .with("over_origin_p50_ms", rounded(of_misses - of_origin, 3));
    tasks.stop();
    let code = service.terminate().await?;
    ensure!(code == 0, "the service ended with {code}");
    Ok(vec![hits, misses])
}

async fn until_well(bench: &Bench, service: &mut Ratebox) -> Result<()> {
    let client = service.client();
    let waited = Stopwatch::start();
    while !matches!(client.get("/healthz").await, Ok(answer) if answer.status == 200) {
        ensure!(
            service.exited().is_none() && waited.elapsed() < SOON,
            "the service is not well:\n{}",
            bench.tail_of(service)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    rounded(values.get(values.len() / 2).copied().unwrap_or(f64::NAN), 3)
}

fn start(servers: &Servers, origin: &Origin, folder: &TempDir) -> Result<Ratebox> {
    let file = folder.path().join("resources.toml");
    let declared = format!(
        "[things]\nkey = \"integer\"\nfields = [\"id\", \"text\"]\nhttp = \"http://{}/things/{{key}}\"\n",
        origin.address
    );
    std::fs::write(&file, declared)?;
    RateboxOptions::new("cache")
        .env("RATEBOX_CACHE__AUTH", "off")
        .env("RATEBOX_CACHE__URL", &servers.redis_url)
        .env("RATEBOX_CACHE__RESOURCES_FILE", file)
        // The limiter counts, on the server, and refuses nobody.
        .env("RATE_MAX_TOKENS", "1000000000")
        .env("RATE_WINDOW_SEC", "1")
        .start()
}

fn is_miss(number: u64) -> bool {
    number.is_multiple_of(MISS_EVERY)
}

fn warm(number: u64) -> String {
    format!("/things/{}", 1 + number % WARM_KEYS)
}

fn mixed(number: u64) -> String {
    match is_miss(number) {
        true => format!("/things/{}", 1_000_000 + number),
        false => warm(number),
    }
}
