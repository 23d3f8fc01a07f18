//! RabbitMQ, with publisher confirms: a message counts as sent when the broker has confirmed it and
//! did not return it. Messages are persistent and carry the event's id as `message-id`.
//!
//! The topic is the routing key, unless the event has one. What matches no queue is returned and
//! therefore refused; so are what closes the channel (an exchange that does not exist, a message
//! that is too large) and what AMQP cannot carry: names of more than 255 bytes. A full queue that
//! rejects, and a broker out of memory or disk, are `Down`. There is no TLS in this build: `amqps://`
//! is refused.

mod link;

use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::protocol::AMQPError;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{BasicProperties, Channel, Confirmation, ConnectionStatus};
use lapin::{ErrorKind, ExchangeKind, PublisherConfirm};
use ratebox_kit::Secret;
use tokio::sync::Mutex;

use self::link::Link;
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

const UNREADABLE: &str = "the address of RabbitMQ cannot be read; write it as \
    amqp://user:password@host:port/vhost, with %2F for a slash in a name or password";
const NO_TLS: &str = "there is no TLS to RabbitMQ: amqps:// would send the password in the clear; \
    let a TLS proxy beside this process connect, and name it with amqp://";
const NO_NUMBER: &str = "the address of RabbitMQ has an IPv6 number; write the name of the host";

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

    /// Refuses what can never work, without a word of the address: it may hold a password.
    ///
    /// # Errors
    /// [`PublishError::Rejected`], with what to change.
    pub fn check(&self) -> Result<(), PublishError> {
        if !is_short(&self.exchange) {
            let why = "the name of RabbitMQ's exchange is longer than 255 bytes";
            return Err(PublishError::Rejected(why.to_owned()));
        }
        let address = self.address();
        address
            .map(drop)
            .map_err(|why| PublishError::Rejected(why.to_owned()))
    }

    fn address(&self) -> Result<AMQPUri, &'static str> {
        let url = self.url.reveal();
        // What the parser says of an address may hold all of it.
        let uri: AMQPUri = url.parse().map_err(|_| UNREADABLE)?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(NO_TLS);
        }
        let authority = url.split("://").nth(1).and_then(|it| it.split('/').next());
        let host = authority.and_then(|it| it.rsplit('@').next());
        // The parser would take this machine for it.
        if host.is_some_and(|it| it.starts_with('[')) {
            return Err(NO_NUMBER);
        }
        Ok(uri)
    }
}

/// Publishes to one exchange of RabbitMQ. Connects when it is needed, and again when the link
/// broke.
pub struct Rabbitmq {
    settings: RabbitmqSettings,
    link: Mutex<Option<Link>>,
}

/// Persistent (AMQP 0-9-1, basic properties).
const PERSISTENT: u8 = 2;
/// AMQP's short strings: names of queues, exchanges, headers and types.
const SHORT_MAX: usize = 255;
/// How often a call that waits looks whether the broker has shut its door.
const LOOK: Duration = Duration::from_millis(100);
const BLOCKED: &str = "RabbitMQ blocks publishers: a memory or disk alarm";
/// What ends a channel when there is no such exchange (AMQP 0-9-1, "not-found").
const NOT_FOUND: u16 = 404;
/// What ends a connection for reasons of the broker: an operator, its lack of resources, its bugs.
const OWN_REASONS: [u16; 3] = [320, 506, 541];

type Answer = Result<(), PublishError>;

impl Rabbitmq {
    /// A broker that connects with its first message.
    pub fn new(settings: RabbitmqSettings) -> Self {
        Self {
            settings,
            link: Mutex::new(None),
        }
    }

    /// A channel that confirms, on a link that works, and the link's state.
    async fn channel(&self) -> Result<(Channel, ConnectionStatus), PublishError> {
        let mut held = self.link.lock().await;
        if let Some(link) = &mut *held
            && link.is_ready().await
        {
            return Ok((link.channel.clone(), link.status().clone()));
        }
        if let Some(old) = held.take() {
            old.close().await;
        }
        let address = self.settings.address();
        let uri = address.map_err(|why| PublishError::Down(why.to_owned()))?;
        let link = Link::open(uri, self.settings.connect_timeout).await;
        let link = link.map_err(|error| down(&error))?;
        if let Err(error) = self.declare(&link.channel).await {
            link.close().await;
            return Err(down(&error));
        }
        let shared = (link.channel.clone(), link.status().clone());
        *held = Some(link);
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

    /// Publishes what AMQP can carry.
    async fn publish_fit(&self, messages: &[&Outgoing]) -> Vec<Answer> {
        let limit = self.settings.connect_timeout;
        let (channel, status) = match tokio::time::timeout(limit, self.channel()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(away)) => return every(messages, &away),
            Err(_) => {
                let away = PublishError::Down("no connection in time".to_owned());
                return every(messages, &away);
            }
        };
        tokio::select! {
            biased;
            // What is given to lapin now would be sent by it after the alarm, and by us again.
            () = blocked(&status) => every(messages, &PublishError::Down(BLOCKED.to_owned())),
            answers = self.publish_on(&channel, messages) => answers,
        }
    }

    async fn publish_on(&self, channel: &Channel, messages: &[&Outgoing]) -> Vec<Answer> {
        let sent = self.send(channel, messages).await;
        let mut answers = Vec::with_capacity(messages.len());
        let mut of_the_rest: Option<PublishError> = None;
        for (message, answer) in messages.iter().zip(sent) {
            answers.push(if let Some(answer) = answer {
                answer
            } else if let Some(error) = &of_the_rest {
                Err(error.clone())
            } else {
                let answer = self.alone(message).await;
                answer.map_err(|refusal| {
                    of_the_rest = refusal.of_the_rest();
                    refusal.error
                })
            });
        }
        answers
    }

    /// Sends all and answers what is known of each; `None` when the channel ended before.
    async fn send(&self, channel: &Channel, messages: &[&Outgoing]) -> Vec<Option<Answer>> {
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            confirms.push(self.publish_one(channel, message).await);
        }
        let mut missing = None;
        let mut answers = Vec::with_capacity(messages.len());
        for confirm in confirms {
            let confirmed = match confirm {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            answers.push(match confirmed {
                Ok(confirmation) => Some(judge(confirmation)),
                Err(error) => {
                    missing = missing.or_else(|| no_exchange(&error));
                    None
                }
            });
        }
        if let Some(missing) = missing {
            for answer in &mut answers {
                answer.get_or_insert_with(|| Err(missing.clone()));
            }
        }
        answers
    }

    async fn publish_one(
        &self,
        channel: &Channel,
        message: &Outgoing,
    ) -> Result<PublisherConfirm, lapin::Error> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        channel
            .basic_publish(
                self.settings.exchange.as_str().into(),
                routing_key(message).into(),
                mandatory,
                &message.message.body,
                properties(message),
            )
            .await
    }

    /// Publishes one message by itself: what ends the channel now is to blame.
    async fn alone(&self, message: &Outgoing) -> Result<(), Refusal> {
        let limit = self.settings.connect_timeout;
        let ready = match tokio::time::timeout(limit, self.channel()).await {
            Ok(ready) => ready,
            Err(_) => Err(PublishError::Down("no connection in time".to_owned())),
        };
        let (channel, _) = ready?;
        let confirm = match self.publish_one(&channel, message).await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirm {
            Ok(confirmation) => judge(confirmation).map_err(Refusal::from),
            Err(error) => match (no_exchange(&error), error.kind()) {
                (Some(missing), _) => Err(Refusal {
                    error: missing,
                    is_of_exchange: true,
                }),
                (None, ErrorKind::ProtocolError(amqp)) => Err(blame(amqp).into()),
                (None, _) => Err(self.why_ended(&error).await.into()),
            },
        }
    }

    /// The channel's end may be told before its reason is.
    async fn why_ended(&self, error: &lapin::Error) -> PublishError {
        let link = self.link.lock().await;
        match &*link {
            Some(link) if link.status().connected() => {
                PublishError::Rejected(format!("the broker closed the channel: {error}"))
            }
            _ => down(error),
        }
    }
}

#[async_trait]
impl Broker for Rabbitmq {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        let unfit: Vec<Option<PublishError>> = messages.iter().map(unfit).collect();
        let with_unfit = messages.iter().zip(&unfit);
        let fit: Vec<&Outgoing> = with_unfit
            .filter(|(_, unfit)| unfit.is_none())
            .map(|(message, _)| message)
            .collect();
        let answers = match fit.is_empty() {
            true => Vec::new(),
            false => self.publish_fit(&fit).await,
        };
        let mut answers = answers.into_iter();
        let nothing = || Err(PublishError::Down("no answer".to_owned()));
        unfit
            .into_iter()
            .map(|unfit| match unfit {
                Some(refusal) => Err(refusal),
                None => answers.next().unwrap_or_else(nothing),
            })
            .collect()
    }
}

/// Why a message that was published by itself was not taken.
struct Refusal {
    error: PublishError,
    is_of_exchange: bool,
}

// === impl Refusal ===

impl Refusal {
    /// What is known by it of those that follow, and had no answer either.
    fn of_the_rest(&self) -> Option<PublishError> {
        match &self.error {
            PublishError::Down(_) => Some(PublishError::Down("the link broke".to_owned())),
            PublishError::Rejected(_) => self.is_of_exchange.then(|| self.error.clone()),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        Self {
            error,
            is_of_exchange: false,
        }
    }
}

/// Ends when the broker takes nothing from publishers.
async fn blocked(status: &ConnectionStatus) {
    while !status.blocked() {
        tokio::time::sleep(LOOK).await;
    }
}

fn every(messages: &[&Outgoing], error: &PublishError) -> Vec<Answer> {
    messages.iter().map(|_| Err(error.clone())).collect()
}

/// All messages go to the one exchange: when it is not there, none is taken.
fn no_exchange(error: &lapin::Error) -> Option<PublishError> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) if amqp.get_id() == NOT_FOUND => {
            Some(PublishError::Rejected(amqp.get_message().to_string()))
        }
        _ => None,
    }
}

/// A soft error ends the channel, a hard one the link, and most are of the message.
fn blame(amqp: &AMQPError) -> PublishError {
    let text = amqp.get_message().to_string();
    match OWN_REASONS.contains(&amqp.get_id()) {
        true => PublishError::Down(text),
        false => PublishError::Rejected(text),
    }
}

fn is_short(text: &str) -> bool {
    text.len() <= SHORT_MAX
}

fn routing_key(message: &Outgoing) -> &str {
    message.routing_key.as_ref().unwrap_or(&message.topic)
}

/// Why AMQP cannot carry a message; lapin would panic.
fn unfit(message: &Outgoing) -> Option<PublishError> {
    let told = &message.message;
    let what = if !is_short(routing_key(message)) {
        "routing key"
    } else if !is_short(&told.id.0) {
        "id"
    } else if !told.header("event-type").is_none_or(is_short) {
        "type"
    } else if !told.headers.iter().all(|(name, _)| is_short(name)) {
        "name of a header"
    } else {
        return None;
    };
    Some(PublishError::Rejected(format!(
        "its {what} is longer than {SHORT_MAX} bytes, which AMQP cannot carry"
    )))
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
