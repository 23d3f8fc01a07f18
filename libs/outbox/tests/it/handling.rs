//! Consumers that handle messages once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_db::{Db, Sql};
use ratebox_kit::{Clock, Message, Tasks, id};
use ratebox_outbox::{
    Consumer, Effect, Error, Event, Failure, Inboxes, Outbox, Outcome, Received, Relay, Settings,
};
use serde::Deserialize;

use crate::broker::{FakeBroker, Mood};
use crate::databases::{both, scratch};

#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: i64,
}

const CHARGE: Sql = Sql {
    postgres: "INSERT INTO charges (number) VALUES ($1)",
    sqlite: "INSERT INTO charges (number) VALUES (?1)",
};

pub(crate) async fn with_charges(db: &Db) {
    db.script("CREATE TABLE IF NOT EXISTS charges (number bigint)".to_owned())
        .await
        .unwrap();
}

pub(crate) async fn charges(db: &Db) -> i64 {
    let rows = db.query(Sql::both("SELECT count(*) FROM charges")).await;
    rows.unwrap()[0].get(0).unwrap()
}

pub(crate) fn order(number: i64) -> Received {
    let body = format!("{{\"number\":{number}}}");
    Received::new("orders", Message::new(id::new().to_string(), body)).of_type("order.created")
}

pub(crate) async fn charge(work: &mut Effect, order: Order) -> Result<i64, Failure> {
    work.execute(CHARGE.with(vec![order.number.into()])).await?;
    Ok(order.number)
}

fn consumer(db: &Db, name: &str) -> Consumer {
    Inboxes::new(db.clone()).consumer(name).attempts_max(3)
}

#[tokio::test]
async fn a_message_has_its_effect_once_for_each_consumer() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let message = order(7);
        for name in ["billing", "audit"] {
            let consumer = consumer(&fresh.db, name).keep_results();
            let first = consumer.handle(&message, charge).await.unwrap();
            assert_eq!(first.outcome, Outcome::Processed(7), "{}", fresh.name);
            let again = consumer.handle(&message, charge).await.unwrap();
            assert_eq!(again.outcome, Outcome::Duplicate(Some(7)), "{}", fresh.name);
        }
        assert_eq!(charges(&fresh.db).await, 2, "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_handler_that_fails_once_has_its_effect_at_the_next_delivery() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (consumer, message) = (consumer(&fresh.db, "billing"), order(1));
        let fails = async |work: &mut Effect, order: Order| -> Result<i64, Failure> {
            charge(work, order).await?;
            Err(Failure::retry("on purpose"))
        };
        let error = consumer.handle(&message, fails).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(charges(&fresh.db).await, 0, "{}", fresh.name);
        let second = consumer.handle(&message.clone().delivered(2), charge).await;
        assert_eq!(second.unwrap().outcome, Outcome::Processed(1));
        assert_eq!(charges(&fresh.db).await, 1, "{}", fresh.name);
        let left = Sql::both("SELECT count(*) FROM inbox_attempts");
        let left = fresh.db.query(left).await.unwrap();
        assert_eq!(left[0].get::<i64>(0).unwrap(), 0, "failures are forgotten");
    }
}

#[tokio::test]
async fn a_handler_that_always_fails_parks_its_message_which_can_be_released() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (consumer, message) = (consumer(&fresh.db, "billing"), order(5));
        let fails = async |_: &mut Effect, _: Order| -> Result<i64, Failure> {
            Err(Failure::retry("on purpose"))
        };
        for delivery in 1..3 {
            let delivered = message.clone().delivered(delivery);
            let error = consumer.handle(&delivered, fails).await.unwrap_err();
            assert!(
                matches!(error, Error::Handler { attempts, .. } if attempts == delivery),
                "{}: {error}",
                fresh.name
            );
        }
        let third = consumer.handle(&message.clone().delivered(3), fails).await;
        assert_eq!(third.unwrap().outcome, Outcome::Parked, "{}", fresh.name);
        for delivery in [1, 4] {
            let later = message.clone().delivered(delivery);
            let later = consumer.handle(&later, charge).await.unwrap();
            assert_eq!(later.outcome, Outcome::Parked, "{}", fresh.name);
        }
        let parked = consumer.parked(10).await.unwrap();
        assert_eq!(parked.len(), 1);
        assert_eq!(parked[0].last_error.as_deref(), Some("on purpose"));
        let back = consumer.release(parked[0].event_id).await.unwrap().unwrap();
        assert_eq!(back, message, "{}", fresh.name);
        let handled = consumer.handle(&back, charge).await.unwrap();
        assert_eq!(handled.outcome, Outcome::Processed(5), "{}", fresh.name);
        assert!(
            consumer
                .release(parked[0].event_id)
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn what_can_never_be_handled_is_parked_at_once() {
    for fresh in both().await {
        let consumer = consumer(&fresh.db, "billing");
        let broken = Received::new("orders", Message::new(id::new().to_string(), "no json"));
        let nothing = async |_: &mut Effect, _: Order| Ok(());
        let handled = consumer.handle(&broken, nothing).await.unwrap();
        assert_eq!(handled.outcome, Outcome::Parked, "{}", fresh.name);
        let refuses = async |_: &mut Effect, _: Order| -> Result<(), Failure> {
            Err(Failure::reject("no such customer"))
        };
        let handled = consumer.handle(&order(1), refuses).await.unwrap();
        assert_eq!(handled.outcome, Outcome::Parked, "{}", fresh.name);
        assert_eq!(consumer.parked(10).await.unwrap().len(), 2);
    }
}

/// An acknowledgement may get lost any number of times.
#[tokio::test]
async fn what_had_its_effect_is_never_parked_however_often_it_comes() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (consumer, message) = (consumer(&fresh.db, "billing"), order(6));
        consumer.handle(&message, charge).await.unwrap();
        for delivery in 2..10 {
            let again = message.clone().delivered(delivery);
            let handled = consumer.handle(&again, charge).await.unwrap();
            assert_eq!(handled.outcome, Outcome::Duplicate(None), "{}", fresh.name);
        }
        assert!(consumer.parked(10).await.unwrap().is_empty());
        assert_eq!(charges(&fresh.db).await, 1, "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_parked_message_tells_what_gave_it_up_and_not_what_failed_before() {
    for fresh in both().await {
        let (consumer, message) = (consumer(&fresh.db, "billing"), order(8));
        let fails = async |_: &mut Effect, _: Order| -> Result<(), Failure> {
            Err(Failure::retry("not yet"))
        };
        consumer.handle(&message, fails).await.unwrap_err();
        let refuses = async |_: &mut Effect, _: Order| -> Result<(), Failure> {
            Err(Failure::reject("no such customer"))
        };
        let again = message.clone().delivered(2);
        let handled = consumer.handle(&again, refuses).await.unwrap();
        assert_eq!(handled.outcome, Outcome::Parked, "{}", fresh.name);
        let parked = consumer.parked(10).await.unwrap();
        let why = parked[0].last_error.as_deref();
        assert_eq!(why, Some("no such customer"), "{}", fresh.name);
    }
}

/// The future of `handle` may be given to a task.
fn may_be_sent<T: Send>(it: T) -> T {
    it
}

#[tokio::test]
async fn deliveries_at_the_same_moment_wait_and_have_one_effect_a_name() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let message = order(9);
        let deliveries = (0..16).map(|n| {
            let name = if n % 2 == 0 { "billing" } else { "audit" };
            let (consumer, message) = (consumer(&fresh.db, name), message.clone());
            may_be_sent(async move { consumer.handle(&message, charge).await.unwrap().outcome })
        });
        let outcomes: Vec<_> = join_all(deliveries).await;
        let processed = |it: &&Outcome<i64>| **it == Outcome::Processed(9);
        assert_eq!(outcomes.iter().filter(processed).count(), 2);
        assert_eq!(charges(&fresh.db).await, 2, "{}", fresh.name);
    }
}

#[tokio::test]
async fn events_of_a_handler_leave_if_and_only_if_its_effect_is_kept() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let outbox = Outbox::new(
            fresh.db.clone(),
            broker.clone(),
            Settings::default(),
            &tasks,
        );
        let consumer = Inboxes::new(fresh.db.clone())
            .sending(outbox)
            .consumer("billing");
        let works = AtomicU32::new(0);
        let handler = async |work: &mut Effect, order: Order| -> Result<i64, Failure> {
            work.send(Event::new("invoices", format!("{}", order.number)));
            charge(work, order).await?;
            match works.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Failure::retry("on purpose")),
                _ => Ok(0),
            }
        };
        let message = order(3);
        consumer.handle(&message, handler).await.unwrap_err();
        assert!(broker.ids().is_empty(), "{}", fresh.name);
        assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
        consumer.handle(&message, handler).await.unwrap();
        consumer.handle(&message, handler).await.unwrap();
        assert_eq!(broker.bodies(), ["3"], "{}", fresh.name);
        let no_outbox = self::consumer(&fresh.db, "other");
        let error = no_outbox.handle(&message, handler).await.unwrap_err();
        assert!(error.to_string().contains("no outbox"), "{error}");
    }
}

#[tokio::test]
async fn events_carry_on_the_trace_of_their_message_or_of_what_runs() {
    const HERE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const THERE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let settings = Settings {
            traceparent: Some(|| Some(HERE.to_owned())),
            ..Settings::default()
        };
        let outbox = Outbox::new(fresh.db.clone(), broker.clone(), settings, &tasks);
        let consumer = Inboxes::new(fresh.db.clone())
            .sending(outbox.clone())
            .consumer("billing");
        let handler = async |work: &mut Effect, order: Order| -> Result<i64, Failure> {
            work.send(Event::new("invoices", "x"));
            Ok(order.number)
        };
        let mut message = order(1);
        message.message = message.message.with_header("traceparent", THERE);
        consumer.handle(&message, handler).await.unwrap();
        consumer.handle(&order(2), handler).await.unwrap();
        let mut tx = fresh.db.begin().await.unwrap();
        let own = Event::new("t", "x").traced("own");
        let staged = outbox.add(&mut tx, own).await.unwrap();
        let staged = staged.and(outbox.add(&mut tx, Event::new("t", "x")).await.unwrap());
        outbox.commit(tx, staged).await.unwrap();
        let got = broker.got();
        let traces = got
            .iter()
            .map(|it| it.message.header("traceparent").unwrap());
        let traces: Vec<&str> = traces.collect();
        assert_eq!(traces, [THERE, HERE, "own", HERE], "{}", fresh.name);
    }
}

fn count(outcomes: &[Result<Outcome<()>, Error>], wanted: &Outcome<()>) -> usize {
    let is_wanted = |it: &&Result<Outcome<()>, Error>| it.as_ref().is_ok_and(|it| it == wanted);
    outcomes.iter().filter(is_wanted).count()
}

#[tokio::test]
async fn a_batch_has_its_effects_together_and_one_bad_message_holds_up_no_other() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let consumer = consumer(&fresh.db, "billing");
        let handler = async |work: &mut Effect, orders: Vec<Order>| -> Result<(), Failure> {
            if orders.iter().any(|order| order.number == 13) {
                return Err(Failure::retry("thirteen"));
            }
            for order in orders {
                charge(work, order).await?;
            }
            Ok(())
        };
        let mut batch: Vec<Received> = (0..50).map(|n| order(100 + n)).collect();
        batch.push(batch[0].clone());
        let outcomes = consumer.handle_batch(&batch, handler).await;
        let plain = |all: Vec<Result<ratebox_outbox::Handled<()>, Error>>| {
            all.into_iter()
                .map(|it| it.map(|it| it.outcome))
                .collect::<Vec<_>>()
        };
        let outcomes = plain(outcomes);
        assert_eq!(
            count(&outcomes, &Outcome::Processed(())),
            50,
            "{}",
            fresh.name
        );
        assert_eq!(
            count(&outcomes, &Outcome::Duplicate(None)),
            1,
            "{}",
            fresh.name
        );
        batch.truncate(10);
        batch.extend((0..10).map(|n| order(if n == 4 { 13 } else { 200 + n })));
        let outcomes = plain(consumer.handle_batch(&batch, handler).await);
        assert_eq!(
            count(&outcomes, &Outcome::Processed(())),
            9,
            "{}",
            fresh.name
        );
        assert_eq!(
            count(&outcomes, &Outcome::Duplicate(None)),
            10,
            "{}",
            fresh.name
        );
        assert!(outcomes[14].is_err());
        assert_eq!(charges(&fresh.db).await, 59, "{}", fresh.name);
    }
}

/// The other end of [`a_handler_that_kills_its_process_is_given_up`].
#[tokio::test]
async fn child_that_dies_in_its_handler() {
    let Ok(place) = std::env::var("RATEBOX_TEST_DIES_IN") else {
        return;
    };
    let db = scratch::open(&place);
    let delivery = std::env::var("RATEBOX_TEST_DELIVERY")
        .unwrap()
        .parse()
        .unwrap();
    let message = Message::new("0190a000-0000-7000-8000-000000000001", "{\"number\":1}");
    let message = Received::new("orders", message).delivered(delivery);
    let dies = async |work: &mut Effect, order: Order| -> Result<i64, Failure> {
        charge(work, order).await?;
        std::process::abort();
    };
    let handled = consumer(&db, "billing")
        .handle(&message, dies)
        .await
        .unwrap();
    assert_eq!(handled.outcome, Outcome::Parked);
}

#[tokio::test]
async fn a_handler_that_kills_its_process_is_given_up() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let deliver = |delivery: u32| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child
                .args(["--exact", "handling::child_that_dies_in_its_handler"])
                .env("RATEBOX_TEST_DIES_IN", &fresh.place)
                .env("RATEBOX_TEST_DELIVERY", delivery.to_string())
                .output()
                .unwrap()
                .status
                .success()
        };
        // The first delivery is not counted before it begins, three more are.
        for delivery in 1..=4 {
            assert!(!deliver(delivery), "{}: {delivery}", fresh.name);
        }
        assert!(deliver(5), "{}: the fifth delivery parks it", fresh.name);
        assert_eq!(charges(&fresh.db).await, 0, "{}", fresh.name);
    }
}

#[tokio::test]
async fn weeks_of_marks_are_made_ahead_and_dropped_when_they_are_over() {
    let fresh = both().await.remove(1);
    with_charges(&fresh.db).await;
    let day = Duration::from_secs(86_400);
    let consumer = consumer(&fresh.db, "billing").window(day * 7);
    let now = Clock::system().now();
    let old = order(1);
    // Marked before there were partitions: it stays in the default one.
    consumer.handle(&old, charge).await.unwrap();
    consumer.forget(now).await.unwrap();
    let next_week = now + day * 7;
    let later = id::lowest_at(next_week);
    let later = Received::new("t", Message::new(later.to_string(), "{\"number\":2}"));
    consumer.handle(&later, charge).await.unwrap();
    let weeks = Sql::both(
        "SELECT count(*) FROM pg_inherits
        WHERE inhparent = 'consumer_inbox'::regclass",
    );
    let count = async || {
        fresh.db.query(weeks).await.unwrap()[0]
            .get::<i64>(0)
            .unwrap()
    };
    assert!((4..=5).contains(&count().await), "{}", count().await);
    let again = consumer.handle(&old, charge).await.unwrap();
    assert_eq!(again.outcome, Outcome::Duplicate(None));
    // Received only now, so a window from now on keeps it, whatever its id says.
    let before = count().await;
    consumer.forget(now + day * 6).await.unwrap();
    assert!(count().await >= before);
    let known = async |one: &Received| consumer.handle(one, charge).await.unwrap().outcome;
    assert_eq!(known(&later).await, Outcome::Duplicate(None));
    // Another consumer's mark holds its week.
    self::consumer(&fresh.db, "audit")
        .handle(&later, charge)
        .await
        .unwrap();
    consumer.forget(now + day * 30).await.unwrap();
    assert_eq!(known(&old).await, Outcome::Processed(1));
    let audit = self::consumer(&fresh.db, "audit")
        .handle(&later, charge)
        .await
        .unwrap();
    assert_eq!(audit.outcome, Outcome::Duplicate(None));
}

#[tokio::test]
async fn a_duplicate_poisons_no_transaction() {
    for fresh in both().await {
        with_charges(&fresh.db).await;
        let inbox = ratebox_outbox::Inbox::new("billing", "t");
        let message = id::new();
        let mut tx = fresh.db.begin().await.unwrap();
        inbox.mark(&mut tx, &[message]).await.unwrap();
        assert!(inbox.mark(&mut tx, &[message]).await.unwrap().is_empty());
        tx.execute(CHARGE.with(vec![1.into()])).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(charges(&fresh.db).await, 1, "{}", fresh.name);
    }
}
