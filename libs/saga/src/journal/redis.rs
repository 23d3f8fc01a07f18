//! Sagas in Redis or Valkey.
//!
//! One hash a saga, and sorted sets that say whose it is and when it is due. Every call is one
//! script, so that its check and its write are one. All keys lie in one slot.

mod rows;
mod scripts;

use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::Timestamp;
use ratebox_valkey::{Call, Valkey};
use redis::{FromRedisValue, Value};

use super::code;
use super::memory::fits;
use super::store::{
    Adopted, Append, Count, Entry, Filter, Head, Letter, NewSaga, Owner, Posted, Store, Stored,
    Wake, Written,
};
use crate::{Error, Outline, Result, SagaId, Status};

/// Entries that one script writes, ids that one deletes: nothing else runs on the server meanwhile.
const CHUNK: usize = 128;

/// Ids that a list looks at in one go.
const PAGE: usize = 500;

/// Keeps sagas in Redis or Valkey. As safe as the server's append-only file: with
/// `appendfsync always` what was reported as kept survives a power cut, with `everysec` the last
/// second may be lost, without the file everything is. It has no transactions that a step could
/// join, and no outbox. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    valkey: Valkey,
    prefix: String,
}

// === impl RedisStore ===

impl RedisStore {
    /// Over this server. `name` keeps several sets of sagas apart; it holds no braces.
    pub fn new(valkey: Valkey, name: &str) -> Self {
        Self {
            valkey,
            prefix: format!("{{{name}}}"),
        }
    }

    fn key(&self, end: &str) -> String {
        format!("{}:{end}", self.prefix)
    }

    async fn run<T: FromRedisValue>(&self, call: Call<'_>) -> Result<T> {
        read(self.valkey.run(&call).await?)
    }

    async fn query<T: FromRedisValue>(&self, cmd: &redis::Cmd) -> Result<T> {
        read(self.valkey.query(cmd).await?)
    }

    /// A call under a membership that answers texts, the first of which says whether it is in order.
    async fn texts(&self, call: Call<'_>) -> Result<impl Iterator<Item = String> + use<>> {
        let answer: Vec<String> = self.run(call).await?;
        let mut texts = answer.into_iter();
        match texts.next().as_deref() {
            Some("1") => Ok(texts),
            _ => Err(Error::Fenced),
        }
    }

    async fn process(&self, epoch: &str, lease: Option<Duration>) -> Result<i64> {
        let lease = lease.map_or_else(String::new, |it| it.as_millis().to_string());
        let call = scripts::PROCESS.call().key(&self.prefix);
        let epoch: String = self.run(call.arg(epoch).arg(lease)).await?;
        parse(&epoch)
    }

    async fn write_chunk(&self, owner: Owner, chunk: &[&Entry]) -> Result<Vec<Written>> {
        let mut call = scripts::WRITE.call().key(&self.prefix).arg(owner.epoch);
        for entry in chunk {
            match entry {
                Entry::Start(new) => push_start(&mut call, new)?,
                Entry::Append(append) => push_append(&mut call, append)?,
            }
        }
        let answers: Vec<String> = self.run(call).await?;
        let written = |answer: &String| match answer.split_at_checked(1) {
            Some(("K", _)) => Ok(Written::Kept),
            Some(("N", _)) => Ok(Written::NotYours),
            Some(("E", id)) => Ok(Written::Exists(parse(id)?)),
            _ => Err(Error::Fenced),
        };
        answers.iter().map(written).collect()
    }

    /// Heads of these ids, in order; those that do not exist are left out.
    async fn heads(&self, ids: &[SagaId]) -> Result<Vec<Head>> {
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("HMGET")
                .arg(self.key(&format!("s:{id}")))
                .arg(&rows::HEAD);
        }
        let mut heads = Vec::with_capacity(ids.len());
        for (id, answer) in ids.iter().zip(self.valkey.pipeline(&pipe).await?) {
            heads.extend(rows::head_of(*id, read(answer?)?)?);
        }
        Ok(heads)
    }
}

#[async_trait]
impl Store for RedisStore {
    fn has_outbox(&self) -> bool {
        false
    }

    async fn join(&self, _process: &str, lease: Duration) -> Result<Owner> {
        let epoch = self.process("", Some(lease)).await?;
        Ok(Owner { epoch })
    }

    async fn renew(&self, owner: Owner, lease: Duration) -> Result<()> {
        match self.process(&owner.epoch.to_string(), Some(lease)).await? {
            0 => Err(Error::Fenced),
            _ => Ok(()),
        }
    }

    async fn leave(&self, owner: Owner) -> Result<()> {
        self.process(&owner.epoch.to_string(), None).await?;
        Ok(())
    }

    async fn write(&self, owner: Owner, batch: &[&Entry]) -> Result<Vec<Written>> {
        let carries =
            |entry: &&Entry| matches!(entry, Entry::Append(it) if !it.follow_ups.is_empty());
        if batch.iter().any(carries) {
            return Err(Error::Refused {
                why: "this store has no outbox for messages to others".to_owned(),
            });
        }
        let mut written = Vec::with_capacity(batch.len());
        for chunk in batch.chunks(CHUNK) {
            written.extend(self.write_chunk(owner, chunk).await?);
        }
        Ok(written)
    }

    async fn adopt(&self, owner: Owner, limit: usize) -> Result<Adopted> {
        let call = scripts::ADOPT.call().key(&self.prefix);
        let call = call.arg(owner.epoch).arg(limit.min(PAGE));
        let answer: Vec<Value> = self.run(call).await?;
        let mut answer = answer.into_iter();
        let mut number = || answer.next().map_or(Ok(-1), read::<i64>);
        let (sagas, more) = (number()?, number()?);
        let Ok(sagas) = usize::try_from(sagas) else {
            return Err(Error::Fenced);
        };
        let ids = answer.map(|id| parse(&read::<String>(id)?));
        Ok(Adopted {
            live: ids.collect::<Result<_>>()?,
            sagas,
            more: more == 1,
        })
    }

    async fn claim(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        let call = scripts::CLAIM.call().key(&self.prefix);
        let call = call.arg(owner.epoch).arg(saga.to_string());
        match self.run::<i64>(call).await? {
            -1 => Err(Error::Fenced),
            answer => Ok(answer == 1),
        }
    }

    async fn take_parked(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        let call = scripts::TAKE_PARKED.call().key(&self.prefix);
        let call = call.arg(owner.epoch).arg(saga.to_string());
        match self.run::<i64>(call).await? {
            -1 => Err(Error::Fenced),
            answer => Ok(answer == 1),
        }
    }

    async fn due(&self, owner: Owner, until: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        let call = scripts::DUE.call().key(&self.prefix).arg(owner.epoch);
        let call = call.arg(code::wake(Wake::At(until))).arg(limit);
        self.texts(call).await?.map(|id| parse(&id)).collect()
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Stored>> {
        let mut stored = Vec::with_capacity(sagas.len());
        for chunk in sagas.chunks(PAGE) {
            let mut pipe = redis::pipe();
            for id in chunk {
                pipe.cmd("HGETALL").arg(self.key(&format!("s:{id}")));
            }
            for (id, answer) in chunk.iter().zip(self.valkey.pipeline(&pipe).await?) {
                stored.extend(rows::stored(*id, read(answer?)?)?);
            }
        }
        Ok(stored)
    }

    async fn post(&self, letter: &Letter) -> Result<Posted> {
        let call = scripts::POST.call().key(&self.prefix);
        let call = call
            .arg(letter.saga.to_string())
            .arg(rows::letter_field(letter.id))
            .arg(rows::letter(letter)?);
        Ok(match self.run::<i64>(call).await? {
            0 => Posted::NoSuchSaga,
            _ => Posted::Kept,
        })
    }

    async fn mail(&self, owner: Owner, limit: usize) -> Result<Vec<Letter>> {
        let call = scripts::MAIL.call().key(&self.prefix);
        let call = call.arg(owner.epoch).arg(limit.min(PAGE));
        let letters = self.texts(call).await?;
        letters.map(|it| rows::read_letter(&it)).collect()
    }

    async fn find(&self, definition: &str, key: &str) -> Result<Option<SagaId>> {
        let mut find = redis::cmd("HGET");
        find.arg(self.key("keys")).arg(rows::index(definition, key));
        let id: Option<String> = self.query(&find).await?;
        id.map(|it| parse(&it)).transpose()
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Head>> {
        let set = match filter.parent {
            Some(parent) => self.key(&format!("c:{parent}")),
            None => self.key("all"),
        };
        let (mut found, mut after) = (Vec::new(), filter.after);
        while found.len() < filter.limit {
            let from = after.map_or_else(|| "-".to_owned(), |it| format!("({it}"));
            let mut page = redis::cmd("ZRANGEBYLEX");
            page.arg(&set)
                .arg(from)
                .arg("+")
                .arg("LIMIT")
                .arg(0)
                .arg(PAGE);
            let ids: Vec<String> = self.query(&page).await?;
            let ids = ids.iter().map(|it| parse(it)).collect::<Result<Vec<_>>>()?;
            let Some(last) = ids.last() else { break };
            after = Some(*last);
            let heads = self.heads(&ids).await?;
            found.extend(heads.into_iter().filter(|head| fits(filter, head)));
        }
        found.truncate(filter.limit);
        Ok(found)
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.key("counts"));
        let counts: Vec<(String, u64)> = self.query(&all).await?;
        let some = counts.into_iter().filter(|(_, sagas)| *sagas > 0);
        some.map(|(name, sagas)| count(&name, sagas)).collect()
    }

    async fn ended(&self, before: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        let mut ended = redis::cmd("ZRANGEBYSCORE");
        ended.arg(self.key("ended")).arg("-inf");
        ended.arg(format!("({}", before.as_microsecond()));
        ended.arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<String> = self.query(&ended).await?;
        ids.iter().map(|it| parse(it)).collect()
    }

    async fn delete(&self, sagas: &[SagaId]) -> Result<u64> {
        let mut deleted = 0;
        for chunk in sagas.chunks(CHUNK) {
            let mut call = scripts::DELETE.call().key(&self.prefix);
            for id in chunk {
                call.push(id.to_string());
            }
            deleted += self.run::<u64>(call).await?;
        }
        Ok(deleted)
    }

    async fn describe(&self, outlines: &[Outline]) -> Result<()> {
        let mut call = scripts::DESCRIBE.call().key(&self.prefix);
        for it in outlines {
            call.push(rows::index(it.name(), it.hash()));
            call.push(serde_json::to_string(it).map_err(Error::Json)?);
        }
        self.run::<i64>(call).await?;
        Ok(())
    }

    async fn outline(&self, name: &str, hash: &str) -> Result<Option<Outline>> {
        let mut get = redis::cmd("HGET");
        get.arg(self.key("outlines")).arg(rows::index(name, hash));
        let text: Option<String> = self.query(&get).await?;
        let read = |it: String| serde_json::from_str(&it).map_err(Error::Json);
        text.map(read).transpose()
    }

    async fn outlines(&self, name: Option<&str>, limit: usize) -> Result<Vec<Outline>> {
        let mut all = redis::cmd("LRANGE");
        all.arg(self.key("described")).arg(0).arg(-1);
        let indices: Vec<String> = self.query(&all).await?;
        let mut outlines = Vec::new();
        // Newest first; there is one for each version of each definition.
        for index in indices {
            if outlines.len() == limit {
                break;
            }
            let mut get = redis::cmd("HGET");
            get.arg(self.key("outlines")).arg(&index);
            let Some(text) = self.query::<Option<String>>(&get).await? else {
                continue;
            };
            let outline: Outline = serde_json::from_str(&text).map_err(Error::Json)?;
            if name.is_none_or(|name| outline.name() == name) {
                outlines.push(outline);
            }
        }
        Ok(outlines)
    }

    async fn ping(&self) -> Result<()> {
        Ok(self.valkey.ping().await?)
    }
}

fn push_start(call: &mut Call<'_>, new: &NewSaga) -> Result<()> {
    let index = |key: &String| rows::index(&new.definition, key);
    call.push("S");
    call.push(new.id.to_string());
    call.push(new.key.as_ref().map_or_else(String::new, index));
    let parent = new.parent.as_ref();
    call.push(parent.map_or_else(String::new, |it| it.saga.to_string()));
    call.push(&*new.definition);
    call.push(new.status.as_str());
    push_list(call, rows::new_head(new)?);
    push_list(call, rows::records(&new.records)?);
    Ok(())
}

fn push_append(call: &mut Call<'_>, append: &Append) -> Result<()> {
    call.push("A");
    call.push(append.saga.to_string());
    push_list(call, rows::records(&append.records)?);
    push_list(
        call,
        append
            .letters
            .iter()
            .map(|it| rows::letter_field(*it))
            .collect(),
    );
    let head = append.head.as_ref().map(rows::change).transpose()?;
    push_list(call, head.unwrap_or_default());
    Ok(())
}

fn push_list(call: &mut Call<'_>, words: Vec<String>) {
    call.push(words.len());
    for word in words {
        call.push(word);
    }
}

/// A status and a definition with a space between; statuses have none.
fn count(name: &str, sagas: u64) -> Result<Count> {
    let (status, definition) = name.split_once(' ').unwrap_or_default();
    Ok(Count {
        definition: definition.to_owned(),
        status: Status::parse(status).ok_or(Error::Row {
            what: "an unknown status",
        })?,
        sagas,
    })
}

fn read<T: FromRedisValue>(value: Value) -> Result<T> {
    T::from_redis_value(value).map_err(|_| Error::Row {
        what: "an answer of another shape",
    })
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Row {
        what: "an answer that does not parse",
    })
}
