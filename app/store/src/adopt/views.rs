//! Views over the predecessor's tables: the same columns whichever version made them.

use std::collections::HashMap;

use ratebox_db::Sql;

use crate::{Error, Result, Store};

const COLUMNS: Sql = Sql::both(
    "SELECT column_name::text, data_type::text FROM information_schema.columns
     WHERE table_schema = $1::text AND table_name = $2::text",
);

const OUR_SCHEMA: Sql = Sql::both("SELECT current_schema()::text");

const DROP: &str = "DROP VIEW IF EXISTS adopt_items, adopt_errors, adopt_consumers;
    DROP FUNCTION IF EXISTS adopt_json(text);";

/// Text that is a JSON object as that object; all other text as a JSON string. A try costs a
/// subtransaction, so only what looks like an object is tried; and where nobody asks for the payload
/// it is not called, as it is immutable.
const JSON: &str = "
    CREATE FUNCTION adopt_json(raw text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF raw !~ '^\\s*\\{' THEN
            RETURN to_jsonb(raw);
        END IF;
        BEGIN
            RETURN raw::jsonb;
        EXCEPTION WHEN data_exception OR statement_too_complex THEN
            RETURN to_jsonb(raw);
        END;
    END $$;";

/// The columns of one of the predecessor's tables, by name, with their types; empty when there is
/// no such table.
struct Table {
    name: String,
    columns: HashMap<String, String>,
}

impl Store {
    /// Whether the predecessor's items are in this schema.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn has_predecessor(&self, schema: &str) -> Result<bool> {
        let items = self.table(schema, "raw_items").await?;
        Ok(!items.columns.is_empty())
    }

    /// Makes the views `adopt_items`, `adopt_errors` and `adopt_consumers`.
    pub(super) async fn make_views(&self, schema: &str) -> Result<()> {
        let rows = self.db().query(OUR_SCHEMA).await?;
        let ours: Option<String> = rows.first().map_or(Ok(None), |row| row.get(0))?;
        if ours.as_deref() == Some(schema) {
            return Err(adoption(format!(
                "{schema} is the schema of our own tables; the predecessor's are elsewhere"
            )));
        }
        let items = self.table(schema, "raw_items").await?;
        if items.columns.is_empty() {
            return Err(adoption(format!(
                "there is no table raw_items in schema {schema}, or this user may not read it; \
                 name another with --from-schema"
            )));
        }
        if !items.has("validation_state") || items.kind("id") != Some("uuid") {
            return Err(adoption(format!(
                "raw_items in schema {schema} is not the predecessor's: it has no \
                 validation_state, or its id is no uuid"
            )));
        }
        let errors = self.table(schema, "raw_item_errors").await?;
        let consumers = self.table(schema, "stream_consumer_stats").await?;
        let views = [
            items_view(&items),
            errors_view(&errors),
            consumers_view(&consumers),
        ];
        let script = format!("BEGIN; {DROP} {JSON} {} COMMIT;", views.concat());
        Ok(self.db().script(script).await?)
    }

    pub(super) async fn drop_views(&self) -> Result<()> {
        Ok(self.db().script(DROP.to_owned()).await?)
    }

    async fn table(&self, schema: &str, table: &str) -> Result<Table> {
        let rows = self
            .db()
            .query(COLUMNS.with(vec![schema.into(), table.into()]))
            .await?;
        let mut columns = HashMap::new();
        for row in rows {
            columns.insert(row.get(0)?, row.get(1)?);
        }
        let name = format!("\"{}\".\"{table}\"", schema.replace('"', "\"\""));
        Ok(Table { name, columns })
    }
}

fn adoption(what: String) -> Error {
    Error::Adoption { what }
}

impl Table {
    fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    fn kind(&self, column: &str) -> Option<&str> {
        self.columns.get(column).map(String::as_str)
    }

    /// The column in a type; NULL where it is missing.
    fn get(&self, column: &str, kind: &str) -> String {
        if self.has(column) {
            format!("CAST(o.{column} AS {kind})")
        } else {
            format!("CAST(NULL AS {kind})")
        }
    }

    /// The column as a moment: the predecessor's times without a zone are UTC.
    fn time(&self, column: &str) -> String {
        match self.kind(column) {
            Some("timestamp without time zone") => format!("(o.{column} AT TIME ZONE 'UTC')"),
            Some("timestamp with time zone") => format!("o.{column}"),
            _ => "CAST(NULL AS timestamptz)".to_owned(),
        }
    }

    /// The item as it came; from the columns where it is missing.
    fn payload(&self) -> String {
        let built = format!(
            "jsonb_strip_nulls(jsonb_build_object('phone', {}, 'bank_account', {}))",
            self.get("phone", "text"),
            self.get("bank_account", "text")
        );
        match self.kind("data") {
            Some("jsonb") => format!("coalesce(o.data, {built})"),
            Some("json") => format!("coalesce(CAST(o.data AS jsonb), {built})"),
            Some("text" | "character varying" | "character") => {
                format!("coalesce(adopt_json(CAST(o.data AS text)), {built})")
            }
            Some(_) => format!("coalesce(to_jsonb(o.data), {built})"),
            None => built,
        }
    }
}

fn items_view(table: &Table) -> String {
    let created = format!(
        "coalesce({}, {}, {}, timestamptz 'epoch')",
        table.time("created_at"),
        table.time("updated_at"),
        table.time("processing_started_at")
    );
    format!(
        "CREATE VIEW adopt_items AS
         SELECT i.*, CAST(
            lpad(to_hex(CAST(greatest(0, floor(extract(epoch FROM created_at) * 1000)) AS bigint)),
                12, '0')
            || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15) AS uuid) AS id
         FROM (SELECT o.id AS old_id, md5(CAST(o.id AS text)) AS hash, {created} AS created_at,
            coalesce({updated}, {created}) AS updated_at,
            coalesce({started}, {created}) AS started_at,
            coalesce({completed}, {updated}, {created}) AS completed_at,
            CASE upper(CAST(o.validation_state AS text)) WHEN 'DONE' THEN 'success'
                WHEN 'ERROR' THEN 'error' WHEN 'DLQ' THEN 'dlq' ELSE 'pending' END AS status,
            {payload} AS payload, coalesce({source}, 'unknown') AS source,
            coalesce({stream_id}, '') AS stream_id, coalesce({group}, '') AS consumer_group,
            coalesce({name}, '') AS consumer_name, coalesce({retries}, 0) AS retry_count,
            {last_error} AS last_error
         FROM {table_name} o) i;",
        updated = table.time("updated_at"),
        started = table.time("processing_started_at"),
        completed = table.time("processing_completed_at"),
        payload = table.payload(),
        source = table.get("source", "text"),
        stream_id = table.get("stream_id", "text"),
        group = table.get("consumer_group", "text"),
        name = table.get("consumer_name", "text"),
        retries = table.get("retry_count", "integer"),
        last_error = table.get("last_error", "text"),
        table_name = table.name,
    )
}

/// Without the table, a view without rows.
fn errors_view(table: &Table) -> String {
    let columns = format!(
        "{} AS old_id, {} AS error_id, {} AS error_code, {} AS field,
         coalesce({}, '') AS message, {} AS occurred_at",
        table.get("item_id", "uuid"),
        table.get("id", "text"),
        table.get("error_code", "integer"),
        table.get("field", "text"),
        table.get("message", "text"),
        table.time("occurred_at")
    );
    format!(
        "CREATE VIEW adopt_errors AS {};",
        select(&columns, table, "error_code")
    )
}

/// Without the table, a view without rows.
fn consumers_view(table: &Table) -> String {
    let count = |column| format!("coalesce({}, 0)", table.get(column, "bigint"));
    let last = format!("coalesce({}, now())", table.time("last_processed_at"));
    let columns = format!(
        "{} AS consumer_group, {} AS consumer_name, {} AS stream_name,
         {} AS messages_processed, {} AS messages_with_errors, {} AS last_message_id,
         {last} AS last_processed_at, coalesce({}, {last}) AS created_at,
         coalesce({}, {last}) AS updated_at",
        table.get("consumer_group", "text"),
        table.get("consumer_name", "text"),
        table.get("stream_name", "text"),
        count("messages_processed"),
        count("messages_with_errors"),
        table.get("last_message_id", "text"),
        table.time("created_at"),
        table.time("updated_at"),
    );
    format!(
        "CREATE VIEW adopt_consumers AS {};",
        select(&columns, table, "consumer_name")
    )
}

fn select(columns: &str, table: &Table, needed: &str) -> String {
    if table.has(needed) {
        format!("SELECT {columns} FROM {} o", table.name)
    } else {
        format!("SELECT {columns} WHERE false")
    }
}
