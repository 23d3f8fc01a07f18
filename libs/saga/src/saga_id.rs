//! What a saga is called.

use ratebox_kit::id;
use uuid::Uuid;

/// Identifies one run of a definition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct SagaId(pub Uuid);

// === impl SagaId ===

impl SagaId {
    /// A new id; ids sort by the time they were made.
    pub fn new() -> Self {
        Self(id::new())
    }

    /// The id of the child that a step of `parent` starts: the same however often the step runs.
    /// It carries the parent's time.
    pub(crate) fn child(parent: Self, step: &str, item: u32) -> Self {
        let item = item.to_be_bytes();
        let hash = id::sha256(&[parent.0.as_bytes(), step.as_bytes(), &item].concat());
        let mut bytes = *parent.0.as_bytes();
        bytes[6..].copy_from_slice(&hash[..10]);
        bytes[6] = (bytes[6] & 0x0f) | 0x70;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(Uuid::from_bytes(bytes))
    }
}

impl Default for SagaId {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for SagaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for SagaId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_one_id_per_parent_step_and_item() {
        let parent = SagaId::new();
        let child = SagaId::child(parent, "ship", 0);
        assert_eq!(child, SagaId::child(parent, "ship", 0));
        assert_ne!(child, SagaId::child(parent, "ship", 1));
        assert_ne!(child, SagaId::child(parent, "pay", 0));
        assert_eq!(child.0.get_version_num(), 7);
        assert_eq!(id::time_ms(child.0), id::time_ms(parent.0));
    }
}
