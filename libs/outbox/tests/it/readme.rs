//! The examples of README.md, as they stand there.

use std::time::Duration;

use ratebox_db::{Db, Sql, Statement};
use ratebox_kit::{Message, Tasks, id};
use ratebox_outbox::{Effect, Event, Inboxes, Outbox, Outcome, Received, Settings};
use serde::{Deserialize, Serialize};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Serialize, Deserialize)]
struct Order {
    id: i64,
}

fn insert_order(order: &Order) -> Statement {
    const SQL: Sql = Sql {
        postgres: "INSERT INTO orders (id) VALUES ($1)",
        sqlite: "INSERT INTO orders (id) VALUES (?1)",
    };
    SQL.with(vec![order.id.into()])
}

fn invoice(order: &Order) -> String {
    format!("{{\"order\":{}}}", order.id)
}

async fn send(db: &Db, outbox: &Outbox, order: &Order) -> anyhow::Result<usize> {
    // README: send
    let mut tx = db.begin().await?;
    tx.execute(insert_order(order)).await?;
    let body = serde_json::to_vec(order)?;
    let event = Event::new("orders", body)
        .aggregate("order", order.id)
        .of_type("order.created");
    let staged = outbox.add(&mut tx, event).await?;
    let published = outbox.commit(tx, staged).await?; // what is left is sent by the relay
    // README: end
    Ok(published.sent)
}

async fn receive(db: &Db, outbox: &Outbox, received: &Received) -> anyhow::Result<bool> {
    // README: receive
    let billing = Inboxes::new(db.clone())
        .sending(outbox.clone())
        .consumer("billing")
        .window(DAY * 7);
    let handled = billing
        .handle(received, async |work: &mut Effect, order: Order| {
            work.execute(insert_order(&order)).await?;
            work.send(Event::new("invoices", invoice(&order)));
            Ok(())
        })
        .await?;
    let is_new = match handled.outcome {
        Outcome::Processed(()) => true, // it had its effect now
        Outcome::Duplicate(_) | Outcome::Parked => false, // before, or it was given up
    };
    // All three are to be acknowledged; an error is not.
    // README: end
    Ok(is_new)
}

#[tokio::test]
async fn the_examples_of_the_readme_are_these_and_work() {
    for fresh in both().await {
        fresh
            .db
            .script("CREATE TABLE orders (id bigint)".to_owned())
            .await
            .unwrap();
        let (broker, tasks) = (FakeBroker::new(Mood::Up), Tasks::new());
        let outbox = Outbox::new(
            fresh.db.clone(),
            broker.clone(),
            Settings::default(),
            &tasks,
        );
        assert_eq!(send(&fresh.db, &outbox, &Order { id: 1 }).await.unwrap(), 1);
        let message = Message::new(id::new().to_string(), "{\"id\":2}");
        let received = Received::new("orders", message);
        assert!(receive(&fresh.db, &outbox, &received).await.unwrap());
        assert!(!receive(&fresh.db, &outbox, &received).await.unwrap());
        assert_eq!(
            broker.bodies(),
            ["{\"id\":1}", "{\"order\":2}"],
            "{}",
            fresh.name
        );
    }
    let (readme, source) = (include_str!("../../README.md"), include_str!("readme.rs"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["send", "receive"] {
        let begin = format!("// README: {part}\n");
        let code = source
            .split_once(&begin)
            .unwrap()
            .1
            .split_once("// README: end")
            .unwrap()
            .0;
        assert!(
            words(readme).contains(&words(code)),
            "the example `{part}` differs"
        );
    }
}
