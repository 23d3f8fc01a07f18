//! The OpenAPI document: what every service has, and the routes of the resources that are declared.

use serde_json::{Map, Value, json};

use crate::bulk::IDS_MAX;
use crate::change::FIELD_MAX_CHARS;
use crate::resource::{KEY_MAX_BYTES, KeyKind, Resource};

/// What does not depend on the resources.
const COMMON: &str = include_str!("openapi.json");

/// OpenAPI 3.1 as JSON. The first resource is what `/invalidate/{key}` means.
pub(crate) fn document(resources: &[Resource]) -> String {
    let mut document: Value = serde_json::from_str(COMMON).expect("a test reads it");
    for resource in resources {
        let name = &resource.name;
        document["components"]["schemas"][name] = schema(resource);
        let paths = &mut document["paths"];
        paths[format!("/{name}/{{key}}")] = one(resource);
        paths[format!("/bulk/{name}")] = many(resource);
        paths[format!("/invalidate/{name}/{{key}}")] = invalidate(resource);
    }
    if let Some(first) = resources.first() {
        document["paths"]["/invalidate/{key}"] = invalidate(first);
    }
    document.to_string()
}

/// A value. What a column holds is known of the key and of what can be written.
fn schema(resource: &Resource) -> Value {
    let declared = &resource.declaration;
    let Some(first) = declared.fields.first() else {
        return json!({"description": "Whatever its origin answers."});
    };
    let column = |field: &String| match field {
        field if field == first => key_schema(declared.key),
        field if declared.writable.contains(field) => json!({"type": ["string", "null"]}),
        _ => json!({}),
    };
    let fields = declared.fields.iter();
    let columns: Map<_, _> = fields.map(|it| (it.clone(), column(it))).collect();
    json!({"type": "object", "required": declared.fields, "properties": columns})
}

fn key_schema(kind: KeyKind) -> Value {
    match kind {
        KeyKind::Integer => json!({"type": "integer", "format": "int64"}),
        KeyKind::Text => json!({"type": "string", "minLength": 1, "maxLength": KEY_MAX_BYTES}),
    }
}

/// The key in a path.
fn key(resource: &Resource) -> Value {
    let schema = key_schema(resource.declaration.key);
    json!({"name": "key", "in": "path", "required": true, "schema": schema})
}

fn one(resource: &Resource) -> Value {
    let value = reference(resource);
    let mut path = json!({"get": {
        "summary": format!("One of {}", resource.name),
        "parameters": [key(resource), shared("strategy"), shared("ttl"), shared("stale_grace")],
        "security": token("validation:read"),
        "responses": responses(&value, &["400", "404", "422"]),
    }});
    let declared = &resource.declaration;
    if !declared.put.is_empty() {
        let answer = json!({
            "type": "object",
            "required": ["ok", "mode", declared.item],
            "properties": {"ok": {"const": true}, "mode": mode(), declared.item.as_str(): value},
        });
        let mut written = responses(&answer, &["400", "413", "415", "422"]);
        written["200"]["headers"]["RateBox-Untold"] = header("RateBox-Untold");
        path["post"] = json!({
            "summary": format!("Writes one of {}", resource.name),
            "parameters": [key(resource)],
            "requestBody": json_of(&body(resource)),
            "security": token("validation:write"),
            "responses": written,
        });
    }
    path
}

/// What a write gives; fields that are left out stay as they are.
fn body(resource: &Resource) -> Value {
    let field = json!({"type": ["string", "null"], "minLength": 1, "maxLength": FIELD_MAX_CHARS});
    let fields = resource.declaration.writable.iter();
    let mut given: Map<_, _> = fields.map(|it| (it.clone(), field.clone())).collect();
    given.insert("mode".to_owned(), mode());
    json!({"type": "object", "additionalProperties": false, "properties": given})
}

fn mode() -> Value {
    json!({"type": "string", "enum": ["write-through", "write-behind"], "default": "write-through"})
}

fn many(resource: &Resource) -> Value {
    let ids = json!({
        "name": "ids", "in": "query", "required": true, "schema": {"type": "string"},
        "description": format!("1 to {IDS_MAX} keys with commas between."),
    });
    let found = json!({"type": "object", "additionalProperties": reference(resource)});
    json!({"get": {
        "summary": format!("Many of {}; those that there are not are left out", resource.name),
        "parameters": [ids, shared("ttl")],
        "security": token("validation:read"),
        "responses": responses(&found, &["400", "422"]),
    }})
}

fn invalidate(resource: &Resource) -> Value {
    let done = json!({"type": "object", "required": ["ok"], "properties": {"ok": {"const": true}}});
    let name = &resource.name;
    json!({"post": {
        "summary": format!("Forgets one of {name} and everything that depends on it"),
        "parameters": [key(resource)],
        "security": token("validation:write"),
        "responses": responses(&done, &["400", "422"]),
    }})
}

/// The answers of a route that the limiter counts. One of another status is a problem, too.
fn responses(done: &Value, refused: &[&str]) -> Value {
    let mut responses = Map::new();
    let mut ok = json_of(done);
    ok["description"] = json!("Done");
    let headers = ["X-Request-Id", "RateLimit", "RateLimit-Policy"];
    let headers: Map<_, _> = headers
        .map(|it| (it.to_owned(), header(it)))
        .into_iter()
        .collect();
    ok["headers"] = Value::Object(headers);
    responses.insert("200".to_owned(), ok);
    let answers = [
        ("401", "Unauthorized"),
        ("403", "Forbidden"),
        ("405", "MethodNotAllowed"),
        ("429", "Limited"),
        ("503", "Unavailable"),
        ("default", "Problem"),
    ];
    let refused = refused.iter().map(|it| (*it, "Problem"));
    for (status, kind) in refused.chain(answers) {
        let answer = json!({"$ref": format!("#/components/responses/{kind}")});
        responses.insert(status.to_owned(), answer);
    }
    Value::Object(responses)
}

fn json_of(schema: &Value) -> Value {
    json!({"content": {"application/json": {"schema": schema}}})
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn reference(resource: &Resource) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", resource.name)})
}

fn shared(parameter: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{parameter}")})
}

fn token(scope: &str) -> Value {
    json!([{"token": [scope]}])
}
