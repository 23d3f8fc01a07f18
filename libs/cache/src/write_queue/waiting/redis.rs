//! What waits for its origin, on the cache's server: a hash a key, changed by two scripts.
//!
//! Of the text `n` the field `wn` has the place and the newest text that waits, `an` the newest place
//! that the origin has. Places are digits of one length, so the scripts compare them as texts.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::PortError;
use ratebox_valkey::{Call, Script, Valkey};

use super::{APPLIED_KEPT, Known, Place, Text, WAITS_MAX, Waiting};
use crate::{Error, Tier};

/// KEYS: the key. ARGV: how long it is kept in ms, digits of a place, the place, then numbers and
/// their texts.
static NOTE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for at = 4, #ARGV, 2 do
           local known = redis.call('HMGET', KEYS[1], 'w' .. ARGV[at], 'a' .. ARGV[at])
           local waits = known[1] and string.sub(known[1], 1, ARGV[2]) or ''
           if waits < ARGV[3] and (known[2] or '') < ARGV[3] then
             redis.call('HSET', KEYS[1], 'w' .. ARGV[at], ARGV[3] .. ARGV[at + 1])
             redis.call('PEXPIRE', KEYS[1], ARGV[1])
           end
         end",
    )
});

/// KEYS: the key. ARGV: how long it is kept in ms when nothing waits, digits of a place, then numbers
/// and the places that the origin has.
static APPLIED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for at = 3, #ARGV, 2 do
           local known = redis.call('HMGET', KEYS[1], 'w' .. ARGV[at], 'a' .. ARGV[at])
           if (known[2] or '') < ARGV[at + 1] then
             redis.call('HSET', KEYS[1], 'a' .. ARGV[at], ARGV[at + 1])
           end
           if known[1] and string.sub(known[1], 1, ARGV[2]) <= ARGV[at + 1] then
             redis.call('HDEL', KEYS[1], 'w' .. ARGV[at])
           end
         end
         for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
           if string.sub(field, 1, 1) == 'w' then
             return
           end
         end
         redis.call('PEXPIRE', KEYS[1], ARGV[1])",
    )
});

/// What waits, on a server. One that evicts may forget it: then readers see a write when its origin
/// has it.
#[derive(Debug)]
pub struct ValkeyWaiting {
    valkey: Valkey,
    prefix: String,
    /// Tells whether the server is away, so that readers do not wait for it.
    tier: Tier,
    answer_max: Duration,
}

// === impl ValkeyWaiting ===

impl ValkeyWaiting {
    /// Names begin with the prefix. Readers do not wait for a server that the tier knows to be away, nor
    /// longer than `answer_max`.
    pub fn new(valkey: Valkey, prefix: String, tier: Tier, answer_max: Duration) -> Self {
        Self {
            valkey,
            prefix,
            tier,
            answer_max,
        }
    }

    fn named(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn run(&self, call: &Call<'_>) -> Result<(), PortError> {
        self.valkey.run(call).await.map(drop).map_err(failed)
    }
}

#[async_trait]
impl Waiting for ValkeyWaiting {
    async fn note(
        &self,
        key: &str,
        place: Place,
        texts: &[Option<String>],
    ) -> Result<(), PortError> {
        let mut call = NOTE.call().key(&self.named(key));
        call.push(ms(WAITS_MAX));
        call.push(Place::DIGITS);
        call.push(place.to_string());
        for (at, text) in texts.iter().enumerate() {
            if let Some(text) = text {
                call.push(at);
                call.push(text);
            }
        }
        self.run(&call).await
    }

    async fn known(&self, key: &str) -> Result<Known, PortError> {
        if self.tier.is_away() {
            return Err(PortError::new("what waits is not known", Error::Away));
        }
        let mut ask = redis::cmd("HGETALL");
        ask.arg(self.named(key));
        let asked = self.valkey.query_as::<Vec<(String, String)>>(&ask);
        let answer = tokio::time::timeout(self.answer_max, asked).await;
        let fields = answer
            .map_err(|late| PortError::new("what waits is not known in time", late))?
            .map_err(failed)?;
        Ok(read(&fields))
    }

    async fn applied(&self, key: &str, places: &[Option<Place>]) -> Result<(), PortError> {
        let mut call = APPLIED.call().key(&self.named(key));
        call.push(ms(APPLIED_KEPT));
        call.push(Place::DIGITS);
        for (at, place) in places.iter().enumerate() {
            if let Some(place) = place {
                call.push(at);
                call.push(place.to_string());
            }
        }
        self.run(&call).await
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn failed(error: ratebox_valkey::Error) -> PortError {
    PortError::new("what waits for its origin cannot be asked for", error)
}

/// Fields of a hash; what cannot be read is not known.
fn read(fields: &[(String, String)]) -> Known {
    let mut known = Known::default();
    for (field, value) in fields {
        let Some((kind, at)) = field.split_at_checked(1) else {
            continue;
        };
        let Some(at) = at.parse().ok().filter(|at: &usize| *at < 1_000) else {
            continue;
        };
        known.0.resize(known.0.len().max(at + 1), Text::default());
        match kind {
            "w" => {
                let parts = value.split_at_checked(Place::DIGITS);
                let place = parts.and_then(|(place, text)| Some((Place::read(place)?, text)));
                known.0[at].waiting = place.map(|(place, text)| (place, text.to_owned()));
            }
            _ => known.0[at].applied = Place::read(value),
        }
    }
    known
}
