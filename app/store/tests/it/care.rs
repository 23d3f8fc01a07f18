//! What the database tells of itself.

use std::time::Duration;

use ratebox_kit::Clock;

use crate::databases::both;

#[tokio::test]
async fn postgresql_tells_its_settings_and_its_time() {
    for fresh in both().await {
        let Some(settings) = fresh.store.server_settings().await.unwrap() else {
            assert_eq!(fresh.name, "SQLite");
            continue;
        };
        assert!(settings.version_number >= 130_000, "{settings:?}");
        assert_eq!(settings.full_page_writes, "on");
        let apart = Clock::system().now().duration_since(settings.clock);
        assert!(apart.unsigned_abs() < Duration::from_secs(60), "{apart:?}");
        assert!(fresh.store.missing_migrations().await.unwrap().is_empty());
    }
}
