//! BullMQ's own Rust port. `preload` fills the queue, `work` drains it with 32 jobs at a time.

use std::sync::Arc;

use bullmq::options::{QueueOptions, RedisConnectionOptions, WorkerOptions};
use bullmq::types::RemoveOnFinish;
use bullmq::queue::BulkJob;
use bullmq::worker::{CancellationToken, ProcessorFn};
use bullmq::{Job, Queue, Worker};

const QUEUE: &str = "bus_bench";

#[tokio::main]
async fn main() -> bullmq::Result<()> {
    let connection = RedisConnectionOptions {
        url: bus_measure::redis_url(),
        ..RedisConnectionOptions::default()
    };
    if std::env::args().nth(1).as_deref() == Some("preload") {
        return preload(connection).await;
    }
    bus_measure::start("bullmq-official-c32");
    let processor: ProcessorFn = Arc::new(|_job: Job, _token: CancellationToken| {
        Box::pin(async {
            bus_measure::count();
            Ok(serde_json::Value::Null)
        })
    });
    let options = WorkerOptions {
        connection,
        concurrency: 32,
        remove_on_complete: Some(RemoveOnFinish::Bool(true)),
        ..WorkerOptions::default()
    };
    let _worker = Worker::with_options(QUEUE, processor, options).await?;
    // The last message ends the process.
    std::future::pending().await
}

async fn preload(connection: RedisConnectionOptions) -> bullmq::Result<()> {
    let options = QueueOptions {
        connection,
        ..QueueOptions::default()
    };
    let queue = Queue::with_options(QUEUE, options).await?;
    let body = serde_json::json!({ "data": "x".repeat(289) });
    let all: Vec<usize> = (0..bus_measure::messages()).collect();
    for some in all.chunks(1_000) {
        let jobs = some.iter().map(|_| BulkJob::new("v", body.clone()));
        queue.add_bulk(jobs.collect()).await?;
    }
    Ok(())
}
