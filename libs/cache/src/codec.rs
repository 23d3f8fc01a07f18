//! How a value becomes bytes for a shared tier.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Cause;

/// Writes and reads values of one type.
pub trait Codec<V>: Send + Sync + 'static {
    /// Which codec wrote an entry; what another wrote is a miss. Ours are below 16.
    fn id(&self) -> u8;

    /// Writes a value.
    ///
    /// # Errors
    /// When it cannot be written; the value is then answered and not kept.
    fn encode(&self, value: &V) -> Result<Vec<u8>, Cause>;

    /// Reads a value.
    ///
    /// # Errors
    /// When the bytes are none; that is a miss.
    fn decode(&self, bytes: &[u8]) -> Result<V, Cause>;
}

/// Bytes that most values in JSON have at most.
const JSON_GUESS: usize = 512;

/// JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

/// A compact binary format, by the fields' order: adding one makes older entries misses at best, so
/// give the cache another name when the type changes.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, Cause> {
        // Most values fit: what grows is copied.
        let mut bytes = Vec::with_capacity(JSON_GUESS);
        let written = serde_json::to_writer(&mut bytes, value);
        written.map_err(|error| Arc::new(error) as Cause)?;
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, Cause> {
        serde_json::from_slice(bytes).map_err(|error| Arc::new(error) as Cause)
    }
}

#[cfg(feature = "postcard")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, Cause> {
        postcard::to_allocvec(value).map_err(|error| Arc::new(error) as Cause)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, Cause> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(Arc::new(postcard::Error::SerdeDeCustom)),
            Err(error) => Err(Arc::new(error)),
        }
    }
}

impl Codec<Bytes> for Raw {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &Bytes) -> Result<Vec<u8>, Cause> {
        Ok(value.to_vec())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Bytes, Cause> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}
