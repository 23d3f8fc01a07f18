//! Consumers in another language read what we send: Python's pika and kafka-python.

use std::process::Command;
use std::sync::Arc;

use ratebox_outbox::{Broker, Event, Relay, RelaySettings, Step};
use ratebox_testkit::{BrokerKind, BrokerServer, tools};
use serde_json::Value;

use crate::databases::both;
use crate::relay::add;

const EVENTS: i64 = 60;
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// 60 events of 6 aggregates, sent by a relay.
async fn sent(broker: Arc<dyn Broker>, topic: &str) -> Vec<Event> {
    let fresh = both().await.remove(1);
    let event = |n| {
        Event::new(
            topic,
            format!("{{\"number\":{n},\"name\":\"Đặng Thị Ánh\"}}"),
        )
        .aggregate("order", n % 6)
        .of_type("order.created")
        .with_header("tenant", "größe ✓")
        .traced(TRACE)
    };
    let events: Vec<Event> = (0..EVENTS).map(event).collect();
    add(&fresh.db, events.clone()).await;
    let settings = RelaySettings::default();
    let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
    while relay.step().await.unwrap() != Step::Idle {}
    assert_eq!(Relay::pending(&fresh.db).await.unwrap(), 0);
    events
}

/// What a script printed, one object a message.
fn read(script: &str, arguments: &[&str]) -> Vec<Value> {
    let file = format!("{}/tests/it/python/{script}", env!("CARGO_MANIFEST_DIR"));
    let clients = tools::python_clients().unwrap();
    let output = Command::new("python3")
        .arg(file)
        .args(arguments)
        .arg(EVENTS.to_string())
        .env("PYTHONPATH", clients)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap();
    lines.lines().map(parse).collect()
}

/// Every event with everything that was told of it; the aggregates each in their order.
fn check(events: &[Event], got: &[Value]) {
    assert_eq!(got.len(), events.len());
    for it in got {
        let id = it["headers"]["rb-id"].as_str().unwrap();
        let event = events.iter().find(|event| event.id.to_string() == id);
        let body: Value = serde_json::from_slice(&event.unwrap().body).unwrap();
        assert_eq!(it["body"], body);
        let told = ["event-type", "aggregate-type", "tenant", "traceparent"];
        let told = told.map(|name| it["headers"][name].as_str().unwrap());
        assert_eq!(told, ["order.created", "order", "größe ✓", TRACE]);
        let aggregate = (body["number"].as_i64().unwrap() % 6).to_string();
        assert_eq!(it["headers"]["aggregate-id"], aggregate);
    }
    for aggregate in 0..6 {
        let numbers = got.iter().map(|it| it["body"]["number"].as_i64().unwrap());
        let numbers: Vec<i64> = numbers.filter(|n| n % 6 == aggregate).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

#[cfg(feature = "rabbitmq")]
#[tokio::test]
async fn a_python_consumer_of_rabbitmq_reads_what_is_sent() {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::FieldTable;
    use lapin::{Connection, ConnectionProperties};
    use ratebox_kit::Secret;
    use ratebox_outbox::{Rabbitmq, RabbitmqSettings};

    let server = BrokerServer::start(BrokerKind::Rabbitmq).unwrap();
    let options = ConnectionProperties::default();
    let connection = Connection::connect(&server.url(), options).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let none = FieldTable::default();
    let declared = channel.queue_declare("orders".into(), durable, none).await;
    declared.unwrap();
    let settings = RabbitmqSettings::new(Secret::new(server.url()));
    let events = sent(Arc::new(Rabbitmq::new(settings)), "orders").await;
    let got = read("amqp_consumer.py", &[&server.url(), "orders"]);
    check(&events, &got);
    for it in &got {
        assert_eq!(it["id"], it["headers"]["rb-id"]);
        assert_eq!(it["type"], "order.created");
        assert_eq!(
            (it["persistent"].as_bool(), &it["routing_key"]),
            (Some(true), &"orders".into())
        );
    }
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn a_python_consumer_of_kafka_reads_what_is_sent() {
    use ratebox_outbox::{Kafka, KafkaSettings};

    let server = BrokerServer::start(BrokerKind::Kafka).unwrap();
    server.create_topic("orders").unwrap();
    let kafka = Kafka::new(KafkaSettings::new(server.url())).unwrap();
    let events = sent(Arc::new(kafka), "orders").await;
    let got = read("kafka_consumer.py", &[&server.url(), "orders"]);
    check(&events, &got);
    for it in &got {
        assert_eq!(
            it["key"], it["headers"]["aggregate-id"],
            "an aggregate has its partition"
        );
    }
}
