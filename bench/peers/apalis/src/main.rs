//! apalis over Redis. `preload` fills the queue, `work` drains it with 32 tasks at a time.

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Body {
    data: String,
}

async fn take(_body: Body) -> Result<(), BoxDynError> {
    bus_measure::count();
    Ok(())
}

#[tokio::main]
async fn main() {
    let connection = apalis_redis::connect(bus_measure::redis_url()).await.expect("Redis");
    let config = Config::default().queue("bus_bench").batch_size(100);
    let mut store: RedisStorage<Body> = RedisStorage::new(connection).with_config(config);
    if std::env::args().nth(1).as_deref() == Some("preload") {
        let body = Body { data: "x".repeat(289) };
        let all = vec![body; bus_measure::messages()];
        for some in all.chunks(500) {
            store.push_bulk(some.to_vec()).await.expect("pushed");
        }
        return;
    }
    bus_measure::start("apalis-c32");
    let worker = WorkerBuilder::new("bus")
        .backend(store)
        .concurrency(32)
        .parallelize(tokio::spawn)
        .build(take);
    let ended = worker.run().await;
    eprintln!("the worker ended: {ended:?}");
    std::process::exit(1);
}
