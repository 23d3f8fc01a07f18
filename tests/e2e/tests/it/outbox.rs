//! What operators do with the outbox on the command line while a relay runs.

use std::time::Duration;

use ratebox_testkit::{Output, Ratebox, RateboxOptions, wait_until};
use serde_json::Value;

use crate::clients::EVENTS;
use crate::place::Place;

/// Three events of a program that puts its own into the table; `broken` is no stream.
const OWN: &str = "
    INSERT INTO ratebox.outbox (partition, id, topic, key, body, events)
    VALUES (1, '018f0000-0000-7000-8000-000000000001', 'orders', 'o-1', 'first', 1),
           (1, '018f0000-0000-7000-8000-000000000002', 'broken', 'o-2', 'Nguyễn', 1),
           (2, '018f0000-0000-7000-8000-000000000003', 'broken', NULL, '\\xff00', 1)";
const TEXT: &str = "018f0000-0000-7000-8000-000000000002";

fn outbox(place: &Place, words: &[&str]) -> Output {
    let options = place.on(RateboxOptions::new("outbox"));
    options.args(words).run().unwrap()
}

fn read(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = output.stdout.lines();
    lines.map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// The counters of `outbox status`, and how it ended.
fn status(place: &Place) -> (Value, Option<i32>) {
    let output = outbox(place, &["status", "--json"]);
    (read(&output), output.code)
}

async fn until(place: &Place, what: &str, counter: &str, count: i64) {
    wait_until(Duration::from_secs(30), what, || async {
        status(place).0[counter] == count
    })
    .await;
}

/// A relay that sent one event and gave two up.
async fn two_dead(place: &Place) -> Ratebox {
    place.token();
    place.redis.command(&["SET", "broken", "a text"]).unwrap();
    place.postgres.sql(OWN).unwrap();
    assert_eq!(status(place).0["pending"], 3);
    assert_eq!(status(place).0["relays"], 0);
    let relay = Ratebox::relay(|it| {
        let options = place.on(it).env("RATEBOX_RELAY__ATTEMPTS_MAX", "2");
        options.env("RATEBOX_RELAY__RETRY_FIRST_MS", "50")
    });
    until(place, "two events are dead", "dead_letter", 2).await;
    until(place, "nothing waits", "pending", 0).await;
    relay.unwrap()
}

#[tokio::test]
async fn what_died_and_why_is_told_on_the_command_line() {
    let place = Place::new();
    let relay = two_dead(&place).await;
    let log = relay.logs();
    assert!(
        log.contains("it is tried again") && log.contains("is dead"),
        "{log}"
    );
    assert_eq!(
        log.matches("WRONGTYPE").count(),
        3,
        "one try and two deaths: {log}"
    );
    let (counters, code) = status(&place);
    assert_eq!(code, Some(3), "there is something to be done");
    assert_eq!(counters["relays"], 1);
    let plain = outbox(&place, &["status"]).stdout;
    assert!(plain.contains("dead_letter  2"), "{plain}");

    // What died and why, without what is in it, unless that is asked for.
    let dead = lines(&outbox(&place, &["export"]));
    assert_eq!(dead.len(), 2, "{dead:?}");
    for it in &dead {
        assert_eq!(
            (&it["topic"], &it["attempts"]),
            (&"broken".into(), &2.into())
        );
        assert!(
            it["last_error"].as_str().unwrap().contains("WRONGTYPE"),
            "{it}"
        );
        assert!(
            it.get("body").is_none() && it["died_at"].is_string(),
            "{it}"
        );
    }
    let mut bodies: Vec<Value> = lines(&outbox(&place, &["export", "--bodies"]));
    bodies.sort_by_key(|it| it["id"].to_string());
    assert_eq!(bodies[0]["body"]["text"], "Nguyễn");
    assert_eq!(bodies[1]["body"]["hex"], "ff00");
    let sent = lines(&outbox(&place, &["export", "--sent", "--limit", "5"]));
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0]["topic"], "orders");
    let shown = "count(*) FROM audit_log WHERE action = 'payload.unmask'";
    assert_eq!(place.count(shown), 1, "bodies were shown");
}

#[tokio::test]
async fn what_died_comes_back_or_is_deleted_on_the_command_line() {
    let place = Place::new();
    let _relay = two_dead(&place).await;
    let mut dead = lines(&outbox(&place, &["export"]));
    dead.sort_by_key(|it| it["id"].to_string());
    // One comes back once its topic can be written, the other is deleted.
    place.redis.command(&["DEL", "broken"]).unwrap();
    let retried = outbox(&place, &["retry", TEXT, "--json"]);
    assert_eq!(read(&retried)["retried"], 1);
    assert_eq!(retried.code, Some(0), "{retried:?}");
    let again = outbox(&place, &["retry", TEXT, TEXT]);
    assert_eq!(again.code, Some(3), "it is not dead any more: {again:?}");
    assert!(again.stderr.contains("1 of the named"), "{again:?}");
    let other = dead[1]["id"].as_str().unwrap();
    let purged = outbox(
        &place,
        &[
            "purge", other, "--json", "--as", "kim", "--reason", "ticket 7",
        ],
    );
    assert_eq!(
        (&read(&purged)["purged"], purged.code),
        (&1.into(), Some(0))
    );
    assert_eq!(outbox(&place, &["purge", other]).code, Some(3));
    wait_until(Duration::from_secs(30), "it is on its stream", || async {
        let length = place.redis.command(&["XLEN", "broken"]).unwrap();
        length.as_u64() == Some(1)
    })
    .await;
    let entry = place
        .redis
        .command(&["XRANGE", "broken", "-", "+"])
        .unwrap();
    assert!(
        format!("{entry:?}").contains(TEXT),
        "the same id: {entry:?}"
    );
    until(&place, "nothing waits", "pending", 0).await;
    let (counters, code) = status(&place);
    assert_eq!((counters["dead_letter"].as_i64(), code), (Some(0), Some(0)));
    let deeds = |action: &str| place.count(&format!("count(*) FROM audit_log WHERE {action}"));
    assert_eq!(deeds("action = 'outbox.retry'"), 2);
    assert_eq!(deeds("reason = 'ticket 7' AND actor = 'cli:kim'"), 1);
}

/// Somebody runs it twice, or two who do not know of each other.
#[tokio::test]
async fn two_adoptions_at_once_both_end_well() {
    let place = Place::new();
    place.postgres.sql(EVENTS).unwrap();
    let items = "CREATE TABLE public.raw_items (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            data jsonb, validation_state text DEFAULT 'DONE', created_at timestamptz DEFAULT now());
        INSERT INTO public.raw_items (data) SELECT '{\"phone\": \"0912345678\"}'
        FROM generate_series(1, 5000)";
    place.postgres.sql(items).unwrap();
    let options = place.on(RateboxOptions::new("migrate"));
    let options = options.args(["--adopt", "--json"]);
    let runs = std::thread::scope(|scope| {
        let adopt = || options.clone().run().unwrap();
        let (first, second) = (scope.spawn(adopt), scope.spawn(adopt));
        [first.join().unwrap(), second.join().unwrap()]
    });
    for run in &runs {
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(read(run)["adopted"][0]["ratebox"], 5000, "{run:?}");
    }
    let events = runs.iter().map(|run| read(run)["outbox"]["events"].clone());
    let events: u64 = events.filter_map(|it| it.as_u64()).sum();
    assert_eq!(events, 60);
}

/// Whoever has only the predecessor's library has its outbox, and none of its other tables.
#[tokio::test]
async fn an_outbox_of_the_predecessor_alone_is_taken_over_and_sent() {
    let place = Place::new();
    let lacking = outbox(&place, &["status"]);
    assert_eq!(lacking.code, Some(1));
    assert!(
        lacking.stderr.contains("run `ratebox migrate`"),
        "{lacking:?}"
    );
    let adopt = |served: &str| {
        let options = place.on(RateboxOptions::new("migrate")).arg("--adopt");
        let options = options.env("RATEBOX_RELAY__SAGA_OUTBOX", served);
        options.arg("--json").run().unwrap()
    };
    let none = adopt("");
    assert!(none.stderr.contains("no table raw_items"), "{none:?}");
    place.postgres.sql(EVENTS).unwrap();
    assert_eq!(adopt("bus").code, Some(1), "it is served where it is");
    assert_eq!(status(&place).0["pending"], 0);
    let taken = adopt("");
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert_eq!(read(&taken)["outbox"]["events"], 60);
    assert_eq!(read(&adopt(""))["outbox"]["events"], 0, "once");
    assert_eq!(status(&place).0["pending"], 60);
    let _relay = place.relay();
    until(&place, "nothing waits", "pending", 0).await;
    let length = place.redis.command(&["XLEN", "OrderCreated"]).unwrap();
    assert_eq!(length.as_u64(), Some(60));
}
