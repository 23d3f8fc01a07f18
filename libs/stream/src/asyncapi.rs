//! The declared handlers as an AsyncAPI 3 document.
//!
//! ```
//! use ratebox_stream::asyncapi::Document;
//! use ratebox_stream::handler::{Json, NoEffects, Router};
//!
//! async fn shipped(Json(_order): Json<u64>) -> NoEffects { NoEffects }
//!
//! let router = Router::new().on("order.shipped", shipped).describe("order.shipped", |message| {
//!     message.summary("An order left the house").payload(serde_json::json!({"type": "integer"}));
//! });
//! let document = Document::new("Shipping", "1.0.0").receives("orders", "mailers", &router);
//! assert_eq!(document.to_json()["asyncapi"], "3.0.0");
//! ```
//!
//! Types and content types come from the handlers' arguments; schemas and texts from
//! [`Router::describe`]. It says nothing of servers: where the log is, the operator decides.

use serde_json::{Map, Value, json};

use crate::handler::{Router, TYPE_HEADER};

/// What is known of a type of message.
#[derive(Clone, Debug, Default)]
pub struct About {
    summary: Option<String>,
    content_type: Option<&'static str>,
    rust_type: Option<&'static str>,
    payload: Option<Value>,
    examples: Vec<Value>,
    sends: Vec<(String, String)>,
}

/// A type of message that a router has a handler for.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) message_type: &'static str,
    pub(crate) about: About,
}

/// A document in the making.
#[derive(Clone, Debug)]
pub struct Document {
    title: String,
    version: String,
    description: Option<String>,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

// === impl About ===

impl About {
    /// One sentence on what it tells.
    pub fn summary(&mut self, text: impl Into<String>) -> &mut Self {
        self.summary = Some(text.into());
        self
    }

    /// The JSON Schema of its body.
    pub fn payload(&mut self, schema: Value) -> &mut Self {
        self.payload = Some(schema);
        self
    }

    /// A body as it may come; never a real person's.
    pub fn example(&mut self, body: Value) -> &mut Self {
        self.examples.push(body);
        self
    }

    /// What its handler sends: a type of message to a stream.
    pub fn sends(
        &mut self,
        stream: impl Into<String>,
        message_type: impl Into<String>,
    ) -> &mut Self {
        self.sends.push((stream.into(), message_type.into()));
        self
    }

    /// The body is JSON, read as this type.
    pub(crate) fn json_of(&mut self, rust_type: &'static str) {
        self.content_type = Some("application/json");
        self.rust_type = Some(rust_type);
    }

    fn message(&self, message_type: &str, header: &str) -> Value {
        let mut headers = Map::new();
        headers.insert(
            header.to_owned(),
            json!({"type": "string", "const": message_type}),
        );
        let mut message = json!({
            "name": message_type,
            "headers": {"type": "object", "properties": headers, "required": [header]},
        });
        put(
            &mut message,
            "summary",
            self.summary.clone().map(Value::from),
        );
        put(
            &mut message,
            "contentType",
            self.content_type.map(Value::from),
        );
        put(&mut message, "payload", self.payload.clone());
        put(&mut message, "x-rust-type", self.rust_type.map(Value::from));
        if !self.examples.is_empty() {
            let examples = self.examples.iter().map(|body| json!({"payload": body}));
            message["examples"] = examples.collect();
        }
        message
    }
}

// === impl Document ===

impl Document {
    /// A document without channels.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            version: version.into(),
            description: None,
            channels: Map::new(),
            operations: Map::new(),
            messages: Map::new(),
        }
    }

    /// What the program is for.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Adds what the members of `group` do with the messages of `stream`.
    #[must_use]
    pub fn receives<S: Send + Sync + 'static>(
        mut self,
        stream: &str,
        group: &str,
        router: &Router<S>,
    ) -> Self {
        for declared in router.declared() {
            let (name, about) = (declared.message_type, &declared.about);
            let message = about.message(name, router.type_header());
            self.messages.insert(key(name), message);
            self.channel(stream, name);
            let mut operation = operation("receive", stream, name);
            put(
                &mut operation,
                "summary",
                about.summary.clone().map(Value::from),
            );
            operation["x-consumer-group"] = Value::from(group);
            self.operations
                .insert(key(&format!("{group}.{name}")), operation);
            for (to, sent) in &about.sends {
                self = self.sends(to, sent, |_| ());
            }
        }
        self
    }

    /// Adds a type of message that the program sends.
    #[must_use]
    pub fn sends(
        mut self,
        stream: &str,
        message_type: &str,
        describe: impl FnOnce(&mut About),
    ) -> Self {
        let mut about = About::default();
        describe(&mut about);
        let message = || about.message(message_type, TYPE_HEADER);
        self.messages
            .entry(key(message_type))
            .or_insert_with(message);
        self.channel(stream, message_type);
        let id = key(&format!("send.{stream}.{message_type}"));
        let operation = || operation("send", stream, message_type);
        self.operations.entry(id).or_insert_with(operation);
        self
    }

    /// The document.
    pub fn to_json(&self) -> Value {
        let mut info = json!({"title": self.title, "version": self.version});
        put(
            &mut info,
            "description",
            self.description.clone().map(Value::from),
        );
        json!({
            "asyncapi": "3.0.0",
            "info": info,
            "channels": self.channels,
            "operations": self.operations,
            "components": {"messages": self.messages},
        })
    }

    fn channel(&mut self, stream: &str, message_type: &str) {
        let empty = || json!({"address": stream, "messages": {}});
        let channel = self.channels.entry(key(stream)).or_insert_with(empty);
        let message = key(message_type);
        channel["messages"][&message] = json!({"$ref": format!("#/components/messages/{message}")});
    }
}

fn operation(action: &str, stream: &str, message_type: &str) -> Value {
    let channel = format!("#/channels/{}", key(stream));
    let message = format!("{channel}/messages/{}", key(message_type));
    json!({"action": action, "channel": {"$ref": channel}, "messages": [{"$ref": message}]})
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

/// A name as the specification allows it for keys: letters, digits, dot, dash and underscore.
fn key(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    name.chars()
        .map(|letter| if allowed(letter) { letter } else { '_' })
        .collect()
}
