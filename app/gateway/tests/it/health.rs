//! Health: what people, restarts and balancers are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_gateway::{Condition, Health, Weight};
use ratebox_testkit::wait_until;
use serde_json::json;

use crate::door::Door;

const SOON: Duration = Duration::from_secs(10);

impl Door {
    pub(crate) async fn health(&self, path: &str) -> u16 {
        self.anybody().get(path).await.unwrap().status
    }

    pub(crate) async fn ready(&self) {
        wait_until(SOON, "the gateway is ready", || async {
            self.health("/api/health/ready").await == 200
        })
        .await;
    }
}

/// A check that is up while the switch is on.
fn switched(
    on: &Arc<AtomicBool>,
) -> impl Fn() -> std::future::Ready<Condition> + Send + Sync + 'static {
    let on = Arc::clone(on);
    move || {
        let is_on = on.load(Ordering::SeqCst);
        std::future::ready(if is_on {
            Condition::Up
        } else {
            Condition::Down("no answer")
        })
    }
}

#[tokio::test]
async fn a_needed_component_decides_and_an_optional_one_does_not() {
    let (store, relay) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(true)),
    );
    let health = Health::new()
        .check("store", Weight::Needed, switched(&store))
        .check("relay", Weight::Optional, switched(&relay))
        .check("bus", Weight::Needed, || async {
            Condition::Warn("evicts volatile keys")
        });
    let door = Door::with(|plan| plan.health = health).await;
    door.ready().await;
    let report = door
        .anybody()
        .get("/api/health")
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(report["status"], "degraded");
    assert_eq!(
        report["accept"],
        json!({"mode": "durable", "loss_window_seconds": 0.0})
    );
    assert_eq!(report["components"][2]["detail"], "evicts volatile keys");

    relay.store(false, Ordering::SeqCst);
    wait_until(SOON, "the relay is seen to be down", || async {
        let report = door
            .anybody()
            .get("/api/health")
            .await
            .unwrap()
            .json()
            .unwrap();
        report["components"][1]["status"] == "down"
    })
    .await;
    assert_eq!(door.health("/api/health/ready").await, 200);

    store.store(false, Ordering::SeqCst);
    wait_until(SOON, "the gateway is not ready", || async {
        door.health("/api/health/ready").await == 503
    })
    .await;
    assert_eq!(door.health("/api/health").await, 503);
    assert_eq!(door.health("/api/health/live").await, 200);
    store.store(true, Ordering::SeqCst);
    door.ready().await;
}

#[tokio::test]
async fn a_task_that_panicked_turns_health_red() {
    let door = Door::open().await;
    door.ready().await;
    door.tasks.spawn("doomed", async { panic!("on purpose") });
    wait_until(SOON, "the panic is seen", || async {
        door.health("/api/health/live").await == 503
    })
    .await;
    let answer = door.anybody().get("/api/health").await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json().unwrap()["tasks_failed"], json!(["doomed"]));
    assert_eq!(door.health("/api/health/ready").await, 503);
}

#[tokio::test]
async fn a_check_that_hangs_is_down() {
    let health = Health::new().check("bus", Weight::Needed, std::future::pending);
    let door = Door::with(|plan| plan.health = health).await;
    wait_until(SOON, "the check is given up", || async {
        let report = door
            .anybody()
            .get("/api/health")
            .await
            .unwrap()
            .json()
            .unwrap();
        report["components"][0]["status"] == "down"
    })
    .await;
}

#[tokio::test]
async fn health_is_open_to_anybody_and_takes_head_requests() {
    let door = Door::open().await;
    door.ready().await;
    let answer = door
        .anybody()
        .request("HEAD", "/api/health", &[], b"")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}
