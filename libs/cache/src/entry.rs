//! The one format of an entry in a shared tier, for every strategy.
//!
//! It says of itself what it is: version, codec, times, who filled it, the tags that it was built
//! under, and whether it stands for an absent value. Bytes that are none of it, or of a version that
//! this program does not know, are a miss and never an error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

/// First bytes of every entry; the last one is the version of the format.
const MAGIC: [u8; 4] = *b"RBC\x01";

/// Where the stamp begins: a tier may read it alone.
pub(crate) const STAMP_AT: usize = 6;

/// Length of a stamp.
pub(crate) const STAMP_LEN: usize = 16;

/// Most tags of one entry that its policy and its loader name, and the entries that it depends on.
pub(crate) const NAMED_MAX: usize = 16;

/// Most tags of one entry, with those that are added to the named ones: of caches, and what is
/// inherited from the entries that it depends on. Readers of any version take as many as the one byte
/// of their number says.
pub(crate) const TAGS_MAX: usize = 64;

/// Bytes of an entry beside its tags and its value.
const HEAD_BYTES: usize = 55;

/// The value is known to be absent.
const ABSENT: u8 = 1;

/// Who filled an entry: the token of the load.
pub(crate) type Stamp = Uuid;

/// When an entry is what; milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// When its load ended.
    pub(crate) created_ms: i64,
    /// Until when it is fresh.
    pub(crate) soft_ms: i64,
    /// Until when it may stand in for a fresh one.
    pub(crate) hard_ms: i64,
}

impl Times {
    /// How long the tier keeps the entry.
    pub(crate) fn life(&self) -> Duration {
        let ms = self.hard_ms.saturating_sub(self.created_ms).max(1);
        Duration::from_millis(ms.unsigned_abs())
    }
}

/// A tag with the count that it had before the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(crate) tag: Arc<str>,
    pub(crate) count: u64,
}

/// How the bytes of the value were made smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    #[default]
    Plain,
    /// Zstandard.
    Zstd,
    /// LZ4 with its length before it.
    Lz4,
}

/// What stands before the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) stamp: Stamp,
    pub(crate) times: Times,
    /// How long the load took, in microseconds.
    pub(crate) cost_us: u32,
    /// Which codec wrote the value.
    pub(crate) codec: u8,
    pub(crate) packing: Packing,
}

/// An entry as it lies in its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) head: Head,
    /// The value's bytes; `None` when it is known to be absent.
    pub(crate) value: Option<&'a [u8]>,
    tags: &'a [u8],
}

// === impl Packing ===

impl Packing {
    fn bits(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 2,
            Self::Lz4 => 4,
        }
    }

    fn from_bits(flags: u8) -> Option<Self> {
        match flags & !ABSENT {
            0 => Some(Self::Plain),
            2 => Some(Self::Zstd),
            4 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// Writes an entry.
pub(crate) fn encode(head: &Head, tags: &[Tagged], value: Option<&[u8]>) -> Bytes {
    let tag_bytes: usize = tags.iter().map(|tagged| tagged.tag.len() + 10).sum();
    // Exactly, so that it is not moved to become shared.
    let mut out = Vec::with_capacity(HEAD_BYTES + tag_bytes + value.map_or(0, <[u8]>::len));
    out.extend_from_slice(&MAGIC);
    out.push(head.packing.bits() | if value.is_none() { ABSENT } else { 0 });
    out.push(head.codec);
    out.extend_from_slice(head.stamp.as_bytes());
    for ms in [
        head.times.created_ms,
        head.times.soft_ms,
        head.times.hard_ms,
    ] {
        out.extend_from_slice(&ms.to_le_bytes());
    }
    out.extend_from_slice(&head.cost_us.to_le_bytes());
    let tags = tags.get(..TAGS_MAX.min(tags.len())).unwrap_or_default();
    out.push(u8::try_from(tags.len()).unwrap_or(0));
    for tagged in tags {
        let length = u16::try_from(tagged.tag.len()).unwrap_or(u16::MAX);
        let name = tagged.tag.as_bytes();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(name.get(..usize::from(length)).unwrap_or(name));
        out.extend_from_slice(&tagged.count.to_le_bytes());
    }
    let value = value.unwrap_or_default();
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
    out.into()
}

// === impl Entry ===

impl<'a> Entry<'a> {
    /// Reads an entry; `None` for what is none, or not of this version.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut left = Left(bytes);
        if left.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let flags = left.byte()?;
        let packing = Packing::from_bits(flags)?;
        let codec = left.byte()?;
        let stamp = Uuid::from_slice(left.take(STAMP_LEN)?).ok()?;
        let times = Times {
            created_ms: left.ms()?,
            soft_ms: left.ms()?,
            hard_ms: left.ms()?,
        };
        let cost_us = u32::from_le_bytes(left.array()?);
        let count = left.byte()?;
        let before = left.0;
        for _ in 0..count {
            left.tag()?;
        }
        let tags = before.get(..before.len() - left.0.len())?;
        let length = u32::from_le_bytes(left.array()?);
        let value = left.take(usize::try_from(length).ok()?)?;
        let head = Head {
            stamp,
            times,
            cost_us,
            codec,
            packing,
        };
        let absent = flags & ABSENT != 0;
        (left.0.is_empty() && !(absent && length > 0)).then_some(Self {
            head,
            value: (!absent).then_some(value),
            tags,
        })
    }

    /// The tags with the counts that they had before the load.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let mut left = Left(self.tags);
        std::iter::from_fn(move || left.tag())
    }
}

/// The stamp of whatever bytes lie in the tier: what a script would read there.
pub(crate) fn stamp_of(bytes: &[u8]) -> &[u8] {
    let end = bytes.len().min(STAMP_AT + STAMP_LEN);
    bytes.get(STAMP_AT..end).unwrap_or_default()
}

/// Bytes that are still to be read.
struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn ms(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.array()?))
    }

    fn tag(&mut self) -> Option<(&'a str, u64)> {
        let length = u16::from_le_bytes(self.array()?);
        let name = std::str::from_utf8(self.take(usize::from(length))?).ok()?;
        Some((name, u64::from_le_bytes(self.array()?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratebox_kit::id;

    use super::*;

    fn head() -> Head {
        Head {
            stamp: id::new(),
            times: Times {
                created_ms: 1,
                soft_ms: 2,
                hard_ms: 3,
            },
            cost_us: 4,
            codec: 5,
            packing: Packing::Lz4,
        }
    }

    #[test]
    fn an_entry_comes_back_as_it_went() {
        let head = head();
        let tags = [("a", 7), ("ä:b", u64::MAX)].map(|(tag, count)| Tagged {
            tag: tag.into(),
            count,
        });
        for value in [Some(&b"value"[..]), Some(&b""[..]), None] {
            let bytes = encode(&head, &tags, value);
            let tag_bytes = tags
                .iter()
                .map(|tagged| tagged.tag.len() + 10)
                .sum::<usize>();
            let value_bytes = value.map_or(0, <[u8]>::len);
            assert_eq!(bytes.len(), HEAD_BYTES + tag_bytes + value_bytes);
            let entry = Entry::decode(&bytes).unwrap();
            assert_eq!(entry.head, head);
            assert_eq!(entry.value, value);
            assert!(entry.tags().eq([("a", 7), ("ä:b", u64::MAX)]));
            assert_eq!(stamp_of(&bytes), head.stamp.as_bytes());
        }
    }

    #[test]
    fn other_versions_and_cut_entries_are_none() {
        let bytes = encode(&head(), &[], Some(b"value"));
        for length in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..length]).is_none(), "{length}");
        }
        let mut other = bytes.to_vec();
        other[3] = 2;
        assert!(Entry::decode(&other).is_none());
        other[3] = 1;
        other.push(0);
        assert!(Entry::decode(&other).is_none(), "something follows");
        for foreign in ["__nil__", "{\"value\":1}", "", "\u{80}\u{4}"] {
            assert!(Entry::decode(foreign.as_bytes()).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(mut bytes in prop::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
            if real && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&MAGIC);
            }
            if let Some(entry) = Entry::decode(&bytes) {
                prop_assert!(entry.tags().count() <= 255);
            }
            stamp_of(&bytes);
        }
    }
}
