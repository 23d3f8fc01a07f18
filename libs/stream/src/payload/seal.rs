//! Bodies that only the holders of a key can read, and that nobody can change unnoticed.
//!
//! ChaCha20-Poly1305 (RFC 8439) under a key of its own for each message, derived by HKDF-SHA256
//! from the named key and 24 random bytes: so many messages may be sealed with one key that nobody
//! has to count them. The message id and the key's name are authenticated with it: a body that is
//! moved to another message does not open.

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use ratebox_kit::{DeadLetterClass, Message, id};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use super::{Codec, Keys};
use crate::Error;
use crate::handler::{Failure, FailureKind, Meta};

/// The header with the name of the key.
const HEADER: &str = "rb-seal";

/// The first byte of a sealed body: how it is sealed.
const VERSION: u8 = 1;

/// Random bytes that a message's own key is derived with.
const SALT: usize = 24;

/// What the derived keys are for.
const PURPOSE: &[u8] = b"ratebox-stream seal 1";

/// Seals and opens bodies.
///
/// What does not open is a dead letter of class `tampered`: code `seal.broken` where body, id or
/// key name were changed, `seal.missing` where there is no seal. A key that is unknown here is
/// `seal.key_unknown` and tried again, because it may be on its way.
#[derive(Clone, Debug)]
pub struct Seal {
    keys: Keys,
    takes_open_ones: bool,
}

// === impl Seal ===

impl Seal {
    /// Seals and opens with these keys; a message without a seal is refused.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            takes_open_ones: false,
        }
    }

    /// Takes messages without a seal as they are, while senders are changed one after the other.
    /// Until this is taken away again, whoever can write to the stream can send unsealed ones.
    #[must_use]
    pub fn take_open_ones_too(mut self) -> Self {
        self.takes_open_ones = true;
        self
    }

    fn open(&self, name: &str, message: &str, body: &[u8]) -> Result<Bytes, Failure> {
        let secret = self.keys.get(name);
        let secret = secret
            .ok_or_else(|| Failure::retry("seal.key_unknown", "sealed with an unknown key"))?;
        let (head, sealed) = body.split_at_checked(1 + SALT).ok_or_else(broken)?;
        if head[0] != VERSION {
            return Err(broken());
        }
        let key = own_key(secret, &head[1..]).map_err(|_| broken())?;
        let mut text = sealed.to_vec();
        let opened = key.open_in_place(nonce(), aad(name, message), &mut text);
        let length = opened.map_err(|_| broken())?.len();
        text.truncate(length);
        Ok(text.into())
    }
}

#[async_trait]
impl Codec for Seal {
    async fn encode(&self, message: Message) -> Result<Message, Error> {
        let refused = |_| Error::refused("the body could not be sealed");
        let name = self.keys.current();
        let secret = self.keys.get(name);
        let secret = secret.ok_or_else(|| Error::refused("the current key is missing"))?;
        let salt = id::random_bytes::<SALT>();
        let key = own_key(secret, &salt).map_err(refused)?;
        let overhead = 1 + SALT + CHACHA20_POLY1305.tag_len();
        let mut text = message.body.to_vec();
        let tag = key.seal_in_place_separate_tag(nonce(), aad(name, &message.id.0), &mut text);
        let tag = tag.map_err(refused)?;
        let mut body = BytesMut::with_capacity(text.len() + overhead);
        body.put_u8(VERSION);
        body.put_slice(&salt);
        body.put_slice(&text);
        body.put_slice(tag.as_ref());
        let sealed = Message {
            body: body.freeze(),
            ..message
        };
        Ok(sealed.with_header(HEADER, name))
    }

    async fn decode(&self, meta: &Meta, body: Bytes) -> Result<Bytes, Failure> {
        match meta.header(HEADER) {
            Some(name) => self.open(name, meta.id(), &body),
            None if self.takes_open_ones => Ok(body),
            None => Err(tampered("seal.missing", "the message has no seal")),
        }
    }
}

/// A key for one message.
fn own_key(secret: &[u8], salt: &[u8]) -> Result<LessSafeKey, ring::error::Unspecified> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let key = derived.expand(&[PURPOSE], &CHACHA20_POLY1305)?;
    Ok(LessSafeKey::new(UnboundKey::from(key)))
}

/// The key is used once, so the nonce need not differ.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// What is authenticated beside the body. A key's name has no spaces, so the parts are told apart.
fn aad(name: &str, message: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{name} {message}").into_bytes())
}

fn broken() -> Failure {
    tampered("seal.broken", "the seal does not fit body, id and key")
}

pub(super) fn tampered(code: &'static str, error: &str) -> Failure {
    Failure::new(FailureKind::Dead(DeadLetterClass::Tampered), code, error)
}
