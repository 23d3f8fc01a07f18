//! What can be wrong with a definition.

/// One thing that is wrong with a definition, found when it is built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A saga of nothing.
    #[error("it has no steps")]
    Empty,
    /// A name that is empty, too long, or not made of letters, digits, `-`, `_` and `.`.
    #[error("`{name}` is no name: use 1 to 100 letters, digits, `-`, `_` or `.`")]
    BadName {
        /// The name.
        name: String,
    },
    /// Two steps of one name.
    #[error("two steps are called {step}")]
    DuplicateName {
        /// The name.
        step: String,
    },
    /// Steps that wait for each other.
    #[error("steps wait for each other: {}", steps.join(" → "))]
    Cycle {
        /// The steps, each waiting for the one before.
        steps: Vec<String>,
    },
    /// The graph falls into parts that have nothing to do with each other.
    #[error("{step} is not connected to {first}")]
    Disconnected {
        /// A step of another part.
        step: String,
        /// The first step.
        first: String,
    },
    /// A handle of another builder was used.
    #[error("{step} uses a step of another saga")]
    Foreign {
        /// The step that uses it.
        step: String,
    },
    /// A step that is neither before nor after the pivot: when it fails after the pivot is done,
    /// it can neither be undone nor finished for certain.
    #[error("{step} runs beside the pivot {pivot}: put it before or after")]
    BesidePivot {
        /// The step.
        step: String,
        /// The pivot.
        pivot: String,
    },
    /// A pivot that is left out when a condition does not hold is no point of no return.
    #[error("the pivot {step} must not be conditional or a fan-out")]
    UncertainPivot {
        /// The pivot.
        step: String,
    },
    /// A step with an effect that cannot be taken back, where there may be a need to.
    #[error("{step} has an effect and no undo: add one, or say why not with `no_undo`")]
    NoUndo {
        /// The step.
        step: String,
    },
    /// After the pivot nothing is undone.
    #[error("{step} has an undo that can never run: it is not before the pivot")]
    NeverUndone {
        /// The step.
        step: String,
    },
    /// After the pivot there is no way back, so a step must have a way on.
    #[error(
        "{step} comes after the pivot and is never tried again: let it be retried, or give it an alternative"
    )]
    NoWayOn {
        /// The step.
        step: String,
    },
    /// Something was asked of a step that only another kind of step can do.
    #[error("{step}: {what}")]
    Misuse {
        /// The step.
        step: String,
        /// What.
        what: &'static str,
    },
}
