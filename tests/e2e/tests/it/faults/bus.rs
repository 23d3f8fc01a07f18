//! The bus goes away, loses its group, loses its streams.

use std::time::Duration;

use crate::load::Load;
use crate::place::Place;

#[tokio::test]
async fn redis_is_killed_and_restarted() {
    let mut place = Place::new();
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(200).await;
    place.redis.kill9();
    // The store still takes requests: a 202 needs no bus.
    load.accepted(50).await;
    place.redis.restart().unwrap();
    load.accepted(200).await;
    load.check(&place, &ratebox.base_url(), &token).await;
}

#[tokio::test]
async fn redis_comes_back_empty() {
    let place = Place::new();
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(200).await;
    place.redis.command(&["FLUSHALL"]).unwrap();
    load.accepted(200).await;
    load.check(&place, &ratebox.base_url(), &token).await;
}

#[tokio::test]
async fn the_group_is_destroyed_and_the_stream_deleted() {
    let place = Place::new();
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    for _ in 0..3 {
        load.accepted(100).await;
        let destroy = [
            "XGROUP",
            "DESTROY",
            "validation_requests",
            "validator_workers",
        ];
        let _ = place.redis.command(&destroy);
        load.accepted(100).await;
        let _ = place.redis.command(&["DEL", "validation_requests"]);
    }
    load.check(&place, &ratebox.base_url(), &token).await;
}

#[tokio::test]
async fn entries_that_vanish_while_no_worker_runs_are_published_again() {
    let place = Place::new();
    let token = place.token();
    let gateway =
        crate::place::ready(ratebox_testkit::Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let load = Load::start(&gateway.base_url(), &token);
    load.accepted(100).await;
    place
        .redis
        .command(&["DEL", "validation_requests"])
        .unwrap();
    let _relay = place.relay();
    let _worker = place.worker();
    load.accepted(20).await;
    load.check(&place, &gateway.base_url(), &token).await;
}

#[tokio::test]
async fn a_bus_that_hangs_stops_no_accept() {
    let place = Place::new();
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(100).await;
    place.redis.pause().unwrap();
    load.accepted(50).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // Longer than the claim idle time.
    place.redis.resume().unwrap();
    load.accepted(100).await;
    load.check(&place, &ratebox.base_url(), &token).await;
}
