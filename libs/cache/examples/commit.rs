//! Changes that are told after a commit, a cache that is warmed before its readers come, and a
//! listener that hears of it. In memory, or on a server with `REDIS_URL=redis://…`.
//!
//!     cargo run -p ratebox-cache --example commit

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ratebox_cache::{Cache, Changes, Event, Policy, Tier, ValkeyTier};
use ratebox_db::{Db, Sql, SqliteSettings};
use ratebox_kit::Tasks;
use ratebox_valkey::{Settings, Valkey};

const TABLE: &str = "CREATE TABLE prices (id text PRIMARY KEY, cents bigint NOT NULL);
    INSERT INTO prices VALUES ('tea', 300), ('cake', 450)";
const ALL: Sql = Sql::both("SELECT id, cents FROM prices");
const RAISE: Sql = Sql::both("UPDATE prices SET cents = cents + 50");

async fn prices(db: &Db) -> Result<HashMap<String, i64>> {
    let rows = db.query(ALL).await?;
    let rows = rows
        .iter()
        .map(|row| Ok::<_, anyhow::Error>((row.get(0)?, row.get(1)?)));
    rows.collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let tasks = Tasks::new();
    let tier = match std::env::var("REDIS_URL") {
        Ok(url) => {
            let valkey = Valkey::connect(&Settings::new(url)).await?;
            Tier::valkey(&valkey, &ValkeyTier::default(), &tasks)?
        }
        Err(_) => Tier::memory(16 << 20),
    };
    let db = Db::sqlite(&SqliteSettings::memory())?;
    db.script(TABLE.to_owned()).await?;
    let cache: Cache<str, i64> = Cache::builder("prices", &tier)
        .policy(Policy::ttl(Duration::from_secs(60)))
        .listener(|event: &Event<'_>| println!("  {event:?}"))
        .tasks(&tasks)
        .build()?;

    println!("warming");
    let origin = db.clone();
    let load = move |_| {
        let origin = origin.clone();
        async move { prices(&origin).await }
    };
    cache.warm(&["tea", "cake"], 100, load).await?;

    println!("a transaction");
    let mut changes = Changes::new();
    changes.key(&cache, "tea").key(&cache, "cake");
    db.execute(RAISE).await?;
    println!("committed; readers still get {:?}", cache.get("tea").await?);
    changes.tell(&tier).await?;

    let all = prices(&db).await?;
    let tea = *all.get("tea").context("there is tea")?;
    let load = move || async move { Ok::<_, Infallible>(tea) };
    println!("told; they get {:?}", cache.get_or_load("tea", load).await?);
    tasks.join(Duration::from_secs(5)).await;
    Ok(())
}
