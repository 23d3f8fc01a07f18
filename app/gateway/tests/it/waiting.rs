//! `Prefer: wait` and `?wait=`: answered as soon as there is an answer, whatever the stream does.

use std::time::Duration;

use ratebox_kit::{Message, Stopwatch, id};
use ratebox_stream::{Append, Log as _, StreamName};
use ratebox_testkit::wait_until;
use serde_json::json;
use tokio::join;

use crate::door::{
    BULK, Door, IMPORT, IMPORT_STATUS, ITEM, STATUS, VALIDATE, id_of, post, post_with,
};
use crate::judge::Tell;

const SOON: Duration = Duration::from_secs(10);

impl Door {
    /// Judges as soon as something is on the bus.
    async fn judge_soon(&self, tell: Tell) {
        wait_until(SOON, "a request to judge", || async {
            self.judge_all(tell).await > 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_preferred_wait_is_answered_in_full() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for _ in 0..3 {
        let watch = Stopwatch::start();
        let ask = post_with(&client, VALIDATE, &[("prefer", "wait=10")], ITEM.as_bytes());
        let (answer, ()) = join!(ask, door.judge_soon(Tell::StoreAndStream));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("preference-applied"), Some("wait=10"));
        let body = answer.json().unwrap();
        assert_eq!(
            (body["status"].as_str(), body["item_count"].as_u64()),
            (Some("success"), Some(1))
        );
        assert_eq!(body["results"][0]["verdict"], "DONE");
        assert!(watch.elapsed() < Duration::from_secs(5));
        for (_, stream) in door.lanes.iter() {
            door.bus.forget(stream);
        }
    }
}

#[tokio::test]
async fn a_wait_in_vain_is_a_202() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let watch = Stopwatch::start();
    let answer = post_with(&client, VALIDATE, &[("prefer", "wait=1")], ITEM.as_bytes()).await;
    let id = id_of(&answer);
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
    assert!(watch.elapsed() >= Duration::from_secs(1));
    let status = client.get(&format!("{STATUS}{id}?wait=1")).await.unwrap();
    assert_eq!(status.json().unwrap()["status"], "queued");
}

#[tokio::test]
async fn waits_are_cut_to_the_longest_allowed() {
    let door = Door::with(|plan| plan.settings.answers.wait_max = Duration::from_secs(1)).await;
    let client = door.client("ann").await;
    let answer = post_with(
        &client,
        VALIDATE,
        &[("prefer", "wait=900")],
        ITEM.as_bytes(),
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (202, Some("wait=1"))
    );
}

#[tokio::test]
async fn a_long_poll_ends_with_the_answer() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let id = id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    door.published("validation_requests", 1).await;
    let path = format!("{STATUS}{id}?wait=20");
    let watch = Stopwatch::start();
    let (answer, _) = join!(client.get(&path), door.judge_all(Tell::StoreAndStream));
    assert_eq!(answer.unwrap().json().unwrap()["status"], "success");
    assert!(watch.elapsed() < SOON);
    // And at once when it is there already.
    assert_eq!(
        client.get(&path).await.unwrap().json().unwrap()["status"],
        "success"
    );
}

#[tokio::test]
async fn a_long_poll_for_a_request_of_an_importer_ends_with_its_figures() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for tell in [Tell::StoreAndStream, Tell::StoreOnly] {
        let id = id_of(&post(&client, IMPORT, ITEM.as_bytes()).await);
        door.published("{validation_requests}:low", 1).await;
        let path = format!("{IMPORT_STATUS}{id}?wait=20");
        let watch = Stopwatch::start();
        let (answer, _) = join!(client.get(&path), door.judge_all(tell));
        let answer = answer.unwrap().json().unwrap();
        assert_eq!(
            (&answer["status"], &answer["verdicts"]["DONE"]),
            (&json!("success"), &json!(1))
        );
        // And at once when it has ended.
        assert_eq!(client.get(&path).await.unwrap().status, 200);
        assert!(watch.elapsed() < SOON);
        door.bus.forget(&"{validation_requests}:low".into());
    }
}

#[tokio::test]
async fn a_long_poll_for_an_import_ends_with_the_import() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for is_told in [true, false] {
        let body = json!({"datasets": [{"id": "a", "items": [{"phone": "1"}]}]});
        let taken = client.post_json(BULK, &body).await.unwrap();
        let import = taken.json().unwrap()["import_id"].clone();
        let path = format!("{IMPORT_STATUS}{}?wait=20", import.as_str().unwrap());
        // As its saga does: the store first, then the message.
        let ends = async {
            door.execute("UPDATE imports SET state = 'error' WHERE state = 'queued'")
                .await;
            if is_told {
                let body = json!({"type": "import", "id": import, "owner": "ann"}).to_string();
                let message = Message::new(id::new().to_string(), body);
                let append = Append::new(StreamName::new("importer_responses"), message);
                door.bus.append(&[append]).await.remove(0).unwrap();
            }
        };
        let watch = Stopwatch::start();
        let (answer, ()) = join!(client.get(&path), ends);
        assert_eq!(answer.unwrap().json().unwrap()["status"], "error");
        assert!(watch.elapsed() < SOON);
    }
}

#[tokio::test]
async fn a_long_poll_for_a_request_that_is_cancelled_before_it_has_a_row_ends() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    // Too large to be cut while it is taken.
    let items = vec![json!({"phone": "1"}); 1500];
    let body = json!({"datasets": [{"id": "a", "items": items}]});
    let taken = client.post_json(BULK, &body).await.unwrap();
    let request = taken.json().unwrap()["datasets"][0]["request_id"].clone();
    for base in [IMPORT_STATUS, STATUS] {
        door.execute("UPDATE import_parts SET state = NULL").await;
        let plain = format!("{base}{}", request.as_str().unwrap());
        let waiting = format!("{plain}?wait=20");
        let cancelled = async {
            // By then whoever waits has looked.
            for _ in 0..5 {
                let queued = client.get(&plain).await.unwrap().json().unwrap();
                assert_eq!(queued["status"], "queued");
            }
            door.execute("UPDATE import_parts SET state = 'cancelled'")
                .await;
        };
        let watch = Stopwatch::start();
        let (answer, ()) = join!(client.get(&waiting), cancelled);
        assert_eq!(answer.unwrap().json().unwrap()["status"], "cancelled");
        assert!(watch.elapsed() < SOON, "{base}");
    }
    assert_eq!(door.requests().await, 0);
}

#[tokio::test]
async fn a_wait_for_an_import_is_cut_and_ends_with_how_far_it_is() {
    let door = Door::with(|plan| plan.settings.answers.wait_max = Duration::from_secs(1)).await;
    let client = door.client("ann").await;
    let body = json!({"datasets": [{"id": "a", "items": [{"phone": "1"}]}]});
    let taken = client.post_json(BULK, &body).await.unwrap();
    let import = taken.json().unwrap()["import_id"].clone();
    let path = format!("{IMPORT_STATUS}{}", import.as_str().unwrap());
    let waiting = format!("{path}?wait=900");
    door.published("{validation_requests}:low", 1).await;
    let watch = Stopwatch::start();
    let (answer, _) = join!(client.get(&waiting), door.judge_all(Tell::StoreOnly));
    assert!(watch.elapsed() >= Duration::from_secs(1));
    // Nobody counts here, so it does not end.
    let answer = answer.unwrap().json().unwrap();
    assert_eq!(
        (&answer["status"], &answer["items_done"]),
        (&json!("processing"), &json!(1))
    );
    for query in ["wait=x", "wait=-1", "wait=", "wait=1&wait=2", "until=1"] {
        let answer = client.get(&format!("{path}?{query}")).await.unwrap();
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test]
async fn an_answer_that_the_stream_lost_is_found_in_the_store() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let ask = post_with(&client, VALIDATE, &[("prefer", "wait=20")], ITEM.as_bytes());
    let (answer, ()) = join!(ask, door.judge_soon(Tell::StoreOnly));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn waiting_works_while_the_stream_of_answers_is_away_and_after() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    door.bus.set_silent(true);
    let ask = post_with(&client, VALIDATE, &[("prefer", "wait=20")], ITEM.as_bytes());
    let (answer, ()) = join!(ask, door.judge_soon(Tell::StoreAndStream));
    assert_eq!(answer.status, 200, "{}", answer.text());
    door.bus.set_silent(false);
    door.bus.forget(&"validation_requests".into());
    let ask = post_with(&client, VALIDATE, &[("prefer", "wait=20")], ITEM.as_bytes());
    let (answer, ()) = join!(ask, door.judge_soon(Tell::StoreAndStream));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn whoever_finds_no_place_to_wait_is_answered_at_once() {
    let door = Door::with(|plan| plan.settings.answers.waiters_max = 0).await;
    let client = door.client("ann").await;
    let watch = Stopwatch::start();
    let answer = post_with(&client, VALIDATE, &[("prefer", "wait=20")], ITEM.as_bytes()).await;
    assert_eq!(answer.status, 202);
    assert!(watch.elapsed() < SOON);
}

#[tokio::test]
async fn a_bad_wait_is_said_and_a_bad_preference_is_passed_over() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let id = id::new();
    for query in ["wait=x", "wait=-1", "wait=", "wait=1&wait=2"] {
        let answer = client.get(&format!("{STATUS}{id}?{query}")).await.unwrap();
        assert_eq!(answer.status, 400, "{query}");
    }
    let answer = post_with(
        &client,
        VALIDATE,
        &[("prefer", "wait=soon")],
        ITEM.as_bytes(),
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (202, None)
    );
}
