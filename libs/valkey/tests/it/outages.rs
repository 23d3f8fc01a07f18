//! Servers that go away, freeze and come back.

use std::time::Duration;

use ratebox_kit::Stopwatch;
use ratebox_testkit::{RedisOptions, RedisServer, TcpProxy, wait_until};
use ratebox_valkey::{Error, Valkey};
use redis::cmd;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn after_a_restart_commands_work_again_within_a_second() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::connect(&crate::settings(&server.url()))
        .await
        .unwrap();
    let mut blocking = valkey.blocking();
    for _ in 0..2 {
        server.kill9();
        let down = Stopwatch::start();
        while down.elapsed() < SECOND {
            let watch = Stopwatch::start();
            let error = valkey.ping().await.unwrap_err();
            assert!(matches!(error, Error::Connection { .. }) && error.is_retryable());
            assert!(
                watch.elapsed() < SECOND / 2,
                "a call hung for {:?}",
                watch.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.restart().unwrap();
        let back = Stopwatch::start();
        wait_until(SECOND, "commands work again", || async {
            valkey.ping().await.is_ok()
        })
        .await;
        let ping = async |blocking: &mut ratebox_valkey::Blocking| {
            blocking.query(&cmd("PING"), Duration::ZERO).await.is_ok()
        };
        while !ping(&mut blocking).await {
            assert!(
                back.elapsed() < SECOND,
                "the blocking connection did not come back"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_broken_connection_is_noticed_before_the_next_command() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::connect(&crate::settings(&server.url()))
        .await
        .unwrap();
    server
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .unwrap();
    // The client learns of it from the socket; nothing is sent into the broken connection.
    tokio::time::sleep(Duration::from_millis(50)).await;
    valkey.ping().await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_times_out_and_serves_again_when_it_thaws() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::connect(&crate::settings(&server.url()))
        .await
        .unwrap();
    server.pause().unwrap();
    let watch = Stopwatch::start();
    let error = valkey.ping().await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { .. }) && error.is_retryable(),
        "{error:?}"
    );
    assert!(watch.elapsed() < SECOND * 2);
    server.resume().unwrap();
    wait_until(SECOND * 2, "it serves again", || async {
        valkey.ping().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_given_up_and_dialled_anew() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let valkey = Valkey::connect(&crate::settings(&proxy.url(&server.url())))
        .await
        .unwrap();
    proxy.black_hole();
    for _ in 0..3 {
        let watch = Stopwatch::start();
        assert!(valkey.ping().await.unwrap_err().is_retryable());
        assert!(watch.elapsed() < SECOND * 2);
    }
    proxy.resume();
    wait_until(SECOND * 2, "it serves again", || async {
        valkey.ping().await.is_ok()
    })
    .await;
}

/// The only one who asks has less patience than the timeout: a look at the health, say.
#[tokio::test]
async fn a_dead_link_is_given_up_even_if_all_callers_give_up_early() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let proxy = TcpProxy::to(server.port()).unwrap();
    let mut settings = crate::settings(&proxy.url(&server.url()));
    settings.response_timeout = SECOND * 60;
    settings.connect_timeout = SECOND / 4;
    let valkey = Valkey::connect(&settings).await.unwrap();
    proxy.black_hole();
    let look = async || tokio::time::timeout(SECOND * 11 / 10, valkey.ping()).await;
    for _ in 0..2 {
        assert!(look().await.is_err(), "nobody answers");
    }
    // It dials, in vain for now: that ends in time.
    let dialled = look().await.expect("the dead link is given up");
    assert!(dialled.unwrap_err().is_retryable());
    proxy.resume();
    wait_until(SECOND * 5, "it is served", || async {
        look().await.is_ok_and(|it| it.is_ok())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_found_when_it_comes() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let settings = crate::settings(&server.url());
    server.kill9();
    assert!(Valkey::connect(&settings).await.unwrap_err().is_retryable());
    let valkey = Valkey::lazy(&settings).unwrap();
    assert!(valkey.ping().await.is_err());
    server.restart().unwrap();
    wait_until(SECOND, "it is found", || async {
        valkey.ping().await.is_ok()
    })
    .await;
}
