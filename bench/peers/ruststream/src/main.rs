//! RustStream over fred: a group on a stream, a batch of settles in one round trip.

#[path = "../../measure.rs"]
mod measure;

use ruststream_fred::stream::prelude::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Body {
    #[allow(dead_code)]
    data: String,
}

#[subscriber(RedisStream::new("bus_bench").group("bus_group").start_id(StreamStart::Beginning))]
async fn take(body: &Body) -> HandlerOutcome {
    let _ = body;
    measure::count();
    HandlerOutcome::ack()
}

#[ruststream::app]
fn app() -> impl App {
    measure::start("ruststream-pipeline");
    RustStream::new(AppInfo::new("bus", "0.1.0"))
        .with_broker(RedisBroker::standalone(measure::redis_url()), |b| {
            b.include(take.pipeline());
        })
}
