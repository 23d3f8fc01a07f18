//! What a loader brings.

use std::time::Duration;

use crate::entry::Times;
use crate::policy::Policy;

/// What a loader brings: a value or the knowledge that there is none, and what it knows of its
/// life. `V` and `Option<V>` turn into it.
#[derive(Clone, Debug)]
pub struct Loaded<V> {
    pub(crate) value: Option<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) stale: Option<Duration>,
    pub(crate) tags: Vec<String>,
    pub(crate) depends_on: Vec<String>,
    pub(crate) kept: bool,
}

// === impl Loaded ===

impl<V> Loaded<V> {
    /// A value.
    pub fn value(value: V) -> Self {
        Self::from(Some(value))
    }

    /// There is none.
    pub fn absent() -> Self {
        Self::from(None)
    }

    /// Fresh for so long, whatever the policy says; not shortened by chance.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// May stand in for a fresh value for so long after its end, whatever the policy says.
    #[must_use]
    pub fn stale(mut self, stale: Duration) -> Self {
        self.stale = Some(stale);
        self
    }

    /// Goes when the tag is invalidated. On a server a value is not kept whose tag nobody knew before
    /// its load (for a day or longer), so the next reader loads it once more; a tag that is known
    /// beforehand belongs into [`crate::Policy::tags`].
    ///
    /// An entry has at most 16: those of the policy, those named here and what it depends on
    /// ([`Loaded::depends_on`]) together, each counted once. Tags that the entries have which it depends
    /// on come with them and are not among the 16; all in all, with one for each cache among those and
    /// two more, an entry has at most 64. A value with more is answered and not kept, so every read loads
    /// it again; the log warns of that once a minute. What is set with more is refused.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Goes when that entry is invalidated, alone or with its whole cache, or anything that it depends
    /// on, as far as it is cached when this is loaded. The name is [`crate::Cache::name_of`]. What is
    /// so for every key belongs into [`crate::Builder::made_from`]: here the first dependency on an
    /// entry costs a second load, as a new tag does.
    #[must_use]
    pub fn depends_on(mut self, name: impl Into<String>) -> Self {
        self.depends_on.push(name.into());
        self
    }

    /// Answered to those who wait, and not kept.
    #[must_use]
    pub fn not_kept(mut self) -> Self {
        self.kept = false;
        self
    }

    /// When it is fresh and when it is over, under a policy. What a loader says of a life is not
    /// shortened by chance.
    pub(crate) fn times(&self, policy: &Policy, created_ms: i64) -> Times {
        let exactly = |life: Duration| policy.life_ms(life, 0.0);
        let usual = match self.value {
            Some(_) => policy.ttl,
            None => policy.negative_ttl,
        };
        let fresh_ms = match self.ttl {
            Some(ttl) => exactly(ttl),
            None => policy.life_ms(usual, fastrand::f64()),
        };
        let stale = self.stale.unwrap_or(policy.stale);
        let stale_ms = match stale.is_zero() {
            true => 0,
            false => exactly(stale),
        };
        let soft_ms = created_ms.saturating_add(fresh_ms);
        Times {
            created_ms,
            soft_ms,
            hard_ms: soft_ms.saturating_add(stale_ms),
        }
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        Self {
            value,
            ttl: None,
            stale: None,
            tags: Vec::new(),
            depends_on: Vec::new(),
            kept: true,
        }
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::from(Some(value))
    }
}
