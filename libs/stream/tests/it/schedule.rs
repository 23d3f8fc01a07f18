//! Many messages that are due at once, and keys that go.

use std::time::Duration;

use ratebox_kit::{Message, Stopwatch};
use ratebox_stream::conformance::Bed;
use ratebox_stream::{Dispatch, Lane, LaneQuota, Lanes, Producer, Wait};
use ratebox_testkit::{RedisOptions, RedisServer};
use ratebox_valkey::{Settings, Valkey};

const MANY: usize = 100_000;

/// Schedules many small messages, all due within a moment.
async fn schedule_many(bed: &Bed) {
    let log = bed.delivery.clone().unwrap();
    let producer = Producer::new(log, Lanes::of(&bed.stream));
    for start in (0..MANY).step_by(5_000) {
        let message = |number| Message::new(format!("m{number}"), "x".repeat(200));
        let later = |number| Dispatch::new(message(number)).after(Duration::from_millis(1));
        let sent = producer.send_all((start..start + 5_000).map(later).collect());
        assert!(sent.await.iter().all(Result::is_ok));
    }
    bed.pass(Duration::from_millis(5)).await;
}

#[tokio::test]
async fn a_hundred_thousand_messages_due_at_once_are_promoted_in_bounded_scripts() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::on(&server.url());
    let sub = bed.member("a").await;
    schedule_many(&bed).await;
    let whole = Stopwatch::start();
    let (mut promoted, mut times) = (0, Vec::new());
    while promoted < MANY {
        let watch = Stopwatch::start();
        let step = bed.log.promote(&sub, 500).await.unwrap();
        times.push(watch.elapsed());
        assert!((1..=500).contains(&step));
        promoted += step;
    }
    let took = whole.elapsed();
    let rate = MANY as f64 / took.as_secs_f64();
    // Of two hundred steps a busy machine may hold up some.
    times.sort_unstable();
    let most = times[times.len() * 9 / 10];
    println!("promoted {MANY} in {took:?} = {rate:.0}/s, nine of ten steps within {most:?}");
    assert!(most < Duration::from_millis(500));
    assert_eq!(bed.log.promote(&sub, 500).await.unwrap(), 0);
    let max = MANY + 1;
    let quotas = [LaneQuota {
        lane: Lane::Normal,
        max,
    }];
    let entries = bed.log.read(&sub, &quotas, Wait::None).await.unwrap();
    assert_eq!(entries.len(), MANY);
}

#[tokio::test]
async fn keys_whose_window_is_over_take_no_memory() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::on(&server.url());
    let valkey = Valkey::lazy(&Settings::new(server.url())).unwrap();
    let keys = async || {
        valkey
            .query_as::<usize>(&redis::cmd("DBSIZE"))
            .await
            .unwrap()
    };
    let log = bed.delivery.clone().unwrap();
    let producer = Producer::new(log, Lanes::of(&bed.stream));
    let once = |number: usize| {
        let message = Message::new(format!("m{number}"), "x");
        Dispatch::new(message).once(format!("k{number}"), Duration::from_secs(2))
    };
    let sent = producer.send_all((0..1_000).map(once).collect()).await;
    assert!(sent.iter().flatten().all(|it| !it.is_duplicate()));
    assert_eq!(keys().await, 1_001);
    ratebox_testkit::wait_until(
        Duration::from_secs(20),
        "the server lets them go",
        async || keys().await == 1,
    )
    .await;
}
