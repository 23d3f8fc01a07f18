//! The OpenAPI document of `ratebox cache`: every route of the declared resources, and nothing else.

use ratebox_db::{Db, SqliteSettings};
use ratebox_testkit::{Answer, HttpClient, JsonServer, TempDir};
use serde_json::{Value, json};

use crate::cache_service::{embedded, started};

const RESOURCES: &str = r#"
[people]
item = "person"
fields = ["id", "name", "nick", "age"]
get = "SELECT id, name, nick, age FROM people WHERE id = $1"
writable = ["name", "nick"]
put = """
INSERT INTO people (id, name, nick) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET
    name = coalesce(excluded.name, people.name), nick = coalesce(excluded.nick, people.nick)
RETURNING id, name, nick, age"""

[nicks]
key = "text"
fields = ["nick", "id"]
get = "SELECT nick, id FROM people WHERE nick = $1"

[things]
key = "text"
http = "ORIGIN/{key}"
"#;

async fn call(client: &HttpClient, method: &str, path: &str) -> Answer {
    match method {
        "get" => client.get(path).await.unwrap(),
        _ => client.post_json(path, &json!({})).await.unwrap(),
    }
}

/// Whether a value has everything that the schema names, and a write's answer the value.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).unwrap();
        return fits(document, schema, value);
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let is = |ty: &Value| match ty.as_str().unwrap() {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let has = |field: &Value| value.get(field.as_str().unwrap()).is_some();
    let properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let mut known = properties.iter().filter(|it| value.get(it.0).is_some());
    (types.is_empty() || types.iter().any(is))
        && required.iter().all(has)
        && known.all(|(name, schema)| fits(document, schema, &value[name]))
}

/// Whether an answer is the one that the document promises of an operation, with its headers; without an
/// operation, the one of a method that is not taken.
fn is_as_told(document: &Value, operation: &Value, answer: &Answer, path: &str) {
    let refused = &document["components"]["responses"]["MethodNotAllowed"];
    let (status, told) = match operation {
        Value::Null => (405, refused),
        operation => (200, &operation["responses"]["200"]),
    };
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    let known = ["X-Request-Id", "RateLimit", "RateLimit-Policy", "Allow"];
    for name in known {
        let is_told = told["headers"].get(name).is_some();
        assert_eq!(answer.header(name).is_some(), is_told, "{path}: {name}");
    }
    assert_eq!(answer.header("ratebox-untold"), None, "everybody was told");
    let schema = &told["content"]["application/json"]["schema"];
    if schema.is_object() {
        let value: Value = answer.json().unwrap();
        assert!(fits(document, schema, &value), "{path}: {value}");
        let of_405 = "#/components/responses/MethodNotAllowed";
        assert_eq!(operation["responses"]["405"]["$ref"], of_405, "{path}");
    }
}

#[tokio::test]
async fn the_document_names_the_routes_of_what_is_declared_and_they_answer_as_it_says() {
    let origin = JsonServer::start(&json!({"v": 1})).unwrap();
    let folder = TempDir::new().unwrap();
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let declared = folder.join("resources.toml");
    let address = format!("http://127.0.0.1:{}", origin.port());
    std::fs::write(&declared, RESOURCES.replace("ORIGIN", &address)).unwrap();
    let people = Db::sqlite(&SqliteSettings::new(data.join("origin.db"))).unwrap();
    let table = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, nick TEXT, age INTEGER);
        INSERT INTO people VALUES (1, 'Alan', '1', 41)";
    people.script(table.to_owned()).await.unwrap();
    let options = embedded().data_dir(&data);
    let service = started(options.env("RATEBOX_CACHE__RESOURCES_FILE", &declared)).await;
    let client = service.client();
    let document: Value = client.get("/openapi.json").await.unwrap().json().unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut routes: Vec<&str> = paths.keys().map(String::as_str).collect();
    routes.sort_unstable();
    let of_all = [
        "/calc/heavy",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/recompute",
        "/stats",
    ];
    let mut expected: Vec<String> = of_all.map(str::to_owned).to_vec();
    for name in ["people", "nicks", "things"] {
        expected.push(format!("/bulk/{name}"));
        expected.push(format!("/invalidate/{name}/{{key}}"));
        expected.push(format!("/{name}/{{key}}"));
    }
    expected.push("/invalidate/{key}".to_owned());
    expected.sort_unstable();
    assert_eq!(routes, expected);
    for (path, methods) in paths {
        let is_many = path.starts_with("/bulk/");
        let query = if is_many { "?ids=1" } else { "" };
        let path = path.replace("{key}", "1") + query;
        for method in ["get", "post"] {
            let answer = call(&client, method, &path).await;
            is_as_told(&document, &methods[method], &answer, &path);
        }
    }
    let person = &document["components"]["schemas"]["people"]["properties"];
    assert_eq!(person["id"]["type"], "integer");
    let write = &document["paths"]["/people/{key}"]["post"];
    let headers = &write["responses"]["200"]["headers"];
    assert!(headers["RateBox-Untold"].is_object(), "{headers}");
    let body = &write["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["properties"]["nick"]["maxLength"], 100);
    let security = json!([{"token": ["validation:write"]}]);
    assert_eq!(write["security"], security);
}
