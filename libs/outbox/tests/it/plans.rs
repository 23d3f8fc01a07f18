//! How PostgreSQL goes about the relay's statements: a table that is empty most of the time is full
//! when a broker was away, and a plan that was made for the one must not be used for the other.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, PostgresSettings};
use ratebox_kit::{Backoff, Secret};
use ratebox_outbox::{Event, Relay, RelaySettings, Step};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::relay::add;

/// Events of 50 aggregates. The plan for the empty table reads all rows once for each row of each
/// partition, which takes 20 s and more.
const EVENTS: u32 = 5_000;

fn events() -> Vec<Event> {
    let event = |n: u32| Event::new("t", format!("bad {n}")).aggregate("order", n % 50);
    (0..EVENTS).map(event).collect()
}

/// The same database, whose server ends a statement after a few seconds: a thousand times as long as
/// the statements need.
fn impatient(place: &str) -> Db {
    let settings = PostgresSettings {
        statement_timeout: Duration::from_secs(3),
        // One connection, so that it is the one whose plans were made while the table was empty.
        pool_max: 1,
        ..PostgresSettings::new(Secret::new(place))
    };
    Db::postgres(&settings).unwrap()
}

#[tokio::test]
async fn a_backlog_that_comes_to_an_empty_table_is_read_with_a_plan_for_it() {
    let fresh = both().await.remove(1);
    let settings = RelaySettings {
        backoff: Backoff {
            first: Duration::from_secs(3_600),
            max: Duration::from_secs(3_600),
        },
        ..RelaySettings::default()
    };
    let broker = FakeBroker::new(Mood::Picky);
    let db = impatient(&fresh.place);
    let mut relay = Relay::new(db, broker, "r1", settings, Arc::default());
    // The statistics say that the table is empty, and the connection has plans for that.
    fresh.db.script("VACUUM outbox".to_owned()).await.unwrap();
    assert_eq!(relay.step().await.unwrap(), Step::Idle);
    add(&fresh.db, events()).await;
    // Each key has its first event refused, and the others wait behind it.
    assert_eq!(relay.step().await.unwrap(), Step::Did(0));
    relay.step().await.unwrap();
}
