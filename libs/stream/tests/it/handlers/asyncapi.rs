//! The document of declared handlers, checked against the official schema of AsyncAPI 3.0.0.

mod schema;

use ratebox_stream::asyncapi::Document;
use ratebox_stream::handler::{Batch, Gather, Json, Meta, NoEffects, Router};
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("asyncapi/schema-3.0.0.json");

#[derive(serde::Deserialize)]
struct Order {
    #[expect(dead_code, reason = "it is only declared")]
    number: u32,
}

async fn placed(_meta: Meta, Json(_order): Json<Order>) -> NoEffects {
    NoEffects
}

async fn rows(_batch: Batch<Json<Order>>) -> NoEffects {
    NoEffects
}

async fn raw(_body: bytes::Bytes) -> NoEffects {
    NoEffects
}

fn document() -> Value {
    let router = Router::new()
        .on("order.placed", placed)
        .on_batch("order row/added", Gather::default(), rows)
        .on("order.blob", raw)
        .describe("order.placed", |message| {
            message
                .summary("A customer placed an order")
                .payload(json!({
                    "type": "object",
                    "properties": {"number": {"type": "integer", "minimum": 0}},
                    "required": ["number"],
                }))
                .example(json!({"number": 7}))
                .sends("{receipts}:high", "receipt.due");
        });
    Document::new("Orders", "1.2.0")
        .description("What the workers of orders receive and send")
        .receives("orders", "billing", &router)
        .sends("answers", "order.billed", |message| {
            message.summary("An order was billed");
        })
        .to_json()
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

#[test]
fn the_document_of_declared_handlers_fits_the_official_schema() {
    assert_eq!(schema::errors(&schema(), &document()), Vec::<String>::new());
}

#[test]
fn the_check_finds_what_does_not_fit() {
    for (path, value) in [
        ("/asyncapi", json!("2.6.0")),
        ("/info/version", json!(1)),
        ("/operations/billing.order.placed/action", json!("consume")),
        ("/operations/billing.order.placed/channel", json!("orders")),
        ("/channels/orders/messages", json!([])),
        ("/components/messages/order.placed/contentType", json!(7)),
        (
            "/components/messages/order.placed/payload/type",
            json!("thing"),
        ),
        ("/components/messages/order.placed/headers", json!("none")),
    ] {
        let mut broken = document();
        *broken.pointer_mut(path).unwrap() = value;
        assert!(!schema::errors(&schema(), &broken).is_empty(), "{path}");
    }
    let mut broken = document();
    broken["info"].as_object_mut().unwrap().remove("title");
    assert!(!schema::errors(&schema(), &broken).is_empty(), "no title");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(
                    fields
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields.values().for_each(|it| references(it, found));
            }
            Value::Array(items) => items.iter().for_each(|it| references(it, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() >= 10, "{found:?}");
    for reference in found {
        let target = document.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference}");
    }
}

#[test]
fn handlers_types_groups_and_what_they_send_are_in_the_document() {
    let document = document();
    let operation = &document["operations"]["billing.order.placed"];
    assert_eq!(operation["action"], "receive");
    assert_eq!(operation["x-consumer-group"], "billing");
    let message = &document["components"]["messages"]["order.placed"];
    assert_eq!(message["contentType"], "application/json");
    assert!(message["x-rust-type"].as_str().unwrap().ends_with("Order"));
    assert_eq!(
        message["headers"]["properties"]["type"]["const"],
        "order.placed"
    );
    assert_eq!(
        document["components"]["messages"]["order_row_added"]["name"],
        "order row/added"
    );
    assert_eq!(
        document["channels"]["_receipts__high"]["address"],
        "{receipts}:high"
    );
    let blob = &document["components"]["messages"]["order.blob"];
    assert_eq!(blob.get("contentType"), None);
}
