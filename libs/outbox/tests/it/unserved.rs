//! Brokers that a relay's settings do not name.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, Sql};
use ratebox_kit::Tasks;
use ratebox_outbox::{
    Event, Outbox, OutboxAdmin, PublishError, Relay, RelaySettings, Router, Settings, Step, Waiting,
};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::relay::add;

fn relay(db: &Db, broker: Router, holder: &str) -> Relay {
    let settings = RelaySettings {
        attempts_max: 1,
        ..RelaySettings::default()
    };
    Relay::new(
        db.clone(),
        Arc::new(broker),
        holder,
        settings,
        Arc::default(),
    )
}

/// Rows among those of the first broker.
async fn at_home(db: &Db) -> i64 {
    let rows = Sql::both("SELECT count(*) FROM outbox WHERE partition < 16");
    db.query(rows).await.unwrap()[0].get(0).unwrap()
}

#[tokio::test]
async fn what_goes_to_a_broker_that_is_not_there_waits_for_it_and_holds_up_nobody() {
    for fresh in both().await {
        let (home, kafka) = (FakeBroker::new(Mood::Up), FakeBroker::new(Mood::Up));
        let without = || Router::new(home.clone()).without("kafka", "set its address");
        // One by a sender that knows nothing of the broker, one by one that knows that it is missing.
        let event = |body: &'static str| Event::new("kafka:orders", body).ordered_by("k");
        add(&fresh.db, vec![event("1"), Event::new("orders", "2")]).await;
        let broker = Arc::new(without());
        let outbox = Outbox::new(fresh.db.clone(), broker, Settings::default(), &Tasks::new());
        let mut tx = fresh.db.begin().await.unwrap();
        let staged = outbox.add(&mut tx, event("3")).await.unwrap();
        assert_eq!(outbox.commit(tx, staged).await.unwrap().left, 1);
        let mut lacking = relay(&fresh.db, without(), "r1");
        assert_eq!(
            lacking.step().await.unwrap(),
            Step::Did(1),
            "{}",
            fresh.name
        );
        assert_eq!(lacking.step().await.unwrap(), Step::Idle, "{}", fresh.name);
        assert_eq!(home.bodies(), ["2"], "no stream of that name");
        assert_eq!(at_home(&fresh.db).await, 0, "{}", fresh.name);
        let waiting = OutboxAdmin::new(fresh.db.clone()).waiting().await.unwrap();
        let [Waiting { broker, events, .. }] = waiting.as_slice() else {
            panic!("{waiting:?}");
        };
        assert_eq!((broker.as_deref(), *events), (Some("kafka"), 2));
        // Another relay has it.
        let served = Router::new(home.clone()).with("kafka", kafka.clone());
        let served = tokio::sync::Mutex::new(relay(&fresh.db, served, "r2"));
        ratebox_testkit::wait_until(Duration::from_secs(20), "both to be sent", || async {
            served.lock().await.step().await.unwrap();
            kafka.bodies() == ["1", "3"]
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_given_back_goes_to_the_partitions_of_its_broker() {
    for fresh in both().await {
        let (home, kafka) = (FakeBroker::new(Mood::Up), FakeBroker::new(Mood::Picky));
        let served = Router::new(home.clone()).with("kafka", kafka);
        add(&fresh.db, vec![Event::new("kafka:orders", "bad")]).await;
        let mut served = relay(&fresh.db, served, "r1");
        let admin = OutboxAdmin::new(fresh.db.clone()).routed(["kafka"]);
        while admin.status().await.unwrap().dead_letter == 0 {
            served.step().await.unwrap();
        }
        assert_eq!(admin.retry(None, 10).await.unwrap().len(), 1);
        assert_eq!(at_home(&fresh.db).await, 0, "{}", fresh.name);
        // A relay of settings that know nothing of it publishes it to nobody.
        let mut lacking = relay(&fresh.db, Router::new(home.clone()), "r2");
        lacking.step().await.unwrap();
        assert!(home.got().is_empty(), "{}", fresh.name);
    }
}

#[tokio::test]
async fn an_answer_for_a_broker_that_is_not_there_says_what_to_do() {
    use ratebox_outbox::{Broker as _, Outgoing};
    let home = FakeBroker::new(Mood::Up);
    let router = Router::new(home.clone()).without("nats", "set its address");
    let message = |topic: &str| Outgoing::new(topic, ratebox_kit::Message::new("1", "x"));
    let answers = router
        .publish(vec![message("nats:a"), message("a"), message("b:nats")])
        .await;
    let lack = Err(PublishError::Down("set its address".to_owned()));
    assert_eq!(answers, [lack, Ok(()), Ok(())]);
    assert_eq!(home.got().len(), 2);
}
