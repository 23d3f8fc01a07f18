//! An origin that is a table, a view or a query of PostgreSQL or SQLite.
//!
//! Statements are declared once for both databases, with `$1`, `$2`, … for the key and the fields.
//! Many keys are asked for in one round trip: PostgreSQL gets the statement joined to the list of
//! keys, SQLite runs it once a key. Each row says which key was asked for: what the database takes for
//! equal need not be written alike (`lower(id) = lower($1)`, `$1::citext`, `COLLATE NOCASE`).

mod columns;

use std::collections::HashMap;

use bytes::Bytes;
use ratebox_db::{Column, Committed, Db, FromValue, Row, Sql, Value};
use serde_json::{Map, Number, Value as Json};

use super::SourceError;
use crate::resource::{Declaration, Key, KeyKind};

/// A declared statement over a database.
#[derive(Debug)]
pub struct SqlSource {
    db: Db,
    fields: Vec<String>,
    get: Sql,
    get_many: Sql,
    put: Option<Sql>,
    /// The columns of `get` that are not read.
    unread: Sql,
}

// === impl SqlSource ===

impl SqlSource {
    /// Takes the statements of a declaration. Their texts live as long as the process, so this is
    /// for its start.
    pub fn new(db: Db, declared: &Declaration) -> Self {
        let each = for_each(&declared.get);
        let many = many(&each, declared.key);
        let unread = columns::unread(&each, declared.key, declared.fields.len());
        Self {
            db,
            fields: declared.fields.clone(),
            get: both(&declared.get, &declared.get),
            get_many: both(&many, &one_of_many(&declared.get)),
            put: (!declared.put.is_empty()).then(|| both(&declared.put, &declared.put)),
            unread: both(&unread, ""),
        }
    }

    /// Whether the database understands the statements, and whether all columns of `get` are of types
    /// that are read, as far as it can tell.
    ///
    /// # Errors
    /// When it does not, or cannot be reached; [`ratebox_db::Error::Settings`] with the columns that are
    /// not read and what to do.
    pub async fn check(&self) -> Result<(), ratebox_db::Error> {
        self.db.prepare(&self.get).await?;
        self.db.prepare(&self.get_many).await?;
        if let Some(put) = &self.put {
            self.db.prepare(put).await?;
        }
        columns::check(&self.db, &self.unread, &self.fields).await
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Bytes>, SourceError> {
        let rows = self.db.query(self.get.with(vec![value(key)])).await?;
        rows.first().map(|row| self.object(row, 0)).transpose()
    }

    pub(super) async fn get_many(&self, keys: &[Key]) -> Result<HashMap<Key, Bytes>, SourceError> {
        let statement = self.get_many.rows(vec![column(keys)], Vec::new())?;
        let mut found = HashMap::with_capacity(keys.len());
        for row in &self.db.query(statement).await? {
            let (key, object) = (key_of(row, keys)?, self.object(row, 1)?);
            // Of several rows the first one, as when it is asked for alone.
            found.entry(key).or_insert(object);
        }
        Ok(found)
    }

    pub(super) async fn put(
        &self,
        key: &Key,
        fields: &[Option<String>],
    ) -> Result<(Bytes, Committed), SourceError> {
        let put = self.put.ok_or(SourceError::NotWritable)?;
        let mut values = vec![value(key)];
        let text = |field: &Option<String>| field.clone().map_or(Value::Null, Value::Text);
        values.extend(fields.iter().map(text));
        let mut tx = self.db.begin().await?;
        let rows = tx.query(put.with(values)).await?;
        let written = self.object(rows.first().ok_or(SourceError::Column)?, 0)?;
        Ok((written, tx.commit().await?))
    }

    /// A row as a JSON object of the declared fields, which begin with that column.
    fn object(&self, row: &Row, first: usize) -> Result<Bytes, SourceError> {
        let mut object = Map::with_capacity(self.fields.len());
        for (at, field) in self.fields.iter().enumerate() {
            let AsJson(json) = row.get(first + at)?;
            object.insert(field.clone(), json);
        }
        serde_json::to_vec(&object)
            .map(Bytes::from)
            .map_err(|_| SourceError::Column)
    }
}

/// A column as JSON.
struct AsJson(Json);

impl FromValue for AsJson {
    fn from_value(value: &Value) -> Option<Self> {
        Some(Self(match value {
            Value::Null => Json::Null,
            Value::Bool(it) => Json::from(*it),
            Value::Int(it) => Json::from(*it),
            // No number of JSON says what is not finite, and null would be another value.
            Value::Float(it) => Json::Number(Number::from_f64(*it)?),
            Value::Text(it) => Json::from(it.as_str()),
            Value::Json(it) => serde_json::from_str(it).ok()?,
            Value::Uuid(it) => Json::from(it.to_string()),
            Value::Time(it) => Json::from(it.to_string()),
            // Say how: as hex, as base64, as text. Of a type that is not read, too.
            Value::Bytes(_) => return None,
        }))
    }
}

fn value(key: &Key) -> Value {
    match key {
        Key::Integer(number) => Value::Int(*number),
        Key::Text(text) => Value::Text(text.clone()),
    }
}

fn column(keys: &[Key]) -> Column {
    match keys.first() {
        Some(Key::Text(_)) => Column::Text(keys.iter().map(Key::to_string).collect()),
        Some(Key::Integer(_)) | None => Column::Int(
            keys.iter()
                .filter_map(|key| match key {
                    Key::Integer(number) => Some(*number),
                    Key::Text(_) => None,
                })
                .collect(),
        ),
    }
}

/// The key that was asked for stands in the first column.
fn key_of(row: &Row, keys: &[Key]) -> Result<Key, SourceError> {
    Ok(match keys.first() {
        Some(Key::Text(_)) => Key::Text(row.get(0)?),
        Some(Key::Integer(_)) | None => Key::Integer(row.get(0)?),
    })
}

/// The statement with a column in the place of the key, for PostgreSQL.
fn for_each(get: &str) -> String {
    replace(get, |number| match number {
        "1" => "asked.key".to_owned(),
        other => format!("${other}"),
    })
}

/// The type of keys in PostgreSQL.
fn kind(key: KeyKind) -> &'static str {
    match key {
        KeyKind::Integer => "bigint",
        KeyKind::Text => "text",
    }
}

/// The statement for each of a list of keys, for PostgreSQL.
fn many(each: &str, key: KeyKind) -> String {
    let kind = kind(key);
    format!(
        "SELECT asked.key, found.* FROM unnest($1::{kind}[]) AS asked(key) \
         CROSS JOIN LATERAL ({each}) AS found"
    )
}

/// The statement for one of a list of keys, for SQLite. A remark may stand at its end.
fn one_of_many(get: &str) -> String {
    let get = get.trim_end().trim_end_matches(';');
    format!("SELECT $1, found.* FROM ({get}\n) AS found")
}

/// Statements of settings, kept for the process' life: [`Sql`] is made for constants.
fn both(postgres: &str, for_sqlite: &str) -> Sql {
    let sqlite = replace(for_sqlite, |number| format!("?{number}"));
    Sql {
        postgres: Box::leak(postgres.to_owned().into_boxed_str()),
        sqlite: Box::leak(sqlite.into_boxed_str()),
    }
}

/// Replaces each `$n` outside of quotes.
fn replace(text: &str, with: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut quoted) = (text, false);
    while let Some(at) = rest.find(['$', '\'']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix('\'') {
            quoted = !quoted;
            out.push('\'');
            rest = after;
            continue;
        }
        let after = &from[1..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if quoted || digits == 0 {
            out.push('$');
            rest = after;
        } else {
            out.push_str(&with(&after[..digits]));
            rest = &after[digits..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use ratebox_db::SqliteSettings;

    use super::*;
    use crate::Example;

    #[test]
    fn places_of_values_are_written_for_each_database() {
        let get = "SELECT id, 'costs $1' FROM t WHERE id = $1 AND x = $12";
        assert_eq!(
            replace(get, |n| format!("?{n}")),
            "SELECT id, 'costs $1' FROM t WHERE id = ?1 AND x = ?12"
        );
        assert_eq!(
            many(&for_each("SELECT id FROM t WHERE id = $1"), KeyKind::Text),
            "SELECT asked.key, found.* FROM unnest($1::text[]) AS asked(key) \
             CROSS JOIN LATERAL (SELECT id FROM t WHERE id = asked.key) AS found"
        );
        assert_eq!(
            one_of_many("SELECT id FROM t WHERE id = $1 -- one;\n; "),
            "SELECT $1, found.* FROM (SELECT id FROM t WHERE id = $1 -- one;\n\n) AS found"
        );
    }

    /// Or a bulk read would note that there is none, and every reader would be told so.
    #[tokio::test]
    async fn a_row_is_found_under_the_key_that_was_asked_for_however_its_table_writes_it() {
        let db = Db::sqlite(&SqliteSettings::memory()).unwrap();
        for made in [
            "CREATE TABLE staff (id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT)",
            "INSERT INTO staff (id, name) VALUES ('Ada', 'Ada King'), ('bob', 'Bob')",
        ] {
            db.execute(Sql::both(made).with(Vec::new())).await.unwrap();
        }
        let mut declared = Example::resources().remove("users").unwrap();
        declared.key = KeyKind::Text;
        declared.fields = vec!["id".to_owned(), "name".to_owned()];
        declared.get = "SELECT id, name FROM staff WHERE id = $1".to_owned();
        declared.put = String::new();
        let source = SqlSource::new(db, &declared);
        source.check().await.unwrap();
        let keys = ["ada", "bob", "eve"].map(|key| Key::Text(key.to_owned()));
        let found = source.get_many(&keys).await.unwrap();
        assert_eq!(found.len(), 2);
        for key in &keys {
            let alone = source.get(key).await.unwrap();
            assert_eq!(found.get(key), alone.as_ref(), "{key}");
        }
    }
}
