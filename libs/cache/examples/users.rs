//! Rows of a table through the cache. In memory, or on a server with `REDIS_URL=redis://…`.
//!
//!     cargo run -p ratebox-cache --example users

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ratebox_cache::{Cache, Policy, Tier, ValkeyTier};
use ratebox_kit::Tasks;
use ratebox_valkey::{Settings, Valkey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
struct User {
    name: String,
    title: String,
}

/// Stands for a database.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<u64, User>>>);

impl Table {
    async fn find(&self, id: u64) -> Result<Option<User>> {
        println!("  the table is asked for {id}");
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(&id).cloned())
    }

    async fn write(&self, id: u64, user: User) -> Result<User> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert(id, user.clone());
        Ok(user)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let tasks = Tasks::new();
    let tier = match std::env::var("REDIS_URL") {
        Ok(url) => {
            let valkey = Valkey::connect(&Settings::new(url)).await?;
            Tier::valkey(&valkey, &ValkeyTier::default(), &tasks)?
        }
        Err(_) => Tier::memory(16 * 1024 * 1024),
    };
    let policy = Policy::ttl(Duration::from_secs(60)).negative(Duration::from_secs(5));
    let users: Cache<u64, User> = Cache::builder("users", &tier)
        .policy(policy)
        .tasks(&tasks)
        .build()?;
    let table = Table::default();
    let user = |name: &str, title: &str| User {
        name: name.to_owned(),
        title: title.to_owned(),
    };
    table.write(1, user("Ada", "Engineer")).await?;
    users.invalidate(&1).await?;

    for id in [1, 1, 2, 2] {
        let rows = table.clone();
        let found = users.get_or_load(&id, move || async move { rows.find(id).await });
        println!("{id}: {:?}", found.await?);
    }
    let written = table.clone();
    let written = async move { written.write(1, user("Ada", "Countess")).await };
    users.write_through(&1, written).await?;
    let rows = table.clone();
    let found = users.get_or_load(&1, move || async move { rows.find(1).await });
    let title = &found.await?.context("she is there")?.title.clone();
    println!("1 is a {title} now: {:?}", users.stats());
    tasks.join(Duration::from_secs(1)).await;
    Ok(())
}
