//! File descriptors: the process raises its limit as far as it may, and says what it lacks.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ratebox_testkit::{Ratebox, RateboxOptions, TempDir, wait_until};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::place::ready;

const WAIT_MAX: Duration = Duration::from_secs(30);

/// The binary, started by a shell that allows so many open files first.
fn with_files(folder: &TempDir, limits: &str) -> PathBuf {
    let binary = RateboxOptions::new("up").binary_path().unwrap();
    let script = folder.join("limited");
    let text = format!("#!/bin/sh\n{limits}\nexec '{}' \"$@\"\n", binary.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

/// The soft limit of a process.
fn open_files_max(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|it| it.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap()
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_to_what_the_connections_take() {
    let folder = TempDir::new().unwrap();
    let limited = with_files(&folder, "ulimit -Sn 300 && ulimit -Hn 900");
    let up = |it: RateboxOptions| {
        let it = it.binary(&limited).arg("--no-sample");
        it.env("RATEBOX_GATEWAY__CONNECTIONS_MAX", "500")
    };
    let ratebox = ready(Ratebox::up(up).unwrap()).await;
    assert_eq!(open_files_max(ratebox.pid()), 700);
    let logs = ratebox.logs();
    assert!(!logs.contains("open files are allowed"), "{logs}");
}

#[tokio::test]
async fn with_few_file_descriptors_further_connections_are_told_to_come_again() {
    let folder = TempDir::new().unwrap();
    let limited = with_files(&folder, "ulimit -n 250");
    let up = |it: RateboxOptions| it.binary(&limited).arg("--no-sample");
    let ratebox = ready(Ratebox::up(up).unwrap()).await;
    let logs = ratebox.logs();
    let warned = "250 open files are allowed, and gateway.connections_max = 10000 takes 10200";
    assert!(logs.contains(warned), "{logs}");
    let address = ratebox.base_url().replace("http://", "");
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(TcpStream::connect(&address).await.unwrap());
    }
    // Clients get half of so few.
    let mut last = held.pop().unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(WAIT_MAX, last.read_to_string(&mut answer));
    read.await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("http.too_many_connections"), "{answer}");
    let logs = ratebox.logs();
    assert!(!logs.contains("connections cannot be accepted"), "{logs}");
    drop(held);
    wait_until(WAIT_MAX, "it serves again", || async {
        let answer = ratebox.client().get("/api/health/live").await;
        answer.is_ok_and(|it| it.status == 200)
    })
    .await;
}
