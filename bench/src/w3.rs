//! W3, HTTP: `POST /api/validation/validate` with one item, 64 connections, a token checked; wrk
//! runs on the same machine. No worker runs: what is measured is taking requests in.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ratebox_kit::{Clock, Secret, Stopwatch};
use ratebox_store::{NewToken, Store};
use ratebox_testkit::{HttpClient, Ratebox, tools, wait_until};
use serde::Deserialize;
use serde_json::json;

use crate::Bench;
use crate::meter::Meter;
use crate::report::{Line, rounded};
use crate::servers::{Fresh, Servers};
use crate::{inputs, proc};

const SCRIPT: &str = include_str!("../post.lua");
const PATH: &str = "/api/validation/validate";
const REQUESTS: &str = "validation_requests";
const WARM_UP_S: u64 = 2;
/// How long each case is measured unless told.
pub(crate) const SECONDS: u64 = 10;
const CONNECTIONS: u64 = 64;
/// A relay that needs longer to publish what was accepted has failed.
const DRAIN_DEADLINE: Duration = Duration::from_secs(120);

/// What a 202 promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Taken by the bus.
    Stream,
    /// On disk in the store.
    Durable,
}

/// What is measured, in order.
pub(crate) const CASES: [Accept; 2] = [Accept::Stream, Accept::Durable];

impl Accept {
    fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Durable => "durable",
        }
    }
}

/// What wrk says.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Load {
    requests: u64,
    secs: f64,
    errors: u64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Measures one accept mode.
///
/// # Errors
/// When something does not start, wrk is missing, or the first requests are not answered as they
/// should be.
pub(crate) async fn run(bench: &Bench, accept: Accept) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    let token = token(&fresh).await?;
    servers.settle().await?;
    let relay = match accept {
        Accept::Stream => None,
        Accept::Durable => Some(Ratebox::relay(|o| {
            o.redis(&servers.redis_url).postgres(&fresh.dsn)
        })?),
    };
    let mut gateway = Ratebox::gateway(|options| {
        options
            .redis(&servers.redis_url)
            .postgres(&fresh.dsn)
            .env("RATEBOX_GATEWAY__ACCEPT", accept.word())
    })?;
    gateway.wait_ready().await?;
    check(&gateway.base_url(), &token, servers).await?;

    let warm_up = wrk(&gateway, &token, WARM_UP_S)?;
    let pids: Vec<u32> = [Some(gateway.pid()), relay.as_ref().map(Ratebox::pid)]
        .into_iter()
        .flatten()
        .collect();
    let meter = Meter::start(Some(servers), &pids)?;
    let load = wrk(&gateway, &token, bench.seconds.unwrap_or(SECONDS))?;
    let watch = Stopwatch::start();
    let line = figures(accept, load, &meter, &gateway, relay.as_ref());
    let line = meter.finish(line)?;
    let accepted = warm_up.requests + load.requests + 1;
    let line = match accept {
        Accept::Stream => accepted_entries(line, servers, accepted)?,
        Accept::Durable => accepted_rows(line, servers, &fresh, accepted, watch).await?,
    };
    let code = gateway.terminate().await?;
    ensure!(code == 0, "the gateway ended with {code}");
    Ok(line)
}

fn figures(
    accept: Accept,
    load: Load,
    meter: &Meter,
    gateway: &Ratebox,
    relay: Option<&Ratebox>,
) -> Line {
    let a_request = |cpu: f64| rounded(cpu / load.requests as f64 * 1e6, 1);
    let line = Line::new("W3", accept.word())
        .with("conc", CONNECTIONS)
        .with("requests", load.requests)
        .with("req_per_s", rounded(load.requests as f64 / load.secs, 1))
        .with("p50_ms", load.p50_ms)
        .with("p95_ms", load.p95_ms)
        .with("p99_ms", load.p99_ms)
        .with("max_ms", load.max_ms)
        .with("errors", load.errors)
        .with(
            "server_cpu_us_per_req",
            a_request(meter.cpu_s(gateway.pid())),
        )
        .with(
            "server_rss_mib",
            rounded(proc::rss_peak_mib(gateway.pid()), 1),
        );
    match relay {
        Some(relay) => line
            .with("relay_cpu_us_per_req", a_request(meter.cpu_s(relay.pid())))
            .with("relay_rss_mib", rounded(proc::rss_peak_mib(relay.pid()), 1)),
        None => line,
    }
}

/// Accepted requests must lie on the stream. wrk cuts its connections at the end, so that up to
/// one request a connection and run is accepted without being counted.
fn accepted_entries(line: Line, servers: &Servers, accepted: u64) -> Result<Line> {
    let entries = servers.redis()?.entries_added(REQUESTS)?;
    let right = (accepted..=accepted + 2 * CONNECTIONS).contains(&entries);
    Ok(line
        .with("accepted", accepted)
        .with("entries", entries)
        .with("rows_ok", right))
}

/// Accepted requests must be rows, and soon be on the stream.
async fn accepted_rows(
    line: Line,
    servers: &Servers,
    fresh: &Fresh,
    accepted: u64,
    watch: Stopwatch,
) -> Result<Line> {
    wait_until(DRAIN_DEADLINE, "the outbox is empty", || async {
        fresh.outbox_is_empty().await.unwrap_or(false)
    })
    .await;
    let drained = watch.elapsed().as_secs_f64();
    let counted = fresh
        .numbers("SELECT count(*) FROM validation_requests", 1)
        .await?;
    let rows = counted.first().copied().unwrap_or_default().unsigned_abs();
    let entries = servers.redis()?.entries_added(REQUESTS)?;
    // Published twice is allowed, lost is not.
    let right = (accepted..=accepted + 2 * CONNECTIONS).contains(&rows) && entries >= rows;
    Ok(line
        .with("outbox_drained_s", rounded(drained, 2))
        .with("accepted", accepted)
        .with("rows", rows)
        .with("entries", entries)
        .with("rows_ok", right))
}

/// A token that may write, with a limit that this load does not reach.
async fn token(fresh: &Fresh) -> Result<Secret> {
    let store = Store::new(fresh.db.clone(), Clock::system());
    let new = NewToken {
        owner: "bench".to_owned(),
        name: "load".to_owned(),
        scopes: vec!["validation:write".to_owned()],
        profile: None,
        limit_per_minute: Some(100_000_000),
        live: true,
        expires_at: None,
    };
    Ok(store.create_token(new).await?.1)
}

/// The token must matter, and a request must arrive on the bus.
async fn check(base_url: &str, token: &Secret, servers: &Servers) -> Result<()> {
    let body = json!({"phone": "0123456789", "bank_account": "1234567890"});
    let refused = HttpClient::new(base_url).post_json(PATH, &body).await?;
    ensure!(
        refused.status == 401,
        "without a token the answer is {}, not 401",
        refused.status
    );
    let client = HttpClient::new(base_url).with_token(token.reveal());
    let taken = client.post_json(PATH, &body).await?;
    ensure!(
        taken.status == 202,
        "with a token the answer is {}: {}",
        taken.status,
        taken.text()
    );
    wait_until(
        Duration::from_secs(10),
        "the request is on the stream",
        || async {
            let added = servers
                .redis()
                .and_then(|mut it| it.entries_added(REQUESTS));
            added.is_ok_and(|added| added == 1)
        },
    )
    .await;
    Ok(())
}

fn wrk(gateway: &Ratebox, token: &Secret, seconds: u64) -> Result<Load> {
    let program =
        tools::on_path("wrk").context("wrk is missing: install it with `apt-get install wrk`")?;
    let script = inputs::cache_dir()?.join("post.lua");
    std::fs::write(&script, SCRIPT)?;
    let output = Command::new(program)
        .args([
            "-t1",
            &format!("-c{CONNECTIONS}"),
            &format!("-d{seconds}s"),
            "-s",
        ])
        .arg(&script)
        .arg(format!("{}{PATH}", gateway.base_url()))
        .env("BENCH_TOKEN", token.reveal())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("WRK "));
    let line = line.with_context(|| {
        let told = String::from_utf8_lossy(&output.stderr);
        format!("wrk says nothing that can be read:\n{text}{told}")
    })?;
    Ok(serde_json::from_str(line)?)
}
