//! Appends, in one round trip; repeated by itself where the server knows a message again, and
//! answered after the server's disk has them where that was asked for.

use std::time::Duration;

use ratebox_valkey::{Ability, Error as ValkeyError, Part, Reply, Requests};
use redis::Value;

use super::{RedisLog, error, reply};
use crate::entry::fields_to_append;
use crate::{Append, EntryId, Error, Keep};

/// The server remembers the last 100 messages of a producer, unless it is told otherwise. Messages
/// are spread over so many by their ids, whoever sends them.
const PRODUCERS: u64 = 256;

/// Appends of one call that may share a trip with others'.
const FEW: usize = 16;

type Answers = Vec<Result<EntryId, Failure>>;

/// Why an append has no answer that it can give.
#[derive(Clone)]
enum Failure {
    /// What the server or the connection says of it.
    Append(ValkeyError),
    /// It is stored, but the disk did not have it in time.
    NotOnDisk(ValkeyError),
}

// === impl Failure ===

impl Failure {
    /// It may be stored. One that was given up for its time is not repeated: whoever waits has
    /// waited long enough.
    fn is_lost(&self) -> bool {
        matches!(self, Self::Append(ValkeyError::Connection { .. }))
    }

    /// A server without `IDMP` takes the word for an entry id, and stores nothing.
    fn is_refused(&self) -> bool {
        let Self::Append(ValkeyError::Command { code, detail }) = self else {
            return false;
        };
        code == "ERR" && detail.starts_with("Invalid stream ID")
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Append(cause) => error(cause),
            Failure::NotOnDisk(cause) => Self::NotOnDisk(Box::new(cause)),
        }
    }
}

// === impl RedisLog ===

impl RedisLog {
    pub(super) async fn append_all(&self, appends: &[&Append]) -> Vec<Result<EntryId, Error>> {
        let answers = if appends.iter().any(|it| it.known_by().is_some())
            && self.valkey.has(Ability::IdempotentAdd).await
        {
            self.append_recognised(appends).await
        } else {
            self.append_once(appends, Kind::Plain).await
        };
        let answers = answers.into_iter();
        answers.map(|answer| answer.map_err(Error::from)).collect()
    }

    /// Repeats what got no answer, as far as the server knows it again.
    async fn append_recognised(&self, appends: &[&Append]) -> Answers {
        let mut answers = self.append_once(appends, Kind::Recognised).await;
        if answers.iter().all(Result::is_ok) {
            return answers;
        }
        let known = |at: &usize| appends.get(*at).is_some_and(|it| it.known_by().is_some());
        let failed = |why: fn(&Failure) -> bool| -> Vec<usize> {
            let answers = answers.iter().enumerate();
            let failed = answers.filter(|(_, answer)| answer.as_ref().is_err_and(why));
            failed.map(|(at, _)| at).filter(known).collect()
        };
        let (lost, refused) = (failed(Failure::is_lost), failed(Failure::is_refused));
        if !refused.is_empty() {
            // An older server took over just now, and stored none of these.
            self.valkey.do_without(Ability::IdempotentAdd);
            self.append_again(appends, &refused, Kind::Plain, &mut answers)
                .await;
        }
        if !lost.is_empty() && self.valkey.has(Ability::IdempotentAdd).await {
            self.append_again(appends, &lost, Kind::Recognised, &mut answers)
                .await;
        }
        answers
    }

    /// Appends those at these places, and puts what is learned of them in the place of what was.
    async fn append_again(
        &self,
        appends: &[&Append],
        places: &[usize],
        kind: Kind,
        answers: &mut Answers,
    ) {
        let again = places.iter().filter_map(|at| appends.get(*at).copied());
        let again: Vec<&Append> = again.collect();
        let learned = self.append_once(&again, kind).await;
        for (at, learned) in places.iter().zip(learned) {
            // What was refused now may have been stored before: that answer stays.
            let is_news = kind == Kind::Plain || learned.is_ok();
            if let Some(answer) = answers.get_mut(*at).filter(|_| is_news) {
                *answer = learned;
            }
        }
    }

    /// Many, and those that wait for the disk, over a connection of their own: nothing else waits
    /// behind them. A few travel with others' that come at the same time.
    async fn append_once(&self, appends: &[&Append], kind: Kind) -> Answers {
        if self.valkey.is_cluster() {
            return self.append_to_nodes(appends, kind).await;
        }
        let sent = if self.on_disk.is_none() && appends.len() <= FEW {
            let write = |requests: &mut Requests| add_all(requests, appends, kind);
            self.trips.call(write).await
        } else {
            self.append_apart(appends, kind).await
        };
        let mut replies = match sent {
            Ok(replies) => replies,
            Err(error) => return vec![Err(Failure::Append(error)); appends.len()],
        };
        let synced = match self.on_disk {
            Some(wait) => is_on_disk(replies.pop(), wait),
            None => Ok(()),
        };
        let id = |reply: Result<Reply, ValkeyError>| {
            let id = reply.and_then(|reply| EntryId::read(reply.parts().text()?).ok_or(no_id()));
            match (&synced, id) {
                (Ok(()), Ok(id)) => Ok(id),
                (Err(why), Ok(_)) => Err(Failure::NotOnDisk(why.clone())),
                (_, Err(error)) => Err(Failure::Append(error)),
            }
        };
        replies.into_iter().map(id).collect()
    }

    async fn append_apart(
        &self,
        appends: &[&Append],
        kind: Kind,
    ) -> Result<Vec<Result<Reply, ValkeyError>>, ValkeyError> {
        let exchanged = self.readers.with(&self.valkey, async |reader| {
            add_all(&mut reader.requests, appends, kind);
            if let Some(wait) = self.on_disk {
                wait_for_disk(&mut reader.requests, wait);
            }
            reader.exchange(self.on_disk.unwrap_or_default()).await
        });
        exchanged.await
    }

    /// To the nodes of a cluster side by side; what has moved is sent on.
    async fn append_to_nodes(&self, appends: &[&Append], kind: Kind) -> Answers {
        let mut adds = redis::Pipeline::with_capacity(appends.len());
        for append in appends {
            let mut add = redis::cmd("XADD");
            xadd(append, kind, |word| {
                add.arg(word);
            });
            adds.add_command(add);
        }
        let id = |answer: Result<Value, ValkeyError>| answer.and_then(|value| reply::id(&value));
        match self.valkey.pipeline(&adds).await {
            Ok(answers) => {
                let ids = answers.into_iter().map(id);
                ids.map(|it| it.map_err(Failure::Append)).collect()
            }
            Err(error) => vec![Err(Failure::Append(error)); appends.len()],
        }
    }
}

fn add_all(requests: &mut Requests, appends: &[&Append], kind: Kind) {
    for append in appends {
        requests.command("XADD", |words| {
            xadd(append, kind, |word| {
                words.word(word);
            });
        });
    }
}

fn no_id() -> ValkeyError {
    ValkeyError::answer("an entry id")
}

fn wait_for_disk(requests: &mut Requests, wait: Duration) {
    requests.command("WAITAOF", |words| {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        words.number(1).number(0).number(ms.max(1));
    });
}

/// Reads how many disks have it: our server's own, and those of replicas.
fn is_on_disk(
    reply: Option<Result<Reply, ValkeyError>>,
    waited: Duration,
) -> Result<(), ValkeyError> {
    let reply = reply.unwrap_or_else(|| Err(ValkeyError::answer("WAITAOF")))?;
    let mut parts = reply.parts();
    let _two = parts.list()?;
    match parts.next()? {
        Part::Number(0) => Err(ValkeyError::Timeout { waited }),
        Part::Number(_) => Ok(()),
        Part::Failed(error) => Err(error),
        _ => Err(ValkeyError::answer("a count of disks")),
    }
}

/// Whether a message that is to be known again is sent so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Recognised,
}

/// The words of an append behind `XADD`, one after the other.
fn xadd(append: &Append, kind: Kind, mut word: impl FnMut(&[u8])) {
    word(append.stream.as_str().as_bytes());
    if kind == Kind::Recognised
        && let Some(id) = append.known_by()
    {
        word(b"IDMP");
        word(producer(id).as_bytes());
        word(id.as_bytes());
    }
    if let Keep::About(max_len) = append.keep {
        word(b"MAXLEN");
        word(b"~");
        word(max_len.to_string().as_bytes());
    }
    word(b"*");
    for (name, value) in fields_to_append(append) {
        word(name.as_bytes());
        word(value);
    }
}

/// One of the producers that all processes share; a message has always the same.
fn producer(id: &str) -> String {
    // FNV-1a: stable over versions and machines, unlike the standard library's.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3_u64)
    });
    format!("rb{:02x}", hash % PRODUCERS)
}

#[cfg(test)]
mod tests {
    use ratebox_kit::Message;

    use super::*;
    use crate::StreamName;

    fn words(append: &Append, kind: Kind) -> String {
        let mut words = Vec::new();
        xadd(append, kind, |word| {
            words.push(String::from_utf8(word.to_vec()).unwrap());
        });
        words.join(" ")
    }

    #[test]
    fn only_what_is_to_be_known_again_says_so_and_only_where_it_is_understood() {
        let append = Append::new(StreamName::new("s"), Message::new("m", "x"));
        let plain = "s * data x rb-id m";
        let recognised = append.clone().recognised().keep_about(9);
        assert_eq!(words(&append, Kind::Recognised), plain);
        assert_eq!(
            words(&recognised, Kind::Plain),
            "s MAXLEN ~ 9 * data x rb-id m"
        );
        assert_eq!(
            words(&recognised, Kind::Recognised),
            "s IDMP rb58 m MAXLEN ~ 9 * data x rb-id m"
        );
        let nameless = Append::verbatim(StreamName::new("s"), Vec::new()).recognised();
        assert_eq!(words(&nameless, Kind::Recognised), "s *");
    }

    #[test]
    fn messages_spread_over_the_producers() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..4_000 {
            seen.insert(producer(&format!("message-{number}")));
        }
        assert_eq!(seen.len() as u64, PRODUCERS);
    }
}
