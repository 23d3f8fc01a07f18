//! From declarations to resources.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use ratebox_cache::{BreakerSettings, Breakers};
use ratebox_db::Db;
use ratebox_kit::Clock;
use ratebox_origin::{Declaration, Example, HttpSource, Resource, Source, SqlSource};

use crate::config::Config;

/// What the settings declare; the shipped example when they declare nothing.
///
/// # Errors
/// When a declaration cannot work, or the database does not understand it.
pub(super) async fn declared(config: &Config, clock: &Clock) -> Result<Vec<Resource>> {
    let (file, cache) = (&config.cache.resources_file, &config.cache);
    let mut declared = match file.is_empty() {
        true => Example::resources(),
        false => read(file)?,
    };
    let breakers = Breakers::new(BreakerSettings::default(), clock.clone());
    let db = match declared.values().any(|it| it.http.is_empty()) {
        true => Some(super::origin(config)?),
        false => None,
    };
    if let (Some(db), true) = (&db, file.is_empty()) {
        let prepared = Example::prepare(db).await;
        prepared.context("the example's table cannot be made; is cache.origin_url right?")?;
    }
    let mut resources = Vec::with_capacity(declared.len());
    let first = declared.remove_entry("users");
    for (name, declaration) in first.into_iter().chain(declared) {
        declaration.check(&name).map_err(|what| anyhow!(what))?;
        let breaker = breakers.of(&name);
        let source = match &db {
            Some(db) if declaration.http.is_empty() => {
                let source = sql(&name, db, &declaration).await?;
                Source::sql(source, breaker, cache.origin_calls_max)
            }
            _ => {
                let source = HttpSource::new(&declaration.http).map_err(|what| anyhow!(what));
                let source = source.with_context(|| format!("resource {name}"))?;
                Source::http(source, breaker, cache.origin_calls_max)
            }
        };
        resources.push(Resource {
            name,
            declaration,
            source,
        });
    }
    Ok(resources)
}

fn read(file: &str) -> Result<BTreeMap<String, Declaration>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cache.resources_file names {file}, which cannot be read"))?;
    toml::from_str(&text).with_context(|| format!("{file} declares no resources"))
}

/// A database that is away is no reason not to start; one that refuses a statement is.
async fn sql(name: &str, db: &Db, declaration: &Declaration) -> Result<SqlSource> {
    let source = SqlSource::new(db.clone(), declaration);
    match source.check().await {
        Ok(()) => Ok(source),
        Err(error) if error.is_retryable() => {
            tracing::warn!(%error, resource = name, "the origin does not answer yet");
            Ok(source)
        }
        Err(error) => Err(error).with_context(|| {
            format!("the database refuses a statement of the resource {name}; try it by hand")
        }),
    }
}
