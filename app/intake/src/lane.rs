//! The priority classes of the bus.

/// Priority class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lane {
    /// Before everything else.
    High,
    /// The default.
    #[default]
    Normal,
    /// Batches and bulk imports.
    Low,
}

impl Lane {
    /// The words a lane is written with, for messages.
    pub const WORDS: &str = "high, normal, low, batch, bulk";

    /// Reads a lane from its word; `batch` and `bulk` are low.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "high" => Some(Self::High),
            "normal" => Some(Self::Normal),
            "low" | "batch" | "bulk" => Some(Self::Low),
            _ => None,
        }
    }

    /// The lane as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}
