//! What a token may do.

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    ValidationRead,
    ValidationWrite,
    ImportRead,
    ImportWrite,
    MonitoringRead,
    MonitoringWrite,
    Admin,
}

impl Scope {
    const ALL: [Self; 7] = [
        Self::ValidationRead,
        Self::ValidationWrite,
        Self::ImportRead,
        Self::ImportWrite,
        Self::MonitoringRead,
        Self::MonitoringWrite,
        Self::Admin,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ValidationRead => "validation:read",
            Self::ValidationWrite => "validation:write",
            Self::ImportRead => "import:read",
            Self::ImportWrite => "import:write",
            Self::MonitoringRead => "monitoring:read",
            Self::MonitoringWrite => "monitoring:write",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    /// Reads the words of a token. Strapi's `find` and `create` stand for reading and writing of
    /// validations and imports; unknown words grant nothing.
    pub(crate) fn of(words: &[String]) -> Self {
        let bits = words.iter().map(|word| match word.as_str() {
            "find" => Scope::ValidationRead.bit() | Scope::ImportRead.bit(),
            "create" => Scope::ValidationWrite.bit() | Scope::ImportWrite.bit(),
            word => Scope::ALL
                .into_iter()
                .find(|scope| scope.as_str() == word)
                .map_or(0, Scope::bit),
        });
        Self(bits.fold(0, |all, bits| all | bits))
    }

    pub(crate) fn has(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(words: &[&str]) -> Scopes {
        Scopes::of(
            &words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_scope_grants_itself_and_admin_grants_all() {
        assert!(scopes(&["import:read"]).has(Scope::ImportRead));
        assert!(!scopes(&["import:read"]).has(Scope::ImportWrite));
        assert!(!scopes(&["import:delete", "Admin"]).has(Scope::ImportRead));
        assert!(
            Scope::ALL
                .into_iter()
                .all(|scope| scopes(&["admin"]).has(scope))
        );
    }

    #[test]
    fn words_of_the_predecessor_are_read() {
        let find = scopes(&["find"]);
        assert!(find.has(Scope::ValidationRead) && find.has(Scope::ImportRead));
        assert!(!find.has(Scope::ValidationWrite) && !find.has(Scope::MonitoringRead));
        let create = scopes(&["create"]);
        assert!(create.has(Scope::ValidationWrite) && !create.has(Scope::ImportRead));
    }
}
