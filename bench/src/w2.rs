//! W2, request and answer over the bus: a client appends a request and waits for its answer, one
//! at a time and 64 at a time. The client is this process, the worker another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use ratebox_intake::{Item, Request};
use ratebox_kit::{Message, Stopwatch, Tasks, id};
use ratebox_stream::{Append, Log, RedisLog, StreamName};
use ratebox_testkit::Ratebox;
use ratebox_valkey::{Settings, Valkey};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::Bench;
use crate::meter::Meter;
use crate::proc;
use crate::report::{Line, rounded};
use crate::resp::Resp;
use crate::servers::Servers;

const REQUESTS: &str = "validation_requests";
const ANSWERS: &str = "extension_responses";
/// Requests at a time.
const CONCURRENCY: [usize; 2] = [1, 64];
/// Different records that are sent, over and over.
const RECORDS: usize = 5000;
/// Answers of one read.
const TAIL_MAX: usize = 500;
const TAIL_WAIT: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(1);
/// How long each part is measured unless told.
pub(crate) const SECONDS: u64 = 6;
/// A request without an answer for this long has failed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Measures both parts on one worker.
///
/// # Errors
/// When something does not start, or an answer does not come.
pub(crate) async fn run(bench: &Bench) -> Result<Vec<Line>> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    servers.settle().await?;
    let mut worker = Ratebox::worker(|o| o.redis(&servers.redis_url).postgres(&fresh.dsn))?;
    wait_for_group(&mut servers.redis()?, &worker, bench).await?;
    let tasks = Tasks::new();
    let client = Client::connect(bench, servers, &tasks).await?;
    let mut lines = Vec::new();
    for concurrency in CONCURRENCY {
        let line = measure(bench, &client, &worker, concurrency).await;
        lines.push(
            line.with_context(|| {
                format!("the worker's log ends with:\n{}", bench.tail_of(&worker))
            })?,
        );
    }
    tasks.join(TAIL_WAIT * 2).await;
    let code = worker.terminate().await?;
    ensure!(code == 0, "the worker ended with {code}");
    Ok(lines)
}

async fn measure(
    bench: &Bench,
    client: &Client,
    worker: &Ratebox,
    concurrency: usize,
) -> Result<Line> {
    client.send_for(WARM_UP, concurrency).await?;
    let meter = Meter::start(Some(bench.servers()?), &[worker.pid()])?;
    let watch = Stopwatch::start();
    let length = Duration::from_secs(bench.seconds.unwrap_or(SECONDS));
    let mut latencies = client.send_for(length, concurrency).await?;
    let took = watch.elapsed().as_secs_f64();
    let count = latencies.len() as f64;
    let cpu = meter.cpu_s(worker.pid());
    let line = Line::new("W2", "bus")
        .with("conc", concurrency)
        .with("requests", latencies.len())
        .with("req_per_s", rounded(count / took, 1))
        .with_latencies(&mut latencies)
        .with("worker_cpu_us_per_req", rounded(cpu / count * 1e6, 1))
        .with(
            "worker_rss_mib",
            rounded(proc::rss_peak_mib(worker.pid()), 1),
        )
        .with("errors", 0);
    meter.finish(line)
}

async fn wait_for_group(redis: &mut Resp, worker: &Ratebox, bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    while redis.group(REQUESTS)?.is_none() {
        ensure!(
            watch.elapsed() < START_DEADLINE,
            "the worker does not start:\n{}",
            bench.tail_of(worker)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

type Waiters = Arc<Mutex<HashMap<Uuid, oneshot::Sender<()>>>>;

/// Sends requests as our gateway does, and waits for their answers.
struct Client {
    log: Arc<RedisLog>,
    requests: StreamName,
    records: Vec<Item>,
    waiters: Waiters,
}

impl Client {
    async fn connect(bench: &Bench, servers: &Servers, tasks: &Tasks) -> Result<Self> {
        let valkey = Valkey::connect(&Settings::new(servers.redis_url.as_str())).await?;
        let log = Arc::new(RedisLog::new(valkey));
        let waiters = Waiters::default();
        let answers = StreamName::new(ANSWERS);
        let from = log.tail(&answers, None, 1, Duration::ZERO).await?.next;
        let (reader, waiting) = (Arc::clone(&log), Arc::clone(&waiters));
        let shutdown = tasks.shutdown();
        tasks.spawn("answers", async move {
            let read = async {
                let mut next = from;
                loop {
                    let tail = reader
                        .tail(&answers, Some(next), TAIL_MAX, TAIL_WAIT)
                        .await?;
                    next = tail.next;
                    let bodies = tail.entries.iter().filter_map(|it| it.field("data"));
                    bodies.for_each(|body| wake(&waiting, body));
                }
            };
            let ended: Option<Result<(), ratebox_stream::Error>> = shutdown.unless(read).await;
            if let Some(Err(error)) = ended {
                eprintln!("the answers cannot be read: {error}");
            }
        });
        let records = bench.messages().iter().take(RECORDS);
        let records = records.map(|it| Ok(Item::parse(it.data.as_bytes())?));
        Ok(Self {
            log,
            requests: StreamName::new(REQUESTS),
            records: records.collect::<Result<_>>()?,
            waiters,
        })
    }

    /// Each of `concurrency` clients sends its next request as soon as its last is answered.
    /// Returns the milliseconds of each.
    async fn send_for(&self, length: Duration, concurrency: usize) -> Result<Vec<f64>> {
        let watch = Stopwatch::start();
        let clients = (0..concurrency).map(|number| async move {
            let mut latencies = Vec::new();
            let mut records = self.records.iter().cycle().skip(number * 7);
            while watch.elapsed() < length {
                let record = records.next().context("there are records")?;
                latencies.push(self.send(record).await?);
            }
            anyhow::Ok(latencies)
        });
        Ok(try_join_all(clients).await?.concat())
    }

    async fn send(&self, record: &Item) -> Result<f64> {
        let watch = Stopwatch::start();
        let mut request = Request::new(id::new(), "bench", "extension");
        request.items = vec![record.clone()];
        let (answered, answer) = oneshot::channel();
        locked(&self.waiters).insert(request.request_id, answered);
        let message = Message::new(request.request_id.to_string(), request.to_message());
        for appended in self
            .log
            .append(&[Append::new(self.requests.clone(), message)])
            .await
        {
            appended?;
        }
        tokio::time::timeout(ANSWER_DEADLINE, answer)
            .await
            .with_context(|| format!("no answer within {ANSWER_DEADLINE:?}"))??;
        Ok(watch.elapsed().as_secs_f64() * 1e3)
    }
}

/// Tells whoever waits for this answer.
fn wake(waiters: &Waiters, body: &[u8]) {
    let waiter = request_id(body).and_then(|id| locked(waiters).remove(&id));
    if let Some(waiter) = waiter {
        let _ = waiter.send(()); // A client that gave up has said so.
    }
}

fn locked(waiters: &Waiters) -> std::sync::MutexGuard<'_, HashMap<Uuid, oneshot::Sender<()>>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The request's id, taken out of an answer without reading all of it.
fn request_id(body: &[u8]) -> Option<Uuid> {
    const KEY: &[u8] = br#""request_id":""#;
    let at = body.windows(KEY.len()).position(|window| window == KEY)?;
    let text = body.get(at + KEY.len()..at + KEY.len() + 36)?;
    Uuid::try_parse_ascii(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_in_an_answer() {
        let id = id::new();
        let body = format!(r#"{{"v":1,"request_id":"{id}","status":"success"}}"#);
        assert_eq!(request_id(body.as_bytes()), Some(id));
        assert_eq!(request_id(br#"{"request_id":"short"}"#), None);
    }
}
