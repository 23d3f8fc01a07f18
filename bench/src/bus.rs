//! BUS, the bus alone: a consumer with everything on that a consumer has (heartbeat, claim, retry
//! bookkeeping, metrics, safe trim), and a handler that does nothing.
//!
//! `drain` takes a backlog. `pickup` is the time from an append to its handler at 2,000 messages a
//! second. `lanes` is the same for the urgent lane, first alone, then beside a backlog of a million
//! on the low one; `append_…` is how long the sender's own call took, which is what the server and the
//! machine make an entry wait before any consumer can. `delayed` puts messages onto the stream whose time has come, all at once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ratebox_kit::{Clock, Message, Stopwatch};
use ratebox_stream::{Append, Dispatch, Lane, Lanes, Log as _, Producer, RedisLog, StreamName};
use ratebox_valkey::{Settings, Valkey};

use crate::Bench;
use crate::consume::{self, Consuming, GROUP, SENT_US, STREAM};
use crate::meter::Meter;
use crate::proc;
use crate::report::{Line, percentile, rounded};
use crate::resp::Resp;
use crate::servers::{self, Servers};

/// What is measured, in order.
pub(crate) const CASES: [&str; 4] = ["drain", "pickup", "lanes", "delayed"];

/// Messages in the backlog.
const BACKLOG: usize = 500_000;
/// Messages on the low lane beside which the urgent one is measured.
const LOW_BACKLOG: usize = 1_000_000;
/// Messages that wait for their time, and have it.
const DUE: usize = 200_000;
/// Bytes of a body.
const BODY_BYTES: usize = 300;
/// Messages appended in one go while preloading.
const CHUNK: usize = 1_000;
/// Messages a second of `pickup`.
const PICKUP_RATE: u64 = 2_000;
/// Urgent messages a second of `lanes`.
const URGENT_RATE: u64 = 500;
/// Length of the parts that run for a time, in seconds.
const SECONDS: u64 = 6;
/// Between two looks for the end; costs less than 1 % of a core.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(120);
/// When every message that was acknowledged must be gone from the stream.
const TRIMMED_AFTER: Duration = Duration::from_secs(3);

/// Measures one case.
///
/// # Errors
/// When something does not start, or does not end in time.
pub(crate) async fn run(bench: &Bench, case: &str) -> Result<Vec<Line>> {
    let servers = bench.servers()?;
    servers.redis()?.command(&["FLUSHALL"])?;
    let seconds = bench.seconds.unwrap_or(SECONDS);
    match case {
        "drain" => Ok(vec![drain(servers).await?]),
        "pickup" => Ok(vec![pickup(servers, seconds).await?]),
        "delayed" => Ok(vec![delayed(servers).await?]),
        _ => lanes(bench, servers, seconds).await,
    }
}

/// A backlog on the plain stream.
async fn drain(servers: &Servers) -> Result<Line> {
    let before = dataset(servers)?;
    preload(servers, Lane::Normal, BACKLOG).await?;
    let stored = (dataset(servers)? - before) / BACKLOG as f64;
    servers.settle().await?;
    let mut redis = servers.redis()?;
    let mut meter = Meter::start(Some(servers), &[])?;
    let (watch, redis_before) = (Stopwatch::start(), proc::cpu_s(servers.redis_pid));
    let consuming = Consuming::start(&servers.redis_url)?;
    meter.add(consuming.pid());
    let now = || watch.elapsed().as_secs_f64();
    while !redis.group(STREAM)?.is_some_and(|group| group.started) {
        ensure!(watch.elapsed() < DEADLINE, "waited in vain for a read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (first_read, start_cpu) = (now(), meter.cpu_s(consuming.pid()));
    until_drained(&mut redis, STREAM, BACKLOG, watch).await?;
    let took = now() - first_read;
    let cpu = meter.cpu_s(consuming.pid()) - start_cpu;
    let redis_cpu = proc::cpu_s(servers.redis_pid) - redis_before;
    let rss = proc::rss_peak_mib(consuming.pid());
    let each = |seconds: f64| rounded(seconds / BACKLOG as f64 * 1e6, 2);
    let line = Line::new("BUS", "drain")
        .with("messages", BACKLOG)
        .with("msg_per_s", rounded(BACKLOG as f64 / took, 0))
        .with("client_cpu_us", each(cpu))
        .with("server_cpu_us", each(redis_cpu))
        .with("stored_bytes", rounded(stored, 0))
        .with("drain_s", rounded(took, 3))
        .with("client_rss_mib", rounded(rss, 1));
    let line = meter.finish(line)?;
    tokio::time::sleep(TRIMMED_AFTER).await;
    let seen = consuming.stop().await?;
    ensure!(
        seen.handled >= BACKLOG as u64,
        "only {} of {BACKLOG} messages were handled",
        seen.handled
    );
    let left = redis.command(&["XLEN", STREAM])?.as_u64().unwrap_or(0);
    Ok(line
        .with("left", left)
        .with("bounded", left == consume::RETAINED))
}

/// Single messages at a steady rate.
async fn pickup(servers: &Servers, seconds: u64) -> Result<Line> {
    let consuming = Consuming::start(&servers.redis_url)?;
    let mut redis = servers.redis()?;
    started(&mut redis).await?;
    let mut meter = Meter::start(Some(servers), &[consuming.pid()])?;
    meter.add(consuming.pid());
    let mut sender = Sender::new(servers.redis()?, Lane::Normal, PICKUP_RATE);
    let end = Duration::from_secs(seconds);
    while sender.watch.elapsed() < end {
        sender.send_due()?;
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    let sent = sender.sent;
    until_drained(&mut redis, STREAM, usize::try_from(sent)?, sender.watch).await?;
    let line = meter.finish(Line::new("BUS", "pickup").with("msg_per_s", sent / seconds))?;
    let seen = consuming.stop().await?;
    ensure!(
        seen.handled == sent,
        "{} of {sent} were handled",
        seen.handled
    );
    Ok(line
        .with("messages", sent)
        .with_latencies(&mut seen.latencies_ms()))
}

/// Urgent messages alone, then beside a backlog; and once more on a server that is set up as
/// docs/Operating-The-Bus.md says for a busy bus. As it comes, it rewrites its append-only file
/// every second or two meanwhile.
async fn lanes(bench: &Bench, servers: &Servers, seconds: u64) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (case, backlog) in [
        ("urgent-idle", 0),
        ("urgent-busy", LOW_BACKLOG),
        ("urgent-steady", LOW_BACKLOG),
    ] {
        let is_set_up = case == "urgent-steady";
        servers.rewrite_from(if is_set_up {
            servers::BUSY_REWRITE_FROM
        } else {
            servers::REWRITE_FROM
        })?;
        let mut redis = servers.redis()?;
        redis.command(&["FLUSHALL"])?;
        // The case before leaves a long file.
        servers.settle().await?;
        redis.command(&["BGREWRITEAOF"])?;
        preload(servers, Lane::Low, backlog).await?;
        servers.settle().await?;
        let consuming = Consuming::start(&servers.redis_url)?;
        started(&mut redis).await?;
        let meter = Meter::start(Some(servers), &[consuming.pid()])?;
        let low = lane(Lane::Low);
        let mut sender = Sender::new(servers.redis()?, Lane::High, URGENT_RATE);
        let mut looked = Stopwatch::start();
        loop {
            sender.send_due()?;
            tokio::time::sleep(Duration::from_micros(300)).await;
            if looked.elapsed() < LOOK_EVERY {
                continue;
            }
            looked = Stopwatch::start();
            let is_over = match backlog {
                0 => sender.watch.elapsed().as_secs() >= seconds,
                _ => redis
                    .group(low.as_str())?
                    .is_some_and(|group| group.lag == 0),
            };
            if is_over {
                break;
            }
            ensure!(
                sender.watch.elapsed() < DEADLINE,
                "the low lane does not drain"
            );
        }
        let took = sender.watch.elapsed().as_secs_f64();
        sender.appends_ms.sort_by(f64::total_cmp);
        let line = Line::new("BUS", case)
            .with("backlog", backlog)
            .with("backlog_per_s", rounded(backlog as f64 / took, 0))
            .with("append_p50_ms", percentile(&sender.appends_ms, 50))
            .with("append_p99_ms", percentile(&sender.appends_ms, 99));
        let line = meter.finish(line)?;
        let seen = consuming.stop().await?;
        lines.push(
            line.with("messages", seen.latencies_us.len())
                .with_latencies(&mut seen.latencies_ms()),
        );
    }
    servers.rewrite_from(bench.rewrite_from)?;
    Ok(lines)
}

/// Messages that were scheduled and are due: from the consumer's first promotion until none waits.
/// The consumer handles them meanwhile.
async fn delayed(servers: &Servers) -> Result<Line> {
    let log = Arc::new(RedisLog::new(Valkey::lazy(&Settings::new(
        &*servers.redis_url,
    ))?));
    let producer = Producer::new(log, Lanes::of(&StreamName::new(STREAM)));
    let body = "x".repeat(BODY_BYTES);
    let later = |number| {
        let message = Message::new(message_id(number), body.clone());
        Dispatch::new(message).after(Duration::from_millis(1))
    };
    for start in (0..DUE).step_by(CHUNK) {
        let chunk = start..DUE.min(start + CHUNK);
        for sent in producer.send_all(chunk.map(later).collect()).await {
            sent.context("scheduling")?;
        }
    }
    servers.settle().await?;
    let mut redis = servers.redis()?;
    let mut meter = Meter::start(Some(servers), &[])?;
    let consuming = Consuming::start(&servers.redis_url)?;
    meter.add(consuming.pid());
    let watch = Stopwatch::start();
    while redis.entries_added(STREAM)? == 0 {
        ensure!(watch.elapsed() < DEADLINE, "nothing is promoted");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = watch.elapsed();
    while !producer.scheduled(0, 1).await?.is_empty() {
        ensure!(watch.elapsed() < DEADLINE, "some are not promoted");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let promoted = (watch.elapsed() - began).as_secs_f64();
    until_drained(&mut redis, STREAM, DUE, watch).await?;
    let handled = (watch.elapsed() - began).as_secs_f64();
    let per_s = |seconds: f64| rounded(DUE as f64 / seconds, 0);
    let line = Line::new("BUS", "delayed")
        .with("messages", DUE)
        .with("promoted_per_s", per_s(promoted))
        .with("handled_per_s", per_s(handled));
    let line = meter.finish(line)?;
    let seen = consuming.stop().await?;
    ensure!(
        seen.handled == DUE as u64,
        "{} of {DUE} were handled",
        seen.handled
    );
    Ok(line)
}

/// Waits until the consumer made its group.
async fn started(redis: &mut Resp) -> Result<()> {
    let watch = Stopwatch::start();
    while redis.group(STREAM)?.is_none() {
        ensure!(watch.elapsed() < DEADLINE, "the consumer does not start");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // Its first read waits by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

async fn until_drained(
    redis: &mut Resp,
    stream: &str,
    count: usize,
    watch: Stopwatch,
) -> Result<()> {
    loop {
        let group = redis.group(stream)?.unwrap_or_default();
        if group.read >= count as u64 && group.pending == 0 && group.lag == 0 {
            return Ok(());
        }
        ensure!(
            watch.elapsed() < DEADLINE,
            "waited in vain for the end of {GROUP}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Appends as a producer of ours does: body, and the message's own id.
async fn preload(servers: &Servers, on: Lane, count: usize) -> Result<()> {
    let log = RedisLog::new(Valkey::lazy(&Settings::new(&*servers.redis_url))?);
    let stream = lane(on);
    let body = "x".repeat(BODY_BYTES);
    for start in (0..count).step_by(CHUNK) {
        let append = |number| {
            let message = Message::new(message_id(number), body.clone());
            Append::new(stream.clone(), message)
        };
        let batch: Vec<Append> = (start..count.min(start + CHUNK)).map(append).collect();
        for added in log.append(&batch).await {
            added.context("preloading")?;
        }
    }
    Ok(())
}

/// As long as a UUID, which ours are.
fn message_id(number: usize) -> String {
    format!("0191e0c4-0000-7000-8000-{number:012}")
}

fn lane(lane: Lane) -> StreamName {
    Lanes::of(&StreamName::new(STREAM)).stream(lane).clone()
}

/// Bytes of Redis's data.
fn dataset(servers: &Servers) -> Result<f64> {
    let text = servers.redis()?.info("memory", "used_memory_dataset")?;
    text.parse().context("used_memory_dataset is no number")
}

/// Appends messages at a steady rate, each with the time at which it was sent.
struct Sender {
    redis: Resp,
    stream: StreamName,
    rate: u64,
    clock: Clock,
    watch: Stopwatch,
    sent: u64,
    /// How long each append took, until its answer.
    appends_ms: Vec<f64>,
}

impl Sender {
    fn new(redis: Resp, on: Lane, rate: u64) -> Self {
        Self {
            redis,
            stream: lane(on),
            rate,
            clock: Clock::system(),
            watch: Stopwatch::start(),
            sent: 0,
            appends_ms: Vec::new(),
        }
    }

    /// Sends what is due by now.
    fn send_due(&mut self) -> Result<()> {
        let due = self.watch.elapsed().as_micros() as u64 * self.rate / 1_000_000;
        let body = "x".repeat(BODY_BYTES);
        while self.sent < due {
            let id = message_id(usize::try_from(self.sent)?);
            let sent_us = self.clock.now().as_microsecond().to_string();
            let append = Stopwatch::start();
            self.redis.send(&[
                b"XADD",
                self.stream.as_str().as_bytes(),
                b"*",
                b"data",
                body.as_bytes(),
                b"rb-id",
                id.as_bytes(),
                SENT_US.as_bytes(),
                sent_us.as_bytes(),
            ])?;
            self.redis.answer()?;
            self.appends_ms.push(append.elapsed().as_secs_f64() * 1e3);
            self.sent += 1;
        }
        Ok(())
    }
}
