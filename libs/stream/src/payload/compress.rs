//! Bodies made smaller on their way.

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::Message;

use super::Codec;
use crate::Error;
use crate::handler::{Failure, Meta};

/// The header with the way and the bytes of the body before, separated by a space.
const HEADER: &str = "rb-packed";

/// Smaller bodies are hardly worth the header.
const ABOVE_BYTES: usize = 512;

/// What a body may come to when it is unpacked, unless told.
const BYTES_MAX: usize = 16 << 20;

/// The level of Zstandard: its quickest.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

/// How bodies are made smaller. Each way is a feature of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard at its fastest level: smaller.
    #[cfg(feature = "zstd")]
    Zstd,
    /// A block of LZ4: quicker.
    #[cfg(feature = "lz4")]
    Lz4,
}

/// Makes bodies above a size smaller, where that saves at least a tenth.
///
/// A receiver unpacks every way that its program was built with, whichever it sends by itself; a
/// message that is not packed is taken as it is. A way that is unknown here is
/// `packed.unknown` and tried again, because the program may be about to be replaced. What cannot be
/// unpacked is a dead letter of class `malformed`: `packed.broken`, or `packed.too_large` when it says
/// of itself that it comes to more than the limit, before any of it is unpacked.
///
/// It belongs before [`Seal`](super::Seal): what is sealed does not get smaller.
#[derive(Clone, Copy, Debug)]
pub struct Compress {
    way: Compression,
    above_bytes: usize,
    bytes_max: usize,
}

// === impl Compress ===

impl Compress {
    /// Packs bodies of more than 512 bytes, and unpacks none to more than 16 MiB.
    pub fn new(way: Compression) -> Self {
        Self {
            way,
            above_bytes: ABOVE_BYTES,
            bytes_max: BYTES_MAX,
        }
    }

    /// Bodies of so many bytes and fewer stay as they are.
    #[must_use]
    pub fn above(mut self, bytes: usize) -> Self {
        self.above_bytes = bytes;
        self
    }

    /// Neither packs nor unpacks a body of more than so many bytes: a few kilobytes may say that
    /// they are gigabytes. The same for senders and receivers.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    fn pack(&self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() <= self.above_bytes || body.len() > self.bytes_max {
            return None;
        }
        let packed = self.way.pack(body)?;
        (packed.len() <= body.len() / 10 * 9).then_some(packed)
    }
}

#[async_trait]
impl Codec for Compress {
    async fn encode(&self, message: Message) -> Result<Message, Error> {
        let Some(packed) = self.pack(&message.body) else {
            return Ok(message);
        };
        let mark = format!("{} {}", self.way.name(), message.body.len());
        let body = Bytes::from(packed);
        Ok(Message { body, ..message }.with_header(HEADER, mark))
    }

    async fn decode(&self, meta: &Meta, body: Bytes) -> Result<Bytes, Failure> {
        let Some(mark) = meta.header(HEADER) else {
            return Ok(body);
        };
        let (name, length) = mark.split_once(' ').ok_or_else(broken)?;
        let length: usize = length.parse().map_err(|_| broken())?;
        if length > self.bytes_max {
            let error = "unpacked it would be larger than is allowed here";
            return Err(Failure::malformed("packed.too_large", error));
        }
        let way = Compression::by_name(name).ok_or_else(unknown)?;
        let unpacked = way.unpack(&body, length).ok_or_else(broken)?;
        Ok(unpacked.into())
    }
}

// === impl Compression ===

impl Compression {
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
            #[cfg(feature = "lz4")]
            Self::Lz4 => "lz4",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        match name {
            #[cfg(feature = "zstd")]
            "zstd" => Some(Self::Zstd),
            #[cfg(feature = "lz4")]
            "lz4" => Some(Self::Lz4),
            _ => None,
        }
    }

    fn pack(self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::bulk::compress(body, LEVEL).ok(),
            #[cfg(feature = "lz4")]
            Self::Lz4 => Some(lz4_flex::block::compress(body)),
        }
    }

    /// The body, if it comes to exactly so many bytes.
    fn unpack(self, packed: &[u8], length: usize) -> Option<Vec<u8>> {
        let unpacked = match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::bulk::decompress(packed, length).ok()?,
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4_flex::block::decompress(packed, length).ok()?,
        };
        (unpacked.len() == length).then_some(unpacked)
    }
}

fn broken() -> Failure {
    Failure::malformed("packed.broken", "the body cannot be unpacked")
}

fn unknown() -> Failure {
    Failure::retry("packed.unknown", "packed in a way that is unknown here")
}
