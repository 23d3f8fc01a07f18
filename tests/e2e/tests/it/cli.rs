//! The commands that end by themselves.

use ratebox_testkit::{Output, RateboxOptions, TempDir};
use serde_json::Value;

use crate::place::Place;

fn run(arguments: &[&str]) -> Output {
    let options = RateboxOptions::new(arguments[0]).args(&arguments[1..]);
    options.run().unwrap()
}

#[test]
fn validate_judges_the_shipped_samples_and_writes_a_report() {
    let folder = TempDir::new().unwrap();
    let report = folder.path().join("bad.csv");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/reports.csv");
    let done = run(&[
        "validate",
        samples,
        "--json",
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(summary["records"].as_u64().unwrap() >= 2000, "{summary}");
    assert!(std::fs::read_to_string(report).unwrap().lines().count() > 90);
    let failing = run(&["validate", samples, "--fail-on-error"]);
    assert_eq!(failing.code, Some(3), "{failing:?}");
    assert_eq!(run(&["validate", "no-such-file.csv"]).code, Some(1));
}

#[test]
fn wrong_usage_and_wrong_settings_exit_with_2() {
    assert_eq!(run(&["validat"]).code, Some(2));
    let options = RateboxOptions::new("config").arg("check");
    let wrong = options
        .clone()
        .env("RATEBOX_WORKER__HEARTBEAT_MS", "99999")
        .run()
        .unwrap();
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("worker.heartbeat_ms"), "{wrong:?}");
    assert_eq!(options.run().unwrap().code, Some(0));
}

#[test]
fn config_show_hides_secrets() {
    let options = RateboxOptions::new("config").arg("show");
    let shown = options
        .env("POSTGRES_DSN", "postgresql://me:hunter2@host/db")
        .run()
        .unwrap();
    assert!(
        shown.stdout.contains("[store]") && !shown.stdout.contains("hunter2"),
        "{shown:?}"
    );
}

#[test]
fn produce_monitor_token_and_doctor_work_together() {
    let place = Place::new();
    let on = |words: &[&str]| {
        let options = place.on(RateboxOptions::new(words[0]));
        options.args(&words[1..]).run().unwrap()
    };
    let migrated = on(&["migrate"]);
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let produced = on(&["produce", "10", "--delay", "0"]);
    assert_eq!(produced.code, Some(0), "{produced:?}");
    let report = on(&["monitor", "--json"]);
    assert_eq!(report.code, Some(0), "{report:?}");
    assert!(
        serde_json::from_str::<Value>(&report.stdout).is_ok(),
        "{report:?}"
    );
    let report = on(&["monitor"]).stdout;
    let sections = [
        "STREAM INFO",
        "CONSUMER GROUPS",
        "DATABASE STATS",
        "CONSUMER PERFORMANCE",
        "RECENT ACTIVITY",
        "TOP ERRORS",
    ];
    let places: Vec<usize> = sections
        .iter()
        .map(|it| report.find(it).expect(it))
        .collect();
    assert!(places.is_sorted(), "{report}");
    place.token();
    let tokens = on(&["token", "list", "--json"]);
    assert!(tokens.stdout.contains("\"me\""), "{tokens:?}");
    let doctor = on(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    place
        .redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .unwrap();
    let doctor = on(&["doctor"]);
    assert_eq!(doctor.code, Some(3), "{doctor:?}");
    assert!(doctor.stdout.contains("noeviction"), "{doctor:?}");
}
