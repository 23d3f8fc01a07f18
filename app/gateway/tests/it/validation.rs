//! Validations: what is taken, kept and looked up.

use ratebox_intake::decode;
use serde_json::{Value, json};

use crate::door::{BATCH, Door, ITEM, STATUS, VALIDATE, code_of, id_of, post, post_with};
use crate::judge::Tell;

#[tokio::test]
async fn a_taken_request_is_kept_published_and_found() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let body = json!({"items": [{"phone": "1"}, {"phone": "2"}], "priority": "high",
        "profile": "strict", "external_ref": "order-42", "source": "shop"});
    let answer = client.post_json(VALIDATE, &body).await.unwrap();
    let id = id_of(&answer);
    let location = answer.header("location").unwrap();
    assert_eq!(location, format!("{STATUS}{id}"));
    assert_eq!(
        answer.json().unwrap(),
        json!({"request_id": id, "status": "queued", "item_count": 2})
    );

    let status = client.get(location).await.unwrap().json().unwrap();
    assert_eq!(status["status"], "queued");
    assert_eq!(status["item_count"], 2);
    assert_eq!(status["external_ref"], "order-42");

    door.published("{validation_requests}:high", 1).await;
    let entries = door.bus.entries("{validation_requests}:high").await;
    assert_eq!(entries[0].message_id(), id.as_str());
    let decoded = decode(&entries[0].fields, 10).unwrap();
    let request = decoded.into_own().unwrap();
    assert_eq!(
        (request.owner.as_str(), request.source.as_str()),
        ("ann", "shop")
    );
    assert_eq!(request.profile.map(|it| it.word()), Some("strict"));
    assert_eq!(request.request_id.to_string(), id);
    door.outbox_is_empty().await;
}

#[tokio::test]
async fn a_bare_item_is_taken_and_what_is_not_the_clients_is_ignored() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(answer.json().unwrap()["item_count"], 1);
    let body = json!({"items": [{"phone": "1"}], "request_id": "mine", "id": "mine",
        "owner": "bob", "user_id": "bob", "tenant_id": "bob", "status": "success",
        "verdict": "DONE", "created_at": "1999-01-01T00:00:00Z", "accepted_at": 0});
    let id = id_of(&client.post_json(VALIDATE, &body).await.unwrap());
    assert_ne!(id, "mine");
    let kept = door
        .store
        .status(id.parse().unwrap(), Some("ann"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.state.as_str(), "queued");
    assert!(kept.accepted_at.to_string().as_str() > "2020");
}

#[tokio::test]
async fn a_judged_request_is_answered_in_full() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let body = json!({"items": [{"phone": "123"}, {"phone": "0909123456", "bank_account": "12345678901"}]});
    let id = id_of(&client.post_json(VALIDATE, &body).await.unwrap());
    door.published("validation_requests", 1).await;
    door.judge_all(Tell::StoreAndStream).await;
    let status = client
        .get(&format!("{STATUS}{id}"))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(status["request_id"], id.as_str());
    assert_eq!(status["status"], "partial");
    assert_eq!(status["item_count"], 2);
    assert_eq!(status["results"][0]["error_code"], 101);
    assert_eq!(status["results"][1]["verdict"], "DONE");
}

#[tokio::test]
async fn someone_elses_request_looks_like_an_unknown_one() {
    let door = Door::open().await;
    let (ann, bob) = (door.client("ann").await, door.client("bob").await);
    let id = id_of(&post(&ann, VALIDATE, ITEM.as_bytes()).await);
    let unknown = ratebox_kit::id::new();
    let theirs = bob.get(&format!("{STATUS}{id}")).await.unwrap();
    let nobodys = bob.get(&format!("{STATUS}{unknown}")).await.unwrap();
    assert_eq!((theirs.status, nobodys.status), (404, 404));
    assert_eq!(theirs.body, nobodys.body);
    assert_eq!(code_of(&theirs), "request.unknown");
    let waiting = bob.get(&format!("{STATUS}{id}?wait=5")).await.unwrap();
    assert_eq!((waiting.status, waiting.body), (404, nobodys.body));
    let import = bob
        .get(&format!("/api/importer/status/{id}"))
        .await
        .unwrap();
    assert_eq!(import.status, 404);
}

#[tokio::test]
async fn ids_have_one_form_in_either_case_and_no_other_path_is_reached_through_them() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let id = id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    let simple = id.replace('-', "");
    for bad in [
        simple.as_str(),
        "x",
        "..",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc",
        "%252e%252e",
        "..%2f..%2fopenapi.json",
        "1%00",
        "' OR 1=1 --".replace(' ', "%20").as_str(),
    ] {
        for base in [STATUS, "/api/importer/status/"] {
            let answer = client.get(&format!("{base}{bad}")).await.unwrap();
            assert_eq!(answer.status, 404, "{base}{bad}");
        }
    }
    for id in [&id, &id.to_uppercase()] {
        let answer = client.get(&format!("{STATUS}{id}")).await.unwrap();
        assert_eq!(answer.status, 200, "{id}");
    }
}

#[tokio::test]
async fn a_parameter_that_a_status_does_not_know_is_refused() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let id = id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    for base in [STATUS, "/api/importer/status/"] {
        for (query, status) in [
            ("?wiat=5", 400),
            ("?wait=0&x", 400),
            ("?wait=0&wait=0", 400),
            ("?wait=0&entry=x", 200),
        ] {
            let answer = client.get(&format!("{base}{id}{query}")).await.unwrap();
            assert_eq!(answer.status, status, "{base}{query}");
        }
    }
}

#[tokio::test]
async fn a_batch_is_taken_whole() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let body = json!({"batches": [
        {"id": "north", "items": [{"phone": "1"}]},
        {"items": [{"phone": "2"}, {"phone": "3"}], "priority": "low"},
    ], "defaults": {"external_ref": "e"}});
    let answer = client.post_json(BATCH, &body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let taken = answer.json().unwrap();
    assert_eq!(taken["item_count"], 3);
    let ids: Vec<&Value> = taken["batches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, ["north", "batch_1"]);
    for batch in taken["batches"].as_array().unwrap() {
        let id = batch["request_id"].as_str().unwrap();
        let status = client
            .get(&format!("{STATUS}{id}"))
            .await
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(status["batch_id"], batch["id"]);
        assert_eq!(status["item_count"], batch["item_count"]);
        assert_eq!(status["external_ref"], "e");
    }
    door.published("{validation_requests}:low", 1).await;
}

#[tokio::test]
async fn one_bad_batch_leaves_nothing_behind() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let body = json!({"batches": [{"items": [{"phone": "1"}]}, {"items": []}]});
    let answer = client.post_json(BATCH, &body).await.unwrap();
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (400, "items.empty")
    );
    assert_eq!(door.requests().await, 0);
}

#[tokio::test]
async fn webhooks_are_refused_until_there_are_any() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    for body in [
        json!({"items": [{}], "webhook_url": "https://example.com"}),
        json!({"items": [{}], "webhookUrl": "http://169.254.169.254/"}),
    ] {
        let answer = client.post_json(VALIDATE, &body).await.unwrap();
        assert_eq!(
            (answer.status, code_of(&answer).as_str()),
            (422, "webhook.unavailable")
        );
    }
    let part = json!({"batches": [{"items": [{}], "webhook_url": "https://example.com"}]});
    assert_eq!(client.post_json(BATCH, &part).await.unwrap().status, 422);
    let empty = json!({"items": [{}], "webhook_url": ""});
    assert_eq!(
        client.post_json(VALIDATE, &empty).await.unwrap().status,
        202
    );
    assert_eq!(door.requests().await, 1);
}

#[tokio::test]
async fn request_ids_and_trace_contexts_are_passed_on() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-request-id", "mine-1"), ("traceparent", trace)];
    let answer = post_with(&client, VALIDATE, &headers, ITEM.as_bytes()).await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    door.published("validation_requests", 1).await;
    let entries = door.bus.entries("validation_requests").await;
    assert_eq!(entries[0].field("traceparent").unwrap(), trace.as_bytes());

    for path in ["/nowhere", "/openapi.json", VALIDATE] {
        let answer = door.anybody().get(path).await.unwrap();
        assert_eq!(
            answer.header("x-request-id").map(str::len),
            Some(36),
            "{path}"
        );
    }
    let evil = [("x-request-id", "a {\"level\":\"x\"}")];
    let answer = post_with(&client, VALIDATE, &evil, ITEM.as_bytes()).await;
    assert_eq!(answer.header("x-request-id").map(str::len), Some(36));
}

#[tokio::test]
async fn the_tokens_profile_is_the_default() {
    let door = Door::open().await;
    let token = door
        .make_token("ann", &["create"], |new| {
            new.profile = Some("standard".to_owned())
        })
        .await;
    let client = door.anybody().with_token(&token);
    post(&client, VALIDATE, ITEM.as_bytes()).await;
    post(&client, VALIDATE, br#"{"items":[{}],"profile":"classic"}"#).await;
    door.published("validation_requests", 2).await;
    let mut profiles = Vec::new();
    for entry in door.bus.entries("validation_requests").await {
        profiles.push(decode(&entry.fields, 10).unwrap().profile.unwrap().word());
    }
    profiles.sort_unstable();
    assert_eq!(profiles, ["classic", "standard"]);
}

#[tokio::test]
async fn requests_with_a_key_carry_it_and_are_left_to_the_relay() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    post(&client, VALIDATE, br#"{"items":[{}],"key":"k1"}"#).await;
    let waiting = door
        .count("SELECT count(*) FROM outbox WHERE key = 'ann/k1'")
        .await;
    assert_eq!((door.requests().await, waiting), (1, 1));
    assert!(door.bus.entries("validation_requests").await.is_empty());
}
