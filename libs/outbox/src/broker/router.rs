//! Several brokers behind one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Broker, Outgoing, PublishError};

/// Sends each message to the broker that its topic names: `kafka:orders` goes to the broker that was
/// added as `kafka`, as `orders`; a topic without the name of a broker goes to the first one.
///
/// One broker that is away lets the others work on; its messages are `Down`, and in the outbox they
/// have partitions of their own, so that events of other brokers do not wait behind them. The order
/// of a key is therefore that of its events to one broker. A broker that is taken away leaves its
/// events in the outbox until one of its name is back; so does one that is not there by intention
/// ([`Router::without`]).
pub struct Router {
    home: Arc<dyn Broker>,
    others: Vec<(String, Arc<dyn Broker>)>,
    /// Names of brokers that are not there, and what is told of them.
    absent: Vec<(String, String)>,
}

impl Router {
    /// Everything goes to `home`.
    pub fn new(home: Arc<dyn Broker>) -> Self {
        Self {
            home,
            others: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Adds a broker under a name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, broker: Arc<dyn Broker>) -> Self {
        self.others.push((name.into(), broker));
        self
    }

    /// Keeps a name for a broker that is not there: what goes to it waits in the outbox, in partitions of
    /// its own, until a relay serves it; nothing is published to the first broker under such a topic.
    /// `why` is told to whoever tries.
    #[must_use]
    pub fn without(mut self, name: impl Into<String>, why: impl Into<String>) -> Self {
        self.absent.push((name.into(), why.into()));
        self
    }

    /// Why nobody takes a topic.
    fn lack(&self, topic: &str) -> Option<PublishError> {
        let (name, _) = topic.split_once(':')?;
        let (_, why) = self.absent.iter().find(|(absent, _)| absent == name)?;
        Some(PublishError::Down(why.clone()))
    }

    /// Which broker takes a topic (0 is home), and what that one calls it.
    fn route<'a>(&self, topic: &'a str) -> (usize, &'a str) {
        let named = topic.split_once(':').and_then(|(name, rest)| {
            let place = self.others.iter().position(|(other, _)| other == name)?;
            Some((place + 1, rest))
        });
        named.unwrap_or((0, topic))
    }
}

#[async_trait]
impl Broker for Router {
    fn routes(&self) -> Vec<&str> {
        self.others.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn reserved(&self) -> Vec<&str> {
        self.absent.iter().map(|(name, _)| name.as_str()).collect()
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let is_lacking = |it: &Outgoing| self.lack(&it.topic).is_some();
        if self.others.is_empty() && !messages.iter().any(is_lacking) {
            return self.home.publish(messages).await;
        }
        let mut places = Vec::with_capacity(messages.len());
        let mut parts: Vec<Vec<Outgoing>> = Vec::new();
        parts.resize_with(self.others.len() + 1, Vec::new);
        for mut message in messages {
            if let Some(lack) = self.lack(&message.topic) {
                places.push(Err(lack));
                continue;
            }
            let (place, topic) = self.route(&message.topic);
            if place > 0 {
                message.topic = topic.to_owned();
            }
            places.push(Ok(place));
            if let Some(part) = parts.get_mut(place) {
                part.push(message);
            }
        }
        let brokers = std::iter::once(&self.home).chain(self.others.iter().map(|(_, it)| it));
        let calls = brokers
            .zip(parts)
            .map(async |(broker, part)| match part.is_empty() {
                true => Vec::new(),
                false => broker.publish(part).await,
            });
        let answers = futures_util::future::join_all(calls).await;
        let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
        let unanswered = || Err(PublishError::Down("no answer".to_owned()));
        let mut answer = |place: usize| answers.get_mut(place).and_then(Iterator::next);
        places
            .into_iter()
            .map(|place| answer(place?).unwrap_or_else(unanswered))
            .collect()
    }
}
