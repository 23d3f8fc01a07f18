//! What a cache takes at most.

use crate::memory::MemoryLimits;

/// What a cache takes at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// What is kept in this process.
    pub memory: MemoryLimits,
    /// Longer keys are loaded and not kept.
    pub key_bytes_max: usize,
    /// Larger values, encoded, are answered and not kept.
    pub value_bytes_max: usize,
    /// Loads that run at once; what protects the origin when nothing is cached.
    pub loads_max: usize,
    /// Loads that wait for their turn; one more is [`crate::Error::Overloaded`].
    pub loads_waiting_max: usize,
    /// Keys of one bulk read.
    pub bulk_keys_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: MemoryLimits::default(),
            key_bytes_max: 1_024,
            value_bytes_max: 1024 * 1024,
            loads_max: 64,
            loads_waiting_max: 10_000,
            bulk_keys_max: 500,
        }
    }
}
