//! The users of `docs/Database-Users.md`: each role works with exactly their rights, and has no others.

use std::time::Duration;

use ratebox_testkit::{HttpClient, Ratebox, RateboxOptions, tools, wait_until};

use crate::place::{Place, ready, request};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// The scripts of the page: users and schema, then rights.
fn scripts() -> [String; 2] {
    let page = tools::workspace_root().join("docs/Database-Users.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut scripts = page
        .split("```sql\n")
        .skip(1)
        .map(|it| it.split("```").next().unwrap().to_owned());
    [scripts.next().unwrap(), scripts.next().unwrap()]
}

fn dsn(place: &Place, user: &str) -> String {
    let port = place.postgres.port();
    format!("postgres://{user}:SECRET@127.0.0.1:{port}/postgres")
}

fn of_user(place: &Place, user: &str, options: RateboxOptions) -> RateboxOptions {
    place.on(options).postgres(&dsn(place, user))
}

/// One that only uses tables.
fn bound(place: &Place, user: &str, options: RateboxOptions) -> RateboxOptions {
    of_user(place, user, options).env("RATEBOX_STORE__MIGRATE_AT_START", "false")
}

fn operator(place: &Place, command: &[&str]) -> String {
    let options = bound(place, "ratebox_operator", RateboxOptions::new(command[0]));
    let run = options.args(&command[1..]).run().unwrap();
    assert_eq!(run.code, Some(0), "{command:?}: {run:?}");
    run.stdout
}

/// Migrated, with all users of the page.
fn with_users() -> Place {
    let place = Place::new();
    let [users, rights] = scripts();
    place.postgres.sql(&users).unwrap();
    let migrate = RateboxOptions::new("migrate");
    let migrated = of_user(&place, "ratebox_migrate", migrate).run().unwrap();
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    place.postgres.sql(&rights).unwrap();
    place.postgres.sql(&rights).unwrap();
    place
}

async fn judged(http: &HttpClient) {
    let headers = [("content-type", "application/json"), ("prefer", "wait=20")];
    let body = request(3).to_string();
    let answer = http
        .request(
            "POST",
            "/api/validation/validate",
            &headers,
            body.as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn each_role_works_with_the_rights_of_the_page() {
    let place = with_users();
    let made = operator(
        &place,
        &[
            "token", "create", "--owner", "me", "--name", "test", "--scope", "admin", "--json",
        ],
    );
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let token = made["token"].as_str().unwrap();
    let gateway = Ratebox::gateway(|it| bound(&place, "ratebox_gateway", it)).unwrap();
    let gateway = ready(gateway).await;
    let worker = Ratebox::worker(|it| bound(&place, "ratebox_worker", it)).unwrap();
    let relay = |it| {
        of_user(&place, "ratebox_relay", it).env("RATEBOX_RELAY__HOUSEKEEPING_EVERY_MS", "1000")
    };
    let relay = Ratebox::relay(relay).unwrap();
    let http = gateway.client().with_token(token);
    judged(&http).await;
    place
        .redis
        .command(&["XADD", "validation_requests", "*", "data", "no JSON"])
        .unwrap();
    wait_until(WAIT_MAX, "a letter, and weeks of marks", || async {
        let weeks = "count(*) FROM pg_inherits WHERE inhparent = 'consumer_inbox'::regclass";
        place.count("count(*) FROM dead_letters") == 1 && place.count(weeks) > 1
    })
    .await;
    let letters = http.get("/api/monitoring/dlq").await.unwrap();
    assert_eq!(letters.status, 200, "{}", letters.text());
    for command in [
        &["dlq", "list"][..],
        &["dlq", "replay", "--all", "--reason", "mended"],
        &["saga", "list"],
        &["outbox", "status"],
        &["monitor"],
        &["doctor"],
    ] {
        operator(&place, command);
    }
    for (role, started) in [
        ("gateway", &gateway),
        ("worker", &worker),
        ("relay", &relay),
    ] {
        let logs = started.logs();
        assert!(!logs.contains("42501"), "{role}: {logs}");
    }
    let owned = place.count(
        "count(*) FROM pg_class WHERE relnamespace = 'ratebox'::regnamespace
         AND relowner <> 'ratebox_owner'::regrole",
    );
    assert_eq!(owned, 0, "what the relay makes is the owner's");
}

/// What each may not do, in the words that tell what to grant.
#[tokio::test]
async fn nobody_has_more_rights_than_the_page_gives() {
    let place = with_users();
    for (user, statement) in [
        ("worker", "SELECT * FROM api_tokens"),
        ("worker", "DELETE FROM raw_items"),
        ("gateway", "INSERT INTO raw_items SELECT * FROM raw_items"),
        ("cache", "SELECT * FROM raw_items"),
        ("operator", "DELETE FROM audit_log"),
        ("operator", "DROP TABLE outbox"),
    ] {
        let sql = format!("SET ROLE ratebox_{user}; SET search_path = ratebox; {statement}");
        let refused = place.postgres.sql(&sql).unwrap_err().to_string();
        let is_refusal = refused.contains("permission denied") || refused.contains("must be owner");
        assert!(is_refusal, "{user}: {statement}: {refused}");
    }
    let stranger = "CREATE ROLE stranger LOGIN; CREATE ROLE blind LOGIN;
        GRANT USAGE ON SCHEMA ratebox TO blind";
    place.postgres.sql(stranger).unwrap();
    for (user, said) in [
        ("stranger", "GRANT USAGE ON SCHEMA ratebox TO stranger"),
        ("blind", "permission denied for table schema_migrations"),
    ] {
        for role in ["worker", "relay"] {
            let options = bound(&place, user, RateboxOptions::new(role));
            let run = options.env("RATEBOX_METRICS__LISTEN", "").run().unwrap();
            assert_eq!(run.code, Some(1), "{run:?}");
            assert!(run.stderr.contains(said), "{run:?}");
        }
    }
}
