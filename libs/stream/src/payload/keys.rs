//! The keys of a seal, by name, so that they can be changed while messages are under way.

use std::collections::HashMap;
use std::fmt;

use ratebox_kit::Secret;

use crate::Error;

/// Bytes of a key.
const LENGTH: usize = 32;

/// One key to seal with, and older ones that still open. Never prints itself.
#[derive(Clone)]
pub struct Keys {
    current: String,
    keys: HashMap<String, [u8; LENGTH]>,
}

// === impl Keys ===

impl Keys {
    /// Seals with this key. A secret is 32 random bytes as 64 hexadecimal digits; its name is
    /// written beside each message.
    ///
    /// # Errors
    /// When the secret is no such text, or the name is empty or has spaces.
    pub fn new(name: &str, secret: &Secret) -> Result<Self, Error> {
        let keys = Self {
            current: name.to_owned(),
            keys: HashMap::new(),
        };
        keys.and_open_with(name, secret)
    }

    /// Opens with this key, too: one that was current, or will be.
    ///
    /// To change keys: add the new one here in every receiver, then make it the current one of
    /// the senders, and drop the old one when no message is sealed with it any more.
    ///
    /// # Errors
    /// As [`Keys::new`].
    pub fn and_open_with(mut self, name: &str, secret: &Secret) -> Result<Self, Error> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::refused("the name of a key must be visible ASCII"));
        }
        let refuse = || {
            Error::refused(format!(
                "key `{name}` must be 32 bytes as 64 hexadecimal digits"
            ))
        };
        let key = parse(secret.reveal()).ok_or_else(refuse)?;
        self.keys.insert(name.to_owned(), key);
        Ok(self)
    }

    /// The name of the key to seal with.
    pub fn current(&self) -> &str {
        &self.current
    }

    pub(super) fn get(&self, name: &str) -> Option<&[u8; LENGTH]> {
        self.keys.get(name)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.keys.keys().collect();
        f.debug_struct("Keys")
            .field("current", &self.current)
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != LENGTH * 2 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; LENGTH];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(key)
}
