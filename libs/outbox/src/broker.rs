//! The port to whatever carries the events away.

#[cfg(feature = "kafka")]
pub(crate) mod kafka;
#[cfg(feature = "nats")]
pub(crate) mod nats;
#[cfg(feature = "rabbitmq")]
pub(crate) mod rabbitmq;
pub(crate) mod router;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use ratebox_kit::{Message, Stopwatch};

use crate::Event;
use crate::event::{PARTITIONS, fnv1a};
use crate::relay::NO_ANSWER;

const PANIC: &str = "the broker panicked at it";

/// How often the log is told of a panic: an event is tried again, and others may be alike.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Since it was told of the last one.
static SAID: Mutex<Option<Stopwatch>> = Mutex::new(None);

/// A message and where it goes.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Stream, topic or queue.
    pub topic: String,
    /// The key whose events keep their order.
    pub key: Option<String>,
    /// Routing key, when it differs from the topic.
    pub routing_key: Option<String>,
    /// Chooses the broker's partition, when it differs from the key.
    pub partition_key: Option<String>,
    /// What to publish.
    pub message: Message,
}

impl Outgoing {
    /// A message without keys.
    pub fn new(topic: impl Into<String>, message: Message) -> Self {
        Self {
            topic: topic.into(),
            key: None,
            routing_key: None,
            partition_key: None,
            message,
        }
    }

    /// What is published of an event.
    pub(crate) fn of(event: &Event) -> Self {
        let about = event.about.as_deref();
        let partition_key = about.and_then(|it| it.partition_key.as_deref());
        Self {
            topic: event.topic.clone(),
            key: event.key.clone(),
            routing_key: about.and_then(|it| it.routing_key.clone()),
            partition_key: partition_key.or(event.aggregate_id()).map(str::to_owned),
            message: event.message(),
        }
    }
}

/// Why one message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker is away or full; it is nobody's fault and charged to nobody.
    #[error("the broker cannot be reached or has no room: {0}")]
    Down(String),
    /// The broker refused this very message.
    #[error("the broker refused the message: {0}")]
    Rejected(String),
}

/// Publishes messages. Object-safe; one implementation a broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes all messages in one go, in order, and answers for each. `Ok` means that the
    /// broker has confirmed it.
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>>;

    /// Names of the brokers behind this one whose events must not wait for one another's: those
    /// whose topics begin with `name:` have partitions of their own. None, unless it is a router.
    fn routes(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Names that are kept for brokers which are not there: events whose topics begin with `name:` wait
    /// in partitions of that broker. None, unless it is a router.
    fn reserved(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Publishes events and answers for each. Where the broker panics, halves find the one to blame,
/// which counts as refused; what was taken before the panic is published again.
pub(crate) async fn publish(
    broker: &dyn Broker,
    events: &[&Event],
) -> Vec<Result<(), PublishError>> {
    let mut answers = Vec::with_capacity(events.len());
    let mut parts = match events.is_empty() {
        true => Vec::new(),
        false => vec![events],
    };
    while let Some(part) = parts.pop() {
        let outgoing = part.iter().map(|it| Outgoing::of(it)).collect();
        let call = AssertUnwindSafe(broker.publish(outgoing)).catch_unwind();
        match call.await {
            Ok(mut told) => {
                // Whoever answers too little has confirmed nothing of the rest.
                told.resize(part.len(), Err(PublishError::Down(NO_ANSWER.to_owned())));
                answers.append(&mut told);
            }
            Err(_) if part.len() > 1 => {
                let (first, rest) = part.split_at(part.len() / 2);
                parts.extend([rest, first]);
            }
            Err(_) => {
                part.iter().for_each(|event| say_panic(event));
                answers.push(Err(PublishError::Rejected(PANIC.to_owned())));
            }
        }
    }
    answers
}

fn say_panic(event: &Event) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
        *said = Some(Stopwatch::start());
        let (id, topic) = (event.id, event.topic.as_str());
        tracing::error!(event.id = %id, topic, "the broker panicked at an event");
    }
}

/// Brokers with partitions of their own, whether they are there or not, and the first of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Arc<[(String, i64)]>);

impl Routes {
    pub(crate) fn of(broker: &dyn Broker) -> Self {
        let names = broker.routes().into_iter().chain(broker.reserved());
        Self::named(names)
    }

    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter();
        Self(names.map(|name| (name.to_owned(), base(name))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first partition of the broker that a topic names; 0 is that of all others.
    pub(crate) fn base(&self, topic: &str) -> i64 {
        let Some((name, _)) = topic.split_once(':') else {
            return 0;
        };
        let found = self.0.iter().find(|(route, _)| route == name);
        found.map_or(0, |(_, base)| *base)
    }

    /// Who has the partitions that begin here; `None` where nobody has them for himself.
    pub(crate) fn name(&self, base: i64) -> Option<String> {
        let found = self.0.iter().find(|(_, first)| *first == base);
        found.map(|(name, _)| name.clone())
    }
}

/// Numbers of partitions that are a name's: many, so that hardly two names share them; if they do,
/// they wait for one another.
const BASES: u64 = 2000;

/// The first of the partitions of a broker with this name.
pub(crate) fn base(name: &str) -> i64 {
    let place = 1 + fnv1a(name.as_bytes()) % BASES;
    i64::try_from(place).unwrap_or(1) * PARTITIONS
}
