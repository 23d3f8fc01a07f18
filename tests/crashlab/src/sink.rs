//! The counting sink: tables without any key, filled by triggers in the workers' own transactions.
//! They count what the database was really told, whatever the product believes.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use ratebox_testkit::PostgresServer;

/// One row an effect; and one a committed try of the inbox, for a row that is refused as a
/// duplicate passes this trigger all the same.
const TRAPS: &str = "
    CREATE SCHEMA lab;
    CREATE TABLE lab.effects (id uuid NOT NULL);
    CREATE TABLE lab.tries (id uuid NOT NULL);
    CREATE FUNCTION lab.effect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO lab.effects VALUES (NEW.request_id); RETURN NEW; END $$;
    CREATE FUNCTION lab.try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO lab.tries VALUES (NEW.event_id); RETURN NEW; END $$;
    CREATE TRIGGER lab_effect AFTER INSERT ON ratebox.raw_items
        FOR EACH ROW EXECUTE FUNCTION lab.effect();
    CREATE TRIGGER lab_try BEFORE INSERT ON ratebox.consumer_inbox
        FOR EACH ROW EXECUTE FUNCTION lab.try();";

pub(crate) fn lay(postgres: &PostgresServer) -> Result<()> {
    postgres.sql(TRAPS).map(drop)
}

/// Messages that have an effect; none while the database is away.
pub(crate) fn effects(postgres: &PostgresServer) -> Option<u64> {
    number(postgres, "SELECT count(*) FROM lab.effects").ok()
}

/// One number.
pub(crate) fn number(postgres: &PostgresServer, sql: &str) -> Result<u64> {
    let text = postgres.sql(sql)?;
    text.trim()
        .parse()
        .with_context(|| format!("{text} is no number"))
}

/// Rows for each message of `effects` or `tries`.
pub(crate) fn by_message(postgres: &PostgresServer, table: &str) -> Result<HashMap<String, u64>> {
    let sql = format!("SELECT id, count(*) FROM lab.{table} GROUP BY id");
    let mut counts = HashMap::new();
    for line in postgres.sql(&sql)?.lines() {
        let (id, count) = line.split_once('|').context("a row without a count")?;
        counts.insert(id.to_owned(), count.parse()?);
    }
    Ok(counts)
}

/// Duplicates that workers whose names begin so say they suppressed.
pub(crate) fn suppressed(postgres: &PostgresServer, prefix: &str) -> Result<u64> {
    let sql = format!(
        "SELECT coalesce(sum(messages_suppressed), 0) FROM ratebox.stream_consumer_stats
         WHERE consumer_name LIKE '{prefix}%'"
    );
    number(postgres, &sql)
}
