//! What a cache tells whoever wants to hear of it.

use std::sync::Arc;

use crate::Error;

/// What happened. A key is told as it was asked for: whoever logs it decides whether it may be seen.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A read was answered from this process' memory.
    MemoryHit {
        /// The key's text.
        key: &'a str,
    },
    /// A read was answered from the shared tier.
    TierHit {
        /// The key's text.
        key: &'a str,
    },
    /// A read found nothing fresh, and a load is under way.
    Miss {
        /// The key's text.
        key: &'a str,
    },
    /// A read was answered by a value past its end.
    Stale {
        /// The key's text.
        key: &'a str,
    },
    /// A loaded value is kept.
    Kept {
        /// The key's text.
        key: &'a str,
        /// Its size, encoded, in bytes; 0 for an absent value.
        bytes: u64,
    },
    /// A loaded value is not kept: something changed since its load began.
    Outrun {
        /// The key's text.
        key: &'a str,
    },
    /// A load came to nothing.
    LoadFailed {
        /// The key's text.
        key: &'a str,
        /// Why.
        error: &'a Error,
    },
    /// An entry was invalidated here; what depends on it goes with it.
    Invalidated {
        /// The entry's name: the cache's, a colon, the key's text.
        name: &'a str,
    },
    /// A tag was invalidated here.
    TagInvalidated {
        /// The tag as it is in the tier: `#` and the caller's tag, or `@` and the name of a cache.
        tag: &'a str,
    },
}

/// Hears of events while they happen, so it must be quick and must not call the cache.
pub(crate) type Listener = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Tells the listener, if there is one. Costs a comparison without.
pub(crate) fn tell<'a>(listener: Option<&Listener>, event: impl FnOnce() -> Event<'a>) {
    if let Some(listener) = listener {
        listener(&event());
    }
}
