//! The binary as a child, shown with a script in its place.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ratebox_testkit::{Ratebox, RateboxOptions, TempDir, wait_until};

/// Writes an executable script. A shell does it, because a file that this process had open for
/// writing could not be run while another thread starts a child.
fn script(folder: &TempDir, text: &str) -> PathBuf {
    let file = folder.join("ratebox");
    let status = Command::new("sh")
        .args([
            "-c",
            r#"printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod +x "$2""#,
            "sh",
            text,
        ])
        .arg(&file)
        .status()
        .unwrap();
    assert!(status.success());
    file
}

#[tokio::test]
async fn a_command_gets_its_arguments_and_only_its_own_environment() {
    let folder = TempDir::new().unwrap();
    let binary = script(
        &folder,
        r#"echo "$@"; env | grep CARGO >&2; echo "$REDIS_URL" >&2; exit 3"#,
    );
    let output = RateboxOptions::new("validate")
        .binary(&binary)
        .args(["a.csv", "--json"])
        .redis("redis://there")
        .run()
        .unwrap();
    assert_eq!(output.code, Some(3));
    assert_eq!(output.stdout, "validate a.csv --json\n");
    assert_eq!(output.stderr, "redis://there\n");
}

#[tokio::test]
async fn a_server_is_told_where_to_listen_and_ends_when_asked() {
    let folder = TempDir::new().unwrap();
    let binary = script(
        &folder,
        r#"trap 'echo bye; exit 7' TERM; echo "$@"; echo "$RATEBOX_METRICS__LISTEN"; while :; do sleep 0.05; done"#,
    );
    let mut ratebox = Ratebox::up(|o| o.binary(&binary).arg("--more")).unwrap();
    let metrics = ratebox.metrics_url().replace("http://", "");
    wait_until(
        Duration::from_secs(5),
        "it has told its arguments",
        || async { ratebox.logs().contains(&metrics) },
    )
    .await;
    let listen = ratebox.base_url().replace("http://", "--listen ");
    let logs = ratebox.logs();
    assert!(logs.starts_with("up --more --data-dir "), "{logs}");
    assert!(logs.contains(&listen), "{logs}");
    assert_eq!(ratebox.exited(), None);
    assert_eq!(ratebox.terminate().await.unwrap(), 7);
    assert!(ratebox.logs().ends_with("bye\n"));
    assert_eq!(ratebox.exited(), Some(7));
}

#[tokio::test]
async fn a_server_that_ends_early_tells_its_log() {
    let folder = TempDir::new().unwrap();
    let binary = script(&folder, "echo no such setting >&2; exit 2");
    let mut ratebox = Ratebox::gateway(|o| o.binary(&binary)).unwrap();
    let error = ratebox.wait_ready().await.unwrap_err().to_string();
    assert!(error.contains("no such setting"), "{error}");
    assert_eq!(ratebox.exited(), Some(2));
}

#[tokio::test]
async fn a_killed_server_is_gone_at_once() {
    let folder = TempDir::new().unwrap();
    let binary = script(&folder, "trap '' TERM; exec sleep 600");
    let mut ratebox = Ratebox::worker(|o| o.binary(&binary)).unwrap();
    ratebox.pause().unwrap();
    ratebox.resume().unwrap();
    ratebox.kill9();
    assert_eq!(ratebox.exited(), Some(128 + 9));
    assert!(!PathBuf::from(format!("/proc/{}", ratebox.pid())).exists());
}
