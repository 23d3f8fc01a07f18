//! Domains that give out throw-away mail addresses. The list is mailchecker's, kept as a set.

use std::collections::HashSet;
use std::sync::OnceLock;

/// Whether a domain, in lower case and ASCII, or one above it is on the list.
pub(super) fn is_disposable(domain: &str) -> bool {
    let mut rest = domain;
    while rest.contains('.') {
        if list().contains(rest) {
            return true;
        }
        rest = rest.split_once('.').map_or("", |(_, above)| above);
    }
    false
}

fn list() -> &'static HashSet<&'static str> {
    static LIST: OnceLock<HashSet<&'static str>> = OnceLock::new();
    LIST.get_or_init(|| mailchecker::blacklist().into_iter().collect())
}
