//! What may be sent now, and in which company.

use std::collections::HashMap;

use bytes::Bytes;
use ratebox_db::Row;

use crate::sweeper::RowKey;
use crate::{About, Event, Result, bundle};

/// A stored row that may be sent: one event, or several that ask for no order.
pub(crate) struct Due {
    pub(crate) key: RowKey,
    pub(crate) attempts: i64,
    /// Lives of relays that ended while it was in work.
    pub(crate) started: i64,
    pub(crate) events: Vec<Event>,
}

impl Due {
    /// The key whose order it keeps.
    pub(crate) fn order(&self) -> Option<&String> {
        self.events.first().and_then(|event| event.key.as_ref())
    }

    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.body.len()).sum()
    }
}

/// Splits events so that no wave holds two of one key: a refused event must hold back the later
/// ones of its key.
pub(crate) fn waves(due: Vec<Due>) -> Vec<Vec<Due>> {
    let mut waves: Vec<Vec<Due>> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for due in due {
        let wave = match due.order() {
            None => 0,
            Some(key) => match seen.get_mut(key) {
                Some(next) => {
                    *next += 1;
                    *next
                }
                None => {
                    seen.insert(key.clone(), 0);
                    0
                }
            },
        };
        if waves.len() <= wave {
            waves.resize_with(wave + 1, Vec::new);
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(due);
        }
    }
    waves
}

/// The events of a stored row.
pub(crate) fn read(row: &Row) -> Result<Vec<Event>> {
    let topic: String = row.get(2)?;
    let body: Bytes = row.get(5)?;
    if row.get::<i64>(7)? > 1 {
        return bundle::unpack(&topic, body);
    }
    let headers: Option<String> = row.get(4)?;
    let about = About {
        aggregate_type: row.get(8)?,
        event_type: row.get(9)?,
        routing_key: row.get(10)?,
        partition_key: row.get(11)?,
        delay: None,
    };
    Ok(vec![Event {
        id: row.get(1)?,
        topic,
        key: row.get(3)?,
        headers: bundle::headers_of(headers.unwrap_or_default().as_bytes())?,
        body,
        about: Some(about)
            .filter(|it| *it != About::default())
            .map(Box::new),
    }])
}
