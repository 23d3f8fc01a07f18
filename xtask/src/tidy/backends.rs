//! Only the server's wiring names concrete backends; all else in app/ gets a handle.

use super::Finding;
use super::source::{Source, words};

const RULE: &str = "wiring";
const CONCRETE: [&str; 5] = [
    "RedisLog",
    "SqliteLog",
    "MemoryLog",
    "Valkey",
    "ratebox_valkey",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let wiring = source.path.starts_with("app/server/src/wiring");
    if !source.is_product() || !source.is_in("app") || wiring {
        return Vec::new();
    }
    source
        .shipped_lines()
        .filter_map(|(line, code)| {
            Some((
                line,
                CONCRETE
                    .into_iter()
                    .find(|name| words(code).any(|word| word == *name))?,
            ))
        })
        .map(|(line, name)| {
            let advice =
                format!("only app/server/src/wiring names `{name}`: take a handle instead");
            source.finding(line, RULE, advice)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    const SAMPLE: &str = "//! a\nuse ratebox_stream::RedisLog;\nlet a = MemoryLog::new();\n";

    #[test]
    fn a_backend_is_named_by_the_wiring_alone() {
        assert_eq!(
            lines(&check(&source("app/worker/src/a.rs", SAMPLE))),
            [2, 3]
        );
        assert_eq!(
            lines(&check(&source("app/server/src/cli.rs", SAMPLE))),
            [2, 3]
        );
        assert!(check(&source("app/server/src/wiring.rs", SAMPLE)).is_empty());
        assert!(check(&source("app/server/src/wiring/bus.rs", SAMPLE)).is_empty());
        assert!(check(&source("app/worker/tests/it/a.rs", SAMPLE)).is_empty());
        assert!(check(&source("libs/stream/src/lib.rs", SAMPLE)).is_empty());
    }
}
