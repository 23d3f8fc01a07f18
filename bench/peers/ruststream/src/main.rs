//! RustStream over fred: a group on a stream, a batch of settles in one round trip.

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
    bus_measure::count();
    HandlerOutcome::ack()
}

#[ruststream::app]
fn app() -> impl App {
    bus_measure::start("ruststream-pipeline");
    RustStream::new(AppInfo::new("bus", "0.1.0"))
        .with_broker(RedisBroker::standalone(bus_measure::redis_url()), |b| {
            b.include(take.pipeline());
        })
}
