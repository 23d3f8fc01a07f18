//! The worker of the README.
//!
//! `cargo run -p ratebox-stream --example worker`, with a Redis on its usual port; then in
//! `redis-cli`: `XADD signups * type user.signed_up data '"Ada"'`. Ctrl-C stops it.

// README: begin
use std::sync::Arc;

use ratebox_stream::handler::{Failure, Idempotent, Json, Meta, Router, Worker};
use ratebox_stream::{Log, RedisLog};
use ratebox_valkey::{Settings, Valkey};

async fn welcome(meta: Meta, Json(name): Json<String>) -> Result<Idempotent, Failure> {
    println!("{}: a name of {} letters", meta.id(), name.len());
    Ok(Idempotent::because("printing twice harms nobody"))
}

pub fn worker(log: Arc<dyn Log>) -> Worker {
    let router = Router::new().on("user.signed_up", welcome);
    Worker::new(log, "signups", "greeters", router)
}

#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = RedisLog::new(Valkey::connect(&Settings::new("redis://127.0.0.1")).await?);
    let worker = worker(Arc::new(log));
    worker.run_until(tokio::signal::ctrl_c()).await;
    Ok(())
}
// README: end
