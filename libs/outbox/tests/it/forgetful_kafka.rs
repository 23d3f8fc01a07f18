//! A Kafka whose cluster loses everything, again and again, under producers that work on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_kit::{Message, id};
use ratebox_outbox::{Broker as _, Kafka, KafkaSettings, Outgoing, PublishError};
use ratebox_testkit::{BrokerKind, BrokerServer, wait_until};

/// More rounds by hand.
const ROUNDS: &str = "RATEBOX_TEST_KAFKA_ROUNDS";
/// Producers of one cluster at a time.
const PRODUCERS: usize = 4;
/// Calls in vain after which a producer has been made anew.
const IN_VAIN: usize = 4;

async fn publish(kafka: &Kafka) -> Vec<Result<(), PublishError>> {
    let message = |_| Outgoing::new("orders", Message::new(id::new().to_string(), "x"));
    kafka.publish((0..8).map(message).collect()).await
}

/// Calls in vain, of which some do not wait for their answers: a relay gives up on a slow broker.
async fn in_vain(kafka: &Kafka, calls: usize, patience: Duration) {
    for _ in 0..calls {
        if let Ok(answers) = tokio::time::timeout(patience, publish(kafka)).await {
            let is_down = |it: &Result<(), PublishError>| matches!(it, Err(PublishError::Down(_)));
            assert!(answers.iter().all(is_down), "{answers:?}");
        }
    }
}

#[tokio::test]
async fn producers_are_made_anew_while_their_cluster_loses_everything_and_work_again() {
    let rounds = std::env::var(ROUNDS).map_or(3, |it| it.parse().unwrap());
    let mut server = BrokerServer::start(BrokerKind::Kafka).unwrap();
    server.create_topic("orders").unwrap();
    let settings = KafkaSettings {
        timeout: Duration::from_millis(300),
        ..KafkaSettings::new(server.url())
    };
    let kafkas: Vec<Kafka> = (0..PRODUCERS)
        .map(|_| Kafka::new(settings.clone()).unwrap())
        .collect();
    let all_work = || async {
        let answers = join_all(kafkas.iter().map(publish)).await;
        answers.iter().flatten().all(Result::is_ok)
    };
    for round in 0..rounds {
        wait_until(Duration::from_secs(60), "all producers", all_work).await;
        server.kill9();
        let patience = Duration::from_millis([2000, 310, 290][round % 3]);
        join_all(kafkas.iter().map(|it| in_vain(it, IN_VAIN, patience))).await;
        server.restart().unwrap();
        if round % 2 == 1 {
            // The cluster is there, without the topic.
            let calls = kafkas.iter().map(publish);
            let _ = tokio::time::timeout(patience, join_all(calls)).await;
        }
        // It fails when a producer's question has made the topic meanwhile.
        let _ = server.create_topic("orders");
    }
    wait_until(Duration::from_secs(60), "all producers", all_work).await;
}

#[tokio::test]
async fn a_producer_that_ends_during_an_outage_holds_up_nobody() {
    let server = BrokerServer::start(BrokerKind::Kafka).unwrap();
    server.create_topic("orders").unwrap();
    let kafka = Arc::new(Kafka::new(KafkaSettings::new(server.url())).unwrap());
    wait_until(Duration::from_secs(60), "the producer", || async {
        publish(&kafka).await.iter().all(Result::is_ok)
    })
    .await;
    drop(server);
    // A call that waits for its answers for 8 s, and whose caller does not.
    let given_up = tokio::time::timeout(Duration::from_millis(100), publish(&kafka)).await;
    assert!(given_up.is_err());
    let watch = ratebox_kit::Stopwatch::start();
    drop(kafka);
    let took = watch.elapsed();
    assert!(took < Duration::from_millis(50), "its end took {took:?}");
}
