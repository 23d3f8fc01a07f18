//! Look-ups against the description.

use std::time::Duration;

use ratebox_kit::Quota;
use ratebox_testkit::{Answer, HttpClient};
use serde_json::Value;

use super::{Seen, slow};
use crate::door::{Door, post};

/// Everything that can be answered on a value.
pub(super) async fn answers(seen: &mut Seen, document: &Value) {
    let (one, many) = ("/api/lookup/{kind}/{value}", "/api/lookup");
    let door = Door::with(|plan| {
        plan.settings.limits.lookup = Quota::per_minute(1);
        plan.settings.body.timeout = Duration::from_millis(100);
    })
    .await;
    crate::lookups::record(&door, "ann", "0912345678", true).await;
    let client = door.client("ann").await;
    let writer = door.with_scopes(&["create"]).await;
    let get = async |client: &HttpClient, tail: &str| {
        let path = format!("{many}{tail}");
        client.get(&path).await.unwrap()
    };
    let phone = "/phone/0912345678";
    let mut gets = vec![
        get(&client, phone).await,
        get(&client, "/phone/0912345679").await,
        get(&client, "/name/An").await,
        get(&door.anybody(), phone).await,
        get(&writer, phone).await,
        get(&client, "/phone/x").await,
    ];
    let token = door.token("ann", &["find"]).await;
    let body =
        br#"{"values":[{"kind":"phone","value":"0912345678"},{"kind":"email","value":"x"}]}"#;
    let mut posts = vec![
        post(&client, many, body).await,
        post(&client, many, b"{").await,
        post(&door.anybody(), many, body).await,
        post(&writer, many, body).await,
        slow(&door, &token, many).await,
        post(&client, many, &vec![b' '; 3 << 20]).await,
        client
            .request("POST", many, &[("content-type", "text/plain")], b"x")
            .await
            .unwrap(),
        post(&client, many, br#"{"values":[7]}"#).await,
    ];
    let limited = door.make_token("bob", &["find"], |_| {}).await;
    let limited = door.anybody().with_token(&limited);
    get(&limited, phone).await;
    gets.push(get(&limited, phone).await);
    posts.push(post(&limited, many, body).await);
    door.execute("ALTER TABLE api_tokens RENAME TO gone").await;
    let stranger = door.anybody().with_token("rb_test_0123456789abcdef_00");
    gets.push(get(&stranger, phone).await);
    posts.push(post(&stranger, many, body).await);
    let statuses = |answers: &[Answer]| answers.iter().map(|it| it.status).collect::<Vec<_>>();
    assert_eq!(statuses(&gets), [200, 200, 400, 401, 403, 422, 429, 503]);
    let expected = [200, 400, 401, 403, 408, 413, 415, 422, 429, 503];
    assert_eq!(statuses(&posts), expected);
    gets.iter()
        .for_each(|answer| seen.see(document, "get", one, answer));
    posts
        .iter()
        .for_each(|answer| seen.see(document, "post", many, answer));
}
