//! What a broker cannot take, and addresses that cannot work, on real brokers: each is refused by
//! itself, and none ends the work of the others.

use std::time::Duration;

use ratebox_kit::Secret;
use ratebox_outbox::{Broker, Outgoing, PublishError};

use crate::brokers::{is_down, is_refused, message, one};

/// One message after another, among innocent ones.
async fn poisons(broker: &dyn Broker, topic: &str, poisons: Vec<Outgoing>) {
    for poison in poisons {
        let batch = vec![message(topic, "1"), poison.clone(), message(topic, "2")];
        let answers = broker.publish(batch).await;
        let refused: Vec<bool> = answers.iter().map(is_refused).collect();
        assert_eq!(refused, [false, true, false], "{poison:?}: {answers:?}");
        assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    }
}

/// A message with a header of this name and value.
fn with_header(topic: &str, name: &str, value: &str) -> Outgoing {
    let mut outgoing = message(topic, "x");
    outgoing.message = outgoing.message.with_header(name, value);
    outgoing
}

/// What is told of an address that is refused, before and at the first message.
async fn refusals(checked: Result<(), PublishError>, broker: &dyn Broker) -> String {
    let refusal = match checked {
        Err(PublishError::Rejected(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let answer = one(broker, message("t", "x")).await;
    assert!(is_down(&answer), "the event waits: {answer:?}");
    let told = format!("{refusal} {answer:?}");
    assert!(!told.contains("sekret"), "{told}");
    told
}

#[cfg(feature = "rabbitmq")]
mod rabbitmq {
    use std::io::{ErrorKind, Read as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    use lapin::options::QueueDeclareOptions;
    use lapin::types::FieldTable;
    use lapin::{Connection, ConnectionProperties};
    use ratebox_outbox::{Rabbitmq, RabbitmqSettings};
    use ratebox_testkit::{BrokerKind, BrokerServer, wait_until};

    use super::*;

    fn settings(url: &str) -> RabbitmqSettings {
        RabbitmqSettings::new(Secret::new(url))
    }

    #[tokio::test]
    async fn what_amqp_cannot_carry_and_refusals_without_end_do_not_stop_rabbitmq() {
        let server = BrokerServer::start(BrokerKind::Rabbitmq).unwrap();
        let options = ConnectionProperties::default();
        let connection = Connection::connect(&server.url(), options).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let queue = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let none = FieldTable::default();
        channel
            .queue_declare("orders".into(), queue, none)
            .await
            .unwrap();
        let long = "x".repeat(256);
        let mut routed = message("orders", "x");
        routed.routing_key = Some(long.clone());
        let mut named = message("orders", "x");
        named.message.id.0.clone_from(&long);
        let mut typed = message("orders", "x");
        typed.message.headers = vec![("event-type".to_owned(), long.clone())];
        let header = with_header("orders", &long, "x");
        let all = vec![message(&long, "x"), routed, named, typed, header];
        let direct = Rabbitmq::new(settings(&server.url()));
        poisons(&direct, "orders", all).await;

        // Each wave ends a channel, and a connection has some 2,000 of them.
        let mut unknown = settings(&server.url());
        unknown.exchange = "no-such-exchange".to_owned();
        let unknown = Rabbitmq::new(unknown);
        for number in 0..2_200 {
            let wave = vec![message("orders", "x"), message("orders", "y")];
            let answers = unknown.publish(wave).await;
            assert!(answers.iter().all(is_refused), "{number}: {answers:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_cannot_work_is_refused_and_not_told() {
        let told = async |url| {
            let settings = settings(url);
            refusals(settings.check(), &Rabbitmq::new(settings)).await
        };
        assert!(
            told("amqps://me:sekret@127.0.0.1:1/")
                .await
                .contains("no TLS")
        );
        for url in [
            "me:sekret@127.0.0.1:25672",
            "amqp://me:se/sekret@127.0.0.1:25672/%2f",
            "http://guest:sekret@127.0.0.1:25672/",
        ] {
            assert!(told(url).await.contains("cannot be read"), "{url}");
        }
        assert!(told("amqp://me:sekret@[::1]:1/").await.contains("IPv6"));
    }

    /// Whether the other side has gone.
    fn is_closed(stream: &mut TcpStream) -> bool {
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_left_with_no_open_connection() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("amqp://{}/", silent.local_addr().unwrap());
        let broker = Rabbitmq::new(RabbitmqSettings {
            connect_timeout: Duration::from_millis(300),
            ..settings(&url)
        });
        for _ in 0..3 {
            assert!(is_down(&one(&broker, message("orders", "x")).await));
        }
        silent.set_nonblocking(true).unwrap();
        let mut streams = Vec::new();
        while let Ok((stream, _)) = silent.accept() {
            stream.set_nonblocking(true).unwrap();
            streams.push(stream);
        }
        assert_eq!(streams.len(), 3);
        let streams = Mutex::new(streams);
        wait_until(Duration::from_secs(10), "all to be closed", || async {
            streams.lock().unwrap().iter_mut().all(is_closed)
        })
        .await;
    }
}

#[cfg(feature = "nats")]
mod nats {
    use ratebox_outbox::{Nats, NatsSettings};
    use ratebox_testkit::{BrokerKind, BrokerServer};

    use super::*;

    #[tokio::test]
    async fn what_nats_cannot_carry_is_refused_and_a_subject_without_a_stream_though_somebody_listens()
     {
        let server = BrokerServer::start(BrokerKind::Nats).unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let config = "{\"name\":\"ORDERS\",\"subjects\":[\"orders\"],\"storage\":\"file\"}";
        let made = client.request("$JS.API.STREAM.CREATE.ORDERS", config.into());
        made.await.unwrap();
        let nats = Nats::new(NatsSettings {
            timeout: Duration::from_secs(2),
            ..NatsSettings::new(Secret::new(server.url()))
        });
        let headers = [
            ("h", "v\nw"),
            ("h", "v\rw"),
            ("h h", "v"),
            ("h:h", "v"),
            ("", "v"),
        ];
        let all = headers.map(|(name, value)| with_header("orders", name, value));
        poisons(&nats, "orders", all.to_vec()).await;

        let _listener = client.subscribe(">").await.unwrap();
        client.flush().await.unwrap();
        poisons(&nats, "orders", vec![message("nowhere", "x")]).await;
    }

    #[tokio::test]
    async fn an_address_that_cannot_work_is_refused_and_not_told() {
        let told = async |url| {
            let settings = NatsSettings::new(Secret::new(url));
            refusals(settings.check(), &Nats::new(settings)).await
        };
        assert!(
            told("wss://me:sekret@127.0.0.1:1")
                .await
                .contains("no WebSockets")
        );
        for url in [
            "nats://me:se/kret:sekret@127.0.0.1:24222",
            "http://me:sekret@127.0.0.1:24222",
        ] {
            assert!(told(url).await.contains("cannot be read"), "{url}");
        }
    }
}

#[cfg(feature = "kafka")]
mod kafka {
    use ratebox_outbox::{Kafka, KafkaSettings};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;

    #[tokio::test]
    async fn what_can_be_no_topic_of_kafka_is_refused() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 3, 1).unwrap();
        let kafka = Kafka::new(KafkaSettings {
            timeout: Duration::from_secs(4),
            ..KafkaSettings::new(cluster.bootstrap_servers())
        });
        let topics = ["", "a\0b", &"t".repeat(600)].map(|topic| message(topic, "x"));
        poisons(&kafka.unwrap(), "orders", topics.to_vec()).await;
    }
}
