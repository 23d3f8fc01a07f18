//! Nothing outlives the test process, not even one that is killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ratebox_testkit::{RedisOptions, RedisServer, wait_until};

/// Set in the child that is going to be killed.
const VICTIM: &str = "RATEBOX_TESTKIT_VICTIM";

#[tokio::test]
async fn a_server_ends_when_its_test_process_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        be_the_victim();
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "guard::a_server_ends_when_its_test_process_is_killed",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("server=")?.1.to_owned()));
    let server = format!("/proc/{}", pid.unwrap());
    assert!(Path::new(&server).exists());

    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until(Duration::from_secs(10), "the server has ended", || async {
        // Gone, or at most waiting for somebody to reap it.
        std::fs::read_to_string(format!("{server}/stat")).map_or(true, |line| line.contains(") Z"))
    })
    .await;
}

fn be_the_victim() -> ! {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    println!("server={}", server.pid().unwrap());
    loop {
        std::thread::park();
    }
}
