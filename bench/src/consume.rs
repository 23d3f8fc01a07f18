//! The consumer that BUS measures, as a process of its own: this program with `consume` as its
//! first word. It works until its standard input ends, then tells what it saw.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use ratebox_db::Committed;
use ratebox_kit::{Clock, DeadLetter, DeadLetters, PortError, Tasks};
use ratebox_stream::{
    Admin as _, Consumer, ConsumerName, Entry, GroupName, Handler, Lanes, Outcome, Policy,
    RedisLog, Retention, StreamName, Subscription, describe_metrics,
};
use ratebox_valkey::{Settings, Valkey};
use serde::{Deserialize, Serialize};

pub(crate) const STREAM: &str = "bus_bench";
pub(crate) const GROUP: &str = "bus_group";
/// The field with the time at which a message was sent.
pub(crate) const SENT_US: &str = "sent-us";
/// The first word of the command line.
pub(crate) const WORD: &str = "consume";
/// Acknowledged entries that stay: none, so that each is trimmed while we measure.
pub(crate) const RETAINED: u64 = 0;

/// How often the streams are trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// How long a consumer may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What a consumer saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) handled: u64,
    /// From the append to the handler, of each message that carries the time of its append.
    pub(crate) latencies_us: Vec<i64>,
}

impl Seen {
    pub(crate) fn latencies_ms(&self) -> Vec<f64> {
        let all = self.latencies_us.iter();
        all.map(|us| *us as f64 / 1_000.0).collect()
    }
}

// === The process, from outside ===

/// A consumer at work.
#[derive(Debug)]
pub(crate) struct Consuming(Child);

impl Consuming {
    /// Starts one on the lanes of [`STREAM`].
    ///
    /// # Errors
    /// When this program cannot be started again.
    pub(crate) fn start(redis_url: &str) -> Result<Self> {
        let started = Command::new(std::env::current_exe()?)
            .args([WORD, redis_url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Ok(Self(started.context("the consumer does not start")?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it and returns what it saw.
    ///
    /// # Errors
    /// When it failed.
    pub(crate) async fn stop(mut self) -> Result<Seen> {
        drop(self.0.stdin.take());
        let mut told = String::new();
        let mut stdout = self.0.stdout.take().context("it has an output")?;
        stdout.read_to_string(&mut told)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the consumer ended with {status}");
        serde_json::from_str(&told).context("the consumer says something else")
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _gone = (self.0.kill(), self.0.wait());
    }
}

// === The process, from inside ===

/// Consumes until standard input ends.
///
/// # Errors
/// When Redis cannot be used.
pub(crate) fn main(redis_url: &str) -> Result<()> {
    // Buckets, as the shipped binary has them.
    metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&[0.001, 0.01, 0.1, 1.0, 10.0])?
        .install_recorder()?;
    describe_metrics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let seen = runtime.block_on(consume(redis_url))?;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

async fn consume(redis_url: &str) -> Result<Seen> {
    let log = Arc::new(RedisLog::new(
        Valkey::connect(&Settings::new(redis_url)).await?,
    ));
    let sub = Subscription::new(
        Lanes::of(&StreamName::new(STREAM)),
        GroupName::new(GROUP),
        ConsumerName::unique("bench"),
    );
    let handler = Arc::new(Count::default());
    let (tasks, lanes) = (Tasks::new(), sub.lanes.clone());
    let (policy, clock) = (Policy::default(), Clock::system());
    let consumer = Consumer::new(log.clone(), Arc::new(NoLetters), sub, policy, clock);
    let (of, worker) = (tasks.clone(), handler.clone());
    tasks.spawn("consumer", async move { consumer.run(worker, &of).await });
    let shutdown = tasks.shutdown();
    tasks.spawn("trim", async move {
        while shutdown.sleep(TRIM_EVERY).await {
            for (_, stream) in lanes.iter() {
                let retention = Retention {
                    max_age: None,
                    max_len: Some(RETAINED),
                };
                if let Err(error) = log.trim(stream, retention).await {
                    eprintln!("not trimmed: {error}");
                }
            }
        }
    });
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await??;
    tasks.stop();
    let failed = tasks.join(STOP_MAX).await;
    ensure!(failed.is_empty(), "{failed:?} did not end");
    Ok(handler.take())
}

/// Does nothing but count.
#[derive(Default)]
struct Count(Mutex<Seen>);

impl Count {
    fn take(&self) -> Seen {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Handler for Count {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let now_us = Clock::system().now().as_microsecond();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.handled += batch.len() as u64;
        let sent_us = |entry: &Entry| {
            std::str::from_utf8(entry.field(SENT_US)?)
                .ok()?
                .parse()
                .ok()
        };
        let latencies = batch.iter().filter_map(sent_us);
        seen.latencies_us
            .extend(latencies.map(|sent_us: i64| now_us - sent_us));
        drop(seen);
        let proof = Committed::outside("a measurement without effects");
        let done = batch.into_iter().map(|entry| Outcome::Done {
            entry,
            proof: proof.clone(),
        });
        done.collect()
    }
}

/// This handler never fails.
struct NoLetters;

#[async_trait]
impl DeadLetters for NoLetters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        eprintln!("{} dead letters", letters.len());
        Ok(())
    }
}
