//! NATS JetStream: a message counts as sent when a stream has stored it. Every message carries the
//! event's id as `Nats-Msg-Id`, so that a stream drops a second publication within its window of
//! duplicates (2 minutes unless told).
//!
//! The topic is the subject. A subject that no stream takes, a message that is too large and headers
//! that NATS cannot carry are refused; a stream without room and a server that is away are `Down`.
//! `tls://` trusts whom the system trusts; WebSockets are not in this build.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, HeaderMap, HeaderName, HeaderValue};
use async_nats::{Request, RequestErrorKind, ServerAddr};
use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_kit::Secret;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::{Broker, Outgoing, PublishError};

/// How to reach NATS.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// `nats://user:password@host:port`, or several with commas between; `tls://` for TLS.
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

    /// Refuses what can never work, without a word of the address: it may hold a password.
    ///
    /// # Errors
    /// [`PublishError::Rejected`], with what to change.
    pub fn check(&self) -> Result<(), PublishError> {
        let servers = self.servers();
        servers
            .map(drop)
            .map_err(|why| PublishError::Rejected(why.to_owned()))
    }

    fn servers(&self) -> Result<Vec<ServerAddr>, &'static str> {
        let server = |address: &str| -> Result<ServerAddr, &'static str> {
            // What the parser says of an address may hold some of it.
            let server: ServerAddr = address.trim().parse().map_err(|_| UNREADABLE)?;
            match server.scheme() {
                "nats" | "tls" if !server.host().is_empty() => Ok(server),
                // The client would speak to them without TLS, as to any other.
                "ws" | "wss" => Err(NO_WEB),
                _ => Err(UNREADABLE),
            }
        };
        self.url.reveal().split(',').map(server).collect()
    }
}

const UNREADABLE: &str = "the address of NATS cannot be read; write it as \
    nats://user:password@host:port, with %2F for a slash in a name or password";
const NO_WEB: &str =
    "there are no WebSockets to NATS in this build; name it with nats:// or tls://";

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

/// Which streams take a subject (likewise).
#[derive(Deserialize)]
struct Names {
    error: Option<Refusal>,
    streams: Option<Vec<String>>,
}

type Answer = Result<(), PublishError>;

/// How long JetStream may take to tell whether a stream takes a subject.
const ASK_FOR: Duration = Duration::from_secs(2);
const NO_STREAM: &str = "no stream takes this subject";
const SILENCE: &str = "the stream did not confirm in time";
const UNFIT: &str = "NATS carries no header with an end of line in its value, or with anything but \
    letters, digits and signs other than a colon in its name";

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
            let servers = self.settings.servers();
            let servers = servers.map_err(|why| PublishError::Down(why.to_owned()))?;
            let connected = options.connect(servers).await;
            connected.map_err(|error| PublishError::Down(error.to_string()))
        };
        self.client.get_or_try_init(connect).await
    }
}

async fn send(client: &Client, message: Outgoing) -> Sent {
    let Some(headers) = headers(&message) else {
        return Sent::Answered(Err(PublishError::Rejected(UNFIT.to_owned())));
    };
    let request = Request::new()
        .headers(headers)
        .payload(message.message.body);
    let error = match client.send_request(message.topic.clone(), request).await {
        Ok(answer) => return Sent::Answered(judge(&answer.payload)),
        Err(error) => error,
    };
    Sent::Answered(Err(match error.kind() {
        RequestErrorKind::NoResponders => nobody(client).await,
        RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
            PublishError::Rejected(error.to_string())
        }
        RequestErrorKind::TimedOut => return Sent::Silence(message.topic),
        RequestErrorKind::Other => PublishError::Down(error.to_string()),
    }))
}

/// What NATS cannot carry is `None`; the client would panic.
fn headers(message: &Outgoing) -> Option<HeaderMap> {
    let told = &message.message;
    let id = told.id.0.as_str();
    let own = [("Nats-Msg-Id", id), ("rb-id", id)];
    let named = told.headers.iter();
    let named = named.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in own.into_iter().chain(named) {
        if name.is_empty() {
            return None;
        }
        let name: HeaderName = name.parse().ok()?;
        let value: HeaderValue = value.parse().ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

#[async_trait]
impl Broker for Nats {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Answer> {
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => return messages.iter().map(|_| Err(error.clone())).collect(),
        };
        let sent = join_all(messages.into_iter().map(|it| send(client, it))).await;
        let nowhere = nowhere(client, &sent).await;
        let answer = |sent| match sent {
            Sent::Answered(answer) => answer,
            Sent::Silence(subject) if nowhere.contains(&subject) => {
                Err(PublishError::Rejected(NO_STREAM.to_owned()))
            }
            Sent::Silence(_) => Err(PublishError::Down(SILENCE.to_owned())),
        };
        sent.into_iter().map(answer).collect()
    }
}

/// What became of one message.
enum Sent {
    Answered(Answer),
    /// Nobody answered in time; with its subject.
    Silence(String),
}

/// Subjects of these that no stream takes. Whoever merely listens to a subject keeps the server from
/// saying that nobody answers there: then no answer comes, however often it is sent.
async fn nowhere(client: &Client, sent: &[Sent]) -> HashSet<String> {
    let mut subjects = HashSet::new();
    for it in sent {
        if let Sent::Silence(subject) = it {
            subjects.insert(subject.clone());
        }
    }
    if client.connection_state() != State::Connected {
        return HashSet::new();
    }
    let asked = subjects.into_iter().map(|subject| async move {
        let has_stream = has_stream(client, &subject).await;
        (has_stream == Some(false)).then_some(subject)
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether a stream takes a subject; `None` when JetStream does not say.
async fn has_stream(client: &Client, subject: &str) -> Option<bool> {
    let question = serde_json::json!({ "subject": subject }).to_string();
    let request = Request::new()
        .payload(question.into())
        .timeout(Some(ASK_FOR));
    let answer = client.send_request("$JS.API.STREAM.NAMES", request).await;
    let names: Names = serde_json::from_slice(&answer.ok()?.payload).ok()?;
    match names.error {
        None => Some(names.streams.is_some_and(|it| !it.is_empty())),
        Some(_) => None,
    }
}

/// Nobody took the message: either no stream has its subject, or JetStream does not run.
async fn nobody(client: &Client) -> PublishError {
    match client.send_request("$JS.API.INFO", Request::new()).await {
        Ok(_) => PublishError::Rejected(NO_STREAM.to_owned()),
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
