//! Brokers and handlers that misbehave: they hold up nobody but their own events and messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Db, Sql};
use ratebox_kit::{Backoff, Message, Tasks};
use ratebox_outbox::{
    Broker, Consumer, Effect, Error, Event, Failure, Inboxes, Outbox, Outcome, Outgoing,
    PublishError, Published, Received, Relay, RelaySettings, Settings, Step,
};
use ratebox_testkit::wait_until;

use crate::databases::both;
use crate::handling::{Order, order};
use crate::relay::add;

/// Refuses `bad` with a reason that PostgreSQL does not take, and panics at `panic`.
#[derive(Default)]
struct FoulBroker(Mutex<Vec<String>>);

#[async_trait]
impl Broker for FoulBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let take = |outgoing: Outgoing| {
            let body = String::from_utf8(outgoing.message.body.to_vec()).unwrap();
            assert_ne!(body, "panic", "on purpose");
            if body == "bad" {
                return Err(PublishError::Rejected("on\0purpose".to_owned()));
            }
            self.0.lock().unwrap().push(body);
            Ok(())
        };
        messages.into_iter().map(take).collect()
    }
}

fn relay(db: &Db, broker: &Arc<FoulBroker>) -> Relay {
    let settings = RelaySettings {
        attempts_max: 3,
        backoff: Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        ..RelaySettings::default()
    };
    Relay::new(db.clone(), broker.clone(), "r1", settings, Arc::default())
}

#[tokio::test]
async fn a_refusal_whose_words_no_database_takes_has_nothing_sent_twice() {
    for fresh in both().await {
        let event = |body: &'static str| Event::new("t", body).ordered_by(body);
        add(&fresh.db, ["one", "bad", "two"].map(event).to_vec()).await;
        let broker = Arc::new(FoulBroker::default());
        let relay = tokio::sync::Mutex::new(relay(&fresh.db, &broker));
        wait_until(Duration::from_secs(10), "the bad one to die", || async {
            relay.lock().await.step().await.unwrap();
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        let mut got = broker.0.lock().unwrap().clone();
        got.sort();
        assert_eq!(got, ["one", "two"], "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_broker_that_panics_charges_nobody_but_the_event_that_it_panics_at() {
    for fresh in both().await {
        let broker = Arc::new(FoulBroker::default());
        let outbox = Outbox::new(
            fresh.db.clone(),
            broker.clone(),
            Settings {
                pre_lease: Duration::from_secs(1),
                ..Settings::default()
            },
            &Tasks::new(),
        );
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut tx, Event::new("t", "panic")).await.unwrap();
        let published = outbox.commit(tx, staged).await.unwrap();
        assert_eq!(published, Published { sent: 0, left: 1 }, "{}", fresh.name);
        add(&fresh.db, vec![Event::new("t", "panic")]).await;
        let mut relay = relay(&fresh.db, &broker);
        let fine = ["one", "two", "three"].map(|body| Event::new("t", body));
        add(&fresh.db, fine.to_vec()).await;
        assert_eq!(relay.step().await.unwrap(), Step::Did(3), "{}", fresh.name);
        assert_eq!(charged(&fresh.db).await, 1, "{}", fresh.name);
        let relay = tokio::sync::Mutex::new(relay);
        wait_until(Duration::from_secs(10), "the bad ones to die", || async {
            relay.lock().await.step().await.unwrap();
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        let dead = fresh
            .db
            .query(Sql::both("SELECT count(*) FROM outbox_dead"));
        assert_eq!(dead.await.unwrap()[0].get::<i64>(0).unwrap(), 2);
    }
}

async fn charged(db: &Db) -> i64 {
    let charged = Sql::both("SELECT count(*) FROM outbox WHERE attempts > 0");
    db.query(charged).await.unwrap()[0].get(0).unwrap()
}

fn consumer(db: &Db) -> Consumer {
    let consumer = Inboxes::new(db.clone()).consumer("billing");
    consumer.attempts_max(2).keep_results()
}

/// The first delivery fails, the second parks the message.
async fn is_given_up<T, F>(db: &Db, handler: F) -> String
where
    T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug + PartialEq,
    F: Copy + AsyncFn(&mut Effect, Order) -> Result<T, Failure>,
{
    let (consumer, message) = (consumer(db), order(1));
    let error = consumer.handle(&message, handler).await.unwrap_err();
    assert!(
        matches!(error, Error::Handler { attempts: 1, .. }),
        "{error}"
    );
    let second = message.clone().delivered(2);
    let handled = consumer.handle(&second, handler).await.unwrap();
    assert_eq!(handled.outcome, Outcome::Parked);
    let id = message.event_id();
    let parked = consumer.parked(100).await.unwrap();
    let parked = parked.into_iter().find(|it| it.event_id == id).unwrap();
    parked.last_error.unwrap()
}

#[tokio::test]
async fn what_goes_wrong_after_a_handler_is_charged_and_parks_its_message_in_the_end() {
    for fresh in both().await {
        let sends = async |work: &mut Effect, _: Order| -> Result<(), Failure> {
            work.send(Event::new("t", "x"));
            Ok(())
        };
        let why = is_given_up(&fresh.db, sends).await;
        assert!(why.contains("no outbox"), "{}: {why}", fresh.name);
        let no_json = async |_: &mut Effect, _: Order| -> Result<HashMap<(u8, u8), u8>, Failure> {
            Ok(HashMap::from([((1, 2), 3)]))
        };
        let why = is_given_up(&fresh.db, no_json).await;
        assert!(why.contains("JSON"), "{}: {why}", fresh.name);
        let foul =
            async |_: &mut Effect, _: Order| -> Result<(), Failure> { Err(Failure::retry("a\0b")) };
        let why = is_given_up(&fresh.db, foul).await;
        assert_eq!(why, "a\u{fffd}b", "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_statement_whose_failure_a_handler_keeps_to_itself_parks_its_message_in_the_end() {
    let fresh = both().await.remove(1);
    let swallows = async |work: &mut Effect, _: Order| -> Result<(), Failure> {
        let nonsense = Sql::both("SELECT nonsense");
        drop(work.query(nonsense).await);
        Ok(())
    };
    let why = is_given_up(&fresh.db, swallows).await;
    assert!(why.contains("failed"), "{why}");
}

#[tokio::test]
async fn a_message_of_foul_words_is_parked_and_released_as_the_same() {
    for fresh in both().await {
        let consumer = consumer(&fresh.db);
        let message = Message::new("17\0-0", "{\"number\":1}").with_header("event-type", "a\0b");
        let message = Received::new("or\0ders", message);
        let rejects = async |_: &mut Effect, _: Order| -> Result<(), Failure> {
            Err(Failure::reject("no\0way"))
        };
        let handled = consumer.handle(&message, rejects).await.unwrap();
        assert_eq!(handled.outcome, Outcome::Parked, "{}", fresh.name);
        let id = message.event_id();
        let released = consumer.release(id).await.unwrap().unwrap();
        assert_eq!(released.event_id(), id, "{}", fresh.name);
        let works = async |_: &mut Effect, _: Order| -> Result<(), Failure> { Ok(()) };
        let handled = consumer.handle(&released, works).await.unwrap();
        assert_eq!(handled.outcome, Outcome::Processed(()), "{}", fresh.name);
    }
}
