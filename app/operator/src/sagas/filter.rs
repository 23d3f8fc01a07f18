//! Which sagas are meant.

use ratebox_kit::Timestamp;
use ratebox_saga::{Filter, SagaId, Status};
use uuid::Uuid;

/// Which sagas are meant. Everything that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// In one of these states.
    pub states: SagaStates,
    /// Of this definition.
    pub definition: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// Started by a step of this one.
    pub parent: Option<Uuid>,
    /// Started at or after.
    pub from: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// Only those after this one: the last of the page before.
    pub after: Option<Uuid>,
}

/// In which states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SagaStates {
    /// That have not ended.
    #[default]
    Live,
    /// All.
    Any,
    /// One of these.
    These(Vec<Status>),
}

// === impl SagaStates ===

impl SagaStates {
    /// Reads `live`, `any`, or states between commas.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "live" => Some(Self::Live),
            "any" => Some(Self::Any),
            words => {
                let words = words.split(',').map(|it| Status::parse(it.trim()));
                words.collect::<Option<Vec<_>>>().map(Self::These)
            }
        }
    }

    fn statuses(&self) -> Vec<Status> {
        match self {
            Self::Live => Status::ALL.into_iter().filter(|it| !it.is_end()).collect(),
            Self::Any => Vec::new(),
            Self::These(statuses) => statuses.clone(),
        }
    }
}

impl std::str::FromStr for SagaStates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = Status::ALL.into_iter().map(Status::as_str).collect();
        Self::parse(text)
            .ok_or_else(|| format!("states are live, any, or some of {}", words.join(", ")))
    }
}

// === impl SagaFilter ===

impl SagaFilter {
    /// Whether it names some sagas, and not just states and times.
    pub(super) fn is_narrow(&self) -> bool {
        self.definition.is_some() || self.key.is_some() || self.parent.is_some()
    }

    pub(super) fn with_limit(&self, limit: usize) -> Filter {
        Filter {
            definition: self.definition.clone(),
            statuses: self.states.statuses(),
            key: self.key.clone(),
            parent: self.parent.map(SagaId),
            created_from: self.from,
            created_before: self.until,
            after: self.after.map(SagaId),
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_from_words() {
        assert_eq!(SagaStates::parse("live"), Some(SagaStates::Live));
        let two = SagaStates::These(vec![Status::Parked, Status::Failed]);
        assert_eq!(SagaStates::parse("parked, failed"), Some(two));
        assert_eq!(SagaStates::parse("parked,gone"), None);
        let live = SagaStates::default().statuses();
        assert!(live.contains(&Status::Parked) && !live.contains(&Status::Failed));
    }
}
