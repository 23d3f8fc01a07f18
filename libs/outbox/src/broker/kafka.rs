//! Kafka, by librdkafka's idempotent producer with `acks=all`: a message counts as sent when all
//! replicas in sync have it, and is written once a try, in order, within its partition.
//!
//! The record's key is the event's partition key, else the id of its aggregate, else its key. A
//! topic that does not exist, what can be no topic's name and a message that is too large are refused;
//! a cluster that is away and a full queue are `Down`. There is no TLS in this build: librdkafka
//! brings OpenSSL for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Secret;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _, PurgeConfig};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::{Broker, Outgoing, PublishError};

/// How to reach Kafka.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, or several with commas between.
    pub bootstrap: String,
    /// A message that is not confirmed after so long is `Down`.
    pub timeout: Duration,
    /// Further properties of librdkafka, such as `sasl.username` or `compression.type`.
    pub properties: Vec<(String, Secret)>,
}

impl KafkaSettings {
    /// A cluster, 8 s for a confirmation.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            timeout: Duration::from_secs(8),
            properties: Vec::new(),
        }
    }
}

/// Publishes to topics of Kafka.
pub struct Kafka {
    settings: KafkaSettings,
    /// Made anew when an error has ended it for good.
    producer: Mutex<Arc<InUse>>,
    /// Calls in a row of which nothing came through.
    in_vain: AtomicU32,
}

/// After so many calls in vain the producer is made anew: a cluster that lost its data does not know
/// the producer any more, which librdkafka does not always get over.
const IN_VAIN_MAX: u32 = 3;

/// Kafka's names of topics are no longer, in bytes.
const TOPIC_MAX: usize = 249;
const NO_TOPIC: &str = "this can be no topic of Kafka: its name has 1 to 249 letters";

type Answer = Result<(), PublishError>;

/// A producer that ends on a thread of its own, once nobody waits for its answers any more: its end
/// joins librdkafka's threads, which takes up to a second while the cluster is away.
struct InUse(Option<FutureProducer>);

impl InUse {
    fn get(&self) -> &FutureProducer {
        self.0.as_ref().expect("it is taken out at its end only")
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let ended = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(ended));
        }
    }
}

impl Kafka {
    /// A producer; it connects in the background.
    ///
    /// # Errors
    /// [`PublishError::Rejected`] when librdkafka refuses a property.
    pub fn new(settings: KafkaSettings) -> Result<Self, PublishError> {
        let producer = Mutex::new(Arc::new(producer(&settings)?));
        Ok(Self {
            settings,
            producer,
            in_vain: AtomicU32::new(0),
        })
    }

    /// A producer that works.
    async fn producer(&self) -> Result<Arc<InUse>, PublishError> {
        let mut held = self.producer.lock().await;
        let fatal = held.get().client().fatal_error().map(|(code, _)| code);
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        if fatal.is_some() || in_vain >= IN_VAIN_MAX {
            tracing::warn!(?fatal, in_vain, "the Kafka producer is made anew");
            let new = Arc::new(producer(&self.settings)?);
            // Nothing that the old one still holds may come after what the new one sends; whoever
            // waits for it is told that it did not come through.
            let old = std::mem::replace(&mut *held, new);
            old.get().purge(PurgeConfig::default().queue().inflight());
            self.in_vain.store(0, Ordering::Relaxed);
        }
        Ok(held.clone())
    }
}

#[async_trait]
impl Broker for Kafka {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        if messages.is_empty() {
            return Vec::new(); // Nothing came through, and nothing was in vain.
        }
        let producer = match self.producer().await {
            Ok(producer) => producer,
            Err(error) => return messages.iter().map(|_| Err(error.clone())).collect(),
        };
        // All are queued, in order, before the first is waited for.
        let queued: Vec<_> = messages
            .iter()
            .map(|it| match is_topic(&it.topic) {
                true => queue(producer.get(), it).map_err(|error| judge(&error)),
                false => Err(PublishError::Rejected(NO_TOPIC.to_owned())),
            })
            .collect();
        let mut answers = Vec::with_capacity(queued.len());
        for delivery in queued {
            answers.push(match delivery {
                Ok(delivery) => match delivery.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((error, _))) => Err(judge(&error)),
                    Err(_) => Err(PublishError::Down("the producer ended".to_owned())),
                },
                Err(refusal) => Err(refusal),
            });
        }
        if answers
            .iter()
            .all(|it| matches!(it, Err(PublishError::Down(_))))
        {
            self.in_vain.fetch_add(1, Ordering::Relaxed);
        } else {
            self.in_vain.store(0, Ordering::Relaxed);
        }
        answers
    }
}

fn producer(settings: &KafkaSettings) -> Result<InUse, PublishError> {
    let mut config = ClientConfig::new();
    let timeout = settings.timeout.as_millis().to_string();
    let unknown_after = (settings.timeout.as_millis() / 2).to_string();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("client.id", "ratebox-outbox")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("message.timeout.ms", &timeout)
        // A topic that the cluster does not know by then does not exist. librdkafka's 30 s are longer
        // than a message waits: it would count as `Down`, and hold up the others for ever.
        .set("topic.metadata.propagation.max.ms", &unknown_after)
        // The cluster gets our messages, no figures about us; a producer that pushes them waits up
        // to 1 s at its end until the last ones are away.
        .set("enable.metrics.push", "false")
        // What no broker would take is refused by the broker, not by the client's default of 1 MB.
        .set("message.max.bytes", "16777216");
    for (name, value) in &settings.properties {
        config.set(name, value.reveal());
    }
    let created = config.create();
    let created = created.map_err(|error| PublishError::Rejected(error.to_string()))?;
    Ok(InUse(Some(created)))
}

/// Which letters a name may have, the cluster says.
fn is_topic(name: &str) -> bool {
    (1..=TOPIC_MAX).contains(&name.len()) && !name.contains('\0')
}

fn queue(producer: &FutureProducer, message: &Outgoing) -> Result<DeliveryFuture, KafkaError> {
    let told = &message.message;
    let mut headers = OwnedHeaders::new_with_capacity(told.headers.len() + 1);
    let id = ("rb-id", told.id.0.as_str());
    let named = told
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (key, value) in std::iter::once(id).chain(named) {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    let mut record = FutureRecord::to(&message.topic)
        .payload(told.body.as_ref())
        .headers(headers);
    if let Some(key) = message.partition_key.as_ref().or(message.key.as_ref()) {
        record = record.key(key.as_str());
    }
    producer.send_result(record).map_err(|(error, _)| error)
}

fn judge(error: &KafkaError) -> PublishError {
    use RDKafkaErrorCode as Code;
    let text = error.to_string();
    if matches!(error, KafkaError::Nul(_)) {
        return PublishError::Rejected(text);
    }
    let Some(code) = error.rdkafka_error_code() else {
        return PublishError::Down(text);
    };
    let is_refusal = [
        Code::MessageSizeTooLarge,
        Code::InvalidMessageSize,
        Code::InvalidMessage,
        Code::MessageBatchTooLarge,
        Code::UnknownTopic,
        Code::UnknownTopicOrPartition,
        Code::InvalidTopic,
        Code::TopicAuthorizationFailed,
        Code::PolicyViolation,
        Code::InvalidRecord,
        // librdkafka itself does not take the message.
        Code::InvalidArgument,
    ]
    .contains(&code);
    if is_refusal {
        PublishError::Rejected(text)
    } else {
        PublishError::Down(text)
    }
}
