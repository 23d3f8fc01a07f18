//! Making the bytes of values smaller on their way to the shared tier. Each way is a feature of the
//! crate; what was packed by a way that this program lacks is a miss.

use std::borrow::Cow;

use crate::entry::Packing;

/// How values are made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard at its fastest level: smaller.
    #[cfg(feature = "zstd")]
    Zstd,
    /// LZ4: quicker.
    #[cfg(feature = "lz4")]
    Lz4,
}

/// Which values are made smaller, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packer {
    pub(crate) way: Option<Compression>,
    /// Smaller ones are left as they are.
    pub(crate) bytes_min: usize,
}

/// The level of Zstandard.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

// === impl Packer ===

impl Packer {
    /// The bytes to keep: as they are, where packing would save less than a tenth.
    pub(crate) fn pack<'a>(&self, bytes: &'a [u8]) -> (Packing, Cow<'a, [u8]>) {
        if let Some(way) = self.way
            && bytes.len() >= self.bytes_min
            && let Some((packing, packed)) = way.pack(bytes)
            && packed.len() <= bytes.len() / 10 * 9
        {
            return (packing, Cow::Owned(packed));
        }
        (Packing::Plain, Cow::Borrowed(bytes))
    }
}

impl Compression {
    fn pack(self, bytes: &[u8]) -> Option<(Packing, Vec<u8>)> {
        #[cfg(not(any(feature = "zstd", feature = "lz4")))]
        let _ = bytes;
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                let packed = zstd::bulk::compress(bytes, LEVEL).ok()?;
                Some((Packing::Zstd, packed))
            }
            #[cfg(feature = "lz4")]
            Self::Lz4 => {
                let packed = lz4_flex::compress_prepend_size(bytes);
                Some((Packing::Lz4, packed))
            }
        }
    }
}

/// The bytes that were packed; `None` when they cannot be unpacked, or are more than `bytes_max`.
pub(crate) fn unpack(packing: Packing, bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    match packing {
        Packing::Plain => (bytes.len() <= bytes_max).then(|| bytes.to_vec()),
        Packing::Zstd => unpack_zstd(bytes, bytes_max),
        Packing::Lz4 => unpack_lz4(bytes, bytes_max),
    }
}

#[cfg(feature = "zstd")]
fn unpack_zstd(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    // What an entry says of its size is believed up to the limit only.
    zstd::bulk::decompress(bytes, bytes_max).ok()
}

#[cfg(not(feature = "zstd"))]
fn unpack_zstd(_bytes: &[u8], _bytes_max: usize) -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "lz4")]
fn unpack_lz4(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let (length, packed) = bytes.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    if length > bytes_max {
        return None;
    }
    let unpacked = lz4_flex::decompress(packed, length).ok()?;
    (unpacked.len() == length).then_some(unpacked)
}

#[cfg(not(feature = "lz4"))]
fn unpack_lz4(_bytes: &[u8], _bytes_max: usize) -> Option<Vec<u8>> {
    None
}

#[cfg(all(test, feature = "zstd", feature = "lz4"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packer(way: Compression) -> Packer {
        Packer {
            way: Some(way),
            bytes_min: 100,
        }
    }

    #[test]
    fn what_was_packed_comes_back_and_what_would_not_shrink_stays_as_it_is() {
        for way in [Compression::Zstd, Compression::Lz4] {
            let text = "the same again and again, ".repeat(100);
            let (packing, packed) = packer(way).pack(text.as_bytes());
            assert_ne!(packing, Packing::Plain);
            assert!(packed.len() < text.len() / 5);
            let back = unpack(packing, &packed, text.len()).unwrap();
            assert_eq!(back, text.as_bytes());
            assert_eq!(unpack(packing, &packed, text.len() - 1), None, "too large");
            let noise: Vec<u8> = (0..5_000).map(|_| fastrand::u8(..)).collect();
            assert_eq!(packer(way).pack(&noise).0, Packing::Plain);
            assert_eq!(packer(way).pack(&text.as_bytes()[..99]).0, Packing::Plain);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for packing in [Packing::Zstd, Packing::Lz4] {
                if let Some(unpacked) = unpack(packing, &bytes, 1_000) {
                    prop_assert!(unpacked.len() <= 1_000);
                }
            }
        }
    }
}
