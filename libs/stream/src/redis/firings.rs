//! Last moments of jobs, beside the streams on Redis: a hash in the slot of the stream.

use std::sync::OnceLock;

use async_trait::async_trait;
use ratebox_kit::Timestamp;
use ratebox_valkey::Script;
use redis::{Value, cmd};

use super::RedisLog;
use crate::cron::Firings;
use crate::entry::fields_to_append;
use crate::policy::FIELDS_MAX;
use crate::{Append, Error, StreamName};

#[async_trait]
impl Firings for RedisLog {
    async fn begin(
        &self,
        stream: &StreamName,
        job: &str,
        first: Timestamp,
    ) -> Result<Timestamp, Error> {
        let key = crate::cron::key(stream);
        let mut keep = cmd("HSETNX");
        keep.arg(&key).arg(job).arg(first.as_millisecond());
        self.valkey.query(&keep).await.map_err(super::error)?;
        let mut ask = cmd("HGET");
        let last = self.valkey.query(ask.arg(&key).arg(job)).await;
        let last_ms = match last.map_err(super::error)? {
            Value::BulkString(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|it| it.parse().ok()),
            _ => None,
        };
        let last_ms = last_ms.unwrap_or(first.as_millisecond());
        Ok(Timestamp::from_millisecond(last_ms).unwrap_or(first))
    }

    async fn fire(&self, job: &str, moment: Timestamp, append: &Append) -> Result<bool, Error> {
        static FIRE: OnceLock<Script> = OnceLock::new();
        let fields = 2 + append.message.headers.len();
        if fields > FIELDS_MAX {
            let max = FIELDS_MAX;
            return Err(Error::TooManyFields { fields, max });
        }
        let script = FIRE.get_or_init(|| Script::new(include_str!("fire.lua")));
        let key = crate::cron::key(&append.stream);
        let mut call = script.call().key(&key).key(append.stream.as_str());
        call.push(job);
        call.push(moment.as_millisecond());
        for (name, value) in fields_to_append(append) {
            call.push(name);
            call.push(value);
        }
        let fired = self.valkey.run(&call).await.map_err(super::error)?;
        Ok(fired == Value::Int(1))
    }
}
