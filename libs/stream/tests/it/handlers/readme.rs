//! The README's worker is the example, and it works: on memory and on Redis.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Clock, Message, Tasks};
use ratebox_stream::conformance::{Bed, Waits};
use ratebox_stream::{Append, EntryId, MemoryLog, StreamName};
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};

#[expect(dead_code, reason = "the example has a main of its own")]
#[expect(unreachable_pub, reason = "the example is a program")]
#[path = "../../../examples/worker.rs"]
mod example;

const README: &str = include_str!("../../../README.md");
const EXAMPLE: &str = include_str!("../../../examples/worker.rs");

#[test]
fn the_worker_in_the_readme_is_the_example() {
    let (_, code) = EXAMPLE.split_once("// README: begin\n").unwrap();
    let (code, _) = code.split_once("// README: end").unwrap();
    assert!(
        README.contains(code),
        "the README and examples/worker.rs differ"
    );
    let lines = code.lines().filter(|line| !line.trim().is_empty());
    let lines = lines.filter(|line| !line.starts_with("use "));
    assert!(lines.count() <= 15, "a worker should stay small");
}

#[tokio::test]
async fn the_worker_in_the_readme_works_on_memory_and_on_redis() {
    let log = Arc::new(MemoryLog::new(Clock::system()));
    let memory = crate::memory::with(log, Waits::Really);
    check(memory).await;
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    check(crate::redis::on(&server.url())).await;
}

async fn check(bed: Bed) {
    let tasks = Tasks::new();
    let (worker, running) = (example::worker(Arc::clone(&bed.log)), tasks.clone());
    tasks.spawn("worker", async move { worker.run(&running).await });
    let signups = StreamName::new("signups");
    for (id, body) in [("good", r#""Ada""#), ("corrupt", "{")] {
        let message = Message::new(id, body).with_header("type", "user.signed_up");
        let append = Append::new(signups.clone(), message);
        bed.log.append(&[append]).await.remove(0).unwrap();
    }
    wait_until(Duration::from_secs(20), "both are settled", || async {
        let info = bed.admin.info(&signups).await.unwrap();
        info.is_some_and(|info| {
            let group = info.groups.first();
            group.is_some_and(|it| it.pending == 0 && it.lag == Some(0))
        })
    })
    .await;
    let dead = StreamName::new("{signups}:dead");
    let letters = bed.admin.peek(&dead, EntryId::MIN, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let text = |name: &str| std::str::from_utf8(letters[0].field(name).unwrap()).unwrap();
    assert_eq!(text("dead-message-id"), "corrupt");
    assert_eq!(
        (text("dead-code"), text("dead-class")),
        ("payload.json", "malformed")
    );
    assert_eq!((text("data"), text("type")), ("{", "user.signed_up"));
    let late = tasks.join(Duration::from_secs(20)).await;
    assert_eq!((late, tasks.failed()), (Vec::new(), Vec::new()));
}
