//! Names that no other test uses: key prefixes, databases, groups.

use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// `prefix` with a suffix that is unique on this machine: `orders_18a3f_2_9c41`. Lower case, digits
/// and underscores if the prefix is, so that it can name a database and a key alike.
pub fn unique_name(prefix: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let salt = ratebox_kit::id::hex(&ratebox_kit::id::random_bytes::<3>());
    format!("{prefix}_{:x}_{number}_{salt}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_prefix_differ() {
        assert_ne!(unique_name("a"), unique_name("a"));
    }
}
