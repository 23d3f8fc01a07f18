//! What `ratebox doctor` tells while work stands still, and whether the shipped alerts ask for
//! metrics that exist and fire when they should.

use std::collections::BTreeSet;
use std::time::Duration;

use ratebox_db::{Db, SqliteSettings};
use ratebox_testkit::{Output, Ratebox, RateboxOptions, TempDir, tools, wait_until};
use serde_json::Value;

use crate::place::{Place, ready};

/// A dead event, a parked saga, and a row of a month that no relay made a partition of.
const GIVEN_UP: &str = "
    INSERT INTO ratebox.outbox_dead (id, topic, body, attempts)
    VALUES ('018f0000-0000-7000-8000-000000000001', 'broken', 'x', 10);
    INSERT INTO ratebox.sagas
        (id, version, owner, created_at, updated_at, definition, hash, status, input)
    VALUES ('018f0000-0000-7000-8000-000000000002', 1, 0, now(), now(), 'order', 'none', 'parked',
        'null');
    INSERT INTO ratebox.validation_responses
    VALUES ('ffffffff-0000-7000-8000-000000000000', 'me', 'success', '{}', now())";

fn doctor(options: RateboxOptions) -> (Value, Option<i32>) {
    let output: Output = options.arg("--json").run().unwrap();
    let report = serde_json::from_str(&output.stdout);
    (report.unwrap_or_else(|_| panic!("{output:?}")), output.code)
}

/// What was found about something, one line each: level, what it says, and the advice.
fn about(report: &Value, about: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let of_it = findings.filter(|it| it["about"] == about);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |it: &Value| {
        let parts = [&it["level"], &it["says"], &it["advice"]].map(text);
        parts.join(" ")
    };
    of_it.map(line).collect()
}

fn told(report: &Value, of: &str, level: &str, parts: &[&str]) {
    let lines = about(report, of);
    let has_all = |line: &str| parts.iter().all(|part| line.contains(*part));
    let is_told = |line: &String| line.starts_with(level) && has_all(line);
    assert!(lines.iter().any(is_told), "{parts:?}: {lines:?}");
}

fn on(place: &Place) -> RateboxOptions {
    place.on(RateboxOptions::new("doctor"))
}

#[test]
fn what_was_given_up_is_told_with_the_command_to_look_at_it() {
    let place = Place::new();
    place.token();
    let (sound, code) = doctor(on(&place));
    assert_eq!(code, Some(0), "{sound}");
    told(&sound, "outbox", "OK", &["no dead events"]);
    told(&sound, "sagas", "OK", &["none is parked"]);
    told(&sound, "workers", "OK", &["no request waits"]);
    place.postgres.sql(GIVEN_UP).unwrap();
    let (report, _) = doctor(on(&place));
    let retry = ["1 dead events", "outbox export", "outbox retry --all"];
    told(&report, "outbox", "WARN", &retry);
    let parked = ["1 are parked", "saga list --state parked"];
    told(&report, "sagas", "WARN", &parked);
    let heading = "Rows without a partition";
    let rows = ["validation_responses_default", heading];
    told(&report, "tables", "WARN", &rows);
    let page = tools::workspace_root().join("docs/Operating-The-Bus.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&format!("\n## {heading}\n")));
}

#[tokio::test]
async fn requests_that_wait_while_no_worker_lives_are_told_until_one_takes_them() {
    let place = Place::new();
    place.token();
    let entry = |id: &str| {
        let words = ["XADD", "validation_requests", id, "data", "{}"];
        place.redis.command(&words).unwrap();
    };
    entry("*");
    let (report, code) = doctor(on(&place));
    assert_eq!(code, Some(0), "a worker may be on its way: {report}");
    told(
        &report,
        "workers",
        "WARN",
        &["1 requests", "`ratebox worker`"],
    );
    // One that waits since 1970.
    place
        .redis
        .command(&["DEL", "validation_requests"])
        .unwrap();
    entry("1-1");
    let (report, code) = doctor(on(&place));
    assert_eq!(code, Some(3), "{report}");
    told(
        &report,
        "workers",
        "FAIL",
        &["1 requests", "`ratebox worker`"],
    );
    let _worker = place.worker();
    wait_until(Duration::from_secs(60), "a worker takes it", || async {
        let (report, _) = doctor(on(&place));
        about(&report, "workers") == ["OK no request waits on the bus "]
    })
    .await;
}

#[test]
fn a_pause_is_told_and_the_wait_that_it_makes_is_no_failure() {
    let place = Place::new();
    place.token();
    let words = ["XADD", "validation_requests", "1-1", "data", "{}"];
    place.redis.command(&words).unwrap();
    let stream = |words: &[&str]| {
        let options = place.on(RateboxOptions::new("stream"));
        let done = options.args(words).args(["--reason", "x"]).run().unwrap();
        assert_eq!(done.code, Some(0), "{done:?}");
    };
    stream(&["pause"]);
    let (report, code) = doctor(on(&place));
    assert_eq!(code, Some(0), "{report}");
    told(&report, "workers", "WARN", &["all groups", "stream resume"]);
    stream(&["resume"]);
    let (report, code) = doctor(on(&place));
    assert_eq!(code, Some(3), "{report}");
    assert_eq!(about(&report, "workers").len(), 1, "{report}");
}

#[tokio::test]
async fn a_pause_on_the_embedded_bus_is_told() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let folder = ratebox.data_dir().as_os_str();
    let beside = |word: &str| RateboxOptions::new(word).arg("--data-dir").arg(folder);
    let (report, code) = doctor(beside("doctor"));
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(about(&report, "workers").len(), 1, "{report}");
    let pause = RateboxOptions::new("stream").args(["pause", "--reason", "x"]);
    let paused = pause.arg("--data-dir").arg(folder).run().unwrap();
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let (report, _) = doctor(beside("doctor"));
    told(&report, "workers", "WARN", &["all groups", "stream resume"]);
}

/// As a server's tables are told in `servers.rs`.
#[tokio::test]
async fn an_embedded_bus_of_a_newer_release_is_told_by_the_doctor_and_used_all_the_same() {
    let folder = TempDir::new().unwrap();
    let start = async || {
        let up = Ratebox::up(|it| it.data_dir(folder.path()).arg("--no-sample"));
        ready(up.unwrap()).await
    };
    let mut first = start().await;
    assert_eq!(first.terminate().await.unwrap(), 0, "{}", first.logs());
    let file = Db::sqlite(&SqliteSettings::new(folder.join("bus.db"))).unwrap();
    let newer = "INSERT INTO schema_migrations VALUES ('stream', 99, 'what is to come', 1);";
    file.script(newer.to_owned()).await.unwrap();
    drop(file);
    let beside = RateboxOptions::new("doctor").arg("--data-dir");
    let (report, code) = doctor(beside.arg(folder.path()));
    assert_eq!(code, Some(0), "{report}");
    let name = "stream/99 (what is to come)";
    told(
        &report,
        "bus",
        "WARN",
        &["bus.db is newer", name, "newer program"],
    );
    let second = start().await;
    assert_eq!(second.logs().matches(name).count(), 1, "{}", second.logs());
}

/// Where the names of metrics stand.
const STATS: [&str; 6] = [
    "libs/stream/src/stats.rs",
    "libs/saga/src/stats.rs",
    "libs/outbox/src/stats.rs",
    "libs/cache/src/stats.rs",
    "app/gateway/src/stats.rs",
    "app/worker/src/stats.rs",
];

/// Names of metrics in the shipped rules; those of a histogram's parts without their ending.
fn named_in(rules: &str) -> BTreeSet<&str> {
    const OURS: [&str; 5] = [
        "ratebox_",
        "saga_",
        "outbox_",
        "messages_lost_",
        "accept_loss_",
    ];
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let words = rules.split(|it: char| !is_name(it));
    let metrics = words.filter(|it| OURS.iter().any(|ours| it.starts_with(ours)));
    let whole = metrics.map(|it| it.strip_suffix("_bucket").unwrap_or(it));
    // The label of sagas.
    whole.filter(|it| *it != "saga_name").collect()
}

#[test]
fn the_shipped_alerts_ask_for_metrics_that_exist_and_say_what_to_do() {
    let read = |file: &str| {
        let file = tools::workspace_root().join(file);
        std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", file.display()))
    };
    let sources = STATS.map(read).concat();
    let rules = read("deploy/prometheus/ratebox.rules.yml");
    let named = named_in(&rules);
    assert!(named.len() >= 15, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !sources.contains(&format!("\"{name}\"")))
        .collect();
    assert!(missing.is_empty(), "not measured: {missing:?}");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 15, "{}", alerts.len());
    for alert in alerts {
        for part in ["expr: ", "for: ", "severity: ", "summary: ", "action: "] {
            assert!(alert.contains(part), "no {part}: {alert}");
        }
    }
}

#[test]
fn the_shipped_alerts_fire_as_their_own_tests_say() {
    let tests = tools::workspace_root().join("deploy/prometheus/ratebox.rules.test.yml");
    let mut run = std::process::Command::new(tools::promtool().unwrap());
    let done = run.args(["test", "rules"]).arg(tests).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}
