//! RabbitMQ, with publisher confirms: a message counts as sent when the broker has confirmed it and
//! did not return it. Messages are persistent and carry the event's id as `message-id`.
//!
//! The topic is the routing key, unless the event has one. What matches no queue is returned and
//! therefore refused; so is what closes the channel (an exchange that does not exist, a message
//! that is too large). A full queue that rejects, and a broker out of memory or disk, are `Down`.

use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use lapin::{ErrorKind, ExchangeKind, PublisherConfirm};
use ratebox_kit::Secret;
use tokio::sync::Mutex;

use crate::{Broker, Outgoing, PublishError};

/// How to reach RabbitMQ.
#[derive(Clone, Debug)]
pub struct RabbitmqSettings {
    /// `amqp://user:password@host:port/vhost`.
    pub url: Secret,
    /// Where messages go; empty for the default exchange, whose routing keys are names of queues.
    pub exchange: String,
    /// Makes the exchange (durable, of kind `topic`) when it does not exist.
    pub declare: bool,
    /// Time to connect.
    pub connect_timeout: Duration,
}

impl RabbitmqSettings {
    /// The default exchange of a server, 5 s to connect.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            exchange: String::new(),
            declare: false,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Publishes to one exchange of RabbitMQ. Connects when it is needed, and again when the link
/// broke.
pub struct Rabbitmq {
    settings: RabbitmqSettings,
    link: Mutex<Option<Link>>,
}

struct Link {
    connection: Connection,
    channel: Channel,
}

/// Persistent (AMQP 0-9-1, basic properties).
const PERSISTENT: u8 = 2;

type Answer = Result<(), PublishError>;

impl Rabbitmq {
    /// A broker that connects with its first message.
    pub fn new(settings: RabbitmqSettings) -> Self {
        Self {
            settings,
            link: Mutex::new(None),
        }
    }

    /// A channel that confirms, on a link that works.
    async fn channel(&self) -> Result<Channel, lapin::Error> {
        let mut link = self.link.lock().await;
        if let Some(link) = &mut *link
            && link.connection.status().connected()
        {
            if !link.channel.status().connected() {
                link.channel = open(&link.connection).await?;
            }
            return Ok(link.channel.clone());
        }
        let connection = Connection::connect(
            self.settings.url.reveal(),
            ConnectionProperties::default().with_connection_name("ratebox-outbox".into()),
        )
        .await?;
        let channel = open(&connection).await?;
        self.declare(&channel).await?;
        let shared = channel.clone();
        *link = Some(Link {
            connection,
            channel,
        });
        Ok(shared)
    }

    async fn declare(&self, channel: &Channel) -> Result<(), lapin::Error> {
        if self.settings.exchange.is_empty() || !self.settings.declare {
            return Ok(());
        }
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let name = ShortString::from(self.settings.exchange.as_str());
        channel
            .exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default())
            .await
    }

    /// Sends all and answers what is known of each; `None` when the channel ended before.
    async fn send(&self, messages: &[Outgoing]) -> Result<Vec<Option<Answer>>, lapin::Error> {
        let channel = self.channel().await?;
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            confirms.push(self.publish_one(&channel, message).await.ok());
        }
        let mut answers = Vec::with_capacity(messages.len());
        for confirm in confirms {
            let confirmed = match confirm {
                Some(confirm) => confirm.await.ok(),
                None => None,
            };
            answers.push(confirmed.map(judge));
        }
        Ok(answers)
    }

    async fn publish_one(
        &self,
        channel: &Channel,
        message: &Outgoing,
    ) -> Result<PublisherConfirm, lapin::Error> {
        let key = message.routing_key.as_ref().unwrap_or(&message.topic);
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        channel
            .basic_publish(
                self.settings.exchange.as_str().into(),
                key.as_str().into(),
                mandatory,
                &message.message.body,
                properties(message),
            )
            .await
    }

    /// Publishes one message by itself: what ends the channel now is to blame.
    async fn alone(&self, message: &Outgoing) -> Answer {
        let channel = self.channel().await.map_err(|it| down(&it))?;
        let confirm = match self.publish_one(&channel, message).await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirm {
            Ok(confirmation) => judge(confirmation),
            Err(error) => match error.kind() {
                // A soft error ends the channel, not the link: it was this message.
                ErrorKind::ProtocolError(amqp) => {
                    Err(PublishError::Rejected(amqp.get_message().to_string()))
                }
                _ => Err(self.why_ended(&error).await),
            },
        }
    }

    /// The channel's end may be told before its reason is.
    async fn why_ended(&self, error: &lapin::Error) -> PublishError {
        let link = self.link.lock().await;
        match &*link {
            Some(link) if link.connection.status().connected() => {
                PublishError::Rejected(format!("the broker closed the channel: {error}"))
            }
            _ => down(error),
        }
    }
}

#[async_trait]
impl Broker for Rabbitmq {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        let limit = self.settings.connect_timeout;
        let away = match tokio::time::timeout(limit, self.channel()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(down(&error)),
            Err(_) => Some(PublishError::Down("no connection in time".to_owned())),
        };
        if let Some(away) = away {
            return messages.iter().map(|_| Err(away.clone())).collect();
        }
        let sent = match self.send(&messages).await {
            Ok(sent) => sent,
            Err(error) => return messages.iter().map(|_| Err(down(&error))).collect(),
        };
        let mut answers = Vec::with_capacity(messages.len());
        let mut is_down = false;
        for (message, answer) in messages.iter().zip(sent) {
            let answer = match answer {
                Some(answer) => answer,
                None if is_down => Err(PublishError::Down("the link broke".to_owned())),
                None => self.alone(message).await,
            };
            is_down |= matches!(answer, Err(PublishError::Down(_)));
            answers.push(answer);
        }
        answers
    }
}

async fn open(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

fn properties(message: &Outgoing) -> BasicProperties {
    let id = message.message.id.0.as_str();
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    };
    put("rb-id", id);
    for (name, value) in &message.message.headers {
        put(name, value);
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id.into())
        .with_headers(headers);
    match message.message.header("event-type") {
        Some(kind) => properties.with_type(kind.into()),
        None => properties,
    }
}

fn judge(confirmation: Confirmation) -> Answer {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Err(PublishError::Rejected(format!(
                "returned: {} ({})",
                returned.reply_text, returned.reply_code
            )))
        }
        Confirmation::Nack(None) => Err(PublishError::Down("the queue has no room".to_owned())),
        Confirmation::NotRequested => Err(PublishError::Down("no confirmation".to_owned())),
    }
}

fn down(error: &lapin::Error) -> PublishError {
    PublishError::Down(error.to_string())
}
