//! NATS JetStream: a message counts as sent when a stream has stored it. Every message carries the
//! event's id as `Nats-Msg-Id`, so that a stream drops a second publication within its window of
//! duplicates (2 minutes unless told).
//!
//! The topic is the subject. A subject that no stream takes, and a message that is too large, are
//! refused; a stream without room and a server that is away are `Down`.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, Request, RequestErrorKind};
use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_kit::Secret;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::{Broker, Outgoing, PublishError};

/// How to reach NATS.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// `nats://user:password@host:port`, or several with commas between.
    pub url: Secret,
    /// A stream that has not confirmed a message for so long is away.
    pub timeout: Duration,
}

impl NatsSettings {
    /// A server, 5 s for an answer.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Publishes to the streams of NATS JetStream. Connects when it is needed; the client reconnects
/// by itself.
pub struct Nats {
    settings: NatsSettings,
    client: OnceCell<Client>,
}

/// What JetStream answers to a publication (NATS architecture decision record ADR-1).
#[derive(Deserialize)]
struct Stored {
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    #[serde(default)]
    description: String,
}

type Answer = Result<(), PublishError>;

impl Nats {
    /// A broker that connects with its first message.
    pub fn new(settings: NatsSettings) -> Self {
        Self {
            settings,
            client: OnceCell::new(),
        }
    }

    async fn client(&self) -> Result<&Client, PublishError> {
        let connect = || async {
            let options = ConnectOptions::new()
                .name("ratebox-outbox")
                .connection_timeout(self.settings.timeout)
                .request_timeout(Some(self.settings.timeout));
            let servers: Vec<&str> = self.settings.url.reveal().split(',').collect();
            options.connect(servers).await
        };
        let client = self.client.get_or_try_init(connect).await;
        client.map_err(|error| PublishError::Down(error.to_string()))
    }

    async fn send(&self, client: &Client, message: Outgoing) -> Answer {
        let mut headers = HeaderMap::new();
        let id = message.message.id.0.as_str();
        headers.insert("Nats-Msg-Id", id);
        headers.insert("rb-id", id);
        for (name, value) in &message.message.headers {
            headers.append(name.as_str(), value.as_str());
        }
        let request = Request::new()
            .headers(headers)
            .payload(message.message.body);
        match client.send_request(message.topic, request).await {
            Ok(answer) => judge(&answer.payload),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => nobody(client).await,
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    PublishError::Rejected(error.to_string())
                }
                RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                    PublishError::Down(error.to_string())
                }
            }),
        }
    }
}

#[async_trait]
impl Broker for Nats {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => return messages.iter().map(|_| Err(error.clone())).collect(),
        };
        join_all(messages.into_iter().map(|it| self.send(client, it))).await
    }
}

/// Nobody took the message: either no stream has its subject, or JetStream does not run.
async fn nobody(client: &Client) -> PublishError {
    match client.send_request("$JS.API.INFO", Request::new()).await {
        Ok(_) => PublishError::Rejected("no stream takes this subject".to_owned()),
        Err(_) => PublishError::Down("JetStream does not answer".to_owned()),
    }
}

fn judge(answer: &[u8]) -> Answer {
    match serde_json::from_slice::<Stored>(answer) {
        Ok(Stored { error: None }) => Ok(()),
        // 503 is a stream without room or without a leader.
        Ok(Stored { error: Some(it) }) if it.code >= 500 => Err(PublishError::Down(it.description)),
        Ok(Stored { error: Some(it) }) => Err(PublishError::Rejected(it.description)),
        Err(_) => Err(PublishError::Rejected(
            "somebody else than a stream answered".to_owned(),
        )),
    }
}
