//! A message that can never be recorded.

use std::time::Duration;

use ratebox_testkit::wait_for;
use serde_json::json;

use crate::load::Load;
use crate::place::Place;

#[tokio::test]
async fn an_item_that_always_fails_becomes_a_dead_letter_and_costs_its_neighbours_nothing() {
    let place = Place::new();
    let ratebox = place.up().await;
    let token = ratebox.admin_token().unwrap();
    let trap = "CREATE FUNCTION ratebox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.payload->>'name' = 'Always Fails' THEN RAISE EXCEPTION 'refused'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON ratebox.raw_items
            FOR EACH ROW EXECUTE FUNCTION ratebox.refuse();";
    place.postgres.sql(trap).unwrap();
    let http = ratebox.admin().unwrap();
    let load = Load::start(&ratebox.base_url(), &token);
    load.accepted(50).await;
    let bad =
        json!({ "name": "Always Fails", "phone": "0912345678", "bank_account": "12345678901" });
    let answer = http
        .post_json("/api/validation/validate", &bad)
        .await
        .unwrap();
    let id = answer.json().unwrap()["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    load.accepted(200).await;
    let path = format!("/api/validation/status/{id}");
    wait_for(
        Duration::from_secs(60),
        "the request to be dead",
        || async {
            let status = http.get(&path).await.ok()?.json().ok()?;
            (status["status"] == "dead").then_some(())
        },
    )
    .await;
    assert_eq!(place.count("count(*) FROM dead_letters"), 1);
    let count = "fail_count FROM dead_letters";
    assert_eq!(place.count(count), 4, "one try and three retries");
    let letter = place
        .postgres
        .sql("SELECT class, code, encode(fields, 'escape') LIKE '%Always Fails%' FROM ratebox.dead_letters")
        .unwrap();
    assert!(
        letter.contains("transient") && letter.contains("db.value"),
        "{letter}"
    );
    // The trap is opened, the letter put away: all others have their verdict.
    place
        .postgres
        .sql("DROP TRIGGER refuse ON ratebox.raw_items; DELETE FROM ratebox.dead_letters")
        .unwrap();
    place
        .postgres
        .sql(&format!(
            "DELETE FROM ratebox.validation_requests WHERE id = '{id}'"
        ))
        .unwrap();
    load.check(&place, &ratebox.base_url(), &token).await;
}
