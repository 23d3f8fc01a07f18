//! The outbox's brokers: the stream's log, whose topics are streams, and those beside it.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use ratebox_outbox::{Broker, Outgoing, PublishError, Router};
use ratebox_stream::{Append, Log, StreamName};

use crate::config::BrokersConfig;

/// Publishes events to streams.
pub struct StreamBroker {
    log: Arc<dyn Log>,
    /// Streams without groups, and the entries that they keep.
    bounded: HashMap<String, (StreamName, u64)>,
}

impl StreamBroker {
    /// A broker that keeps everything but for the streams in `bounded`.
    pub fn new(log: Arc<dyn Log>, bounded: impl IntoIterator<Item = (String, u64)>) -> Self {
        let bounded = bounded
            .into_iter()
            .map(|(name, keep)| (name.clone(), (StreamName::new(&name), keep)))
            .collect();
        Self { log, bounded }
    }

    fn append(&self, outgoing: Outgoing) -> Append {
        match self.bounded.get(&outgoing.topic) {
            Some((stream, keep)) => Append::new(stream.clone(), outgoing.message).keep_about(*keep),
            None => Append::new(StreamName::new(&outgoing.topic), outgoing.message),
        }
    }
}

#[async_trait]
impl Broker for StreamBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let appends: Vec<Append> = messages.into_iter().map(|it| self.append(it)).collect();
        let answers = self.log.append(&appends).await;
        let answer = |it: Result<_, ratebox_stream::Error>| match it {
            Ok(_) => Ok(()),
            Err(error) if error.is_retryable() => Err(PublishError::Down(error.to_string())),
            Err(error) => Err(PublishError::Rejected(error.to_string())),
        };
        answers.into_iter().map(answer).collect()
    }
}

/// The bus, and beside it the brokers that the settings name.
///
/// # Errors
/// When a setting cannot work, or names a broker that this binary was built without.
pub fn with_others(bus: StreamBroker, config: &BrokersConfig) -> Result<Arc<dyn Broker>> {
    config.check()?;
    let router = Router::new(Arc::new(bus));
    #[cfg(feature = "kafka")]
    let router = if config.kafka.is_empty() {
        router
    } else {
        let settings = ratebox_outbox::KafkaSettings::new(config.kafka.as_str());
        router.with("kafka", Arc::new(ratebox_outbox::Kafka::new(settings)?))
    };
    #[cfg(feature = "rabbitmq")]
    let router = match config.rabbitmq()? {
        None => router,
        Some(url) => {
            let mut settings = ratebox_outbox::RabbitmqSettings::new(url);
            settings.exchange.clone_from(&config.rabbitmq_exchange);
            router.with(
                "rabbitmq",
                Arc::new(ratebox_outbox::Rabbitmq::new(settings)),
            )
        }
    };
    #[cfg(feature = "nats")]
    let router = match config.nats()? {
        None => router,
        Some(url) => {
            let settings = ratebox_outbox::NatsSettings::new(url);
            router.with("nats", Arc::new(ratebox_outbox::Nats::new(settings)))
        }
    };
    Ok(Arc::new(router))
}
