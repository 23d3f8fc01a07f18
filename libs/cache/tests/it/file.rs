//! A tier in a SQLite file: what is kept outlives the process, and it keeps the same promises.

use std::time::Duration;

use ratebox_cache::{Lookup, MIGRATIONS, OWNER, Tier};
use ratebox_db::{Db, SqliteSettings, migrate};
use ratebox_kit::{Clock, Tasks};
use ratebox_testkit::{TempDir, wait_until};

use crate::ground::{Node, Origin, SOON, steady};
use crate::races::delete_during_load;

const HOUR: Duration = Duration::from_secs(3_600);

/// A process with its tier in that file.
async fn node(folder: &TempDir, entries_max: u32, origin: &Origin) -> Node {
    let db = Db::sqlite(&SqliteSettings::new(folder.join("cache.db"))).unwrap();
    migrate(&db, OWNER, MIGRATIONS).await.unwrap();
    let tasks = Tasks::new();
    let tier = Tier::sqlite(db, entries_max, Clock::system(), &tasks).unwrap();
    Node::over(tier, tasks, steady(HOUR), origin)
}

#[tokio::test]
async fn what_lies_in_a_file_is_found_by_the_next_process_and_not_what_was_invalidated() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::default());
    let first = node(&folder, 1_000, &origin).await;
    for key in ["a", "b"] {
        origin.write(key);
        assert_eq!(first.read(key, Duration::ZERO).await.unwrap(), 1);
    }
    first.write("b").await.unwrap();
    first.cache.set_absent("nobody").await.unwrap();
    assert!(first.tasks.join(SOON).await.is_empty());
    let second = node(&folder, 1_000, &origin).await;
    assert_eq!(second.read("a", Duration::ZERO).await.unwrap(), 1);
    assert_eq!(origin.loads(), 2, "it was in the file");
    assert_eq!(second.read("b", Duration::ZERO).await.unwrap(), 2);
    let nobody = second.cache.get("nobody").await.unwrap();
    assert_eq!(nobody, Lookup::Absent);
    second.cache.invalidate_all().await.unwrap();
    assert_eq!(second.cache.get("a").await.unwrap(), Lookup::Miss);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_stale_after_deletes_during_a_load_over_a_file() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::default());
    let node = node(&folder, 100_000, &origin).await;
    assert_eq!(delete_during_load(&node, &node, 500, 100).await, 0);
}

#[tokio::test]
async fn a_file_holds_so_many_entries_and_no_more() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::default());
    let node = node(&folder, 50, &origin).await;
    for key in 0..200 {
        node.read(&key.to_string(), Duration::ZERO).await.unwrap();
    }
    wait_until(SOON, "the rest is swept", || async {
        node.tier.usage().await.unwrap().keys <= 50
    })
    .await;
}

#[tokio::test]
async fn a_file_without_the_tables_counts_as_away_until_they_are_made() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::default());
    let db = Db::sqlite(&SqliteSettings::new(folder.join("cache.db"))).unwrap();
    let tasks = Tasks::new();
    let tier = Tier::sqlite(db.clone(), 1_000, Clock::system(), &tasks).unwrap();
    let node = Node::over(tier, tasks, steady(HOUR), &origin);
    origin.write("a");
    for loads in 1..=2 {
        assert_eq!(node.read("a", Duration::ZERO).await.unwrap(), 1);
        assert_eq!(origin.loads(), loads, "nothing is kept");
    }
    migrate(&db, OWNER, MIGRATIONS).await.unwrap();
    wait_until(SOON, "the tier is there", || async {
        node.read("a", Duration::ZERO).await.unwrap();
        let before = origin.loads();
        node.read("a", Duration::ZERO).await.unwrap();
        origin.loads() == before
    })
    .await;
}
