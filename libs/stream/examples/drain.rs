//! Fills a stream and drains it through a consumer; prints rate and CPU per message.
//!
//! `cargo run --release -p ratebox-stream --example drain -- redis://127.0.0.1:6379 400000`
//!
//! Each entry has six fields and about 300 bytes. The consumer runs as in production, with
//! heartbeat, claim and promotion; its handler only says that it is done. `raw` as a third
//! argument measures read and acknowledgement alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::Committed;
use ratebox_kit::{Clock, DeadLetter, DeadLetters, Message, PortError, Stopwatch, Tasks};
use ratebox_stream::{
    Append, Consumer, ConsumerName, Entry, GroupName, Handler, Lane, LaneQuota, Lanes, Log,
    Outcome, Policy, RedisLog, Settlement, StreamName, Subscription, Wait,
};
use ratebox_valkey::{Settings, Valkey};

struct Count(AtomicUsize);

#[async_trait]
impl Handler for Count {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        self.0.fetch_add(batch.len(), Ordering::SeqCst);
        let proof = Committed::outside("an example without effects");
        batch
            .into_iter()
            .map(|entry| Outcome::Done {
                entry,
                proof: proof.clone(),
            })
            .collect()
    }
}

/// This example's handler never fails.
struct NoLetters;

#[async_trait]
impl DeadLetters for NoLetters {
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), PortError> {
        println!("{} dead letters", letters.len());
        Ok(())
    }
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let count: usize = arguments.next().map_or(Ok(400_000), |text| text.parse())?;
    let raw = arguments.next().is_some_and(|word| word == "raw");

    let valkey = Valkey::connect(&Settings::new(url)).await?;
    let log = Arc::new(RedisLog::new(valkey.clone()));
    let stream = StreamName::new(ConsumerName::unique("drain").as_str());
    fill(&log, &stream, count).await?;

    let consumer = ConsumerName::unique("example");
    let sub = Subscription::new(Lanes::of(&stream), GroupName::new("drainers"), consumer);
    let (cpu, watch) = (cpu_us()?, Stopwatch::start());
    if raw {
        read_and_ack(&log, &sub, count).await?;
    } else {
        consume(log, sub, count).await;
    }
    let seconds = watch.elapsed().as_secs_f64();
    let cpu = (cpu_us()? - cpu) / count as f64;
    println!(
        "{:.0} messages/s, {cpu:.2} µs of CPU each",
        count as f64 / seconds
    );
    let mut delete = redis::cmd("DEL");
    valkey.query(delete.arg(stream.as_str())).await?;
    Ok(())
}

async fn fill(log: &RedisLog, stream: &StreamName, count: usize) -> Result<(), Failure> {
    let body = format!("{{\"v\":1,\"data\":\"{}\"}}", "x".repeat(180));
    let append = |number: usize| {
        let message = Message::new(
            format!("0191e0c4-0000-7000-8000-{number:012}"),
            body.clone(),
        )
        .with_header("source", "api")
        .with_header("owner", "example")
        .with_header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .with_header("key", "k");
        Append::new(stream.clone(), message)
    };
    for start in (0..count).step_by(1_000) {
        let batch: Vec<Append> = (start..count.min(start + 1_000)).map(append).collect();
        for added in log.append(&batch).await {
            added?;
        }
    }
    Ok(())
}

async fn consume(log: Arc<RedisLog>, sub: Subscription, count: usize) {
    let handler = Arc::new(Count(AtomicUsize::new(0)));
    let (policy, clock) = (Policy::default(), Clock::system());
    let consumer = Consumer::new(log, Arc::new(NoLetters), sub, policy, clock);
    let tasks = Tasks::new();
    let (counted, stopping) = (Arc::clone(&handler), tasks.clone());
    tasks.spawn("stop when drained", async move {
        while counted.0.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stopping.stop();
    });
    consumer.run(handler, &tasks).await;
}

async fn read_and_ack(log: &RedisLog, sub: &Subscription, count: usize) -> Result<(), Failure> {
    log.ensure_group(sub).await?;
    let quotas = [LaneQuota {
        lane: Lane::Normal,
        max: 500,
    }];
    let mut done = 0;
    while done < count {
        let entries = log.read(sub, &quotas, Wait::None).await?;
        let ack = |entry: &Entry| Settlement::Ack {
            lane: entry.lane,
            id: entry.id,
        };
        let acks: Vec<_> = entries.iter().map(ack).collect();
        log.settle(sub, &acks).await?;
        done += entries.len();
    }
    Ok(())
}

/// CPU time of this process so far, user and system, in microseconds (Linux).
fn cpu_us() -> Result<f64, Failure> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or("");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .map_or(Ok(0.0), |text| text.parse::<f64>())
    };
    Ok((ticks(11)? + ticks(12)?) * 1_000_000.0 / TICKS_PER_SECOND)
}
