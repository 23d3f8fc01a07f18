//! A load of requests whose every 202 is written down, and the check that none was lost or judged
//! twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_kit::Tasks;
use ratebox_testkit::{HttpClient, wait_for};

use crate::place::{Place, request};

/// Clients that post until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<Vec<(String, usize)>>>,
    clients: Tasks,
}

/// Requests in flight at once.
const CLIENTS: usize = 8;
/// Longest time from the end of a fault to the last verdict.
const PATIENCE: Duration = Duration::from_secs(60);

impl Load {
    /// Starts posting to `base_url`. Errors and refusals are tried again: only a 202 counts.
    pub(crate) fn start(base_url: &str, token: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::<Mutex<Vec<(String, usize)>>>::default();
        let clients = Tasks::new();
        for client in 0..CLIENTS {
            let (stop, accepted) = (stop.clone(), accepted.clone());
            let http = HttpClient::new(base_url)
                .with_token(token)
                .with_deadline(Duration::from_secs(5));
            clients.spawn("client", post(http, client, stop, accepted));
        }
        Self {
            stop,
            accepted,
            clients,
        }
    }

    /// Waits until at least `more` further requests were accepted.
    pub(crate) async fn accepted(&self, more: usize) {
        let goal = self.accepted.lock().unwrap().len() + more;
        wait_for(PATIENCE, "requests to be accepted", || async {
            (self.accepted.lock().unwrap().len() >= goal).then_some(())
        })
        .await;
    }

    /// Ends the load and checks every accepted request: a terminal state, its items once.
    pub(crate) async fn check(self, place: &Place, base_url: &str, token: &str) {
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.clients.join(PATIENCE).await.is_empty(), "clients hang");
        assert!(self.clients.failed().is_empty(), "clients panicked");
        let accepted = std::mem::take(&mut *self.accepted.lock().unwrap());
        let http = HttpClient::new(base_url).with_token(token);
        for (id, items) in &accepted {
            let path = format!("/api/validation/status/{id}?wait=5");
            let status = wait_for(PATIENCE, "a verdict on every accepted request", || async {
                let answer = http.get(&path).await.ok()?.json().ok()?;
                let done = matches!(answer["status"].as_str(), Some("success" | "partial"));
                done.then_some(answer)
            })
            .await;
            assert_eq!(status["results"].as_array().unwrap().len(), *items, "{id}");
        }
        check_rows(place, &accepted).await;
    }
}

/// Each accepted item is there once. A request whose 202 never reached us may be there too, once.
async fn check_rows(place: &Place, accepted: &[(String, usize)]) {
    wait_for(PATIENCE, "the outbox to be empty", || async {
        (place.count("count(*) FROM outbox") == 0).then_some(())
    })
    .await;
    wait_for(PATIENCE, "every request to be finished", || async {
        let open = place.count("count(*) FROM validation_requests WHERE body IS NOT NULL");
        (open == 0).then_some(())
    })
    .await;
    let mut rows = 0;
    // The list of ids travels on a command line, which has an end.
    for part in accepted.chunks(500) {
        let ids: Vec<String> = part.iter().map(|(id, _)| format!("'{id}'")).collect();
        let known = ids.join(",");
        rows += place.count(&format!(
            "count(*) FROM raw_items WHERE request_id IN ({known})"
        ));
    }
    let items: usize = accepted.iter().map(|(_, items)| items).sum();
    assert_eq!(rows, i64::try_from(items).unwrap(), "items lost or doubled");
    // The consumers count in the transaction of the verdict: a second effect would show here. Both are
    // counted at one moment: a request whose 202 never reached us may get its verdict just now.
    let beyond = place.count(
        "sum(messages_processed) - (SELECT count(*) FROM validation_requests)
            FROM stream_consumer_stats",
    );
    let dead = place.count("count(*) FROM dead_letters");
    assert_eq!(beyond, 0, "requests had no effect, or two");
    assert_eq!(dead, 0, "a fault made dead letters");
}

async fn post(
    http: HttpClient,
    client: usize,
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<Vec<(String, usize)>>>,
) {
    let items = 1 + client % 4;
    let body = request(items);
    while !stop.load(Ordering::SeqCst) {
        let answer = http.post_json("/api/validation/validate", &body).await;
        match answer {
            Ok(answer) if answer.status == 202 => {
                let id = answer.json().unwrap()["request_id"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                accepted.lock().unwrap().push((id, items));
            }
            // Refused or cut: nothing was promised. A short rest keeps the log readable.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
