//! A holder of a lock whose whole process stands still beyond its lease: this test binary once more.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ratebox_cache::{Fences, LockGuard, LockSettings, Locks};
use ratebox_db::{Db, SqliteSettings, migrate};
use ratebox_kit::{Clock, Tasks};
use ratebox_testkit::{RedisServer, TempDir, unique_name};
use ratebox_valkey::{Settings, Valkey};

const SOON: Duration = Duration::from_secs(30);
/// That of the one who is stopped; extended while it runs.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(30);

/// What tells the child that it is one: address, prefix and file of the fences.
const PLACE: &str = "RATEBOX_TEST_LOCK_PLACE";
/// Begins what the child says, among what the test harness prints.
const SAYS: &str = "> ";

async fn take(url: &str, prefix: &str, lease: Duration) -> LockGuard {
    let settings = LockSettings {
        lease,
        poll: Duration::from_millis(20),
    };
    let valkey = Valkey::lazy(&Settings::new(url)).unwrap();
    let locks = Locks::shared(valkey, prefix, settings, Clock::system(), Tasks::new());
    let taken = locks.lock("x", SOON).await.unwrap();
    taken.expect("it is free when the lease ends")
}

/// Writes under the lock's number; whether nobody with a greater one has.
async fn write(file: &str, fence: u64) -> bool {
    let db = Db::sqlite(&SqliteSettings::new(file)).unwrap();
    migrate(&db, Fences::OWNER, Fences::MIGRATIONS)
        .await
        .unwrap();
    let mut tx = db.begin().await.unwrap();
    let passes = Fences::pass(&mut tx, "x", fence).await.unwrap();
    if passes {
        tx.commit().await.unwrap();
    }
    passes
}

/// The holder, from outside.
struct Holder {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(place: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stopped::a_holder_for_the_other_test"])
            .args(["--ignored", "--nocapture"])
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = ["-c", r#"kill -s "$1" "$2""#, "kill", name, &pid];
        assert!(Command::new("sh").args(kill).status().unwrap().success());
    }

    fn says(&mut self) -> String {
        let mut lines = self.output.by_ref().map(Result::unwrap);
        let said = lines.find_map(|line| line.strip_prefix(SAYS).map(str::to_owned));
        said.expect("the holder is gone")
    }

    fn go_on(&mut self) {
        writeln!(self.input, "write").unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of the other test of this file"]
async fn a_holder_for_the_other_test() {
    let Ok(place) = std::env::var(PLACE) else {
        return;
    };
    let parts: Vec<&str> = place.split(' ').collect();
    let guard = take(parts[0], parts[1], SHORT).await;
    println!("{SAYS}{}", guard.fence());
    // Other threads extend the lease meanwhile.
    std::io::stdin().lock().lines().next().unwrap().unwrap();
    println!("{SAYS}{}", write(parts[2], guard.fence()).await);
    guard.lost().await;
    println!("{SAYS}lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_was_stopped_beyond_its_lease_writes_nothing_and_learns_that_it_lost() {
    let folder = TempDir::new().unwrap();
    let file = folder.join("fences.db").display().to_string();
    let (url, prefix) = (RedisServer::shared().unwrap().url(), unique_name("lock:"));
    let mut holder = Holder::start(&format!("{url} {prefix} {file}"));
    let its: u64 = holder.says().parse().unwrap();
    holder.signal("STOP");
    let guard = take(url, &prefix, LONG).await;
    assert!(guard.fence() > its);
    assert!(write(&file, guard.fence()).await, "its own write");
    holder.go_on();
    holder.signal("CONT");
    assert_eq!(holder.says(), "false", "its late write");
    assert_eq!(holder.says(), "lost");
    assert!(!guard.is_lost(), "the one who holds it now");
    assert!(write(&file, guard.fence()).await, "its next write");
}
