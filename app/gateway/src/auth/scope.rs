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
    /// Reads the words of a token; unknown ones grant nothing. Strapi's `find` and `create` stand for
    /// reading and writing of validations and imports, `validation.find` or
    /// `api::validation.validation.find` for that of one of them.
    pub(crate) fn of(words: &[String]) -> Self {
        let bits = words.iter().map(|word| {
            let ours = Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
            ours.map_or_else(|| of_strapi(word), Scope::bit)
        });
        Self(bits.fold(0, |all, bits| all | bits))
    }

    /// The same without the right to everything.
    pub(crate) fn without_admin(self) -> Self {
        Self(self.0 & !Scope::Admin.bit())
    }

    pub(crate) fn has(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

fn of_strapi(word: &str) -> u8 {
    let (of_what, deed) = word.rsplit_once('.').unwrap_or(("", word));
    let (of_validation, of_import) = match of_what {
        "" if !word.starts_with('.') => (true, true),
        "validation" | "api::validation.validation" => (true, false),
        "importer" | "api::importer.importer" => (false, true),
        _ => (false, false),
    };
    let of = |scope: Scope, is_meant: bool| if is_meant { scope.bit() } else { 0 };
    match deed {
        "find" => of(Scope::ValidationRead, of_validation) | of(Scope::ImportRead, of_import),
        "create" => of(Scope::ValidationWrite, of_validation) | of(Scope::ImportWrite, of_import),
        _ => 0,
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

    #[test]
    fn longer_words_of_the_predecessor_name_what_they_are_for() {
        let find = scopes(&["validation.find"]);
        assert!(find.has(Scope::ValidationRead) && !find.has(Scope::ImportRead));
        assert_eq!(find, scopes(&["api::validation.validation.find"]));
        let create = scopes(&["importer.create"]);
        assert!(create.has(Scope::ImportWrite) && !create.has(Scope::ValidationWrite));
        assert_eq!(create, scopes(&["api::importer.importer.create"]));
        let unknown = [
            ".find",
            "api::find",
            "user.find",
            "plugin::users-permissions.user.create",
            "api::validation.importer.find",
            "validation.delete",
            "find.find",
            "",
        ];
        assert_eq!(scopes(&unknown), scopes(&[]));
    }

    #[test]
    fn admin_can_be_taken_away_alone() {
        let left = scopes(&["admin", "import:read"]).without_admin();
        assert_eq!(left, scopes(&["import:read"]));
    }
}
