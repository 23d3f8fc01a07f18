//! Several events in one row.
//!
//! Events that ask for no order and leave in one transaction for one topic share rows: most of an
//! event's cost is its row, its index entry and its deletion, not its bytes. A row is filled up to
//! a page of PostgreSQL. Events with a key stand alone, since each waits for the one before it.
//!
//! A bundle is, for each event: its id (16 bytes), the length of its headers as JSON (32 bits, big
//! endian; 0 for none), the headers, the length of its body (32 bits), the body.

use bytes::{Buf, BufMut, Bytes};
use ratebox_db::{Statement, Value};
use uuid::Uuid;

use crate::sweeper::RowKey;
use crate::{Error, Event, Result, sql};

/// Bytes of a bundle: with the rest of its row it fits a page of 8 KiB, so that it is not moved to
/// a table of large values.
const BYTES_MAX: usize = 7_800;
/// A hundred years. The databases reckon with it: one that no date can hold would end the reading of
/// all events, not only of its own.
const DELAY_MAX_MS: i64 = 100 * 366 * 24 * 60 * 60 * 1_000;
/// Bytes beside headers and body.
const FRAME: usize = 16 + 4 + 4;

/// Events that share a row.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) events: Vec<Event>,
    /// Its sender may send it right after the commit.
    pub(crate) at_once: bool,
    /// The first partition of its broker.
    pub(crate) base: i64,
    bytes: usize,
}

/// A row for one event, on its way into a transaction.
#[derive(Debug)]
pub struct NewRow<'a> {
    pub(crate) event: &'a Event,
    pub(crate) schema: &'a str,
    pub(crate) partition: i64,
    pub(crate) headers: Option<String>,
    pub(crate) pre_lease_ms: i64,
}

impl<'a> NewRow<'a> {
    pub(crate) fn new(event: &'a Event, schema: &'a str, base: i64, pre_lease_ms: i64) -> Self {
        Self {
            event,
            schema,
            partition: base + event.partition(),
            headers: headers_text(&event.headers),
            pre_lease_ms,
        }
    }

    /// The parameters of [`sql::ADD_ONE`].
    pub(crate) fn values(&self) -> Vec<Value> {
        let text = |it: Option<&str>| it.map_or(Value::Null, Value::from);
        let mut values = vec![
            self.partition.into(),
            self.event.id.into(),
            self.event.topic.as_str().into(),
            text(self.event.key.as_deref()),
            text(self.headers.as_deref()),
            self.event.body.clone().into(),
            self.pre_lease_ms.into(),
        ];
        let about = about(self.event);
        values.extend(about.map(text));
        values.push(self.delay_ms().into());
        values
    }

    pub(crate) fn delay_ms(&self) -> Option<i64> {
        delay_ms(self.event)
    }
}

/// Kind of aggregate, type, routing key, partition key.
fn about(event: &Event) -> [Option<&str>; 4] {
    let Some(about) = &event.about else {
        return [None; 4];
    };
    [
        about.aggregate_type.as_deref(),
        about.event_type.as_deref(),
        about.routing_key.as_deref(),
        about.partition_key.as_deref(),
    ]
}

fn delay_ms(event: &Event) -> Option<i64> {
    let delay = event.about.as_ref()?.delay?;
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    Some(delay_ms.min(DELAY_MAX_MS))
}

impl Bundle {
    pub(crate) fn new(event: Event) -> Self {
        let bytes = size(&event);
        Self {
            at_once: event.key.is_none() && delay_ms(&event).is_none(),
            base: 0,
            events: vec![event],
            bytes,
        }
    }

    /// In the partitions of its broker.
    pub(crate) fn based(mut self, base: i64) -> Self {
        self.base = base;
        self
    }

    /// The row is known by its first event.
    pub(crate) fn key(&self) -> RowKey {
        self.events.first().map_or((0, Uuid::nil()), |first| {
            (self.base + first.partition(), first.id)
        })
    }
}

/// The statement that adds these rows; nobody but their sender touches one for its pre-lease.
pub(crate) fn insert(
    bundles: &[Bundle],
    pre_lease_ms: impl Fn(&Bundle) -> i64,
) -> Result<Statement> {
    // Columns that nobody uses cost nothing.
    let mut events = bundles.iter().flat_map(|it| &it.events);
    let with_about = events.any(|it| it.about.is_some());
    let insert = if with_about {
        &sql::ADD_ABOUT
    } else {
        &sql::ADD
    };
    let (mut rows, mut packed) = (insert.rows(), Vec::new());
    for bundle in bundles {
        let Some(first) = bundle.events.first() else {
            continue;
        };
        rows.push(bundle.base + first.partition()).push(first.id);
        rows.push(first.topic.as_str()).push(first.key.as_deref());
        match bundle.events.as_slice() {
            [event] => {
                let headers = headers_text(&event.headers);
                rows.push(headers.as_deref()).push(event.body.as_ref());
            }
            events => {
                packed.clear();
                pack_into(events, &mut packed);
                rows.push(None::<&str>).push(packed.as_slice());
            }
        }
        rows.push(bundle.events.len()).push(pre_lease_ms(bundle));
        if with_about {
            for text in about(first) {
                rows.push(text);
            }
            rows.push(delay_ms(first));
        }
    }
    Ok(rows.into_statement()?)
}

fn pack_into(events: &[Event], out: &mut Vec<u8>) {
    for event in events {
        let headers = headers_text(&event.headers).unwrap_or_default();
        out.put_slice(event.id.as_bytes());
        put_sized(headers.as_bytes(), out);
        put_sized(&event.body, out);
    }
}

/// Puts events into as few rows as may be, each topic's in their order.
pub(crate) fn pack(events: Vec<Event>) -> Vec<Bundle> {
    let mut closed: Vec<Bundle> = Vec::new();
    let mut open: Vec<Bundle> = Vec::new();
    for event in events {
        if event.key.is_some() || event.about.is_some() {
            closed.push(Bundle::new(event));
            continue;
        }
        let same_topic = |bundle: &&mut Bundle| {
            bundle
                .events
                .first()
                .is_some_and(|it| it.topic == event.topic)
        };
        let Some(bundle) = open.iter_mut().find(same_topic) else {
            open.push(Bundle::new(event));
            continue;
        };
        let bytes = size(&event);
        if bundle.bytes + bytes > BYTES_MAX {
            closed.push(std::mem::replace(bundle, Bundle::new(event)));
        } else {
            bundle.bytes += bytes;
            bundle.events.push(event);
        }
    }
    closed.extend(open);
    closed
}

/// The events of a row that holds several.
pub(crate) fn unpack(topic: &str, mut body: Bytes) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    while body.has_remaining() {
        if body.remaining() < 16 {
            return Err(Error::Bundle);
        }
        let id = Uuid::from_bytes(
            body.split_to(16)
                .as_ref()
                .try_into()
                .map_err(|_| Error::Bundle)?,
        );
        let headers = headers_of(&take_sized(&mut body)?)?;
        events.push(Event {
            id,
            topic: topic.to_owned(),
            key: None,
            headers,
            body: take_sized(&mut body)?,
            about: None,
        });
    }
    Ok(events)
}

/// Headers as they are kept; `None` for none.
pub(crate) fn headers_text(headers: &[(String, String)]) -> Option<String> {
    if headers.is_empty() {
        return None;
    }
    Some(serde_json::to_string(headers).expect("pairs of texts are JSON"))
}

/// Reads what [`headers_text`] wrote.
pub(crate) fn headers_of(text: &[u8]) -> Result<Vec<(String, String)>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(text).map_err(Error::Headers)
}

fn size(event: &Event) -> usize {
    let headers = event
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8);
    FRAME + headers.sum::<usize>() + event.body.len()
}

fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.put_slice(bytes);
}

fn take_sized(body: &mut Bytes) -> Result<Bytes> {
    let length = body.try_get_u32().map_err(|_| Error::Bundle)?;
    let length = usize::try_from(length).map_err(|_| Error::Bundle)?;
    if body.remaining() < length {
        return Err(Error::Bundle);
    }
    Ok(body.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(events: &[Event]) -> Bytes {
        let mut out = Vec::new();
        pack_into(events, &mut out);
        out.into()
    }

    fn event(topic: &str, size: usize) -> Event {
        Event::new(topic, vec![b'x'; size])
    }

    #[test]
    fn a_bundle_comes_apart_into_the_events_that_went_in() {
        let events = vec![
            event("a", 0)
                .with_header("rb-lane", "high")
                .with_header("ü", "\""),
            event("a", 700),
            event("a", 1),
        ];
        let bundles = pack(events.clone());
        assert_eq!(bundles.len(), 1);
        assert_eq!(unpack("a", packed(&bundles[0].events)).unwrap(), events);
        assert_eq!(bundles[0].key().1, events[0].id);
    }

    #[test]
    fn topics_keys_and_pages_separate_events_and_none_is_lost() {
        let mut events: Vec<Event> = (0..100)
            .map(|number| event(if number % 3 == 0 { "a" } else { "b" }, 700))
            .collect();
        events.push(event("a", 50_000));
        events.push(event("a", 10).ordered_by("k"));
        let bundles = pack(events.clone());
        for bundle in &bundles {
            let topics = bundle.events.iter().map(|it| &it.topic);
            assert!(topics.clone().all(|topic| topic == &bundle.events[0].topic));
            assert!(bundle.bytes <= BYTES_MAX || bundle.events.len() == 1);
            let keyed = bundle.events.iter().any(|it| it.key.is_some());
            assert!(!keyed || bundle.events.len() == 1);
        }
        let mut out: Vec<Uuid> = bundles
            .iter()
            .flat_map(|it| &it.events)
            .map(|it| it.id)
            .collect();
        let mut ids: Vec<Uuid> = events.iter().map(|it| it.id).collect();
        out.sort();
        ids.sort();
        assert_eq!(out, ids);
        assert!(bundles.len() < 16, "{}", bundles.len());
    }

    #[test]
    fn a_delay_is_one_that_a_date_can_hold() {
        let delay = |delay| delay_ms(&event("a", 0).deliver_after(delay));
        assert_eq!(delay(std::time::Duration::from_secs(9)), Some(9_000));
        assert_eq!(delay(std::time::Duration::MAX), Some(DELAY_MAX_MS));
    }

    #[test]
    fn a_broken_bundle_is_refused() {
        let body = packed(&[event("a", 9), event("a", 9)]);
        for end in 1..body.len() {
            let cut = unpack("a", body.slice(..end));
            assert!(cut.is_err() || cut.is_ok_and(|it| it.len() == 1));
        }
    }
}
