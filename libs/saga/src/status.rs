//! Where a saga stands, in the words that stores, metrics and operators see.

/// Where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Written, not yet taken up by a process.
    Pending,
    /// Steps run, or wait for a time or a signal.
    Executing,
    /// Its pivot is done, so there is no way back, and a step after it failed: the saga finds a way
    /// on.
    ForwardRecovery,
    /// Steps are being undone.
    Compensating,
    /// Nothing moves until an operator decides.
    Parked,
    /// Every step is done or was left out. An end.
    Completed,
    /// Every effect was undone. An end.
    RolledBack,
    /// Ended by an operator although effects are left. An end.
    Failed,
}

// === impl Status ===

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Executing,
        Self::ForwardRecovery,
        Self::Compensating,
        Self::Parked,
        Self::Completed,
        Self::RolledBack,
        Self::Failed,
    ];

    /// The stable word for stores, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Executing => "executing",
            Self::ForwardRecovery => "forward_recovery",
            Self::Compensating => "compensating",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }

    /// Reads the stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// Whether the saga has ended. A completed saga can still be told to undo itself.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Failed)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
