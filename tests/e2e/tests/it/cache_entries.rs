//! What lies on the server under a name of `ratebox cache` and is no entry of it, and keys that are
//! none: nobody is told a value that the origin does not have.

use ratebox_testkit::{HttpClient, RedisOptions, RedisServer, TempDir};
use serde_json::json;

use crate::cache_service::{calls, embedded, get, on, post, started};

/// Puts something else in the place of an entry that is there: what the script makes of its bytes,
/// in which the name is another one. So whoever believed it would say so.
const SPOIL: &str = "
    local entry = redis.call('GET', KEYS[1])
    local forged = string.gsub(entry, 'Ada', 'Eve')
    assert(forged ~= entry)
    redis.call('DEL', KEYS[1])
";

/// Garbage, by what it is.
const SPOILED: [(&str, &str); 9] = [
    ("no bytes", "redis.call('SET', KEYS[1], '')"),
    ("a text", "redis.call('SET', KEYS[1], '__nil__')"),
    (
        "the predecessor's entry",
        "redis.call('SET', KEYS[1], '{\"id\":1,\"name\":\"Eve\",\"title\":\"Engineer\"}')",
    ),
    (
        "bytes that are no text",
        "redis.call('SET', KEYS[1], string.rep('\\255\\0\\128', 40))",
    ),
    (
        "an older version of the format",
        "redis.call('SET', KEYS[1], 'RBC\\0' .. string.sub(forged, 5))",
    ),
    (
        "a newer version of the format",
        "redis.call('SET', KEYS[1], 'RBC\\2' .. string.sub(forged, 5))",
    ),
    (
        "an entry that was cut",
        "redis.call('SET', KEYS[1], string.sub(forged, 1, 54))",
    ),
    ("a list", "redis.call('RPUSH', KEYS[1], forged)"),
    ("a hash", "redis.call('HSET', KEYS[1], 'name', 'Eve')"),
];

/// The key of user 1's entry.
fn entry_key(server: &RedisServer) -> String {
    let found = server.command(&["KEYS", "*e:{.v1.users:1}"]).unwrap();
    let [key] = &found.as_array().unwrap()[..] else {
        panic!("{found}");
    };
    key.as_str().unwrap().to_owned()
}

async fn says_ada(client: &HttpClient, path: &str, what: &str) {
    let (status, told) = get(client, path).await;
    let user = told.get("1").unwrap_or(&told);
    assert_eq!(
        (status, &user["name"]),
        (200, &json!("Ada")),
        "{what}: {path}"
    );
}

#[tokio::test]
async fn vk_03_what_lies_on_the_server_and_is_no_entry_is_asked_of_the_origin_and_replaced() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    // Nothing in memory, so that every read sees what lies there.
    let options = on(server.port()).env("RATEBOX_CACHE__MEMORY_MAX_BYTES", "0");
    let service = started(options).await;
    let client = service.client();
    says_ada(&client, "/users/1", "at first").await;
    let key = entry_key(&server);
    let paths = [
        "/users/1?strategy=cache-aside",
        "/users/1?strategy=singleflight",
        "/users/1?strategy=swr",
        "/users/1?strategy=negative",
        "/bulk/users?ids=1,2",
    ];
    for (what, spoil) in SPOILED {
        for path in paths {
            let script = format!("{SPOIL}{spoil}");
            server.command(&["EVAL", &script, "1", &key]).unwrap();
            let asked = calls(&client).await;
            says_ada(&client, path, what).await;
            assert_eq!(calls(&client).await, asked + 1, "{what}: {path}");
            says_ada(&client, path, what).await;
            assert_eq!(calls(&client).await, asked + 1, "{what} is not replaced");
        }
    }
}

#[tokio::test]
async fn a_key_of_10_kb_is_refused_by_every_route_and_one_that_may_be_so_long_is_not() {
    let folder = TempDir::new().unwrap();
    let declared = folder.join("resources.toml");
    let texts = r#"
        [notes]
        key = "text"
        fields = ["id", "text"]
        get = "SELECT CAST($1 AS text), 'of ' || CAST($1 AS text)"
        put = "SELECT CAST($1 AS text), CAST($2 AS text)"
        writable = ["text"]

        [numbers]
        fields = ["id"]
        get = "SELECT CAST($1 AS bigint)"
    "#;
    std::fs::write(&declared, texts).unwrap();
    let service = started(embedded().env("RATEBOX_CACHE__RESOURCES_FILE", &declared)).await;
    let client = service.client();
    let long = "k".repeat(10_000);
    let escaped = "%C3%A4".repeat(101);
    for key in [&*long, &"k".repeat(201), &escaped] {
        for path in [format!("/notes/{key}"), format!("/bulk/notes?ids=a,{key}")] {
            let (status, problem) = get(&client, &path).await;
            let known = (status, &problem["code"]);
            assert_eq!(known, (422, &json!("value.out_of_range")), "{problem}");
        }
        for path in [format!("/notes/{key}"), format!("/invalidate/notes/{key}")] {
            let (status, problem) = post(&client, &path, &json!({"text": "x"})).await;
            assert_eq!(status, 422, "{problem}");
        }
    }
    let digits = format!("/numbers/{}", "7".repeat(10_000));
    assert_eq!(get(&client, &digits).await.0, 422);
    // 200 bytes may be.
    for (sent, key) in [("k".repeat(200), "k"), ("%C3%A4".repeat(100), "ä")] {
        let key = key.repeat(200 / key.len());
        let note = json!({"id": key, "text": format!("of {key}")});
        assert_eq!(get(&client, &format!("/notes/{sent}")).await, (200, note));
    }
}
