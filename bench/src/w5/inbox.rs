//! W5, inbox: messages that are handled once, many in one transaction and one by one.

use anyhow::{Result, ensure};
use ratebox_db::{Column, Sql};
use ratebox_kit::{Message, Stopwatch, id};
use ratebox_outbox::{Effect, Failure, Inboxes, Outcome, Received};
use serde::Deserialize;

use crate::Bench;
use crate::meter::Meter;
use crate::report::{Line, rounded};

const BATCHES: usize = 40;
const BATCH: usize = 500;
/// Messages that come again, one by one.
const AGAIN: usize = 1000;

const TABLE: &str = "CREATE TABLE bench_effects (number bigint)";
const EFFECT: Sql = Sql {
    postgres: "INSERT INTO bench_effects SELECT * FROM unnest($1::bigint[])",
    sqlite: "INSERT INTO bench_effects VALUES (?1)",
};

#[derive(Deserialize)]
struct Order {
    number: i64,
}

/// Measures one consumer on one connection at a time.
///
/// # Errors
/// When a message is lost or has its effect twice.
pub(crate) async fn run(bench: &Bench) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    fresh.db.script(TABLE.to_owned()).await?;
    let db = servers.open(&fresh, 2)?;
    let consumer = Inboxes::new(db).consumer("bench");
    let all: Vec<Received> = (0..BATCHES * BATCH).map(message).collect();
    servers.settle().await?;
    let meter = Meter::start(Some(servers), &[])?;
    let watch = Stopwatch::start();
    let mut processed = 0;
    for batch in all.chunks(BATCH) {
        for handled in consumer.handle_batch(batch, effect).await {
            processed += usize::from(handled?.outcome == Outcome::Processed(()));
        }
    }
    let took = watch.elapsed().as_secs_f64();
    let mut latencies = Vec::with_capacity(AGAIN);
    for one in all.iter().take(AGAIN) {
        let watch = Stopwatch::start();
        let alone = async |work: &mut Effect, order: Order| effect(work, vec![order]).await;
        let handled = consumer.handle(one, alone).await?;
        latencies.push(watch.elapsed().as_secs_f64() * 1e3);
        ensure!(
            handled.outcome == Outcome::Duplicate(None),
            "a duplicate had an effect"
        );
    }
    let effects = fresh
        .numbers(
            "SELECT count(*), count(DISTINCT number) FROM bench_effects",
            2,
        )
        .await?;
    let expected = i64::try_from(all.len())?;
    ensure!(
        effects == [expected, expected],
        "effects: {effects:?} of {expected}"
    );
    let line = Line::new("W5", "inbox")
        .with("part", "inbox")
        .with("events", processed)
        .with("new_events_per_s", rounded(processed as f64 / took, 1))
        .with_latencies(&mut latencies);
    meter.finish(line)
}

fn message(number: usize) -> Received {
    let body = format!("{{\"number\":{number}}}");
    Received::new("orders", Message::new(id::new().to_string(), body))
}

async fn effect(work: &mut Effect, orders: Vec<Order>) -> Result<(), Failure> {
    let numbers = orders.iter().map(|order| order.number).collect();
    work.execute(EFFECT.rows(vec![Column::Int(numbers)], Vec::new())?)
        .await?;
    Ok(())
}
