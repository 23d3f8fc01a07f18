//! W1, the bulk pipeline: 100,000 messages lie on the stream, one worker drains them.
//!
//! The clock runs from the first read of the worker until everything that it promises is done: all
//! entries acknowledged, all answers on their streams, the outbox empty. Then the rows are counted.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ratebox_kit::Stopwatch;
use ratebox_testkit::Ratebox;

use crate::Bench;
use crate::meter::Meter;
use crate::proc;
use crate::report::{Line, rounded};
use crate::resp::Resp;
use crate::servers::Fresh;

const STREAM: &str = "raw_items";
const GROUP: &str = "validator_workers";
const ANSWERS: [&str; 2] = ["extension_responses", "importer_responses"];
/// Messages that are on their way to Redis at once while preloading.
const CHUNK: usize = 1000;
/// Between two looks for the first read.
const START_EVERY: Duration = Duration::from_millis(1);
/// Between two looks for the end; costs less than 1 % of a core.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(300);
/// Invalid records, in percent of all.
const INVALID_PERCENT: u64 = 15;

const COUNTS: &str = "SELECT
    (SELECT count(*) FROM raw_items),
    (SELECT count(*) FROM raw_items WHERE status = 'error'),
    (SELECT count(DISTINCT item_id) FROM raw_item_errors WHERE error_no = 0),
    (SELECT count(*) FROM validation_responses),
    (SELECT count(*) FROM consumer_inbox),
    (SELECT count(*) FROM validation_requests WHERE state IN ('success', 'partial', 'error'))";

/// How the items are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    items_a_message: usize,
    messages: usize,
}

/// What is measured, in order.
pub(crate) const CASES: [Case; 2] = [
    Case {
        name: "1-item",
        items_a_message: 1,
        messages: 100_000,
    },
    Case {
        name: "100-items",
        items_a_message: 100,
        messages: 2_000,
    },
];

/// When each part of the work was done, in seconds since the worker's start.
#[derive(Clone, Copy, Debug)]
struct Drain {
    first_read: f64,
    start_cpu: f64,
    acked: f64,
    answered: f64,
    outbox_empty: f64,
}

/// Measures one case.
///
/// # Errors
/// When something does not start, or the drain does not end in 5 minutes.
pub(crate) async fn run(bench: &Bench, case: Case) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    preload(bench, case)?;
    servers.settle().await?;

    let mut meter = Meter::start(Some(servers), &[])?;
    let watch = Stopwatch::start();
    let mut worker = Ratebox::worker(|options| {
        options
            .redis(&servers.redis_url)
            .postgres(&fresh.dsn)
            .env("REDIS_STREAM", STREAM)
    })?;
    meter.add(worker.pid());
    let drain = drain(&mut worker, &fresh, &mut servers.redis()?, case, watch)
        .await
        .with_context(|| format!("the worker's log ends with:\n{}", bench.tail_of(&worker)))?;

    let items = case.messages * case.items_a_message;
    let took = drain.outbox_empty - drain.first_read;
    let cpu = meter.cpu_s(worker.pid());
    let line = Line::new("W1", case.name)
        .with("items", items)
        .with("drain_s", rounded(took, 3))
        .with("items_per_s", rounded(items as f64 / took, 1))
        .with("first_read_s", rounded(drain.first_read, 3))
        .with("acked_s", rounded(drain.acked - drain.first_read, 3))
        .with("answered_s", rounded(drain.answered - drain.first_read, 3))
        .with("drain_from_start_s", rounded(drain.outbox_empty, 3))
        .with("worker_cpu_s", rounded(cpu, 2))
        .with("start_cpu_s", rounded(drain.start_cpu, 2))
        .with("cpu_us_per_item", rounded(cpu / items as f64 * 1e6, 1))
        .with(
            "worker_rss_mib",
            rounded(proc::rss_peak_mib(worker.pid()), 1),
        );
    let line = meter.finish(line)?;
    let code = worker.terminate().await?;
    ensure!(code == 0, "the worker ended with {code}");
    Ok(line.with("rows_ok", rows_are_right(&fresh, case).await?))
}

/// Puts the messages on the stream, and the group at its start.
fn preload(bench: &Bench, case: Case) -> Result<()> {
    let mut redis = bench.servers()?.redis()?;
    let mut under_way = 0;
    for number in 0..case.messages {
        if case.items_a_message == 1 {
            send_plain(bench, &mut redis, number)?;
        } else {
            send_envelope(bench, &mut redis, number, case.items_a_message)?;
        }
        under_way += 1;
        if under_way == CHUNK || number + 1 == case.messages {
            for _ in 0..std::mem::take(&mut under_way) {
                redis.answer()?;
            }
        }
    }
    redis.command(&["XGROUP", "CREATE", STREAM, GROUP, "0"])?;
    Ok(())
}

/// One item as the predecessor's producer sends it.
fn send_plain(bench: &Bench, redis: &mut Resp, number: usize) -> Result<()> {
    let messages = bench.messages();
    let message = &messages[number % messages.len()];
    let fields = [
        ("id", &message.id),
        ("data", &message.data),
        ("source", &message.source),
        ("timestamp", &message.timestamp),
        ("producer", &message.producer),
        ("batch_id", &message.batch_id),
    ];
    let mut words: Vec<&[u8]> = vec![b"XADD", STREAM.as_bytes(), b"*"];
    for (name, value) in fields {
        words.extend([name.as_bytes(), value.as_bytes()]);
    }
    redis.send(&words)
}

/// Many items in an envelope of version 1, as a foreign producer sends it.
fn send_envelope(bench: &Bench, redis: &mut Resp, number: usize, items: usize) -> Result<()> {
    let messages = bench.messages();
    let first = number * items;
    let items: Vec<&str> = (first..first + items)
        .map(|at| messages[at % messages.len()].data.as_str())
        .collect();
    let source = &messages[first % messages.len()].source;
    let envelope = format!(
        r#"{{"v":1,"source":"{source}","action":"validate","data":{{"items":[{}]}}}}"#,
        items.join(",")
    );
    redis.send(&[
        b"XADD",
        STREAM.as_bytes(),
        b"*",
        b"data",
        envelope.as_bytes(),
    ])
}

/// Watches until all is done.
async fn drain(
    worker: &mut Ratebox,
    fresh: &Fresh,
    redis: &mut Resp,
    case: Case,
    watch: Stopwatch,
) -> Result<Drain> {
    let messages = case.messages as u64;
    let now = || watch.elapsed().as_secs_f64();
    while !redis.group(STREAM)?.is_some_and(|group| group.started) {
        pause(worker, watch, START_EVERY, "the first read").await?;
    }
    let (first_read, start_cpu) = (now(), proc::cpu_s(worker.pid()));
    let done = |redis: &mut Resp| -> Result<bool> {
        let group = redis.group(STREAM)?.unwrap_or_default();
        Ok(group.read >= messages && group.pending == 0 && group.lag == 0)
    };
    while !done(redis)? {
        pause(worker, watch, LOOK_EVERY, "all acknowledgements").await?;
    }
    let acked = now();
    while redis.entries_added(ANSWERS[0])? + redis.entries_added(ANSWERS[1])? < messages {
        pause(worker, watch, LOOK_EVERY, "all answers").await?;
    }
    let answered = now();
    while !fresh.outbox_is_empty().await? {
        pause(worker, watch, LOOK_EVERY, "the outbox to be empty").await?;
    }
    Ok(Drain {
        first_read,
        start_cpu,
        acked,
        answered,
        outbox_empty: now(),
    })
}

async fn pause(worker: &mut Ratebox, watch: Stopwatch, time: Duration, what: &str) -> Result<()> {
    if let Some(code) = worker.exited() {
        bail!("the worker ended with {code} while we waited for {what}");
    }
    ensure!(watch.elapsed() < DEADLINE, "waited in vain for {what}");
    tokio::time::sleep(time).await;
    Ok(())
}

/// Every message must have left its rows, once.
async fn rows_are_right(fresh: &Fresh, case: Case) -> Result<bool> {
    let counted = fresh.numbers(COUNTS, 6).await?;
    let (items, messages) = (case.messages * case.items_a_message, case.messages);
    let wrong = items as u64 * INVALID_PERCENT / 100;
    let expected = [items as u64, wrong, wrong].map(|count| count as i64);
    let expected: Vec<i64> = expected.into_iter().chain([messages as i64; 3]).collect();
    if counted != expected {
        eprintln!(
            "rows are wrong (items, error items, items with errors, responses, inbox, finished \
             requests): {counted:?}, expected {expected:?}"
        );
    }
    Ok(counted == expected)
}
