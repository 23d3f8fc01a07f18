//! The outbox's brokers: the stream's log, whose topics are streams, and those beside it.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use ratebox_kit::Causes;
use ratebox_outbox::{Broker, Outgoing, PublishError, Router};
use ratebox_stream::{Append, Door, Entrant, Error, Log, Rooms, StreamName, Subscription, field};

use crate::config::BrokersConfig;

/// Publishes events to streams.
pub struct StreamBroker {
    log: Arc<dyn Log>,
    /// Streams without groups, and the entries that they keep.
    bounded: HashMap<String, (StreamName, u64)>,
    /// The rooms before the lanes, where owners wait behind themselves.
    rooms: Option<(Arc<dyn Rooms>, Subscription)>,
}

impl StreamBroker {
    /// A broker that keeps everything but for the streams in `bounded`.
    pub fn new(log: Arc<dyn Log>, bounded: impl IntoIterator<Item = (String, u64)>) -> Self {
        let bounded = bounded
            .into_iter()
            .map(|(name, keep)| (name.clone(), (StreamName::new(&name), keep)))
            .collect();
        Self {
            log,
            bounded,
            rooms: None,
        }
    }

    /// The same through rooms: what tells its owner and goes to a lane of `sub` waits in a room
    /// while the lane is long.
    pub fn fair(mut self, rooms: Arc<dyn Rooms>, sub: Subscription) -> Self {
        self.rooms = Some((rooms, sub));
        self
    }

    /// The owner of a message that must pass the door.
    fn owner(&self, append: &Append) -> Option<String> {
        let (_, sub) = self.rooms.as_ref()?;
        sub.lanes.lane_of(append.stream.as_str())?;
        append.message.header(field::OWNER).map(str::to_owned)
    }

    /// What has an owner through the door, the rest onto its stream; answers in order.
    async fn send(&self, appends: Vec<Append>) -> Vec<Result<(), Error>> {
        let Some((rooms, sub)) = &self.rooms else {
            let answers = self.log.append(&appends).await;
            return answers.into_iter().map(|it| it.map(drop)).collect();
        };
        let (mut entrants, mut others, mut at_door) = (Vec::new(), Vec::new(), Vec::new());
        for append in appends {
            let owner = self.owner(&append);
            at_door.push(owner.is_some());
            match owner {
                Some(owner) => entrants.push(Entrant { append, owner }),
                None => others.push(append),
            }
        }
        let entered = rooms.enter(sub, &entrants, Door::default()).await;
        let mut entered = entered.into_iter().map(|it| it.map(drop));
        let mut appended = self
            .log
            .append(&others)
            .await
            .into_iter()
            .map(|it| it.map(drop));
        let answer = |through| {
            if through {
                entered.next()
            } else {
                appended.next()
            }
        };
        at_door.into_iter().filter_map(answer).collect()
    }

    fn append(&self, outgoing: Outgoing) -> Append {
        let append = match self.bounded.get(&outgoing.topic) {
            Some((stream, keep)) => Append::new(stream.clone(), outgoing.message).keep_about(*keep),
            None => Append::carried(StreamName::new(&outgoing.topic), outgoing.message),
        };
        // Until it is marked as sent, an event is published again, here or by another process.
        append.recognised()
    }
}

#[async_trait]
impl Broker for StreamBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let appends: Vec<Append> = messages.into_iter().map(|it| self.append(it)).collect();
        let answers = self.send(appends).await;
        let answer = |it: Result<(), Error>| match it {
            Ok(()) => Ok(()),
            Err(error) if error.is_retryable() => {
                Err(PublishError::Down(Causes(&error).to_string()))
            }
            Err(error) => Err(PublishError::Rejected(Causes(&error).to_string())),
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

#[cfg(test)]
mod tests {
    use ratebox_kit::{Clock, Message};
    use ratebox_stream::{ConsumerName, GroupName, Lanes, MemoryLog};

    use super::*;

    fn outgoing(topic: &str, owner: Option<&str>, number: usize) -> Outgoing {
        let mut message = Message::new(format!("{topic}-{number}"), "x");
        if let Some(owner) = owner {
            message = message.with_header(field::OWNER, owner);
        }
        Outgoing::new(topic, message)
    }

    #[tokio::test]
    async fn a_flood_waits_in_its_room_and_answers_pass_by() {
        let log = Arc::new(MemoryLog::new(Clock::system()));
        let lanes = Lanes::of(&StreamName::new("requests"));
        let sub = Subscription::new(lanes, GroupName::new("g"), ConsumerName::new("c"));
        log.ensure_group(&sub).await.unwrap();
        let broker = StreamBroker::new(log.clone(), []).fair(log.clone(), sub.clone());
        let mut messages: Vec<Outgoing> = (0..3_000)
            .map(|number| outgoing("requests", Some("flood"), number))
            .collect();
        messages.push(outgoing("requests", Some("other"), 0));
        messages.push(outgoing("answers", Some("flood"), 0));
        messages.push(outgoing("requests", None, 0));
        let answers = broker.publish(messages).await;
        assert_eq!(answers.len(), 3_003);
        assert!(answers.iter().all(Result::is_ok));
        let rooms = log.rooms(&sub, 10).await.unwrap();
        let waiting: Vec<(&str, u64)> = rooms
            .iter()
            .map(|room| (room.owner.as_str(), room.waiting))
            .collect();
        assert_eq!(waiting, [("flood", 1_000), ("other", 1)]);
    }
}
