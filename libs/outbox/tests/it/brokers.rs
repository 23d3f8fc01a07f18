//! Real brokers: RabbitMQ, NATS JetStream and Kafka's protocol.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Message, Secret, Tasks, id};
use ratebox_outbox::{
    Broker, Event, Outbox, Outgoing, PublishError, Relay, RelaySettings, Router, Settings, Step,
};
use ratebox_testkit::{BrokerKind, BrokerServer, TcpProxy, wait_until};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::relay::add;

pub(crate) fn message(topic: &str, body: impl Into<Vec<u8>>) -> Outgoing {
    let message = Message::new(id::new().to_string(), body.into()).with_header("event-type", "x");
    Outgoing::new(topic, message)
}

pub(crate) async fn one(broker: &dyn Broker, message: Outgoing) -> Result<(), PublishError> {
    broker.publish(vec![message]).await.remove(0)
}

pub(crate) fn is_down(answer: &Result<(), PublishError>) -> bool {
    matches!(answer, Err(PublishError::Down(_)))
}

pub(crate) fn is_refused(answer: &Result<(), PublishError>) -> bool {
    matches!(answer, Err(PublishError::Rejected(_)))
}

/// Away, back again, half-open: `Down` in time, and working afterwards.
async fn outages(server: &mut BrokerServer, broker: &dyn Broker, proxy: &TcpProxy, topic: &str) {
    let within = Duration::from_secs(20);
    let quick = |it| async move { tokio::time::timeout(within, it).await };
    one(broker, message(topic, "before")).await.unwrap();
    proxy.black_hole();
    // A call that has no answer in time is `Down` for the relay, which does not wait longer.
    let answer = quick(one(broker, message(topic, "half-open"))).await;
    assert!(
        answer.as_ref().is_err() || answer.as_ref().is_ok_and(is_down),
        "{answer:?}"
    );
    proxy.cut_once();
    proxy.resume();
    server.kill9();
    let answer = quick(one(broker, message(topic, "away"))).await;
    assert!(
        answer.as_ref().is_err() || answer.as_ref().is_ok_and(is_down),
        "{answer:?}"
    );
    server.restart().unwrap();
}

async fn works_again(broker: &dyn Broker, topic: &str) {
    wait_until(Duration::from_secs(60), "the broker to be back", || async {
        let call = one(broker, message(topic, "after"));
        let answer = tokio::time::timeout(Duration::from_secs(15), call).await;
        matches!(answer, Ok(Ok(())))
    })
    .await;
}

/// 16 aggregates of 50 events through the relay to a real broker.
async fn relayed(broker: Arc<dyn Broker>, topic: &str) -> Vec<Event> {
    let fresh = both().await.remove(1);
    let events: Vec<Event> = (0..800)
        .map(|n| Event::new(topic, format!("{n}")).aggregate("order", n % 16))
        .collect();
    add(&fresh.db, events.clone()).await;
    let settings = RelaySettings::default();
    let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, Arc::default());
    let mut sent = 0;
    while let Step::Did(count) = relay.step().await.unwrap() {
        sent += count;
    }
    assert_eq!(sent, 800);
    events
}

/// Bodies of one aggregate in the order in which a reader met them.
fn is_in_order(met: &[u32], aggregate: u32) -> bool {
    let of: Vec<u32> = met
        .iter()
        .copied()
        .filter(|n| n % 16 == aggregate)
        .collect();
    of.len() == 50 && of.is_sorted()
}

#[tokio::test]
async fn a_router_sends_to_the_broker_that_a_topic_names() {
    let (home, other) = (FakeBroker::new(Mood::Up), FakeBroker::new(Mood::Down));
    let router = Router::new(home.clone()).with("kafka", other.clone());
    let topics = ["a", "kafka:b", "c:d", "kafka:e"];
    let send = || topics.map(|topic| message(topic, topic)).to_vec();
    let answers = router.publish(send()).await;
    assert_eq!(
        answers.iter().map(is_down).collect::<Vec<_>>(),
        [false, true, false, true]
    );
    assert_eq!(home.bodies(), ["a", "c:d"]);
    other.turn(Mood::Up);
    assert!(router.publish(send()).await.iter().all(Result::is_ok));
    let got: Vec<String> = other.got().into_iter().map(|it| it.topic).collect();
    assert_eq!(got, ["b", "e"]);
}

#[tokio::test]
async fn a_broker_that_is_away_or_silent_holds_up_no_event_that_goes_to_another() {
    for fresh in both().await {
        let (home, other) = (FakeBroker::new(Mood::Up), FakeBroker::new(Mood::Down));
        let router = Arc::new(Router::new(home.clone()).with("kafka", other.clone()));
        let tasks = Tasks::new();
        let settings = Settings {
            optimistic: false,
            ..Settings::default()
        };
        let outbox = Outbox::new(fresh.db.clone(), router.clone(), settings, &tasks);
        // 5,000 older events wait for the broker that is away, of the same aggregates; far more than
        // one read takes.
        let send = async |topic: &str, count: u32| {
            let event = |n| Event::new(topic, format!("{n}")).aggregate("order", n % 10);
            let (insert, staged) = outbox.stage((0..count).map(event).collect()).unwrap();
            let (_, proof) = fresh.db.run(vec![insert]).await.unwrap();
            outbox.publish(staged, &proof).await;
        };
        send("kafka:orders", 5000).await;
        let settings = RelaySettings {
            publish_timeout: Duration::from_secs(3600),
            ..RelaySettings::default()
        };
        let relay = Relay::new(fresh.db.clone(), router, "r1", settings, outbox.wake());
        tasks.spawn("relay", relay.run(tasks.shutdown()));
        for (mood, count) in [(Mood::Down, 100), (Mood::Silent, 200)] {
            other.turn(mood);
            send("orders", 100).await;
            let within = Duration::from_secs(10);
            wait_until(within, "events of the other broker", || async {
                home.got().len() == count
            })
            .await;
        }
        assert!(other.got().is_empty());
        assert_eq!(
            Relay::alive(&fresh.db).await.unwrap(),
            1,
            "one relay, two lanes"
        );
        tasks.join(Duration::from_millis(100)).await;
        // Another relay, and the broker is back.
        other.turn(Mood::Up);
        let router = Arc::new(Router::new(home.clone()).with("kafka", other.clone()));
        let relay = Relay::new(
            fresh.db.clone(),
            router,
            "r2",
            RelaySettings::default(),
            Arc::default(),
        );
        let theft = "DELETE FROM leases"; // The silent call keeps them.
        fresh.db.script(theft.to_owned()).await.unwrap();
        let relay = tokio::sync::Mutex::new(relay);
        wait_until(Duration::from_secs(30), "the rest", || async {
            relay.lock().await.step().await.unwrap();
            Relay::pending(&fresh.db).await.unwrap() == 0
        })
        .await;
        let got: Vec<u32> = other
            .bodies()
            .iter()
            .map(|it| it.parse().unwrap())
            .collect();
        assert_eq!(got.len(), 5000, "{}", fresh.name);
        for aggregate in 0..10 {
            let of = got.iter().filter(|n| *n % 10 == aggregate);
            assert!(of.is_sorted(), "{}", fresh.name);
        }
    }
}

#[cfg(feature = "rabbitmq")]
mod rabbitmq {
    use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
    use lapin::types::{AMQPValue, FieldTable, LongString};
    use lapin::{Channel, Connection, ConnectionProperties};
    use ratebox_outbox::{Rabbitmq, RabbitmqSettings};

    use super::*;

    async fn channel(server: &BrokerServer) -> (Connection, Channel) {
        let options = ConnectionProperties::default();
        let connection = Connection::connect(&server.url(), options).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    async fn queue(channel: &Channel, name: &str, arguments: FieldTable) {
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(name.into(), durable, arguments)
            .await
            .unwrap();
    }

    fn broker(url: String, exchange: &str) -> Rabbitmq {
        Rabbitmq::new(RabbitmqSettings {
            exchange: exchange.to_owned(),
            declare: exchange == "events",
            connect_timeout: Duration::from_secs(3),
            ..RabbitmqSettings::new(Secret::new(url))
        })
    }

    /// What is too large (the server of the tests takes 1 MB) is refused, its neighbours are not.
    async fn too_large(direct: &Rabbitmq, channel: &Channel) {
        let sizes = [1, 1_000_001, 2];
        let mixed = sizes.map(|size| message("orders", vec![b'x'; size]));
        let answers = direct.publish(mixed.into()).await;
        assert!(
            answers[0].is_ok() && is_refused(&answers[1]) && answers[2].is_ok(),
            "{answers:?}"
        );
        let mut sizes = Vec::new();
        while let Some(got) = channel
            .basic_get("orders".into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()
        {
            sizes.push(got.delivery.data.len());
        }
        // What had no answer when the channel ended is sent once more.
        sizes.sort_unstable();
        sizes.dedup();
        assert_eq!(sizes, [1, 2]);
    }

    #[tokio::test]
    async fn rabbitmq_confirms_what_it_keeps_and_everything_else_is_an_error() {
        let mut server = BrokerServer::start(BrokerKind::Rabbitmq).unwrap();
        let (_connection, channel) = channel(&server).await;
        queue(&channel, "orders", FieldTable::default()).await;
        let events = broker(server.url(), "events");
        // The exchange is made with the first message, which no queue takes yet.
        assert!(is_refused(
            &one(&events, message("order.created", "lost")).await
        ));
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(
                "orders".into(),
                "events".into(),
                "order.#".into(),
                bind,
                none,
            )
            .await
            .unwrap();
        let mut kept = message("any", "kept");
        kept.routing_key = Some("order.created".to_owned());
        let id = kept.message.id.0.clone();
        let answers = events.publish(vec![message("unroutable", "x"), kept]).await;
        assert!(is_refused(&answers[0]) && answers[1].is_ok(), "{answers:?}");
        let got = channel.basic_get("orders".into(), BasicGetOptions { no_ack: true });
        let got = got.await.unwrap().unwrap().delivery;
        assert_eq!(got.data, b"kept");
        assert_eq!(got.properties.message_id().as_ref().unwrap().as_str(), id);
        assert_eq!(*got.properties.delivery_mode(), Some(2), "persistent");

        // What ends the channel is refused, its neighbours are not.
        let unknown = broker(server.url(), "no-such-exchange");
        assert!(is_refused(&one(&unknown, message("orders", "x")).await));

        let direct = broker(server.url(), "");
        too_large(&direct, &channel).await;

        // A full queue is nobody's fault.
        let mut full = FieldTable::default();
        full.insert("x-max-length".into(), AMQPValue::LongInt(1));
        let reject = LongString::from("reject-publish");
        full.insert("x-overflow".into(), AMQPValue::LongString(reject));
        queue(&channel, "small", full).await;
        one(&direct, message("small", "1")).await.unwrap();
        assert!(is_down(&one(&direct, message("small", "2")).await));

        queue(&channel, "ordered", FieldTable::default()).await;
        relayed(Arc::new(broker(server.url(), "")), "ordered").await;
        let mut met = Vec::new();
        while let Some(got) = channel
            .basic_get("ordered".into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()
        {
            let body = String::from_utf8(got.delivery.data).unwrap();
            met.push(body.parse().unwrap());
        }
        assert!((0..16).all(|aggregate| is_in_order(&met, aggregate)));

        let proxy = TcpProxy::to(server.port()).unwrap();
        let behind = broker(proxy.url(&server.url()), "");
        outages(&mut server, &behind, &proxy, "orders").await;
        works_again(&behind, "orders").await;
    }
}

#[cfg(feature = "nats")]
mod nats {
    use async_nats::Client;
    use ratebox_outbox::{Nats, NatsSettings};
    use serde_json::{Value, json};

    use super::*;

    async fn ask(client: &Client, subject: &str, body: Value) -> Value {
        let body = serde_json::to_vec(&body).unwrap();
        let answer = client
            .request(subject.to_owned(), body.into())
            .await
            .unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn stream(client: &Client, name: &str, subject: &str, more: Value) {
        let mut config = json!({"name": name, "subjects": [subject], "storage": "file"});
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let made = ask(client, &format!("$JS.API.STREAM.CREATE.{name}"), config).await;
        assert!(made["error"].is_null(), "{made}");
    }

    async fn count(client: &Client, name: &str) -> i64 {
        let info = ask(client, &format!("$JS.API.STREAM.INFO.{name}"), json!({})).await;
        info["state"]["messages"].as_i64().unwrap()
    }

    fn broker(url: String) -> Nats {
        Nats::new(NatsSettings {
            timeout: Duration::from_secs(2),
            ..NatsSettings::new(Secret::new(url))
        })
    }

    #[tokio::test]
    async fn nats_stores_each_event_once_and_everything_else_is_an_error() {
        let mut server = BrokerServer::start(BrokerKind::Nats).unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        stream(&client, "ORDERS", "orders.>", json!({})).await;
        let nats = broker(server.url());
        let first = message("orders.created", "1");
        one(&nats, first.clone()).await.unwrap();
        one(&nats, first).await.unwrap();
        assert_eq!(
            count(&client, "ORDERS").await,
            1,
            "a second publication is dropped"
        );

        let large = vec![b'x'; 2 << 20];
        let batch = vec![
            message("nobody.listens", "x"),
            message("orders.large", large),
            message("orders.created", "2"),
            message("orders. bad", "x"),
        ];
        let answers = nats.publish(batch).await;
        let refused: Vec<bool> = answers.iter().map(is_refused).collect();
        assert_eq!(refused, [true, true, false, true], "{answers:?}");
        assert!(answers[2].is_ok());

        stream(
            &client,
            "SMALL",
            "small",
            json!({"max_msgs": 1, "discard": "new"}),
        )
        .await;
        one(&nats, message("small", "1")).await.unwrap();
        assert!(
            is_down(&one(&nats, message("small", "2")).await),
            "a full stream is no fault"
        );

        stream(&client, "ORDERED", "ordered", json!({})).await;
        let events = relayed(Arc::new(broker(server.url())), "ordered").await;
        assert_eq!(count(&client, "ORDERED").await, 800);
        let mut met = Vec::new();
        for seq in 1..=800 {
            let subject = "$JS.API.STREAM.MSG.GET.ORDERED";
            let got = ask(&client, subject, json!({"seq": seq})).await;
            let body = got["message"]["data"].as_str().unwrap().to_owned();
            let is_it = |event: &&Event| base64(&event.body) == body;
            let event = events.iter().find(is_it).unwrap();
            met.push(
                String::from_utf8(event.body.to_vec())
                    .unwrap()
                    .parse()
                    .unwrap(),
            );
        }
        assert!((0..16).all(|aggregate| is_in_order(&met, aggregate)));

        let proxy = TcpProxy::to(server.port()).unwrap();
        let behind = broker(proxy.url(&server.url()));
        outages(&mut server, &behind, &proxy, "orders.created").await;
        works_again(&behind, "orders.created").await;
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let mut word = [0; 3];
            word[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
            for place in 0..4 {
                let digit = (bits >> (18 - 6 * place)) & 63;
                let is_padding = place > chunk.len();
                text.push(if is_padding {
                    '='
                } else {
                    char::from(DIGITS[digit as usize])
                });
            }
        }
        text
    }
}

#[cfg(feature = "kafka")]
mod kafka {
    use ratebox_outbox::{Kafka, KafkaSettings};
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{Consumer as _, StreamConsumer};
    use rdkafka::message::{Headers as _, Message as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::RDKafkaRespErr;

    use super::*;

    fn broker(bootstrap: String) -> Kafka {
        Kafka::new(KafkaSettings {
            timeout: Duration::from_secs(4),
            ..KafkaSettings::new(bootstrap)
        })
        .unwrap()
    }

    fn reader(bootstrap: &str, topic: &str) -> StreamConsumer {
        let reader: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "reader")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        reader.subscribe(&[topic]).unwrap();
        reader
    }

    #[tokio::test]
    async fn kafka_keeps_ids_headers_keys_and_the_order_of_a_key() {
        let mut server = BrokerServer::start(BrokerKind::Kafka).unwrap();
        server.create_topic("orders").unwrap();
        let kafka = Arc::new(broker(server.url()));
        relayed(kafka.clone(), "orders").await;
        let reader = reader(&server.url(), "orders");
        let mut met: Vec<u32> = Vec::new();
        while met.len() < 800 {
            let got = tokio::time::timeout(Duration::from_secs(30), reader.recv());
            let got = got.await.unwrap().unwrap();
            let body: u32 = String::from_utf8(got.payload().unwrap().to_vec())
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(got.key().unwrap(), (body % 16).to_string().as_bytes());
            let headers: Vec<&str> = got.headers().unwrap().iter().map(|it| it.key).collect();
            assert_eq!(headers, ["rb-id", "aggregate-type", "aggregate-id"]);
            met.push(body);
        }
        assert!((0..16).all(|aggregate| is_in_order(&met, aggregate)));
        // librdkafka's consumers do not survive what comes now: to a fetch from a topic that it has
        // lost the server answers with a new leader and no id of the topic, and the consumer then
        // looks for a topic without a name (SIGSEGV in `rd_kafka_metadata_update_op`, 2.12 to
        // 2.15). Producers have the topic's name at that place.
        drop(reader);
        server.kill9();
        assert!(is_down(&one(&*kafka, message("orders", "away")).await));
        server.restart().unwrap();
        server.create_topic("orders").unwrap();
        works_again(&*kafka, "orders").await;
    }

    #[tokio::test]
    async fn kafka_s_refusals_are_told_from_its_outages() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 3, 1).unwrap();
        let kafka = broker(cluster.bootstrap_servers());
        one(&kafka, message("orders", "1")).await.unwrap();
        let large = message("orders", vec![b'x'; 17 << 20]);
        let answers = kafka.publish(vec![large, message("orders", "2")]).await;
        assert!(is_refused(&answers[0]) && answers[1].is_ok(), "{answers:?}");
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        cluster.topic_error("nowhere", unknown).unwrap();
        let batch = vec![message("nowhere", "x"), message("orders", "3")];
        let answers = kafka.publish(batch).await;
        assert!(is_refused(&answers[0]) && answers[1].is_ok(), "{answers:?}");
        cluster.broker_down(1).unwrap();
        assert!(is_down(&one(&kafka, message("orders", "4")).await));
        cluster.broker_up(1).unwrap();
        works_again(&kafka, "orders").await;
    }
}
