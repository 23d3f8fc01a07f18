//! The shipped example: a real table `users` with two rows, and `widgets` that are made from it.

mod sql;

use std::collections::BTreeMap;

use ratebox_db::{Db, Migration, Result};

use crate::resource::Declaration;

use self::sql::{MIGRATIONS, STATEMENTS};

/// The shipped example.
#[derive(Clone, Copy, Debug)]
pub struct Example;

// === impl Example ===

impl Example {
    /// The owner name of its tables' migrations.
    pub const OWNER: &'static str = "cache_example";

    /// Its tables.
    pub const MIGRATIONS: &'static [Migration] = MIGRATIONS;

    /// Its resources, as a file of settings would declare them.
    pub const DECLARED: &'static str = include_str!("example/resources.toml");

    /// Makes the table, and the rows when there are none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prepare(db: &Db) -> Result<()> {
        ratebox_db::migrate(db, Self::OWNER, Self::MIGRATIONS).await?;
        for sql in STATEMENTS {
            db.execute(*sql).await?;
        }
        Ok(())
    }

    /// The declarations by name.
    pub fn resources() -> BTreeMap<String, Declaration> {
        toml::from_str(Self::DECLARED).expect("a test reads the shipped declarations")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_declarations_are_sound() {
        let declared = Example::resources();
        assert_eq!(declared.keys().collect::<Vec<_>>(), ["users", "widgets"]);
        for (name, declaration) in declared {
            declaration.check(&name).unwrap();
        }
    }
}
