//! PostgreSQL: start, databases, kill, restart, freeze.

use std::path::Path;
use std::time::Duration;

use ratebox_testkit::{PostgresOptions, PostgresServer, unique_name, wait_until};

#[test]
fn a_killed_server_comes_back_on_its_port_with_what_was_committed() {
    let mut server = PostgresServer::start().unwrap();
    assert_eq!(server.sql("SHOW fsync").unwrap(), "on");
    server
        .sql("CREATE TABLE a (b int); INSERT INTO a VALUES (1)")
        .unwrap();
    let dsn = server.dsn();
    server.kill9();
    assert!(server.pid().is_none());
    assert!(server.sql("SELECT 1").is_err());
    server.restart().unwrap();
    assert_eq!(server.dsn(), dsn);
    assert_eq!(server.sql("SELECT b FROM a").unwrap(), "1");
    server.restart().unwrap();
    assert_eq!(server.sql("SELECT b FROM a").unwrap(), "1");
    server.stop().unwrap();
    assert!(server.sql("SELECT 1").is_err());
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process() {
    let server = PostgresServer::start().unwrap();
    let pid = server.pid().unwrap();
    drop(server);
    wait_until(Duration::from_secs(5), "its process is gone", || async {
        !Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
}

#[test]
fn settings_reach_the_server() {
    let server =
        PostgresServer::start_with(PostgresOptions::default().set("work_mem", "7MB")).unwrap();
    assert_eq!(server.sql("SHOW work_mem").unwrap(), "7MB");
}

#[test]
fn a_frozen_server_answers_nothing_until_it_thaws() {
    let server = PostgresServer::start().unwrap();
    server.pause().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.sql("SELECT 1").unwrap());
        assert!(!asking.is_finished());
        server.resume().unwrap();
        assert_eq!(asking.join().unwrap(), "1");
    });
}

#[test]
fn each_test_makes_its_own_database_on_the_shared_server() {
    let server = PostgresServer::shared().unwrap();
    let name = unique_name("db");
    let dsn = server.create_database(&name).unwrap();
    assert!(dsn.ends_with(&format!("/{name}")), "{dsn}");
    let again = server.create_database(&name).unwrap_err().to_string();
    assert!(again.contains("already exists"), "{again}");
}
