//! Requests a minute.

use ratebox_cache::{Limiter, WhenAway};
use ratebox_kit::{Clock, Quota};
use ratebox_testkit::{RedisOptions, RedisServer};
use ratebox_valkey::{Settings as ValkeySettings, Valkey};

use crate::door::{
    BATCH, BULK, Door, IMPORT, IMPORT_CANCEL, IMPORT_STATUS, ITEM, STATUS, VALIDATE, code_of, post,
};

#[tokio::test]
async fn a_user_has_its_limit_over_all_its_tokens() {
    let door = Door::with(|plan| plan.settings.limits.validate = Quota::per_minute(3)).await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        tokens.push(door.make_token("ann", &["create"], |_| {}).await);
    }
    let clients: Vec<_> = tokens
        .iter()
        .map(|it| door.anybody().with_token(it))
        .collect();
    let mut left = Vec::new();
    for number in 0..3 {
        let answer = post(&clients[number % 2], VALIDATE, ITEM.as_bytes()).await;
        assert_eq!(answer.status, 202);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"validate\";q=3;w=60")
        );
        left.push(
            answer
                .header("ratelimit")
                .unwrap()
                .split(';')
                .nth(1)
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(left, ["r=2", "r=1", "r=0"]);
    let answer = post(&clients[0], VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (429, "limit.exceeded")
    );
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait));
    assert!(answer.header("ratelimit").unwrap().contains("r=0"));

    let bob = door.make_token("bob", &["create"], |_| {}).await;
    let answer = post(&door.anybody().with_token(&bob), VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn importers_have_their_limit_by_token() {
    let door = Door::with(|plan| plan.settings.limits.import = Quota::per_minute(1)).await;
    for _ in 0..2 {
        let token = door.make_token("ann", &["create"], |_| {}).await;
        let client = door.anybody().with_token(&token);
        assert_eq!(post(&client, IMPORT, ITEM.as_bytes()).await.status, 202);
        assert_eq!(post(&client, IMPORT, ITEM.as_bytes()).await.status, 429);
        assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    }
}

#[tokio::test]
async fn a_tokens_own_limit_stands_above_the_routes() {
    let door = Door::with(|plan| plan.settings.limits.validate = Quota::per_minute(1)).await;
    let change = |new: &mut ratebox_store::NewToken| new.limit_per_minute = Some(5);
    let token = door.make_token("ann", &["create"], change).await;
    let client = door.anybody().with_token(&token);
    for _ in 0..5 {
        assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    }
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"validate\";q=5;w=60")
    );
}

#[tokio::test]
async fn the_limits_are_those_of_the_contract() {
    let door = Door::open().await;
    let token = door.make_token("ann", &["admin"], |_| {}).await;
    let client = door.anybody().with_token(&token);
    let id = ratebox_kit::id::new();
    let classes = [
        ("POST", VALIDATE.to_owned(), "\"validate\";q=100;w=60"),
        ("GET", format!("{STATUS}{id}"), "\"status\";q=300;w=60"),
        ("POST", BATCH.to_owned(), "\"batch\";q=10;w=60"),
        ("POST", IMPORT.to_owned(), "\"import\";q=50;w=60"),
        ("POST", BULK.to_owned(), "\"bulk\";q=10;w=60"),
        (
            "GET",
            format!("{IMPORT_STATUS}{id}"),
            "\"import_status\";q=200;w=60",
        ),
        (
            "POST",
            format!("{IMPORT_CANCEL}{id}"),
            "\"import_cancel\";q=50;w=60",
        ),
    ];
    for (method, path, policy) in classes {
        let answer = client.request(method, &path, &[], b"").await.unwrap();
        assert_eq!(answer.header("ratelimit-policy"), Some(policy), "{path}");
    }
}

#[tokio::test]
async fn gateways_that_share_a_limiter_count_together_and_alone_while_its_server_is_away() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let open = async || {
        let valkey = Valkey::lazy(&ValkeySettings::new(server.url())).unwrap();
        let (quota, clock) = (Quota::per_minute(1), Clock::system());
        let limiter = Limiter::shared(valkey, "limit:", quota, WhenAway::Local, clock);
        Door::with(|plan| {
            plan.limiter = Some(limiter);
            plan.settings.limits.lookup = Quota::per_minute(4);
        })
        .await
    };
    let doors = [open().await, open().await];
    let mut clients = Vec::new();
    for door in &doors {
        let token = door.make_token("ann", &["find"], |_| {}).await;
        clients.push(door.anybody().with_token(&token));
    }
    let ask = async |at: usize| {
        clients[at]
            .get("/api/lookup/phone/0912345678")
            .await
            .unwrap()
    };
    for (at, left) in [(0, 3), (1, 2), (0, 1), (1, 0)] {
        let answer = ask(at).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let left = format!("r={left}");
        assert!(
            answer.header("ratelimit").unwrap().contains(&left),
            "{left}"
        );
    }
    for at in [0, 1] {
        let answer = ask(at).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("15"));
    }
    let keys = format!("{:?}", server.command(&["KEYS", "*"]).unwrap());
    assert!(
        keys.contains("limit:lookup:u:") && !keys.contains("ann"),
        "{keys}"
    );
    server.kill9();
    for _ in 0..4 {
        assert_eq!(ask(0).await.status, 200);
    }
    assert_eq!(ask(0).await.status, 429);
}
