//! Drivers are named in one place each: Redis in libs/valkey and in the libraries' redis backends,
//! PostgreSQL and SQLite in libs/db and where the outbox joins a foreign transaction. All else speaks to our own layers.

use super::Finding;
use super::source::{Source, names_path};

const RULE: &str = "place of drivers";

/// A driver, and whether a file may name it.
struct Driver {
    name: &'static str,
    allowed: fn(&Source) -> bool,
    advice: &'static str,
}

const DRIVERS: [Driver; 4] = [
    Driver {
        name: "redis",
        allowed: may_name_redis,
        advice: "speak to it through libs/valkey",
    },
    Driver {
        name: "tokio_postgres",
        allowed: is_db,
        advice: "speak to it through libs/db",
    },
    Driver {
        name: "deadpool_postgres",
        allowed: is_db,
        advice: "speak to it through libs/db",
    },
    Driver {
        name: "rusqlite",
        allowed: is_db,
        advice: "speak to it through libs/db",
    },
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.is_product() {
        return Vec::new();
    }
    let named = |driver: &&Driver| !(driver.allowed)(source) && !has_module(source, driver.name);
    let mut found = Vec::new();
    for driver in DRIVERS.iter().filter(named) {
        let path = format!("{}::", driver.name);
        let uses = [
            format!("use {};", driver.name),
            format!("use {} as", driver.name),
        ];
        for (line, code) in source.shipped_lines() {
            // `names_path` wants a word after the name to end there, which `::` does by itself.
            let starts = names_path(code, driver.name) && code.contains(&path);
            if starts || uses.iter().any(|text| code.contains(text)) {
                let advice = format!("`{}` may not be named here: {}", driver.name, driver.advice);
                found.push(source.finding(line, RULE, advice));
            }
        }
    }
    found
}

fn may_name_redis(source: &Source) -> bool {
    let named = ["redis", "script", "valkey"];
    source.is_in("libs/valkey") || (source.is_in("libs") && source.is_named(&named))
}

/// The outbox joins transactions of its user's own driver.
fn is_db(source: &Source) -> bool {
    source.is_in("libs/db") || source.is_in("libs/outbox/src/transaction")
}

/// Whether the file has a module of that name, which its paths then mean.
fn has_module(source: &Source, name: &str) -> bool {
    source.code.contains(&format!("mod {name};"))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    const SAMPLE: &str = "//! a\nuse redis::cmd;\nlet a = rusqlite::open();\n\
                          fn f(a: &tokio_postgres::Row) {}\nuse crate::redis::Own;\n";

    #[test]
    fn drivers_are_found_where_they_do_not_belong() {
        assert_eq!(
            lines(&check(&source("app/server/src/a.rs", SAMPLE))),
            [2, 4, 3]
        );
        assert_eq!(
            lines(&check(&source("libs/stream/src/claim.rs", SAMPLE))),
            [2, 4, 3]
        );
        assert_eq!(lines(&check(&source("libs/db/src/a.rs", SAMPLE))), [2]);
        assert_eq!(
            lines(&check(&source("libs/stream/src/redis/ack.rs", SAMPLE))),
            [4, 3]
        );
        assert_eq!(
            lines(&check(&source("libs/cache/src/lock/script.rs", SAMPLE))),
            [4, 3]
        );
    }

    #[test]
    fn a_module_of_that_name_is_no_driver() {
        let code = "mod redis;\npub use redis::RedisLog;\n";
        assert!(check(&source("libs/stream/src/lib.rs", code)).is_empty());
    }
}
