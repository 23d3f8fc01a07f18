//! The store goes away.

use std::time::Duration;

use ratebox_testkit::{HttpClient, PostgresOptions, RedisOptions, wait_for, wait_until};
use serde_json::Value;

use crate::load::Load;
use crate::place::{Place, request};

#[tokio::test]
async fn postgresql_is_killed_and_restarted_and_no_message_pays_for_it() {
    let mut place = Place::new();
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(200).await;
    place.postgres.kill9();
    let http = ratebox.admin().unwrap();
    refused(&http).await;
    wait_for(Duration::from_secs(10), "ready to say no", || async {
        (http.get("/api/health/ready").await.ok()?.status == 503).then_some(())
    })
    .await;
    place.postgres.restart().unwrap();
    load.accepted(200).await;
    load.check(&place, &ratebox.base_url(), &token).await;
}

/// Neither rows nor the write-ahead log have room: statements are refused, and the server ends when
/// it can write no log. Whoever watches over it starts it again when there is room.
#[tokio::test]
async fn a_full_disk_under_postgresql_is_waited_out_and_loses_nothing() {
    let disk = PostgresOptions::default().small_disk(160 << 20);
    let mut place = Place::of(RedisOptions::default(), disk);
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(200).await;
    place.postgres.fill_disk().unwrap();
    let http = ratebox.admin().unwrap();
    refused(&http).await;
    let logs = || place.postgres.logs();
    wait_until(Duration::from_secs(30), "the server meets it", || async {
        logs().contains("No space left on device")
    })
    .await;
    place.postgres.empty_disk().unwrap();
    let mut answers = false;
    while !answers {
        place.postgres.start_if_ended().unwrap();
        answers = place.postgres.sql("SELECT 1").is_ok();
    }
    load.accepted(200).await;
    load.check(&place, &ratebox.base_url(), &token).await;
}

/// Waits for a refusal that says when to come again and nothing of what is behind it.
async fn refused(http: &HttpClient) {
    let refused = wait_for(Duration::from_secs(30), "a refusal", || async {
        let answer = http
            .post_json("/api/validation/validate", &request(1))
            .await
            .ok()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(refused.header("retry-after").is_some());
    let problem: Value = refused.json().unwrap();
    let text = problem.to_string().to_lowercase();
    assert!(
        !text.contains("postgres") && !text.contains("sql"),
        "{problem}"
    );
}
