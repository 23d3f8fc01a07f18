//! What the server says of keys, as names and tags.

use std::sync::Arc;

use ratebox_valkey::Observer;

use crate::view::View;

/// Turns keys of the server into names and tags of the view.
pub(super) struct Ear {
    prefix: String,
    view: Arc<View>,
}

// === impl Ear ===

impl Ear {
    pub(super) fn new(prefix: &str, view: Arc<View>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            view,
        }
    }
}

impl Observer for Ear {
    fn changed(&self, key: &[u8]) {
        let key = std::str::from_utf8(key).ok();
        let Some(key) = key.and_then(|key| key.strip_prefix(self.prefix.as_str())) else {
            return;
        };
        match key.split_at_checked(2) {
            Some(("e:", key)) => {
                if let Some(name) = name_in(key) {
                    self.view.changed(name);
                }
            }
            Some(("l:", key)) => {
                if let Some(name) = name_in(key) {
                    self.view.lease_changed(name);
                }
            }
            Some(("t:", tag)) => self.view.tag_changed(tag),
            _ => {}
        }
    }

    fn flushed(&self) {
        self.view.all_changed();
    }

    fn lost(&self) {
        self.view.lost();
    }
}

/// The name between its braces.
fn name_in(key: &str) -> Option<&str> {
    key.strip_prefix("{.")?.strip_suffix('}')
}
