//! The outbox's broker over the stream's log: topics are streams.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use ratebox_outbox::{Broker, Outgoing, PublishError};
use ratebox_stream::{Append, Log, StreamName};

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
            None => Append::carried(StreamName::new(&outgoing.topic), outgoing.message),
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
