//! Domains that give out throw-away mail addresses. The list is mailchecker's, kept as a set.

use std::collections::HashSet;
use std::sync::LazyLock;

/// What `cargo xtask disposable` writes: a domain a line.
const TEXT: &str = include_str!("disposable.txt");

static LIST: LazyLock<HashSet<&str>> =
    LazyLock::new(|| TEXT.lines().filter(|line| !line.starts_with('#')).collect());

/// Whether a domain, in lower case and ASCII, or one above it is on the list.
pub(super) fn is_disposable(domain: &str) -> bool {
    let mut rest = domain;
    while rest.contains('.') {
        if LIST.contains(rest) {
            return true;
        }
        rest = rest.split_once('.').map_or("", |(_, above)| above);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_mailchecker() {
        let theirs: HashSet<&str> = mailchecker::blacklist().into_iter().collect();
        assert_eq!(*LIST, theirs);
        assert!(is_disposable("mailinator.com") && is_disposable("a.mailinator.com"));
        assert!(!is_disposable("com") && !is_disposable("gmail.com"));
    }
}
