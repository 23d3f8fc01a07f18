//! The store goes away.

use std::time::Duration;

use ratebox_testkit::wait_for;
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
    wait_for(Duration::from_secs(10), "ready to say no", || async {
        (http.get("/api/health/ready").await.ok()?.status == 503).then_some(())
    })
    .await;
    place.postgres.restart().unwrap();
    load.accepted(200).await;
    load.check(&place, &ratebox.base_url(), &token).await;
}
