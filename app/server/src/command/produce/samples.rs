//! Made-up messages: five records, three good and two bad, in the shapes that producers send.

use ratebox_kit::{Message, Timestamp, id};
use ratebox_stream::Lane;
use serde_json::{Value, json};

use super::Shape;

/// Phone, bank account, e-mail, name; the predecessor's kinds: three are DONE under `classic`.
const SAMPLES: [[&str; 4]; 5] = [
    [
        "0123456789",
        "12345678901",
        "test@example.com",
        "Nguyễn Văn An",
    ],
    [
        "0987654321",
        "98765432109",
        "user@example.org",
        "Trần Thị Bình",
    ],
    [
        "0909123456",
        "11111111111",
        "valid@example.net",
        "Lê Văn Cường",
    ],
    ["123", "456", "invalid-email", "Phạm Thị Dung"],
    ["", "", "", "Hoàng Văn Em"],
];

/// Where the records come from, so that they can be told from real ones.
const SOURCE: &str = "test_producer";
/// Messages that go by one batch id.
const BATCH: u64 = 5;

/// A message that was made.
#[derive(Debug)]
pub(super) enum Made {
    /// With a field `data`.
    Message(Message),
    /// Exactly these fields.
    Fields(Vec<(String, String)>),
}

/// Makes message number `i`.
pub(super) fn make(shape: Shape, lane: Lane, i: u64, now: Timestamp) -> Made {
    let kinds = SAMPLES.len() as u64;
    let sample = SAMPLES[usize::try_from(i % kinds).unwrap_or_default()];
    let batch = format!("batch_{}", i / BATCH + 1);
    match shape {
        Shape::Item => item(sample, &batch, i, now),
        Shape::Flat => flat(sample, &batch, now),
        Shape::Extension => extension(sample, lane, now),
        Shape::Envelope => envelope(sample, &batch, lane, now),
    }
}

fn fields([phone, bank_account, email, name]: [&str; 4]) -> Value {
    json!({ "phone": phone, "bank_account": bank_account, "email": email, "name": name })
}

fn message(data: &Value) -> Message {
    Message::new(id::new().to_string(), data.to_string())
}

fn item(sample: [&str; 4], batch: &str, i: u64, now: Timestamp) -> Made {
    let mut data = fields(sample);
    data["source"] = SOURCE.into();
    data["batch_id"] = batch.into();
    data["sequence"] = i.into();
    let message = message(&data)
        .with_header("source", SOURCE)
        .with_header("timestamp", now.to_string())
        .with_header("producer", "ratebox")
        .with_header("batch_id", batch);
    Made::Message(message)
}

fn flat([phone, bank_account, email, name]: [&str; 4], batch: &str, now: Timestamp) -> Made {
    let scraped_at = now.to_string();
    let fields = [
        ("name", name),
        ("phone", phone),
        ("bank_account", bank_account),
        ("email", email),
        ("source", SOURCE),
        ("batch_id", batch),
        ("scraped_at", &scraped_at),
    ];
    Made::Fields(
        fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    )
}

fn extension(sample: [&str; 4], lane: Lane, now: Timestamp) -> Made {
    Made::Message(message(&json!({
        "request_id": foreign_id("ext_req", now),
        "user_id": SOURCE,
        "session_id": "session_1",
        "action": "rate_check",
        "data": fields(sample),
        "source": "browser_extension",
        "extension_version": "1.0.0",
        "timestamp": now.to_string(),
        "priority": lane.as_str(),
        "metadata": { "page_url": "https://example.com" },
    })))
}

fn envelope(sample: [&str; 4], batch: &str, lane: Lane, now: Timestamp) -> Made {
    Made::Message(message(&json!({
        "v": 1,
        "request_id": foreign_id("req", now),
        "source": SOURCE,
        "user_id": SOURCE,
        "action": "validate",
        "data": { "items": [fields(sample)] },
        "priority": lane.as_str(),
        "timestamp": now.to_string(),
        "batch_id": batch,
    })))
}

/// An id as foreign producers make them: ours are not trusted from outside.
fn foreign_id(prefix: &str, now: Timestamp) -> String {
    let random = id::hex(&id::random_bytes::<5>());
    format!(
        "{prefix}_{}_{}",
        now.as_millisecond(),
        random.get(..9).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use ratebox_intake::{Action, Decoded, Rules, Shape as Read, decode};

    use super::*;

    fn decoded(shape: Shape, i: u64) -> Decoded {
        let now: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let fields = match make(shape, Lane::High, i, now) {
            Made::Fields(fields) => fields,
            Made::Message(message) => {
                let body = String::from_utf8(message.body.to_vec()).unwrap();
                let mut fields = vec![("data".to_owned(), body)];
                fields.push(("rb-id".to_owned(), message.id.0));
                fields.extend(message.headers);
                fields
            }
        };
        decode(&fields, 10).unwrap()
    }

    #[test]
    fn every_shape_is_read_as_what_it_is() {
        let expected = [
            (Shape::Item, Read::LegacyItem, Action::Validate),
            (Shape::Flat, Read::LegacyFlat, Action::Validate),
            (Shape::Extension, Read::LegacyExtension, Action::Check),
            (Shape::Envelope, Read::EnvelopeV1, Action::Validate),
        ];
        for (shape, read, action) in expected {
            let decoded = decoded(shape, 0);
            assert_eq!((decoded.shape, decoded.action), (read, action));
            assert_eq!(decoded.items[0].phone().text(), Some("0123456789"));
        }
    }

    #[test]
    fn three_of_five_are_done_and_five_make_a_batch() {
        let all: Vec<_> = (0..10).map(|i| decoded(Shape::Item, i)).collect();
        let done = |it: &&Decoded| Rules::default().judge(&it.items[0]).errors.is_empty();
        assert_eq!(all.iter().filter(done).count(), 6);
        let batches: Vec<_> = all.iter().filter_map(|it| it.batch_id.as_deref()).collect();
        assert_eq!(
            (batches[0], batches[4], batches[5]),
            ("batch_1", "batch_1", "batch_2")
        );
        assert_eq!(all[0].source.as_deref(), Some(SOURCE));
    }
}
