//! What a request asks for.

/// What is done with the items of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Action {
    /// Judge, answer, and keep the items.
    #[default]
    Validate,
    /// Judge and answer; the items are neither kept nor counted in look-ups.
    Check,
    /// As validate, for an importer.
    Import,
}

impl Action {
    /// The words an action is written with, for messages.
    pub const WORDS: &str = "validate, check, import";

    /// Reads an action from its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "validate" => Some(Self::Validate),
            "check" => Some(Self::Check),
            "import" => Some(Self::Import),
            _ => None,
        }
    }

    /// The action as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Check => "check",
            Self::Import => "import",
        }
    }
}
