//! What operators do on the command line and over HTTP, while the roles run.

use std::time::Duration;

use ratebox_testkit::{Output, Ratebox, RateboxOptions, TempDir, wait_until};
use serde_json::{Value, json};

use crate::place::{Place, ready};

/// Refuses every item of that name; dropped, it lets them pass.
const TRAP: &str = "CREATE FUNCTION ratebox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.payload->>'name' = 'Always Fails' THEN RAISE EXCEPTION 'refused'; END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON ratebox.raw_items
        FOR EACH ROW EXECUTE FUNCTION ratebox.refuse();";
const OPEN_TRAP: &str = "DROP TRIGGER refuse ON ratebox.raw_items";

fn item() -> Value {
    json!({ "name": "Always Fails", "phone": "0912345678", "bank_account": "12345678901" })
}

fn dlq(place: &Place, words: &[&str]) -> Output {
    let options = place.on(RateboxOptions::new("dlq"));
    options.args(words).run().unwrap()
}

fn read(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

async fn buried(place: &Place, count: i64) {
    wait_until(
        Duration::from_secs(60),
        "the letters to be kept",
        || async { place.count("count(*) FROM dead_letters WHERE state = 'dead'") == count },
    )
    .await;
}

/// Requests that died because the trap was set; the trap is open when this returns.
async fn letters(place: &Place, count: usize) -> Ratebox {
    let up = Ratebox::up(|it| place.on(it).arg("--no-sample").env("MAX_RETRIES", "0"));
    let ratebox = ready(up.unwrap()).await;
    place.postgres.sql(TRAP).unwrap();
    let http = ratebox.admin().unwrap();
    let batch = |n: usize| json!({ "id": format!("b{n}"), "items": [item()] });
    let body = json!({ "batches": (0..count).map(batch).collect::<Vec<_>>() });
    let answer = http
        .post_json("/api/validation/batch", &body)
        .await
        .unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    buried(place, i64::try_from(count).unwrap()).await;
    place.postgres.sql(OPEN_TRAP).unwrap();
    ratebox
}

#[tokio::test]
async fn dead_letters_are_looked_after_on_the_command_line() {
    let place = Place::new();
    let ratebox = letters(&place, 3).await;
    let listed = read(&dlq(&place, &["list", "--class", "transient", "--json"]));
    assert_eq!(listed["letters"].as_array().unwrap().len(), 3, "{listed}");
    let table = dlq(&place, &["list"]).stdout;
    assert!(
        table.contains("db.value") && table.lines().count() == 4,
        "{table}"
    );
    let doctor = place.on(RateboxOptions::new("doctor")).run().unwrap();
    assert!(doctor.stdout.contains("`ratebox dlq list`"), "{doctor:?}");
    let id = listed["letters"][0]["id"].as_str().unwrap().to_owned();
    let shown = dlq(&place, &["show", &id]);
    assert!(shown.stdout.contains("ATTEMPTS"), "{shown:?}");
    assert!(!shown.stdout.contains("0912345678"), "masked: {shown:?}");
    let plain = [
        "show",
        &id,
        "--unmask",
        "--reason",
        "ticket 12",
        "--as",
        "kim",
    ];
    let plain = dlq(&place, &plain);
    assert!(plain.stdout.contains("0912345678"), "{plain:?}");
    let again = dlq(&place, &["show", &id]).stdout;
    assert!(
        again.contains("payload.unmask by cli:kim: ticket 12"),
        "{again}"
    );
    // The payload is put right, and replayed.
    let folder = TempDir::new().unwrap();
    let shown = read(&dlq(
        &place,
        &["show", &id, "--unmask", "--reason", "edit", "--json"],
    ));
    let data = shown["fields"][0]["text"].as_str().unwrap();
    let file = folder.path().join("data.json");
    std::fs::write(&file, data.replace("Always Fails", "Always Works")).unwrap();
    let file = file.to_str().unwrap();
    let edit = [
        "edit",
        &id,
        "--data-file",
        file,
        "--replay",
        "--reason",
        "name",
    ];
    let edited = dlq(&place, &edit);
    assert_eq!(edited.code, Some(0), "{edited:?}");
    let request = shown["request_id"].as_str().unwrap();
    let http = ratebox.admin().unwrap();
    let status = format!("/api/validation/status/{request}?wait=20");
    let status = http.get(&status).await.unwrap().json().unwrap();
    assert_eq!(status["status"], "success", "{status}");
    assert_eq!(place.count("count(*) FROM raw_items"), 1);
    let resolved = read(&dlq(&place, &["list", "--state", "replayed", "--json"]));
    assert_eq!(resolved["letters"][0]["state"], "resolved", "{resolved}");
    bulk(&place);
}

/// The two letters that are left: exported, counted, replayed, purged.
fn bulk(place: &Place) {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("letters.ndjson");
    let exported = dlq(place, &["export", "--out", out.to_str().unwrap()]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let lines = std::fs::read_to_string(out).unwrap();
    assert!(
        lines.lines().count() == 2 && !lines.contains("0912345678"),
        "{lines}"
    );
    for (times, count) in [(["--from", "15m"], 2), (["--until", "15m"], 0)] {
        let listed = read(&dlq(place, &["list", times[0], times[1], "--json"]));
        let letters = listed["letters"].as_array().unwrap();
        assert_eq!(letters.len(), count, "{times:?}: {listed}");
    }
    assert_eq!(dlq(place, &["replay", "--reason", "x"]).code, Some(2));
    let would = read(&dlq(place, &["replay", "--all", "--dry-run", "--json"]));
    assert_eq!(
        (&would["matched"], &would["replayed"]),
        (&json!(2), &json!(2))
    );
    let once = ["replay", "--all", "--max", "1", "--reason", "x", "--json"];
    let once = dlq(place, &once);
    assert_eq!(
        (once.code, &read(&once)["replayed"]),
        (Some(3), &json!(1)),
        "{once:?}"
    );
    let would = dlq(place, &["purge", "--class", "transient"]);
    assert!(would.stdout.contains("1 letters match"), "{would:?}");
    assert_eq!(
        place.count("count(*) FROM dead_letters WHERE state = 'dead'"),
        1
    );
    assert_eq!(
        dlq(place, &["purge", "--all", "--yes"]).code,
        Some(2),
        "no reason"
    );
    let purged = dlq(place, &["purge", "--all", "--yes", "--reason", "test data"]);
    assert!(purged.stdout.contains("1 letters purged"), "{purged:?}");
    assert_eq!(
        place.count("count(*) FROM audit_log WHERE action = 'dead_letter.purge'"),
        1
    );
}

/// Killed at any moment, a replay leaves each letter either dead, or on its way.
#[tokio::test]
async fn a_replay_that_is_killed_loses_nothing_and_judges_nothing_twice() {
    const LETTERS: usize = 150;
    let place = Place::new();
    let ratebox = letters(&place, LETTERS).await;
    let left = || place.count("count(*) FROM dead_letters WHERE state = 'dead'");
    for _ in 0..8 {
        let before = left();
        let words = ["replay", "--all", "--rate", "60", "--reason", "killed"];
        let mut replay = place
            .on(RateboxOptions::new("dlq"))
            .args(words)
            .start()
            .unwrap();
        wait_until(Duration::from_secs(30), "some are on their way", || async {
            left() < before
        })
        .await;
        replay.kill9();
        assert!(left() > 0, "it was killed too late");
    }
    let killed = i64::try_from(LETTERS).unwrap() - left();
    assert!(
        killed >= 8,
        "{killed} were replayed by processes that were killed"
    );
    let rest = dlq(
        &place,
        &["replay", "--all", "--rate", "1000", "--reason", "rest"],
    );
    assert_eq!(rest.code, Some(0), "{rest:?}");
    wait_until(
        Duration::from_secs(60),
        "every letter has its verdict",
        || async {
            place.count("count(*) FROM validation_requests WHERE state = 'success'") == 150
        },
    )
    .await;
    assert_eq!(place.count("count(*) FROM raw_items"), 150);
    assert_eq!(
        place.count("count(DISTINCT request_id) FROM raw_items"),
        150
    );
    assert_eq!(
        place.count("count(*) FROM dead_letters WHERE state = 'dead'"),
        0
    );
    let deeds = "count(*) FROM audit_log WHERE action = 'dead_letter.replay'";
    assert_eq!(place.count(deeds), 150, "each letter was replayed once");
    drop(ratebox);
}

/// The embedded backends of a running process.
struct Embedded {
    folder: TempDir,
    ratebox: Ratebox,
}

impl Embedded {
    async fn up() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let up = Ratebox::up(|it| it.arg("--no-sample").data_dir(&data));
        let ratebox = ready(up.unwrap()).await;
        Self { folder, ratebox }
    }

    fn run(&self, words: &[&str]) -> Output {
        let options = RateboxOptions::new(words[0]).args(&words[1..]);
        let data = self.ratebox.data_dir();
        options.arg("--data-dir").arg(data).run().unwrap()
    }

    /// What a command prints as JSON.
    fn read(&self, words: &[&str]) -> Value {
        read(&self.run(&[words, &["--json"]].concat()))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A request with its verdict; its id.
    async fn judged(&self) -> String {
        let http = self.ratebox.admin().unwrap();
        let body = json!({ "items": [item()] });
        let path = "/api/validation/validate";
        let answer = http.post_json(path, &body).await.unwrap().json().unwrap();
        let request = answer["request_id"].as_str().unwrap().to_owned();
        let status = format!("/api/validation/status/{request}?wait=20");
        let status = http.get(&status).await.unwrap().json().unwrap();
        assert_eq!(status["status"], "success", "{status}");
        request
    }
}

/// The same binary on the embedded backends, beside a running one: letters come by import.
#[tokio::test]
async fn streams_and_letters_are_looked_after_on_the_embedded_backends() {
    let place = Embedded::up().await;
    let request = place.judged().await;
    let info = place.read(&["stream", "info"]);
    assert_eq!(info[1]["length"], 1, "{info}");
    let table = place.run(&["stream", "info"]).stdout;
    assert!(table.contains("validator_workers"), "{table}");
    let masked = place.run(&["stream", "peek", "normal"]).stdout;
    assert!(
        masked.contains(&request) && !masked.contains("0912345678"),
        "{masked}"
    );
    let file = place.file("entries.ndjson", "");
    let export = [
        "stream", "export", "normal", "--out", &file, "--unmask", "--reason", "t",
    ];
    assert_eq!(place.run(&export).code, Some(0));
    // A message that nobody understands, and one that is there already.
    let mut lines = std::fs::read_to_string(&file).unwrap();
    lines.push_str(r#"{"id":"1700000000000-7","fields":[{"name":"data","text":"{oops"}]}"#);
    let file = place.file("more.ndjson", &lines);
    let imported = place.read(&["stream", "import", "low", &file, "--reason", "t"]);
    assert_eq!(imported["appended"], 2);
    let letters = || place.read(&["dlq", "list"])["letters"].clone();
    wait_until(Duration::from_secs(30), "the letter to be kept", || async {
        letters().as_array().unwrap().len() == 1
    })
    .await;
    let letter = letters()[0].clone();
    assert_eq!(
        (&letter["class"], &letter["lane"]),
        (&json!("malformed"), &json!("low"))
    );
    let id = letter["id"].as_str().unwrap();
    let better = place.file("better.json", &item().to_string());
    let edit = [
        "dlq",
        "edit",
        id,
        "--data-file",
        &better,
        "--replay",
        "--reason",
        "t",
    ];
    let edited = place.run(&edit);
    assert_eq!(edited.code, Some(0), "{edited:?}");
    wait_until(
        Duration::from_secs(30),
        "the edited letter is judged",
        || async {
            let replayed = place.read(&["dlq", "list", "--state", "replayed"]);
            replayed["letters"][0]["state"] == "resolved"
        },
    )
    .await;
}

/// A group that nobody reads holds a stream until somebody gives it up.
#[tokio::test]
async fn a_new_group_holds_a_trim_until_it_is_given_up() {
    let place = Embedded::up().await;
    place.judged().await;
    let replay = [
        "stream", "replay", "--group", "audit", "--from", "1h", "--reason", "t",
    ];
    assert_eq!(place.run(&replay).code, Some(0));
    assert_eq!(place.run(&replay).code, Some(1), "there is one already");
    let alone = place.run(&["stream", "info"]).stdout;
    assert!(
        alone.contains("audit on validation_requests has no consumers"),
        "{alone}"
    );
    let trim = [
        "stream",
        "trim",
        "normal",
        "--max-len",
        "0",
        "--reason",
        "t",
    ];
    let held = place.run(&trim);
    assert_eq!(held.code, Some(3), "{held:?}");
    assert!(held.stdout.contains("group audit still needs"), "{held:?}");
    let ignore = |group| [&trim[..], &["--ignore-group", group]].concat();
    let mistyped = place.run(&ignore("audti"));
    assert_eq!(mistyped.code, Some(1), "{mistyped:?}");
    assert!(mistyped.stderr.contains("no group audti"), "{mistyped:?}");
    assert_eq!(place.read(&ignore("audit"))[0]["removed"], 1);
}

#[tokio::test]
async fn a_stream_that_nobody_knows_is_no_empty_one() {
    let place = Embedded::up().await;
    for words in [
        &["peek", "nosuch"][..],
        &["trim", "nosuch", "--max-len", "0", "--reason", "t"],
        &["export", "nosuch"],
        &[
            "replay", "--group", "g", "--from", "1h", "nosuch", "--reason", "t",
        ],
    ] {
        let said = place.run(&[&["stream"], words].concat());
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains("no stream nosuch"), "{said:?}");
    }
    let long = "x".repeat(70_000);
    assert_eq!(place.run(&["stream", "info", &long]).code, Some(0));
    let unsaid = place.run(&["stream", "pause", "--reason", " "]);
    assert_eq!(unsaid.code, Some(2), "{unsaid:?}");
    let empty = place.run(&["stream", "peek", "high"]);
    assert_eq!(empty.code, Some(0), "{empty:?}");
}

#[tokio::test]
async fn a_pause_of_a_group_that_nobody_knows_asks_for_its_name() {
    let place = Embedded::up().await;
    place.judged().await;
    let pause = |group: &str| {
        let words = ["stream", "pause", "--group", group, "--reason", "t"];
        let said = place.run(&words);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.stdout
    };
    let said = pause("nosuch");
    assert!(said.contains("the consumers of nosuch take"), "{said}");
    assert!(said.contains("no group nosuch is on the bus yet"), "{said}");
    let said = pause("validator_workers");
    assert!(!said.contains("is the name right?"), "{said}");
}

/// On Redis a consumer is killed while it holds entries; the others get them before their time.
#[tokio::test]
async fn what_a_killed_consumer_holds_is_handed_on() {
    let place = Place::new();
    place.token();
    let stream = |words: &[&str]| {
        let options = place.on(RateboxOptions::new("stream"));
        options.args(words).run().unwrap()
    };
    let group = [
        "XGROUP",
        "CREATE",
        "validation_requests",
        "validator_workers",
        "0",
        "MKSTREAM",
    ];
    place.redis.command(&group).unwrap();
    let data = item().to_string();
    for _ in 0..3 {
        let add = ["XADD", "validation_requests", "*", "data", &data];
        place.redis.command(&add).unwrap();
    }
    let read_group = [
        "XREADGROUP",
        "GROUP",
        "validator_workers",
        "dead",
        "COUNT",
        "3",
    ];
    let read_group = [&read_group[..], &["STREAMS", "validation_requests", ">"]].concat();
    place.redis.command(&read_group).unwrap();
    let claim = ["claim", "dead", "--force", "--reason", "killed", "--json"];
    assert_eq!(read(&stream(&claim))["claimed"], 3);
    assert_eq!(stream(&["claim", "nobody", "--reason", "x"]).code, Some(1));
    // Far longer than this test may take: only the claim can have freed them.
    let worker = Ratebox::worker(|it| place.on(it).env("RATEBOX_WORKER__CLAIM_IDLE_MS", "600000"));
    let _worker = worker.unwrap();
    wait_until(Duration::from_secs(30), "they are judged", || async {
        place.count("count(*) FROM raw_items") == 3
    })
    .await;
    assert_eq!(
        place.count("count(*) FROM audit_log WHERE action = 'stream.claim'"),
        1
    );
}

#[tokio::test]
async fn consumers_pause_and_go_on_at_an_operators_word() {
    let place = Place::new();
    let up = Ratebox::up(|it| place.on(it).arg("--no-sample"));
    let ratebox = ready(up.unwrap()).await;
    let http = ratebox.admin().unwrap();
    let stream = |words: &[&str]| place.on(RateboxOptions::new("stream")).args(words).run();
    let said = stream(&["pause", "--for", "1h", "--reason", "the database moves"]).unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    let info = stream(&["info"]).unwrap().stdout;
    assert!(
        info.contains("PAUSED: the consumers of all groups"),
        "{info}"
    );
    let shorter = stream(&["pause", "--for", "1s", "--reason", "another"]).unwrap();
    assert_eq!(shorter.code, Some(1), "the longer one stays: {shorter:?}");
    assert!(shorter.stderr.contains("lasts longer"), "{shorter:?}");
    let none = stream(&["pause", "--for", "0s", "--reason", "x"]).unwrap();
    assert_eq!(none.code, Some(2), "{none:?}");
    // Those who had not noticed yet may judge a few.
    let held = async {
        loop {
            let body = json!({ "items": [item()] });
            let answer = http.post_json("/api/validation/validate", &body).await;
            let id = answer.unwrap().json().unwrap()["request_id"].clone();
            let status = format!("/api/validation/status/{}?wait=2", id.as_str().unwrap());
            let answer = http.get(&status).await.unwrap().json().unwrap();
            if answer["status"] == "queued" {
                return status;
            }
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(30), held).await;
    let status = waiting.expect("the consumers notice the pause");
    let said = stream(&["resume", "--reason", "it has moved", "--json"]).unwrap();
    assert!(read(&said)["was_paused"].as_bool().unwrap(), "{said:?}");
    let status = status.replace("wait=2", "wait=20");
    let answer = http.get(&status).await.unwrap().json().unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    let again = stream(&["resume", "--reason", "once more"]).unwrap();
    assert!(again.stdout.contains("were not paused"), "{again:?}");
    let deeds = "count(*) FROM audit_log WHERE action IN ('stream.pause', 'stream.resume')";
    assert_eq!(place.count(deeds), 3);
}

#[tokio::test]
async fn a_deed_that_cannot_be_written_down_is_not_done_but_for_a_pause() {
    let mut place = Place::new();
    place.token();
    let lane = "validation_requests";
    for number in 0..5 {
        let number = number.to_string();
        place
            .redis
            .command(&["XADD", lane, "*", "data", &number])
            .unwrap();
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("one.ndjson");
    let line = r#"{"id":"1700000000000-7","fields":[{"name":"data","text":"{}"}]}"#;
    std::fs::write(&file, line).unwrap();
    let file = file.to_str().unwrap();
    place.postgres.stop().unwrap();
    let stream = |words: &[&str]| {
        let options = place.on(RateboxOptions::new("stream"));
        let said = options.args(words).args(["--reason", "t"]).run().unwrap();
        assert_eq!(said.code, Some(1), "{said:?}");
        said.stderr
    };
    for words in [
        &["trim", "normal", "--max-len", "0", "--force"][..],
        &["import", "normal", file],
        &["replay", "--group", "audit", "--from", "1h"],
    ] {
        let said = stream(words);
        assert!(!said.contains("it is done"), "{said}");
        assert_eq!(
            place.redis.command(&["XLEN", lane]).unwrap().as_u64(),
            Some(5)
        );
        let groups = place.redis.command(&["XINFO", "GROUPS", lane]).unwrap();
        assert!(!format!("{groups:?}").contains("audit"), "{groups:?}");
    }
    let paused = stream(&["pause"]);
    assert!(paused.contains("it is done"), "{paused}");
}

/// What is only seen is seen while the store is away, and where the settings name none.
#[test]
fn looking_at_the_bus_needs_no_store() {
    let mut place = Place::new();
    let add = ["XADD", "validation_requests", "*", "data", "{}"];
    place.redis.command(&add).unwrap();
    place.postgres.stop().unwrap();
    let stream = || RateboxOptions::new("stream");
    for on in [place.on(stream()), stream().redis(&place.redis.url())] {
        let looks: [(&[&str], &str); 3] = [
            (&["info"], "length         1"),
            (&["peek", "normal"], "data"),
            (&["export", "normal"], "data"),
        ];
        for (words, seen) in looks {
            let said = on.clone().args(words).run().unwrap();
            assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
            assert!(said.stdout.contains(seen), "{words:?}: {said:?}");
        }
        // Who sees payloads as they are is written down first.
        let unmask = ["peek", "normal", "--unmask", "--reason", "t"];
        let refused = on.args(unmask).run().unwrap();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert_eq!(refused.stdout, "", "{refused:?}");
    }
}
