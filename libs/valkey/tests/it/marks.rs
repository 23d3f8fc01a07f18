//! Marks that fade.

use std::time::Duration;

use ratebox_kit::Stopwatch;
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Marks, Valkey};

use crate::settings;

fn has(fields: &[Vec<u8>], place: u16) -> bool {
    let (byte, bit) = (usize::from(place / 8), place % 8);
    let at = |field: &Vec<u8>| field.get(byte).is_some_and(|it| it & (0x80 >> bit) != 0);
    fields.iter().any(at)
}

#[tokio::test]
async fn marks_are_seen_by_others_at_once_and_fade() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::connect(&settings(&server.url())).await.unwrap();
    let other = Valkey::connect(&settings(&server.url())).await.unwrap();
    let second = Duration::from_secs(1);
    let (one, two) = (
        Marks::new(valkey.clone(), "field", second),
        Marks::new(other, "field", second),
    );
    assert!(two.marked().await.unwrap().is_empty());
    let watch = Stopwatch::start();
    one.mark(&[0, 7, 8, 65_535]).await.unwrap();
    let fields = two.marked().await.unwrap();
    assert!([0, 7, 8, 65_535].iter().all(|at| has(&fields, *at)));
    assert!(!has(&fields, 1) && !has(&fields, 65_534));
    let elsewhere = Marks::new(valkey, "other", second);
    assert!(elsewhere.marked().await.unwrap().is_empty());
    wait_until(second * 5, "the marks fade", || async {
        two.marked().await.unwrap().is_empty()
    })
    .await;
    assert!(watch.elapsed() >= second);
    one.mark(&[1]).await.unwrap();
    let fields = two.marked().await.unwrap();
    assert!(has(&fields, 1) && !has(&fields, 0));
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::connect(&settings(&server.url())).await.unwrap();
    let marks = Marks::new(valkey, "field", Duration::from_secs(1));
    server.kill9();
    assert!(marks.mark(&[1]).await.is_err());
    assert!(marks.marked().await.is_err());
}
