//! Limits that hold over all processes: how many start in a window, and how many are at work.
//!
//! A limit belongs to a scope of a stream: [`Scope::ALL`], an owner, or a key. Consumers lease
//! permits for what they are about to start, many at once; a permit of a rate that is not used
//! within [`Rate::validity`] is void, and one to be at work is renewed by the heartbeat. The
//! server's clock decides, and rules are read at every lease, so a change holds at once.
//!
//! In no window do more start than the rule says, whoever comes, goes or dies. The price is that a
//! steady stream gets about 92 % of it, with a window of a second: a permit counts from the moment it was leased until one
//! window and one validity after it.

mod usage;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, Subscription};

pub(crate) use usage::{Moment, Usage};

/// Parts of a window in which permits are counted.
const PARTS: u32 = 32;

/// Bounds of the time that a permit of a rate may be kept before it is used. The lower one is for
/// the way from the server: with a slower one, nothing that has a rate starts.
const VALIDITY_MS: std::ops::RangeInclusive<u64> = 50..=1_000;

/// The shortest window of a rate.
pub const WINDOW_MIN: Duration = Duration::from_millis(100);

/// So many starts in each window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Starts.
    pub max: u32,
    /// Milliseconds of the window; at least [`WINDOW_MIN`].
    pub window_ms: u64,
}

// === impl Rate ===

impl Rate {
    /// So many in each second.
    pub fn per_second(max: u32) -> Self {
        Self {
            max,
            window_ms: 1_000,
        }
    }

    /// How finely permits are counted: a part of the window.
    pub(crate) fn part_ms(self) -> u64 {
        (self.window_ms / u64::from(PARTS)).max(1)
    }

    /// How long a permit may be kept.
    pub fn validity(self) -> Duration {
        Duration::from_millis(self.validity_ms())
    }

    pub(crate) fn validity_ms(self) -> u64 {
        self.part_ms()
            .clamp(*VALIDITY_MS.start(), *VALIDITY_MS.end())
    }
}

/// What a scope may do; nothing in it is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Starts in a window.
    pub rate: Option<Rate>,
    /// Messages at work at the same time.
    pub at_work: Option<u32>,
}

/// The rules of a stream by scope.
pub type Rules = BTreeMap<Scope, Limit>;

/// Whom a limit is about: everything, one owner, one key; or each owner or key without a rule of
/// its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(String);

// === impl Scope ===

impl Scope {
    /// All of the stream, over its lanes.
    pub const ALL: &'static str = "all";

    /// Everything on the stream.
    pub fn all() -> Self {
        Self(Self::ALL.to_owned())
    }

    /// One owner.
    pub fn owner(name: &str) -> Self {
        Self(format!("owner/{name}"))
    }

    /// One key.
    pub fn key(name: &str) -> Self {
        Self(format!("key/{name}"))
    }

    /// Each owner that has no rule of its own.
    pub fn each_owner() -> Self {
        Self("owner/*".to_owned())
    }

    /// Each key that has no rule of its own.
    pub fn each_key() -> Self {
        Self("key/*".to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A scope as it is written in settings: `all`, `owner/*`, `owner/…`, `key/*`, `key/…`.
    pub fn read(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn as_owner(&self) -> Option<&str> {
        self.0.strip_prefix("owner/")
    }

    /// The scope whose rule holds where this one has none.
    pub(crate) fn kind(&self) -> Option<Self> {
        let (kind, _) = self.0.split_once('/')?;
        Some(Self(format!("{kind}/*")))
    }

    pub(crate) fn rule(&self, rules: &Rules) -> Limit {
        let own = rules.get(self).copied();
        let of_kind = || rules.get(&self.kind()?).copied();
        own.or_else(of_kind).unwrap_or_default()
    }
}

/// Permits that are asked for: for `count` messages that all fall under the same scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Every one must allow it.
    pub scopes: Vec<Scope>,
    /// How many are about to start.
    pub count: u32,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    /// How many may start now.
    pub granted: u32,
    /// When fewer than asked for: how long another try makes no sense.
    pub wait: Duration,
    /// When fewer than asked for: whose limit it was, as the place among the scopes.
    pub limited_by: Option<usize>,
}

/// What this member has at work now, by scope.
pub type AtWork = BTreeMap<Scope, u32>;

/// Limits over all members of a group. Filled by every log of this crate.
#[async_trait]
pub trait Limits: Send + Sync {
    /// Sets the rule of a scope, or removes it when it limits nothing.
    async fn set_limit(&self, sub: &Subscription, scope: &Scope, limit: Limit)
    -> Result<(), Error>;

    /// Every rule of the stream.
    async fn rules(&self, sub: &Subscription) -> Result<Rules, Error>;

    /// Leases permits for all asks in one round trip, in their order, and tells the server what is
    /// at work here under the scopes that are asked for. Permits to be at work last `lease`.
    async fn acquire(
        &self,
        sub: &Subscription,
        asks: &[Ask],
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<Vec<Permits>, Error>;

    /// Tells what is at work here: what is more by the server's count is free again, the rest is
    /// renewed for `lease`.
    async fn renew(
        &self,
        sub: &Subscription,
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<(), Error>;
}

/// Refuses what cannot be a rule.
pub(crate) fn check(limit: Limit) -> Result<(), Error> {
    let least = u64::try_from(WINDOW_MIN.as_millis()).unwrap_or(u64::MAX);
    match limit.rate {
        Some(rate) if rate.window_ms < least => Err(Error::refused(format!(
            "the window of a rate is at least {least} ms, not {}",
            rate.window_ms
        ))),
        Some(_) | None => Ok(()),
    }
}
