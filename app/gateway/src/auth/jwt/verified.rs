//! Tokens whose signature was right a moment ago, by their digest: whoever comes again pays for one
//! SHA-256. Only genuine tokens are kept, so nobody fills this who has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::auth::Caller;

/// SHA-256 of a whole token.
pub(in crate::auth) type Digest = [u8; 32];

/// What is known of a token.
#[derive(Debug)]
pub(in crate::auth) enum Known {
    /// Checked just now; it may have expired.
    Fresh(Arc<Caller>),
    /// It was genuine when it was checked last.
    Late,
    /// Nothing.
    Nothing,
}

/// A bounded map.
#[derive(Debug)]
pub(super) struct Verified {
    max_age: Duration,
    max: usize,
    entries: Mutex<HashMap<Digest, (Arc<Caller>, Duration)>>,
}

// === impl Verified ===

impl Verified {
    pub(super) fn new(max_age: Duration, max: usize) -> Self {
        Self {
            max_age,
            max,
            entries: Mutex::default(),
        }
    }

    pub(super) fn find(&self, digest: &Digest, now: Duration) -> Known {
        match self.entries().get(digest) {
            Some((caller, learnt)) if now.saturating_sub(*learnt) < self.max_age => {
                Known::Fresh(Arc::clone(caller))
            }
            Some(_) => Known::Late,
            None => Known::Nothing,
        }
    }

    /// Remembers a genuine token. When there is no room, the oldest half makes some.
    pub(super) fn learn(&self, digest: Digest, caller: Arc<Caller>, now: Duration) {
        if self.max_age.is_zero() || self.max == 0 {
            return;
        }
        let mut entries = self.entries();
        if entries.len() >= self.max && !entries.contains_key(&digest) {
            let mut ages: Vec<Duration> = entries.values().map(|(_, learnt)| *learnt).collect();
            let middle = ages.len() / 2;
            let (_, middle, _) = ages.select_nth_unstable(middle);
            let middle = *middle;
            entries.retain(|_, (_, learnt)| *learnt > middle);
        }
        entries.insert(digest, (caller, now));
    }

    /// Forgets a token that is refused now.
    pub(super) fn forget(&self, digest: &Digest) {
        self.entries().remove(digest);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Digest, (Arc<Caller>, Duration)>> {
        self.entries.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::Scopes;

    fn caller() -> Arc<Caller> {
        Arc::new(Caller {
            owner: "o".to_owned(),
            token_id: "t".to_owned(),
            profile: None,
            limit_per_minute: None,
            scopes: Scopes::of(&[]),
            secret_hash: [0; 32],
            live: false,
            expires_at: None,
            revoked: false,
        })
    }

    fn digest(number: usize) -> Digest {
        ratebox_kit::id::sha256(&number.to_be_bytes())
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_checked_ages_and_is_forgotten_when_it_is_refused() {
        let verified = Verified::new(at(5), 10);
        verified.learn(digest(1), caller(), at(100));
        assert!(matches!(
            verified.find(&digest(1), at(104)),
            Known::Fresh(_)
        ));
        assert!(matches!(verified.find(&digest(1), at(105)), Known::Late));
        assert!(matches!(verified.find(&digest(2), at(100)), Known::Nothing));
        verified.forget(&digest(1));
        assert!(matches!(verified.find(&digest(1), at(105)), Known::Nothing));
    }

    #[test]
    fn it_never_grows_beyond_its_bound_and_keeps_the_newest() {
        let verified = Verified::new(at(5), 10);
        for number in 0..1000 {
            let now = Duration::from_millis(100_000 + number as u64);
            verified.learn(digest(number), caller(), now);
            assert!(matches!(
                verified.find(&digest(number), now),
                Known::Fresh(_)
            ));
            assert!(verified.entries().len() <= 10);
        }
        let same_moment = Verified::new(at(5), 10);
        for number in 0..100 {
            same_moment.learn(digest(number), caller(), at(1));
            assert!(same_moment.entries().len() <= 10);
        }
    }

    #[test]
    fn without_an_age_nothing_is_kept() {
        let verified = Verified::new(Duration::ZERO, 10);
        verified.learn(digest(1), caller(), at(100));
        assert!(matches!(verified.find(&digest(1), at(100)), Known::Nothing));
    }
}
