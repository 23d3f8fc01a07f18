//! Bad input ends in a clear error, and nothing else suffers.

use ratebox_testkit::{HttpClient, Ratebox};
use serde_json::{Value, json};

use crate::place::{Place, ready, request};

const PATH: &str = "/api/validation/validate";

async fn post(http: &HttpClient, body: &[u8]) -> (u16, Value) {
    let headers = [("content-type", "application/json"), ("prefer", "wait=10")];
    let answer = http.request("POST", PATH, &headers, body).await.unwrap();
    let json = answer.json().unwrap_or_else(|error| panic!("{error:#}"));
    if answer.status >= 400 {
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        assert!(
            kind.starts_with("application/problem+json"),
            "{kind}: {json}"
        );
        assert!(
            json["code"].is_string() && json["status"] == answer.status,
            "{json}"
        );
    }
    (answer.status, json)
}

#[tokio::test]
async fn each_kind_of_bad_input_has_its_own_clear_error() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let http = ratebox.admin().unwrap();
    let deep = format!(
        "{{\"items\":[{}1{}]}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = serde_json::to_vec(&request(1001)).unwrap();
    let cases: [(&str, &[u8], &[u16]); 11] = [
        ("malformed", b"{\"items\":[", &[400]),
        ("no body", b"", &[400]),
        ("no items", b"{\"items\":[]}", &[400, 422]),
        ("too many items", &many, &[413, 422]),
        ("depth bomb", deep.as_bytes(), &[400, 422]),
        ("NUL", b"{\"phone\":\"09\\u000012345678\"}", &[422]),
        ("lone surrogate", b"{\"phone\":\"\\ud800\"}", &[400, 422]),
        ("huge number", b"{\"phone\":1e999999}", &[400, 422]),
        ("invalid UTF-8", b"{\"phone\":\"\xff\xfe\"}", &[400, 422]),
        ("items twice", b"{\"items\":[{}],\"items\":[{}]}", &[422]),
        (
            "a phone twice",
            b"{\"items\":[{\"phone\":\"1\",\"phone\":\"2\"}]}",
            &[422],
        ),
    ];
    for (what, body, statuses) in cases {
        let (status, problem) = post(&http, body).await;
        assert!(statuses.contains(&status), "{what}: {status} {problem}");
    }
    let large = vec![b' '; 3 * 1024 * 1024];
    let answer = http
        .request(
            "POST",
            PATH,
            &[("content-type", "application/json")],
            &large,
        )
        .await;
    // The server may close before it has read all of it; an answer that came is a 413.
    assert!(answer.is_err() || answer.unwrap().status == 413);
    let (status, _) = post(&http, &serde_json::to_vec(&request(1)).unwrap()).await;
    assert_eq!(status, 200, "good input after bad input");
}

#[tokio::test]
async fn a_request_beyond_a_lowered_limit_is_refused_and_not_taken_to_die() {
    let start = Ratebox::up(|it| it.arg("--no-sample").env("RATEBOX_GATEWAY__ITEMS_MAX", "2"));
    let ratebox = ready(start.unwrap()).await;
    let http = ratebox.admin().unwrap();
    let (status, problem) = post(&http, &serde_json::to_vec(&request(3)).unwrap()).await;
    assert_eq!((status, &problem["code"]), (413, &json!("items.too_many")));
    let (status, _) = post(&http, &serde_json::to_vec(&request(2)).unwrap()).await;
    assert_eq!(status, 200);
    // An import is cut into requests by the format's own limit, which workers take whatever is set here.
    let bulk = json!({ "datasets": [request(3)] });
    let taken = http.post_json("/api/importer/bulk", &bulk).await.unwrap();
    assert_eq!(taken.status, 202, "{}", taken.text());
    let id = taken.json().unwrap()["datasets"][0]["request_id"].clone();
    let path = format!("/api/validation/status/{}?wait=10", id.as_str().unwrap());
    let status = http.get(&path).await.unwrap().json().unwrap();
    assert_eq!(
        status["results"].as_array().map(Vec::len),
        Some(3),
        "{status}"
    );
}

#[tokio::test]
async fn wrong_types_inside_an_item_are_the_verdict_s_business() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    let http = ratebox.admin().unwrap();
    let items = json!({ "items": [
        { "phone": 987_654_321, "bank_account": ["12345678"], "email": {}, "name": true },
        "no object at all",
        { "phone": "0912345678", "bank_account": "12345678901" },
    ] });
    let (status, answer) = post(&http, &serde_json::to_vec(&items).unwrap()).await;
    assert_eq!(status, 200, "{answer}");
    let codes = |n: usize| -> Vec<u64> {
        let errors = answer["results"][n]["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|error| error["code"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(codes(0), [110, 210, 310, 410]);
    assert_eq!(codes(1), [500]);
    assert_eq!(codes(2), Vec::<u64>::new());
}

async fn refuses_filters_with_nul(http: &HttpClient) {
    for query in [
        "dlq?code=%00",
        "dlq?owner=a%00",
        "imports?owner=%00",
        "sagas?key=%00",
        "sagas?definition=%00",
    ] {
        let answer = http.get(&format!("/api/monitoring/{query}")).await;
        let answer = answer.unwrap();
        let code = answer.json().unwrap()["code"].clone();
        assert_eq!(
            (answer.status, code),
            (400, json!("query.malformed")),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_filter_that_no_text_can_match_is_refused_on_both_stores() {
    let embedded = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    refuses_filters_with_nul(&embedded.admin().unwrap()).await;
    let place = Place::new();
    let on_servers = place.up().await;
    refuses_filters_with_nul(&on_servers.admin().unwrap()).await;
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let ratebox = ready(Ratebox::up(|it| it.arg("--no-sample")).unwrap()).await;
    for token in ["", "rb_live_0000000000000000_00", "x"] {
        let http = ratebox.client().with_token(token);
        let answer = http.post_json(PATH, &request(1)).await.unwrap();
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(answer.header("www-authenticate").is_some());
    }
}

#[tokio::test]
async fn no_secret_and_no_personal_value_reaches_the_log() {
    let mut ratebox =
        ready(Ratebox::up(|it| it.arg("--no-sample").env("RATEBOX_LOG__LEVEL", "trace")).unwrap())
            .await;
    let http = ratebox.admin().unwrap();
    let item = json!({ "phone": "0987000111", "email": "canary@canary.example", "name": "Canary Person",
        "bank_account": "99887766554433" });
    let body = serde_json::to_vec(&item).unwrap();
    let (status, _) = post(&http, &body).await;
    assert_eq!(status, 200);
    let (_, _) = post(&http, b"{\"phone\":\"0987000111\\u0000\"}").await;
    let token = ratebox.admin_token().unwrap();
    let secret = token.rsplit('_').next().unwrap().to_owned();
    ratebox.terminate().await.unwrap();
    // The greeting prints the token on purpose; the log comes before and after it.
    let said = ratebox.logs();
    let log: String = said
        .lines()
        .filter(|line| !line.contains("token    ") && !line.contains("Bearer "))
        .collect();
    for canary in [
        "0987000111",
        "canary@canary",
        "Canary Person",
        "99887766554433",
        &secret,
    ] {
        assert!(!log.contains(canary), "{canary} is in the log");
    }
}
