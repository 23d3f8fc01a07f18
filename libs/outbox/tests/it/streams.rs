//! Streams of a real Redis as a broker: one connection, all entries of a call at once, an answer for
//! each.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use ratebox_outbox::{Broker, Outgoing, PublishError};
use ratebox_testkit::read_reply;
use serde_json::Value;

/// A server that does not answer within this is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Publishes to the streams of a server on loopback; connects when it is needed.
pub(crate) struct RedisStreams {
    port: u16,
    link: Mutex<Option<BufReader<TcpStream>>>,
}

impl RedisStreams {
    pub(crate) fn at(port: u16) -> Self {
        Self {
            port,
            link: Mutex::default(),
        }
    }

    /// Sends commands together and reads their answers; a broken link ends the list.
    pub(crate) fn call(&self, commands: &[Vec<&str>]) -> Vec<Result<Value>> {
        let mut held = self.link.lock().unwrap();
        let mut answers = Vec::new();
        match held.take().map_or_else(|| connect(self.port), Ok) {
            Err(error) => answers.push(Err(error)),
            Ok(mut link) => match answer(&mut link, commands, &mut answers) {
                Ok(()) => *held = Some(link),
                Err(error) => answers.push(Err(error)),
            },
        }
        answers
    }

    /// Id, body and aggregate of every entry, in the order of the stream.
    pub(crate) fn entries(&self, stream: &str) -> Vec<[String; 3]> {
        let (mut all, mut from) = (Vec::new(), "-".to_owned());
        loop {
            let range = vec!["XRANGE", stream, &from, "+", "COUNT", "10000"];
            let got = self.call(&[range]).remove(0).unwrap();
            let got = got.as_array().unwrap().clone();
            let Some(last) = got.last() else { return all };
            from = format!("({}", last[0].as_str().unwrap());
            let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
            all.extend(
                got.iter()
                    .map(|it| [1, 3, 5].map(|place| text(&it[1][place]))),
            );
        }
    }
}

fn connect(port: u16) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

fn answer(
    link: &mut BufReader<TcpStream>,
    commands: &[Vec<&str>],
    answers: &mut Vec<Result<Value>>,
) -> Result<()> {
    // In parts, so that neither side waits for the other with full buffers.
    for part in commands.chunks(500) {
        let mut request = String::new();
        for words in part {
            request.push_str(&format!("*{}\r\n", words.len()));
            for word in words {
                request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
        }
        link.get_mut().write_all(request.as_bytes())?;
        for _ in part {
            match read_reply(link) {
                Err(error) if !is_refusal(&error) => bail!("the link broke: {error}"),
                reply => answers.push(reply),
            }
        }
    }
    Ok(())
}

/// The server's own words begin with a word in capitals.
fn is_refusal(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    let first = text.split(' ').next().unwrap_or_default();
    !first.is_empty() && first.bytes().all(|it| it.is_ascii_uppercase())
}

#[async_trait]
impl Broker for RedisStreams {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let bodies = messages.iter().map(|it| &it.message.body);
        let bodies: Vec<_> = bodies.map(|it| String::from_utf8_lossy(it)).collect();
        let add = |(it, body)| -> Vec<&str> {
            let it: &Outgoing = it;
            let (id, key) = (it.message.id.0.as_str(), it.key.as_deref());
            let (topic, key) = (it.topic.as_str(), key.unwrap_or_default());
            vec!["XADD", topic, "*", "rb-id", id, "data", body, "key", key]
        };
        let bodies = bodies.iter().map(AsRef::as_ref);
        let words: Vec<Vec<&str>> = messages.iter().zip(bodies).map(add).collect();
        let mut answers = self.call(&words).into_iter();
        let one = |_| match answers.next() {
            Some(Ok(_)) => Ok(()),
            // A full server takes nothing from anybody.
            Some(Err(error)) if is_refusal(&error) && !error.to_string().starts_with("OOM") => {
                Err(PublishError::Rejected(error.to_string()))
            }
            Some(Err(error)) => Err(PublishError::Down(error.to_string())),
            None => Err(PublishError::Down("the link broke".to_owned())),
        };
        (0..messages.len()).map(one).collect()
    }
}
