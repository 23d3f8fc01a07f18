//! The commands that end by themselves.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ratebox_testkit::{Certificates, Output, RateboxOptions, RedisServer, TempDir, wait_until};
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
fn a_report_never_overwrites_the_input_whatever_its_name() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("in.csv");
    let link = folder.path().join("link.csv");
    let records = "phone\n0912345678\n";
    std::fs::write(&input, records).unwrap();
    std::fs::hard_link(&input, &link).unwrap();
    let binary = RateboxOptions::new("validate").binary_path().unwrap();
    let validate = |file: &Path, report: &Path| {
        let mut command = std::process::Command::new(&binary);
        command.arg("validate").arg(file).arg("--report");
        command
            .arg(report)
            .stdin(std::fs::File::open(&input).unwrap());
        command.output().unwrap()
    };
    let stdin = Path::new("-");
    for (file, report) in [(input.as_path(), &link), (stdin, &input), (stdin, &link)] {
        let refused = validate(file, report);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("would overwrite the file"), "{said}");
        assert_eq!(refused.status.code(), Some(1), "{file:?}: {said}");
        assert_eq!(std::fs::read_to_string(&input).unwrap(), records);
    }
    // The second one overwrites a report, which is no input.
    let other = folder.path().join("other.csv");
    for file in [input.as_path(), stdin] {
        let done = validate(file, &other);
        assert!(done.status.success() && other.exists(), "{done:?}");
    }
}

#[test]
fn words_that_say_too_little_or_make_no_sense_exit_with_2() {
    for words in [
        "dlq list --class zz",
        "dlq list --state zz",
        "dlq list --from soon",
        "dlq purge",
        "dlq purge 01a1fddb-d7d9-77ff-b80f-1e19cbe39297",
        "dlq purge 01a1fddb-d7d9-77ff-b80f-1e19cbe39297 --reason x",
        "dlq replay --reason x",
        "dlq edit 01a1fddb-d7d9-77ff-b80f-1e19cbe39297 --reason x",
        "dlq edit 01a1fddb-d7d9-77ff-b80f-1e19cbe39297 --field-file data --reason x",
        "saga simulate order --takes pay",
        "saga simulate order --takes pay=soon",
        "stream trim normal --reason d",
        "saga compensate --all --reason x",
        "saga abandon --reason x",
        "saga retry 01a1fddb-d7d9-77ff-b80f-1e19cbe39297 --reason x",
        "outbox retry",
        "token create --owner o --name n --scope foo",
        "token create --owner o --name n --scope find --profile foo",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let refused = run(&words);
        assert_eq!(refused.code, Some(2), "{words:?}: {refused:?}");
    }
    let unsure = run(&["dlq", "purge", "01a1fddb-d7d9-77ff-b80f-1e19cbe39297"]);
    assert!(unsure.stderr.contains("add --yes"), "{unsure:?}");
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
    let mistyped = options.clone().env("RATEBOX_STORE_URL", "x").run().unwrap();
    assert_eq!(mistyped.code, Some(2), "{mistyped:?}");
    assert!(
        mistyped.stderr.contains("did you mean RATEBOX_STORE__URL?"),
        "{mistyped:?}"
    );
    assert_eq!(options.run().unwrap().code, Some(0));
}

#[test]
fn settings_that_cannot_be_read_are_refused_by_the_check_without_their_secrets() {
    let check = || RateboxOptions::new("config").arg("check");
    for (name, value, said) in [
        (
            "POSTGRES_DSN",
            "mysql://me:hunter2@host/db",
            "postgresql://",
        ),
        ("REDIS_URL", "http://me:hunter2@host", "redis://"),
        ("RATEBOX_STORE__URL_FILE", "no-such-file", "store.url_file"),
        ("POSTGRES_DSN", "postgresql:///hunter2", "names no host"),
        (
            "RATEBOX_CACHE__ORIGIN_URL",
            "mysql://me:hunter2@host/db",
            "cache.origin_url",
        ),
        ("RATEBOX_CACHE__URL", "http://me:hunter2@host", "redis://"),
        (
            "RATEBOX_SAGA__STORE_URL",
            "postgresql://me:hunter2@host:port/db",
            "saga.store_url",
        ),
    ] {
        let checked = check().env(name, value).run().unwrap();
        assert_eq!(checked.code, Some(2), "{checked:?}");
        assert!(checked.stderr.contains(said), "{checked:?}");
        assert!(!checked.stderr.contains("hunter2"), "{checked:?}");
    }
    let bytes = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let foreign = check().env("TERM_PROGRAM", bytes(b"\xff")).run().unwrap();
    assert_eq!(foreign.code, Some(0), "not a setting: {foreign:?}");
    let ours = check().env("REDIS_STREAM", bytes(b"\xff")).run().unwrap();
    assert_eq!(ours.code, Some(2), "{ours:?}");
    assert!(ours.stderr.contains("REDIS_STREAM: its value is not UTF-8"));
}

/// Found at the first connection it would be found in the night.
#[test]
fn a_key_that_is_not_its_certificate_s_is_refused_by_the_check() {
    let certificates = Certificates::new("DNS:localhost").unwrap();
    let check = |key: &str| {
        let options = RateboxOptions::new("config").arg("check");
        let options = options.env("REDIS_URL", "rediss://localhost");
        let options = options.env(
            "RATEBOX_BUS__TLS_CERT_FILE",
            certificates.path("client.pem"),
        );
        options
            .env("RATEBOX_BUS__TLS_KEY_FILE", certificates.path(key))
            .run()
            .unwrap()
    };
    assert_eq!(check("client.key").code, Some(0));
    let refused = check("server.key");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let said = "the client certificate and its key do not fit";
    assert!(refused.stderr.contains(said), "{refused:?}");
}

/// Whoever has read enough ends a command; it does not fail of that.
#[test]
fn a_reader_that_goes_away_ends_a_command_calmly() {
    let binary = RateboxOptions::new("config").binary_path().unwrap();
    for words in [["config", "show"], ["validate", "-"]] {
        let mut command = std::process::Command::new(&binary);
        command.args(words).stdout(Stdio::piped());
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        // The reader is gone before the first word: there is nothing to print before this.
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(b"phone\n0912345678\n");
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn a_token_that_was_taken_away_is_not_given_back_and_each_has_an_owner() {
    let folder = TempDir::new().unwrap();
    let on = |options: RateboxOptions| {
        let options = options.arg("--data-dir").arg(folder.path());
        options.run().unwrap()
    };
    assert_eq!(on(RateboxOptions::new("migrate")).code, Some(0));
    let token = |words: &[&str]| on(RateboxOptions::new("token").args(words));
    let create = ["create", "--owner", "eve", "--name", "n", "--scope", "find"];
    let made = token(&[&create[..], &["--json"]].concat());
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let id = made["id"].as_str().unwrap();
    let rotated = token(&["rotate", id, "--json"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    // Rotating has revoked it.
    let again = token(&["rotate", id]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("is revoked"), "{again:?}");
    assert!(again.stderr.contains("token create"), "{again:?}");
    let listed = token(&["list", "--json"]).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let states = [&listed[0]["state"], &listed[1]["state"]];
    assert_eq!(states, ["revoked", "active"], "{listed}");
    let table = token(&["list"]).stdout;
    for (state, line) in ["state", "revoked", "active"].iter().zip(table.lines()) {
        assert!(line.contains(state), "{state}: {table}");
    }
    for wrong in [["--owner", " "], ["--name", ""], ["--owner", "a\nb"]] {
        let words = ["create", "--scope", "find", wrong[0], wrong[1]];
        let other = if wrong[0] == "--owner" {
            "--name"
        } else {
            "--owner"
        };
        let refused = token(&[&words[..], &[other, "x"]].concat());
        assert_eq!(refused.code, Some(2), "{wrong:?}: {refused:?}");
    }
    for wrong in ["--limit-per-minute", "--expires-in-days"] {
        let refused = token(&[&create[..], &[wrong, "0"]].concat());
        assert_eq!(refused.code, Some(2), "{wrong}: {refused:?}");
    }
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
    let for_scripts = RateboxOptions::new("config").args(["show", "--json"]);
    let shown: Value = serde_json::from_str(&for_scripts.run().unwrap().stdout).unwrap();
    assert_eq!(shown["gateway"]["items_max"], 1000, "{shown}");
}

#[test]
fn a_refusal_of_the_bus_is_told_once() {
    let server = RedisServer::shared().unwrap();
    let url = server.url().replace("redis://", "redis://nobody:hunter2@");
    let options = RateboxOptions::new("stream").arg("info").redis(&url);
    let refused = options.run().unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let mut lines = refused.stderr.lines();
    let told = lines.find(|line| line.starts_with("ratebox: ")).unwrap();
    assert_eq!(told.matches("WRONGPASS").count(), 1, "{told}");
    assert_eq!(told.matches("refused the user").count(), 1, "{told}");
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
}

fn monitor(place: &Place, words: &[&str]) -> Output {
    let options = place.on(RateboxOptions::new("monitor"));
    options.args(words).run().unwrap()
}

#[test]
fn a_report_in_which_nothing_could_be_read_is_a_failure() {
    let mut place = Place::new();
    place.postgres.stop().unwrap();
    let half = monitor(&place, &[]);
    assert_eq!(half.code, Some(0), "{half:?}");
    assert!(
        half.stdout.contains("the database cannot be reached"),
        "{half:?}"
    );
    place.redis.stop().unwrap();
    for words in [&["--json"][..], &[]] {
        let silent = monitor(&place, words);
        assert_eq!(silent.code, Some(1), "{silent:?}");
        for why in ["nothing could be read", "the bus", "the database"] {
            assert!(silent.stderr.contains(why), "{why}: {silent:?}");
        }
        assert!(silent.stdout.contains("cannot be reached"), "{silent:?}");
    }
}

#[tokio::test]
async fn a_report_that_is_watched_goes_on_while_nothing_can_be_read() {
    let mut place = Place::new();
    place.postgres.stop().unwrap();
    place.redis.stop().unwrap();
    let options = place.on(RateboxOptions::new("monitor"));
    let mut watch = options.args(["--watch", "1"]).start().unwrap();
    wait_until(Duration::from_secs(60), "two reports", || async {
        watch.logs().matches("RATEBOX MONITOR").count() >= 2
    })
    .await;
    let said = watch.logs();
    assert!(said.contains("the bus cannot be reached"), "{said}");
    assert!(said.contains("the database cannot be reached"), "{said}");
    assert_eq!(watch.exited(), None, "{said}");
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
