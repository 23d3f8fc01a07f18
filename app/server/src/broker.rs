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
            // Who lacks a right or a password waits for whoever gives it, and loses no event to that.
            Err(error) if error.is_retryable() || error.is_denied() => {
                Err(PublishError::Down(Causes(&error).to_string()))
            }
            Err(error) => Err(PublishError::Rejected(Causes(&error).to_string())),
        };
        answers.into_iter().map(answer).collect()
    }
}

/// Every broker that can stand beside the bus, and the setting that names it.
const BESIDE: [(&str, &str); 3] = [
    ("kafka", "brokers.kafka"),
    ("rabbitmq", "brokers.rabbitmq_url"),
    ("nats", "brokers.nats_url"),
];

/// Their names: topics that begin with one and a colon are never streams.
pub fn names() -> impl Iterator<Item = &'static str> {
    BESIDE.iter().map(|(name, _)| *name)
}

/// Whether the brokers that the settings name can work, as far as that shows; nobody is asked
/// anything.
///
/// # Errors
/// When a setting cannot work, or names a broker that this binary was built without.
pub fn check(config: &BrokersConfig) -> Result<()> {
    config.check()?;
    config.check_files()?;
    #[cfg(feature = "rabbitmq")]
    rabbitmq(config)?;
    #[cfg(feature = "nats")]
    nats(config)?;
    Ok(())
}

/// The bus, and beside it the brokers that the settings name. The events of those that they do not name
/// wait: they are no streams of the bus.
///
/// # Errors
/// As [`check`].
pub fn with_others(bus: StreamBroker, config: &BrokersConfig) -> Result<Arc<dyn Broker>> {
    check(config)?;
    let router = Router::new(Arc::new(bus));
    #[cfg(feature = "kafka")]
    let router = if config.kafka.is_empty() {
        router
    } else {
        let settings = ratebox_outbox::KafkaSettings::new(config.kafka.as_str());
        let kafka = ratebox_outbox::Kafka::new(settings).map_err(unusable)?;
        router.with("kafka", Arc::new(kafka))
    };
    #[cfg(feature = "rabbitmq")]
    let router = match rabbitmq(config)? {
        None => router,
        Some(rabbitmq) => router.with("rabbitmq", Arc::new(rabbitmq)),
    };
    #[cfg(feature = "nats")]
    let router = match nats(config)? {
        None => router,
        Some(nats) => router.with("nats", Arc::new(nats)),
    };
    let absent = BESIDE.into_iter().filter(|(name, _)| !config.has(name));
    let router = absent.fold(router, |router, (name, key)| {
        router.without(name, format!("no broker named {name}: set {key}"))
    });
    Ok(Arc::new(router))
}

#[cfg(feature = "rabbitmq")]
fn rabbitmq(config: &BrokersConfig) -> Result<Option<ratebox_outbox::Rabbitmq>> {
    let Some(url) = config.rabbitmq()? else {
        return Ok(None);
    };
    let mut settings = ratebox_outbox::RabbitmqSettings::new(url);
    settings.exchange.clone_from(&config.rabbitmq_exchange);
    settings.check().map_err(unusable)?;
    Ok(Some(ratebox_outbox::Rabbitmq::new(settings)))
}

#[cfg(feature = "nats")]
fn nats(config: &BrokersConfig) -> Result<Option<ratebox_outbox::Nats>> {
    let Some(url) = config.nats()? else {
        return Ok(None);
    };
    let settings = ratebox_outbox::NatsSettings::new(url);
    settings.check().map_err(unusable)?;
    Ok(Some(ratebox_outbox::Nats::new(settings)))
}

/// What a broker says of its settings.
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
fn unusable(error: PublishError) -> anyhow::Error {
    match error {
        PublishError::Down(why) | PublishError::Rejected(why) => anyhow::Error::msg(why),
    }
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

    #[tokio::test]
    async fn a_topic_of_a_broker_that_the_settings_do_not_name_becomes_no_stream() {
        let log = Arc::new(MemoryLog::new(Clock::system()));
        let config = crate::config::load(&crate::config::Sources::default()).unwrap();
        let bus = StreamBroker::new(log.clone(), []);
        let broker = with_others(bus, &config.brokers).unwrap();
        assert!(broker.routes().is_empty(), "nobody serves it");
        let topics = ["rabbitmq:orders", "orders:rabbitmq"];
        let messages = topics.map(|topic| outgoing(topic, None, 0));
        let answers = broker.publish(messages.to_vec()).await;
        let why = "no broker named rabbitmq: set brokers.rabbitmq_url";
        assert_eq!(answers[0], Err(PublishError::Down(why.to_owned())));
        assert_eq!(answers[1], Ok(()));
    }
}
