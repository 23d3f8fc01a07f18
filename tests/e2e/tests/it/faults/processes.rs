//! Our own processes are killed with -9 at bad moments.

use ratebox_testkit::Ratebox;

use crate::load::Load;
use crate::place::{Place, ready};

#[tokio::test]
async fn a_worker_is_killed_in_mid_batch_again_and_again() {
    let place = Place::new();
    let token = place.token();
    let gateway = ready(Ratebox::gateway(|it| place.on(it)).unwrap()).await;
    let _relay = place.relay();
    let _steady = place.worker();
    let load = Load::start(&gateway.base_url(), &token);
    for _ in 0..4 {
        let mut doomed = place.worker();
        load.accepted(150).await;
        doomed.kill9();
    }
    load.check(&place, &gateway.base_url(), &token).await;
}

#[tokio::test]
async fn a_gateway_is_killed_between_commit_and_publication() {
    let place = Place::new();
    let token = place.token();
    // Nothing is published by this gateway: every request is in the state of that moment.
    let held = |it| place.on(it).env("RATEBOX_OUTBOX__OPTIMISTIC", "false");
    let mut gateway = ready(Ratebox::gateway(held).unwrap()).await;
    let load = Load::start(&gateway.base_url(), &token);
    load.accepted(100).await;
    gateway.kill9();
    assert!(place.count("sum(events) FROM outbox") >= 100);
    let port = gateway
        .base_url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let gateway = ready(Ratebox::gateway(|it| place.on(it).port(port)).unwrap()).await;
    let _relay = place.relay();
    let _worker = place.worker();
    load.accepted(50).await;
    load.check(&place, &gateway.base_url(), &token).await;
}

#[tokio::test]
async fn everything_in_one_process_is_killed_under_load() {
    let place = Place::new();
    let mut ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let port: u16 = ratebox
        .base_url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    for _ in 0..3 {
        load.accepted(150).await;
        ratebox.kill9();
        ratebox =
            ready(Ratebox::up(|it| place.on(it).arg("--no-sample").port(port)).unwrap()).await;
    }
    load.check(&place, &ratebox.base_url(), &token).await;
}

#[tokio::test]
async fn two_relays_take_turns_when_one_is_killed() {
    let place = Place::new();
    let token = place.token();
    let held = |it| place.on(it).env("RATEBOX_OUTBOX__OPTIMISTIC", "false");
    let gateway = ready(Ratebox::gateway(held).unwrap()).await;
    let _worker = place.worker();
    let mut relays = [place.relay(), place.relay()];
    let load = Load::start(&gateway.base_url(), &token);
    load.accepted(100).await;
    relays[0].kill9();
    load.accepted(100).await;
    load.check(&place, &gateway.base_url(), &token).await;
}
