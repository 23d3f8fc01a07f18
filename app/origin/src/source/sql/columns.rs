//! Columns that are not read, found before the first request asks for them.
//!
//! PostgreSQL says of which types the columns of a statement are, for a row that there is not: nothing
//! of the statement is run. SQLite's columns have no types; what one of them holds is known when it
//! is read.

use ratebox_db::{Db, Dialect, Error, Result, Row, Sql};

use crate::resource::KeyKind;

/// Of the types of PostgreSQL those that are read, beside enumerations and the type `citext`.
const READ: &str = "'bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'text', 'varchar', 'bpchar', \
                    'name', 'xml', 'uuid', 'timestamptz', 'json', 'jsonb'";

/// What PostgreSQL says when more columns are named than there are.
const FEWER_COLUMNS: &str = "42P10";

/// The question for the columns that are not read: their numbers and their types. `get` has
/// `asked.key` in the place of the key.
pub(super) fn unread(get: &str, key: KeyKind, count: usize) -> String {
    let kind = super::kind(key);
    let listed =
        |column: fn(usize) -> String| (0..count).map(column).collect::<Vec<_>>().join(", ");
    let names = listed(|at| format!("c{at}"));
    // Beside a NULL a value of a domain is one of the type below it, and as that it is sent.
    let types = listed(|at| format!("({at}, pg_typeof(coalesce(found.c{at}, NULL)))"));
    format!(
        "SELECT typed.at, CAST(typed.type AS text)
         FROM (SELECT CAST(NULL AS {kind}) AS key) AS asked
         LEFT JOIN LATERAL (SELECT * FROM ({get}) AS read WHERE false) AS found({names}) ON true
         CROSS JOIN LATERAL (VALUES {types}) AS typed(at, type)
         JOIN pg_type AS known ON known.oid = typed.type
         WHERE known.typtype <> 'e' AND NOT (known.typtype = 'b' AND known.typname = 'citext')
             AND NOT (known.typnamespace = CAST('pg_catalog' AS regnamespace)
                 AND known.typname IN ({READ}))
         ORDER BY typed.at"
    )
}

/// Refuses columns that are not read; `unread` is the question for them.
///
/// # Errors
/// [`Error::Settings`] that names them and says what to do, or what the database says.
pub(super) async fn check(db: &Db, unread: &Sql, fields: &[String]) -> Result<()> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let rows = match db.query(*unread).await {
        Ok(rows) => rows,
        Err(Error::Statement { code }) if code == FEWER_COLUMNS => {
            let what = format!(
                "get returns fewer columns than the {} of fields",
                fields.len()
            );
            return Err(Error::Settings { what });
        }
        Err(error) => return Err(error),
    };
    let columns = rows.iter().map(|row| told(row, fields));
    let columns: Vec<String> = columns.collect::<Result<_>>()?;
    match columns.is_empty() {
        true => Ok(()),
        false => Err(Error::Settings {
            what: format!("columns of get are not read: {}", columns.join("; ")),
        }),
    }
}

fn told(row: &Row, fields: &[String]) -> Result<String> {
    let (at, kind): (i64, String) = (row.get(0)?, row.get(1)?);
    let field = usize::try_from(at).ok().and_then(|at| fields.get(at));
    let field = field.map_or("?", String::as_str);
    Ok(format!(
        "{field} is of the type {kind}, cast it to text ({field}::text)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_asked_for_by_its_place() {
        let get = "SELECT id, due FROM bills WHERE id = asked.key";
        let asked = unread(get, KeyKind::Integer, 2);
        for part in [
            "CAST(NULL AS bigint) AS key",
            "FROM (SELECT id, due FROM bills WHERE id = asked.key) AS read WHERE false",
            "AS found(c0, c1)",
            "(1, pg_typeof(coalesce(found.c1, NULL)))",
        ] {
            assert!(asked.contains(part), "{asked}");
        }
    }
}
