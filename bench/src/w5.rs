//! W5, outbox: an order row and an event in one transaction; the event on a stream of Redis. From
//! commit until a reader has it, sent by its sender or by a relay of another process; and a relay
//! that drains a backlog in order.

pub(crate) mod dead_rows;
pub(crate) mod inbox;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use ratebox_db::Sql;
use ratebox_kit::{Stopwatch, Tasks, id};
use ratebox_outbox::{Broker, Event, Outbox, Outgoing, PublishError, Settings as OutboxSettings};
use ratebox_stream::{Append, EntryId, Log, RedisLog, StreamName};
use ratebox_testkit::Ratebox;
use ratebox_valkey::{Settings, Valkey};
use serde_json::json;
use uuid::Uuid;

use crate::Bench;
use crate::meter::Meter;
use crate::report::{Line, rounded};
use crate::servers::{Fresh, Servers};

const STREAM: &str = "outbox_events";
/// Transactions a second while latencies are measured.
const RATE: u64 = 200;
/// How long latencies are measured unless told.
pub(crate) const SECONDS: u64 = 10;
/// Events of the backlog, and the aggregates that they belong to.
const BACKLOG: usize = 50_000;
const AGGREGATES: usize = 500;
const DEADLINE: Duration = Duration::from_secs(60);
const TAIL_MAX: usize = 500;
const TAIL_WAIT: Duration = Duration::from_millis(200);

const ORDERS: &str = "CREATE TABLE bench_orders (id uuid PRIMARY KEY, body text)";
const ORDER: Sql = Sql::both("INSERT INTO bench_orders VALUES ($1, $2)");

/// Who sends in the first place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The process that committed.
    Optimistic,
    /// A relay.
    Relay,
}

/// Our own streams as a broker, as the server has it.
struct Streams(RedisLog);

#[async_trait]
impl Broker for Streams {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let append = |it: Outgoing| Append::new(StreamName::new(&it.topic), it.message);
        let appends: Vec<Append> = messages.into_iter().map(append).collect();
        let answers = self.0.append(&appends).await.into_iter();
        let down = |error: ratebox_stream::Error| PublishError::Down(error.to_string());
        answers.map(|it| it.map(drop).map_err(down)).collect()
    }
}

/// What is measured, in order.
pub(crate) const CASES: [&str; 4] = ["latency", "drain", "inbox", "dead-rows"];

/// Measures one case.
///
/// # Errors
/// When something does not start, or does not end in time.
pub(crate) async fn run(bench: &Bench, case: &str) -> Result<Vec<Line>> {
    match case {
        "latency" => {
            let optimistic = latency(bench, Sender::Optimistic).await?;
            Ok(vec![optimistic, latency(bench, Sender::Relay).await?])
        }
        "drain" => Ok(vec![drain(bench).await?]),
        "inbox" => Ok(vec![inbox::run(bench).await?]),
        _ => dead_rows::run(bench).await,
    }
}

/// Measures latencies with a relay beside the sender.
///
/// # Errors
/// When something does not start, or an event does not come.
async fn latency(bench: &Bench, sender: Sender) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    fresh.db.script(ORDERS.to_owned()).await?;
    servers.settle().await?;
    let mut relay = Ratebox::relay(|o| o.redis(&servers.redis_url).postgres(&fresh.dsn))?;
    let (valkey, reader) = (
        connect(servers).await?,
        RedisLog::new(connect(servers).await?),
    );
    let tasks = Tasks::new();
    let settings = OutboxSettings {
        optimistic: sender == Sender::Optimistic,
        ..OutboxSettings::default()
    };
    let db = servers.open(&fresh, 8)?;
    let outbox = Outbox::new(
        db.clone(),
        Arc::new(Streams(RedisLog::new(valkey))),
        settings,
        &tasks,
    );
    let watch = Stopwatch::start();
    let times: RefCell<HashMap<Uuid, (f64, f64)>> = RefCell::default();
    let seen: RefCell<HashMap<Uuid, f64>> = RefCell::default();
    // The first transactions open connections and prepare statements.
    for warm in [true, false] {
        let total = if warm {
            RATE
        } else {
            RATE * bench.seconds.unwrap_or(SECONDS)
        };
        times.borrow_mut().clear();
        seen.borrow_mut().clear();
        let meter = Meter::start(Some(servers), &[relay.pid()])?;
        let started = watch.elapsed().as_secs_f64();
        let writing = try_join_all((0..total).map(|number| {
            let (db, outbox, times) = (&db, &outbox, &times);
            async move {
                let at = started + number as f64 / RATE as f64 - watch.elapsed().as_secs_f64();
                tokio::time::sleep(Duration::from_secs_f64(at.max(0.0))).await;
                let begun = watch.elapsed().as_secs_f64();
                let body = payload(number);
                let mut tx = db.begin().await?;
                let order = ORDER.with(vec![id::new().into(), body.clone().into()]);
                tx.execute(order).await?;
                let event = Event::new(STREAM, body);
                let event_id = event.id;
                let staged = outbox.add(&mut tx, event).await?;
                let proof = tx.commit().await?;
                let committed = watch.elapsed().as_secs_f64();
                times.borrow_mut().insert(event_id, (begun, committed));
                outbox.publish(staged, &proof).await;
                anyhow::Ok(())
            }
        }));
        let expected = usize::try_from(total)?;
        let (written, read) = tokio::join!(writing, read_all(&reader, &seen, expected, watch));
        written?;
        read?;
        if !warm {
            let (times, seen) = (times.take(), seen.take());
            let line = latencies(sender, &times, &seen, meter.cpu_s(relay.pid()))?;
            let line = meter.finish(line)?;
            tasks.join(Duration::from_secs(5)).await;
            relay.terminate().await?;
            return Ok(line);
        }
    }
    anyhow::bail!("nothing was measured")
}

fn latencies(
    sender: Sender,
    times: &HashMap<Uuid, (f64, f64)>,
    seen: &HashMap<Uuid, f64>,
    relay_cpu_s: f64,
) -> Result<Line> {
    let (mut whole, mut from_commit) = (Vec::new(), Vec::new());
    for (event, (begun, committed)) in times {
        let at = seen.get(event).context("every event is seen")?;
        whole.push((at - begun) * 1e3);
        from_commit.push((at - committed).max(0.0) * 1e3);
    }
    let events = times.len();
    from_commit.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (events * percent / 100).min(events.saturating_sub(1));
        rounded(from_commit.get(index).copied().unwrap_or(f64::NAN), 3)
    };
    let case = match sender {
        Sender::Optimistic => "optimistic",
        Sender::Relay => "relay",
    };
    Ok(Line::new("W5", case)
        .with("part", "latency")
        .with("events", events)
        .with("seen", seen.len())
        .with_latencies(&mut whole)
        .with("from_commit_p50_ms", at(50))
        .with("from_commit_p95_ms", at(95))
        .with("from_commit_p99_ms", at(99))
        .with(
            "worker_cpu_us_per_event",
            rounded(relay_cpu_s / events as f64 * 1e6, 1),
        ))
}

/// Notes when each event is on the stream.
async fn read_all(
    log: &RedisLog,
    seen: &RefCell<HashMap<Uuid, f64>>,
    total: usize,
    watch: Stopwatch,
) -> Result<()> {
    let stream = StreamName::new(STREAM);
    // Nothing was written yet, or all of it was read.
    let mut next = log.tail(&stream, None, 1, Duration::ZERO).await?.next;
    let deadline = watch.elapsed() + DEADLINE;
    while seen.borrow().len() < total {
        ensure!(watch.elapsed() < deadline, "events are missing");
        let tail = log.tail(&stream, Some(next), TAIL_MAX, TAIL_WAIT).await?;
        let now = watch.elapsed().as_secs_f64();
        next = tail.next;
        for entry in &tail.entries {
            let id = entry.field("rb-id").context("an entry has an id")?;
            seen.borrow_mut()
                .entry(Uuid::try_parse_ascii(id)?)
                .or_insert(now);
        }
    }
    Ok(())
}

/// Measures a relay on a backlog whose sender is gone.
///
/// # Errors
/// When something does not start, an event is lost, or the order of an aggregate is broken.
async fn drain(bench: &Bench) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    preload(&fresh).await?;
    fresh.db.script("VACUUM ANALYZE outbox".to_owned()).await?;
    servers.settle().await?;
    let mut redis = servers.redis()?;
    let mut meter = Meter::start(Some(servers), &[])?;
    let watch = Stopwatch::start();
    let mut relay = Ratebox::relay(|o| o.redis(&servers.redis_url).postgres(&fresh.dsn))?;
    meter.add(relay.pid());
    while redis.entries_added(STREAM)? < BACKLOG as u64 {
        ensure!(
            watch.elapsed() < DEADLINE,
            "the relay does not drain: {}",
            bench.tail_of(&relay)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let published_s = watch.elapsed().as_secs_f64();
    while !fresh.outbox_is_empty().await? {
        ensure!(
            watch.elapsed() < DEADLINE,
            "the outbox does not become empty"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cpu = meter.cpu_s(relay.pid());
    let (count, inversions) = order(servers).await?;
    let line = Line::new("W5", "relay")
        .with("part", "drain")
        .with("events", BACKLOG)
        .with(
            "drain_events_per_s",
            rounded(BACKLOG as f64 / published_s, 1),
        )
        .with("drain_s", rounded(published_s, 3))
        .with(
            "worker_cpu_us_per_event",
            rounded(cpu / BACKLOG as f64 * 1e6, 1),
        )
        .with("published", count)
        .with("inversions", inversions);
    let line = meter.finish(line)?;
    relay.terminate().await?;
    ensure!(
        count == BACKLOG,
        "{count} events of {BACKLOG} are on the stream"
    );
    ensure!(
        inversions == 0,
        "{inversions} events overtook one of their aggregate"
    );
    Ok(line)
}

async fn preload(fresh: &Fresh) -> Result<()> {
    let tasks = Tasks::new();
    let settings = OutboxSettings {
        optimistic: false,
        ..OutboxSettings::default()
    };
    // Whatever it answers, nobody asks it.
    let nowhere: Arc<dyn Broker> = Arc::new(Nowhere);
    let outbox = Outbox::new(fresh.db.clone(), nowhere, settings, &tasks);
    for start in (0..BACKLOG).step_by(5000) {
        let event = |number: usize| {
            let body = format!("{}{}", payload(0), number);
            Event::new(STREAM, body).aggregate("order", number % AGGREGATES)
        };
        let (insert, _left) = outbox.stage((start..start + 5000).map(event).collect())?;
        fresh.db.run(vec![insert]).await?;
    }
    drop(outbox);
    tasks.join(Duration::from_secs(5)).await;
    Ok(())
}

struct Nowhere;

#[async_trait]
impl Broker for Nowhere {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let down = || Err(PublishError::Down("nobody".to_owned()));
        messages.iter().map(|_| down()).collect()
    }
}

/// Different events on the stream, and how many came after a later one of their aggregate.
async fn order(servers: &Servers) -> Result<(usize, usize)> {
    let log = RedisLog::new(connect(servers).await?);
    let stream = StreamName::new(STREAM);
    let (mut next, mut last) = (EntryId::MIN, HashMap::<Bytes, Uuid>::new());
    let (mut ids, mut inversions) = (std::collections::HashSet::new(), 0);
    loop {
        let tail = log.tail(&stream, Some(next), 5000, Duration::ZERO).await?;
        if tail.entries.is_empty() {
            return Ok((ids.len(), inversions));
        }
        next = tail.next;
        for entry in &tail.entries {
            let id = entry.field("rb-id").context("an entry has an id")?;
            let id = Uuid::try_parse_ascii(id)?;
            let aggregate = entry
                .field("aggregate-id")
                .context("an event has an aggregate")?;
            inversions += usize::from(last.get(aggregate).is_some_and(|it| *it > id));
            last.insert(aggregate.clone(), id);
            ids.insert(id);
        }
    }
}

async fn connect(servers: &Servers) -> Result<Valkey> {
    Ok(Valkey::connect(&Settings::new(servers.redis_url.as_str())).await?)
}

fn payload(number: u64) -> String {
    json!({"order_id": id::new(), "amount": 99.99, "number": number,
           "items": [{"sku": "WIDGET-001", "qty": 2}]})
    .to_string()
}
