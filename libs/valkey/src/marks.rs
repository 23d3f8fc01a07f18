//! Marks that fade: numbered places of one field, marked by some processes and read by others.
//!
//! A mark lasts at least one period and at most two, on the server's clock, so nobody has to take it
//! away and processes whose clocks differ agree. Reading costs one round trip, and next to nothing
//! while nothing is marked.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};

use crate::{Error, Script, Valkey};

/// KEYS: field. ARGV: period in s, places.
static MARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local key = KEYS[1] .. math.floor(redis.call('TIME')[1] / ARGV[1])
         for at = 2, #ARGV do
           redis.call('SETBIT', key, ARGV[at], 1)
         end
         redis.call('EXPIRE', key, ARGV[1] * 3)
         return #ARGV - 1",
    )
});

/// KEYS: field. ARGV: period in s. Returns the marks of the last period and of this one.
static MARKED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local now = math.floor(redis.call('TIME')[1] / ARGV[1])
         return {redis.call('GET', KEYS[1] .. (now - 1)), redis.call('GET', KEYS[1] .. now)}",
    )
});

/// Places marked in one call at most.
pub const MARKS_MAX: usize = 1_000;

/// One field of marks on a server. Cheap to clone.
#[derive(Clone)]
pub struct Marks {
    valkey: Valkey,
    field: String,
    period_s: u64,
}

// === impl Marks ===

impl Marks {
    /// The field `name`, whose marks last for `period` (whole seconds, at least one) and up to
    /// twice as long. The name begins the server's keys.
    pub fn new(valkey: Valkey, name: &str, period: Duration) -> Self {
        Self {
            valkey,
            // One slot for the keys of all periods.
            field: format!("{{{name}}}:"),
            period_s: period.as_secs().max(1),
        }
    }

    /// Marks places. Those beyond [`MARKS_MAX`] are left out.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn mark(&self, places: &[u16]) -> Result<(), Error> {
        let mut call = MARK.call().key(&self.field).arg(self.period_s);
        for place in places.iter().take(MARKS_MAX) {
            call.push(*place);
        }
        self.valkey.run(&call).await.map(drop)
    }

    /// The marked places: fields of bits, most significant first, one over the other. Nothing when
    /// no place is marked.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn marked(&self) -> Result<Vec<Vec<u8>>, Error> {
        let call = MARKED.call().key(&self.field).arg(self.period_s);
        let answer = self.valkey.run(&call).await?;
        let fields: Vec<Value> = Vec::from_redis_value(answer).map_err(|_| unexpected())?;
        let there = fields.into_iter().filter(|field| *field != Value::Nil);
        there
            .map(|field| Vec::from_redis_value(field).map_err(|_| unexpected()))
            .collect()
    }
}

fn unexpected() -> Error {
    Error::answer("two fields of marks")
}
