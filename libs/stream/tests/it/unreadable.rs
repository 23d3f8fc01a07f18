//! A consumer that cannot read says so to whoever answers for its process, and takes it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{Clock, DeadLetterClass, Secret};
use ratebox_stream::conformance::{Letters, done};
use ratebox_stream::{Consumer, Entry, Handler, Lane, Log, Outcome, Policy, RedisLog};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Login, Settings, Valkey};

use crate::running::{Gate, PATIENCE, Running, memory};

#[tokio::test]
async fn a_consumer_without_its_server_cannot_read_until_it_is_back() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let bed = crate::redis::on(&server.url());
    let gate = Gate::new(9);
    let running = Running::start(&bed, "a", bed.policy(), gate.clone()).await;
    bed.append(Lane::Normal, &["x"]).await;
    wait_until(PATIENCE, "it reads", || async { gate.done() == 1 }).await;
    assert!(!running.consumer.cannot_read());
    server.kill9();
    wait_until(PATIENCE, "it says that it cannot", || async {
        running.consumer.cannot_read()
    })
    .await;
    server.restart().unwrap();
    wait_until(PATIENCE, "it can", || async {
        !running.consumer.cannot_read()
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_consumer_whose_user_has_no_right_cannot_read_until_it_gets_them() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let rule = |rights: &[&str]| {
        let words = [["ACL", "SETUSER", "poor"].as_slice(), rights].concat();
        server.command(&words).unwrap();
    };
    rule(&["on", ">hunter2", "resetchannels", "-@all", "+ping", "+info"]);
    let bed = crate::redis::on(&server.url());
    let login = Login {
        user: "poor".to_owned(),
        password: Secret::new("hunter2"),
    };
    let settings = Settings {
        login,
        ..Settings::new(server.url())
    };
    let log = RedisLog::new(Valkey::lazy(&settings).unwrap());
    let sub = bed.member("a").await;
    let denied = log.ensure_group(&sub).await.unwrap_err();
    assert!(denied.is_denied() && !denied.is_retryable(), "{denied}");
    let letters = Letters::new();
    let consumer = Consumer::new(Arc::new(log), letters, sub, bed.policy(), Clock::system());
    let gate = Gate::new(9);
    let running = Running::run(consumer, gate.clone());
    bed.append(Lane::Normal, &["x"]).await;
    wait_until(PATIENCE, "it says that it cannot", || async {
        running.consumer.cannot_read()
    })
    .await;
    assert_eq!(gate.done(), 0);
    rule(&["~*", "+@all"]);
    wait_until(PATIENCE, "it reads", || async { gate.done() == 1 }).await;
    assert!(!running.consumer.cannot_read());
    running.stop().await;
}

/// Its store is away, or is not.
#[derive(Default)]
struct Moody {
    is_away: AtomicBool,
}

#[async_trait]
impl Handler for Moody {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let is_away = self.is_away.load(Ordering::SeqCst);
        let outcome = |entry| {
            if !is_away {
                return done(entry);
            }
            let (error, code) = ("away".to_owned(), "test.away".to_owned());
            Outcome::Pause { entry, error, code }
        };
        batch.into_iter().map(outcome).collect()
    }

    async fn is_ready(&self) -> bool {
        !self.is_away.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_consumer_without_what_its_handler_needs_says_so_until_that_is_back() {
    let bed = memory();
    let policy = Policy {
        hand_back_after: Duration::from_millis(200),
        ..bed.policy()
    };
    let moody = Arc::new(Moody::default());
    moody.is_away.store(true, Ordering::SeqCst);
    let running = Running::start(&bed, "a", policy, moody.clone()).await;
    bed.append(Lane::Normal, &["x"]).await;
    wait_until(PATIENCE, "it says so", || async {
        running.consumer.is_without_what_it_needs()
    })
    .await;
    assert!(!running.consumer.cannot_read(), "that is another matter");
    moody.is_away.store(false, Ordering::SeqCst);
    wait_until(PATIENCE, "it takes it back", || async {
        !running.consumer.is_without_what_it_needs()
    })
    .await;
    running.stop().await;
}

/// Refuses everything for good.
struct Strict;

#[async_trait]
impl Handler for Strict {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let dead = |entry| Outcome::Dead {
            entry,
            class: DeadLetterClass::Permanent,
            error: "refused".to_owned(),
            code: "test.refused".to_owned(),
        };
        batch.into_iter().map(dead).collect()
    }
}

/// The handler has all it needs, so only the letters tell.
#[tokio::test]
async fn a_consumer_that_can_keep_no_dead_letter_says_so_until_it_can() {
    let bed = memory();
    let policy = Policy {
        hand_back_after: Duration::from_millis(200),
        ..bed.policy()
    };
    let letters = Letters::new();
    letters.set_down(true);
    let consumer = bed.consumer("a", &letters, policy).await;
    let running = Running::run(consumer, Arc::new(Strict));
    bed.append(Lane::Normal, &["x"]).await;
    wait_until(PATIENCE, "it says so", || async {
        running.consumer.is_without_what_it_needs()
    })
    .await;
    letters.set_down(false);
    wait_until(PATIENCE, "it takes it back", || async {
        !running.consumer.is_without_what_it_needs()
    })
    .await;
    wait_until(PATIENCE, "the letter is kept", || async {
        letters.kept().len() == 1
    })
    .await;
    running.stop().await;
}
