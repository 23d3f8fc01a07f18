//! SQL stands where somebody looks for it: in app/store, libs/db, and in the files of the libraries
//! and of app/origin, whose origins are databases, that are named for it.

use super::Finding;
use super::source::Source;

const RULE: &str = "place of SQL";
/// Files (or folders) of a library that may hold SQL.
const NAMES: [&str; 5] = ["sql", "postgres", "sqlite", "schema", "migrations"];
/// How a statement begins, and what follows somewhere later.
const STATEMENTS: [(&str, &str); 12] = [
    ("SELECT", " "),
    ("INSERT", " INTO "),
    ("UPDATE", " SET "),
    ("DELETE", " FROM "),
    ("CREATE", " TABLE "),
    ("CREATE", " INDEX "),
    ("CREATE", " VIEW "),
    ("ALTER", " TABLE "),
    ("DROP", " TABLE "),
    ("TRUNCATE", " "),
    ("COPY", " FROM "),
    ("WITH", " AS ("),
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let allowed = source.is_in("app/store")
        || source.is_in("libs/db")
        || (source.is_in("libs") && source.is_named(&NAMES))
        // The cache service reads the databases of others.
        || (source.is_in("app/origin") && source.is_named(&["sql"]));
    if allowed || !source.is_product() {
        return Vec::new();
    }
    let literals = source
        .shipped_literals()
        .filter(|(_, literal)| is_sql(literal));
    literals
        .map(|(line, _)| {
            let advice = "SQL belongs in app/store, or in a library's sql.rs, postgres.rs, \
                          sqlite.rs or schema.rs";
            source.finding(line, RULE, advice.to_owned())
        })
        .collect()
}

fn is_sql(literal: &str) -> bool {
    let words = literal.split_whitespace().collect::<Vec<_>>().join(" ");
    let begins = |text: &str| {
        STATEMENTS.iter().any(|(first, later)| {
            text.strip_prefix(first)
                .is_some_and(|rest| rest.starts_with(' ') && rest.contains(later))
        })
    };
    let lower_select = words.starts_with("select ") && words.contains(" from ");
    lower_select || begins(&words) || words.split("; ").any(begins)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    const SAMPLE: &str = "//! a\nf(\"SELECT 1\");\nf(\"\n  UPDATE a\n  SET b = 1\");\n\
                          f(\"SELECT\", \"select a word\", \"UPDATE it\", \"pick one, then INSERT INTO\");\n\
                          f(r\"WITH a AS (x)\", \"BEGIN; DELETE FROM a\");\n";

    #[test]
    fn statements_are_found_where_they_do_not_belong() {
        for path in [
            "app/gateway/src/a.rs",
            "libs/stream/src/claim.rs",
            "app/worker/src/sql.rs",
        ] {
            assert_eq!(lines(&check(&source(path, SAMPLE))), [2, 3, 7, 7], "{path}");
        }
    }

    #[test]
    fn statements_may_stand_in_their_places() {
        for path in [
            "app/store/src/requests.rs",
            "libs/db/src/lease.rs",
            "libs/outbox/src/sql.rs",
            "libs/outbox/src/migrations/first.rs",
            "libs/stream/src/sqlite.rs",
            "libs/stream/src/sqlite/claim.rs",
            "app/origin/src/source/sql.rs",
            "app/gateway/tests/it/main.rs",
        ] {
            assert!(check(&source(path, SAMPLE)).is_empty(), "{path}");
        }
    }
}
