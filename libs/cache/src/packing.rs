//! Making the bytes of values smaller. Each way is a feature of the crate; what was packed by a way
//! that this program lacks is a miss.

use crate::entry::Packing;

/// The bytes that were packed; `None` when they cannot be unpacked, or are more than `bytes_max`.
pub(crate) fn unpack(packing: Packing, bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    match packing {
        Packing::Plain => (bytes.len() <= bytes_max).then(|| bytes.to_vec()),
        Packing::Zstd | Packing::Lz4 => None,
    }
}
