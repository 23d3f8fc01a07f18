//! What was learnt of tokens in the last seconds, absent ones included.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::Caller;

/// What is known of a token.
#[derive(Debug)]
pub(crate) enum Known {
    /// Learnt just now.
    Fresh(Arc<Caller>),
    /// Usable, but getting old: whoever gets this looks it up again.
    Due(Arc<Caller>),
    /// Too old to be used; it was there when it was looked up last.
    Late(Arc<Caller>),
    /// Looked up just now, and there was none.
    Absent,
    /// Nothing, or an absence of long ago.
    Nothing,
}

/// A bounded map by the token's public id.
#[derive(Debug)]
pub(crate) struct Cache {
    max_age: Duration,
    max: usize,
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    caller: Option<Arc<Caller>>,
    learnt: Duration,
    /// Somebody looks it up.
    refreshing: bool,
}

/// One caller's turn to look a token up; others go on with what is known until it ends.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    cache: &'a Cache,
    id: &'a str,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.cache.entries().get_mut(self.id) {
            entry.refreshing = false;
        }
    }
}

impl Cache {
    pub(crate) fn new(max_age: Duration, max: usize) -> Self {
        Self {
            max_age,
            max,
            entries: Mutex::default(),
        }
    }

    pub(crate) fn find(&self, id: &str, now: Duration) -> Known {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(id) else {
            return Known::Nothing;
        };
        let age = now.saturating_sub(entry.learnt);
        match &entry.caller {
            None if age < self.max_age => Known::Absent,
            None => Known::Nothing,
            Some(caller) if age >= self.max_age => Known::Late(Arc::clone(caller)),
            Some(caller) if age >= self.max_age * 3 / 5 && !entry.refreshing => {
                let caller = Arc::clone(caller);
                entry.refreshing = true;
                Known::Due(caller)
            }
            Some(caller) => Known::Fresh(Arc::clone(caller)),
        }
    }

    /// Ends the turn that [`Known::Due`] began, when dropped.
    pub(crate) fn turn<'a>(&'a self, id: &'a str) -> Turn<'a> {
        Turn { cache: self, id }
    }

    pub(crate) fn learn(&self, id: &str, caller: Option<Arc<Caller>>, now: Duration) {
        let mut entries = self.entries();
        if entries.len() >= self.max && !entries.contains_key(id) {
            entries.retain(|_, entry| now.saturating_sub(entry.learnt) < self.max_age);
            if entries.len() >= self.max {
                entries.retain(|_, entry| entry.caller.is_some());
            }
            if entries.len() >= self.max {
                return;
            }
        }
        let entry = Entry {
            caller,
            learnt: now,
            refreshing: false,
        };
        entries.insert(id.to_owned(), entry);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::Scopes;

    fn caller(id: &str) -> Option<Arc<Caller>> {
        Some(Arc::new(Caller {
            owner: "o".to_owned(),
            token_id: id.to_owned(),
            profile: None,
            limit_per_minute: None,
            scopes: Scopes::of(&[]),
            secret_hash: [0; 32],
            live: false,
            expires_at: None,
            revoked: false,
        }))
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_learnt_ages() {
        let cache = Cache::new(at(5), 10);
        cache.learn("a", caller("a"), at(100));
        cache.learn("b", None, at(100));
        assert!(matches!(cache.find("a", at(102)), Known::Fresh(_)));
        assert!(matches!(cache.find("a", at(105)), Known::Late(_)));
        assert!(matches!(cache.find("b", at(104)), Known::Absent));
        assert!(matches!(cache.find("b", at(105)), Known::Nothing));
        assert!(matches!(cache.find("c", at(100)), Known::Nothing));
    }

    #[test]
    fn one_at_a_time_looks_an_aging_token_up() {
        let cache = Cache::new(at(5), 10);
        cache.learn("a", caller("a"), at(100));
        assert!(matches!(cache.find("a", at(103)), Known::Due(_)));
        assert!(matches!(cache.find("a", at(103)), Known::Fresh(_)));
        drop(cache.turn("a"));
        assert!(matches!(cache.find("a", at(103)), Known::Due(_)));
    }

    #[test]
    fn absent_tokens_never_push_known_ones_out() {
        let cache = Cache::new(at(5), 10);
        cache.learn("a", caller("a"), at(100));
        for number in 0..1000 {
            cache.learn(&format!("x{number}"), None, at(100));
        }
        assert!(matches!(cache.find("a", at(101)), Known::Fresh(_)));
        assert!(cache.entries().len() <= 10);
    }
}
