//! Sagas on the command line: their engine runs in another process, which is this test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_db::{Db, PostgresSettings};
use ratebox_kit::{Secret, Tasks};
use ratebox_saga::{Ctx, Engine, Journal, Retry, Saga, SqlStore, Status, StepError, StepResult};
use ratebox_testkit::{Output, PostgresServer, RateboxOptions};
use serde_json::Value;

/// Beyond its pivot its step `mail` fails until it is repaired.
fn order(is_repaired: &Arc<AtomicBool>) -> Saga<String> {
    let b = Saga::<String>::builder("order");
    let pay = b.step("pay", async |_: Ctx, who: String| Ok(who)).pivot();
    let repaired = Arc::clone(is_repaired);
    let mail = move |_: Ctx, _: String| {
        let is_repaired = repaired.load(Ordering::SeqCst);
        async move {
            if is_repaired {
                return Ok(());
            }
            let outcome: StepResult = Err(StepError::rejected("no answer"));
            outcome
        }
    };
    b.after(pay).step("mail", mail).retry(Retry::times(1));
    b.build().unwrap()
}

fn saga(postgres: &PostgresServer, words: &[&str]) -> Output {
    let options = RateboxOptions::new("saga").postgres(&postgres.dsn());
    options.args(words).run().unwrap()
}

fn read(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Tables made on the command line, and a handle on their database.
async fn database(postgres: &PostgresServer) -> Db {
    let migrate = RateboxOptions::new("migrate").postgres(&postgres.dsn());
    let migrated = migrate.args(["--json"]).run().unwrap();
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    assert!(
        read(&migrated)["applied"]["saga"].is_array(),
        "{migrated:?}"
    );
    let mut settings = PostgresSettings::new(Secret::new(postgres.dsn()));
    settings.schema = "ratebox".to_owned();
    Db::postgres(&settings).unwrap()
}

/// Lists, shows, drawings and what is foreseen of a parked saga.
fn is_seen(postgres: &PostgresServer, id: &str) {
    let listed = read(&saga(postgres, &["list", "--state", "parked", "--json"]));
    assert_eq!(listed["sagas"][0]["id"], *id, "{listed}");
    let old = ["list", "--state", "parked", "--until", "15m", "--json"];
    let old = read(&saga(postgres, &old));
    assert_eq!(old["sagas"], serde_json::json!([]), "{old}");
    let table = saga(postgres, &["list"]).stdout;
    assert!(table.contains(id) && table.contains("ALL SAGAS"), "{table}");
    let shown = saga(postgres, &["show", id]).stdout;
    assert!(
        shown.contains("STEPS") && shown.contains("parked"),
        "{shown}"
    );
    assert!(!shown.contains("Nguyen"), "masked: {shown}");
    let graph = saga(postgres, &["graph", id]).stdout;
    assert!(
        graph.starts_with("flowchart") && graph.contains(":::parked"),
        "{graph}"
    );
    let graph = saga(postgres, &["graph", "order"]).stdout;
    assert!(graph.contains(":::pivot"), "{graph}");
    let takes = [
        "simulate", "order", "--takes", "pay=200", "--takes", "mail=50", "--json",
    ];
    let foreseen = read(&saga(postgres, &takes));
    assert_eq!(foreseen["takes_ms"], 250.0, "{foreseen}");
}

/// What was so at the times of its first records, and before there was such a saga.
fn is_seen_as_it_was(postgres: &PostgresServer, id: &str) {
    let now = read(&saga(postgres, &["show", id, "--json"]));
    for (seq, status, error) in [
        (0_usize, "executing", Value::Null),
        (1, "parked", "mail: no answer".into()),
    ] {
        let at = now["records"][seq]["at"].as_str().unwrap();
        let then = read(&saga(postgres, &["show", id, "--at", at, "--json"]));
        assert_eq!(then["status"], status, "{then}");
        assert_eq!((&then["error"], &then["ended_at"]), (&error, &Value::Null));
        let count = |list: &str| then[list].as_array().unwrap().len();
        assert_eq!((count("records"), count("deeds")), (seq + 1, 0), "{then}");
    }
    let early = saga(postgres, &["show", id, "--at", "2020-01-01T00:00:00Z"]);
    assert_ne!(early.code, Some(0), "{early:?}");
    assert!(early.stderr.contains("there is no saga"), "{early:?}");
}

/// Two more that are stuck: one command ends both.
async fn many(
    postgres: &PostgresServer,
    engine: &Engine,
    order: &Saga<String>,
    repaired: &AtomicBool,
) {
    repaired.store(false, Ordering::SeqCst);
    let mut handles = Vec::new();
    for _ in 0..2 {
        let handle = engine
            .start(order, &"Tran Thi Be".to_owned())
            .await
            .unwrap();
        handle.settled().await.unwrap();
        handles.push(handle);
    }
    let wide = saga(postgres, &["abandon", "--all", "--reason", "closed"]);
    assert_eq!(wide.code, Some(2), "{wide:?}");
    assert!(wide.stderr.contains("name a definition"), "{wide:?}");
    let words = [
        "abandon",
        "--all",
        "--definition",
        "order",
        "--reason",
        "closed",
        "--json",
    ];
    let outcome = saga(postgres, &words);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(read(&outcome)["posted"], 2, "{outcome:?}");
    for handle in handles {
        while engine.history(handle.id()).await.unwrap().head.status != Status::Failed {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

// The engine goes on while a command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_saga_of_another_process_is_found_drawn_and_repaired_on_the_command_line() {
    let postgres = PostgresServer::start().unwrap();
    let db = database(&postgres).await;
    let (repaired, tasks) = (Arc::new(AtomicBool::new(false)), Tasks::new());
    let order = order(&repaired);
    let engine = Engine::builder(&Journal::new(SqlStore::new(db))).register(&order);
    let engine = engine.start(&tasks).unwrap();
    let handle = engine.start(&order, &"Nguyen Van An".to_owned()).await;
    let handle = handle.unwrap();
    handle.settled().await.unwrap();
    let id = handle.id().to_string();
    is_seen(&postgres, &id);
    let refused = saga(&postgres, &["compensate", &id, "--reason", "r"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("there is no way back"),
        "{refused:?}"
    );
    repaired.store(true, Ordering::SeqCst);
    let retry = [
        "retry",
        &id,
        "mail",
        "--reason",
        "it answers",
        "--as",
        "kim",
        "--json",
    ];
    let done = saga(&postgres, &retry);
    let outcome = read(&done)["outcome"].clone();
    assert_eq!((done.code, outcome), (Some(0), "done".into()));
    handle.wait().await.unwrap();
    let shown = read(&saga(&postgres, &["show", &id, "--json"]));
    assert_eq!(shown["status"], "completed", "{shown}");
    let deeds = shown["deeds"].as_array().unwrap();
    assert_eq!(deeds.len(), 1, "{shown}");
    assert_eq!(deeds[0]["actor"], "cli:kim");
    assert_eq!(deeds[0]["reason"], "it answers");
    is_seen_as_it_was(&postgres, &id);
    many(&postgres, &engine, &order, &repaired).await;
    tasks.join(Duration::from_secs(5)).await;
}
