//! Taking over the predecessor's tables, and serving its outbox where it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Db, Sql};
use ratebox_kit::{Backoff, Tasks};
use ratebox_outbox::{
    Adopted, Broker, OutboxAdmin, Outgoing, PublishError, Relay, RelaySettings, SagaOutbox, Step,
    adopt,
};
use ratebox_testkit::wait_until;
use serde_json::Value;

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;

/// As the predecessor makes them (its release 1.5.0).
const TABLES: &str = "
    CREATE TABLE public.saga_outbox (event_id UUID PRIMARY KEY, saga_id VARCHAR(255) NOT NULL,
        aggregate_type VARCHAR(255) NOT NULL DEFAULT 'saga', aggregate_id VARCHAR(255) NOT NULL,
        event_type VARCHAR(255) NOT NULL, payload JSONB NOT NULL,
        headers JSONB NOT NULL DEFAULT '{}', status VARCHAR(50) NOT NULL DEFAULT 'pending',
        created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), claimed_at TIMESTAMPTZ,
        sent_at TIMESTAMPTZ, retry_count INTEGER NOT NULL DEFAULT 0, last_error TEXT,
        worker_id VARCHAR(255), CONSTRAINT valid_status CHECK (
            status IN ('pending', 'claimed', 'sent', 'failed', 'dead_letter')));
    CREATE INDEX idx_outbox_pending ON public.saga_outbox (created_at) WHERE status = 'pending';
    CREATE INDEX idx_outbox_claimed_at ON public.saga_outbox (claimed_at)
        WHERE status = 'claimed';
    CREATE INDEX idx_outbox_saga_id ON public.saga_outbox (saga_id);
    CREATE TABLE public.saga_outbox_archive (LIKE public.saga_outbox INCLUDING ALL);
    CREATE TABLE public.consumer_inbox (event_id UUID PRIMARY KEY,
        consumer_name VARCHAR(255) NOT NULL, source_topic VARCHAR(255) NOT NULL,
        event_type VARCHAR(255) NOT NULL, payload JSONB NOT NULL,
        consumed_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), processing_duration_ms INTEGER);
    CREATE INDEX idx_consumer_inbox_cleanup
        ON public.consumer_inbox (consumer_name, consumed_at);";

/// A worker of theirs that is sending: it claimed one a moment ago, and holds no lock on it.
const SENDING: &str = "
    INSERT INTO public.saga_outbox
        (event_id, saga_id, aggregate_id, event_type, payload, status, created_at, claimed_at, worker_id)
    SELECT gen_random_uuid(), agg, agg, 'OrderCreated', '{}', status, now() + n * interval '1 ms',
        CASE status WHEN 'claimed' THEN now() END, CASE status WHEN 'claimed' THEN 'w1' END
    FROM (VALUES (1, 'a', 'pending'), (2, 'a', 'claimed'), (3, 'a', 'pending'), (4, 'b', 'pending'))
        AS it (n, agg, status)";

const ROWS: &str = "
    INSERT INTO public.saga_outbox
        (event_id, saga_id, aggregate_id, event_type, payload, headers, status, created_at)
    SELECT gen_random_uuid(), 's' || n % 5, 's' || n % 5, 'OrderCreated',
        jsonb_build_object('n', n), '{\"tenant\": \"a\"}',
        (ARRAY['pending', 'claimed', 'sent', 'failed', 'dead_letter'])[1 + n / 5 % 5],
        now() + n * interval '1 ms'
    FROM generate_series(0, 2499) n;
    INSERT INTO public.consumer_inbox (event_id, consumer_name, source_topic, event_type, payload)
    SELECT event_id, 'billing', 'orders', event_type, payload FROM public.saga_outbox
    WHERE status = 'sent'";

#[tokio::test]
async fn what_a_worker_of_the_predecessor_is_sending_is_left_to_it_with_what_is_behind_it() {
    let fresh = both().await.remove(1);
    let db = &fresh.db;
    db.script(format!("{TABLES}{SENDING}")).await.unwrap();
    let adopted = adopt(db).await.unwrap();
    assert_eq!((adopted.events, adopted.left), (2, 2), "{adopted:?}");
    // It died.
    let later = "UPDATE public.saga_outbox SET claimed_at = now() - interval '301 seconds'";
    db.execute(Sql::both(later)).await.unwrap();
    let adopted = adopt(db).await.unwrap();
    assert_eq!((adopted.events, adopted.left), (2, 0), "{adopted:?}");
}

#[tokio::test]
async fn tables_of_others_that_have_these_names_are_let_be() {
    let fresh = both().await.remove(1);
    let others = "CREATE TABLE public.saga_outbox (id BIGINT, status TEXT);
        CREATE TABLE public.consumer_inbox (consumer TEXT, event_id UUID)";
    fresh.db.script(others.to_owned()).await.unwrap();
    assert_eq!(adopt(&fresh.db).await.unwrap(), Adopted::default());
}

#[tokio::test]
async fn more_marks_than_one_statement_takes_are_all_taken_over() {
    let fresh = both().await.remove(1);
    let marks = "INSERT INTO public.consumer_inbox
            (event_id, consumer_name, source_topic, event_type, payload)
        SELECT gen_random_uuid(), 'billing', 'orders', 'OrderCreated', '{}'
        FROM generate_series(1, 25000)";
    fresh.db.script(format!("{TABLES}{marks}")).await.unwrap();
    assert_eq!(adopt(&fresh.db).await.unwrap().marks, 25_000);
    assert_eq!(adopt(&fresh.db).await.unwrap().marks, 0, "once");
}

#[tokio::test]
async fn unsent_events_of_the_predecessor_are_sent_in_order_and_what_was_consumed_stays_known() {
    let fresh = both().await.remove(1);
    assert_eq!(
        adopt(&fresh.db).await.unwrap(),
        Adopted::default(),
        "there is nothing yet"
    );
    fresh.db.script(format!("{TABLES}{ROWS}")).await.unwrap();
    let adopted = adopt(&fresh.db).await.unwrap();
    let expected = Adopted {
        found: true,
        events: 1500,
        dead: 500,
        marks: 500,
        left: 0,
    };
    assert_eq!(adopted, expected);
    let nothing = Adopted {
        found: true,
        ..Adopted::default()
    };
    assert_eq!(adopt(&fresh.db).await.unwrap(), nothing, "once");
    let known = fresh
        .db
        .query(Sql::both("SELECT count(*) FROM consumer_inbox"))
        .await
        .unwrap();
    assert_eq!(known[0].get::<i64>(0).unwrap(), 500);
    let status = OutboxAdmin::new(fresh.db.clone()).status().await.unwrap();
    assert_eq!((status.pending, status.dead_letter), (1500, 500));
    assert_eq!(
        OutboxAdmin::new(fresh.db.clone())
            .dead(1)
            .await
            .unwrap()
            .len(),
        1
    );

    let broker = FakeBroker::new(Mood::Up);
    let settings = RelaySettings::default();
    let mut relay = Relay::new(
        fresh.db.clone(),
        broker.clone(),
        "r",
        settings,
        Arc::default(),
    );
    while relay.step().await.unwrap() != Step::Idle {}
    let got = broker.got();
    assert_eq!(got.len(), 1500);
    let mut last = [-1; 5];
    for it in got {
        let body: Value = serde_json::from_slice(&it.message.body).unwrap();
        assert_eq!(it.topic, "OrderCreated");
        assert_eq!(it.message.header("event_id"), body["event_id"].as_str());
        assert_eq!(it.message.header("tenant"), Some("a"));
        let n = body["payload"]["n"].as_i64().unwrap();
        let aggregate = usize::try_from(n % 5).unwrap();
        assert_eq!(it.partition_key, Some(format!("s{aggregate}")));
        assert!(last[aggregate] < n, "in the order of their creation");
        last[aggregate] = n;
    }
}

/// Their insert, for an event of an aggregate.
async fn insert(db: &Db, numbers: std::ops::Range<i64>, more: &str) {
    let rows = format!(
        "INSERT INTO public.saga_outbox (event_id, saga_id, aggregate_type, aggregate_id, event_type,
            payload, headers, status, created_at)
        SELECT gen_random_uuid(), 's' || n % 5, 'order', 'o' || n % 5, 'OrderCreated',
            jsonb_build_object('n', n), '{{\"tenant\": \"a\"}}', 'pending',
            clock_timestamp() + n * interval '1 microsecond' - interval '1 hour'
        FROM generate_series({}, {}) n; {more}",
        numbers.start,
        numbers.end - 1
    );
    db.script(rows).await.unwrap();
}

fn in_place(db: &Db, broker: &Arc<FakeBroker>, holder: &str) -> SagaOutbox {
    let settings = RelaySettings {
        attempts_max: 3,
        lease: Duration::from_secs(2),
        backoff: Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        ..RelaySettings::default()
    };
    SagaOutbox::new(db.clone(), broker.clone(), holder, settings)
}

async fn states(db: &Db) -> Vec<(String, i64)> {
    let sql = "SELECT status::text, count(*) FROM public.saga_outbox GROUP BY 1 ORDER BY 1";
    let rows = db.query(Sql::both(sql)).await.unwrap();
    let read = |row: &ratebox_db::Row| (row.get(0).unwrap(), row.get(1).unwrap());
    rows.iter().map(read).collect()
}

fn numbers(got: &[Outgoing]) -> Vec<i64> {
    let number = |it: &Outgoing| {
        let body: Value = serde_json::from_slice(&it.message.body).unwrap();
        body["payload"]["n"].as_i64().unwrap()
    };
    got.iter().map(number).collect()
}

#[tokio::test]
async fn the_old_table_is_served_in_place_in_order_beside_workers_of_the_predecessor() {
    let fresh = both().await.remove(1);
    let broker = FakeBroker::new(Mood::Up);
    let mut relay = in_place(&fresh.db, &broker, "r1").routed("kafka:");
    assert_eq!(relay.step().await.unwrap(), Step::Idle, "there is no table");
    fresh.db.script(TABLES.to_owned()).await.unwrap();
    insert(&fresh.db, 0..700, "").await;
    // A worker of theirs holds the first event of the aggregate o0 in a transaction, and another one
    // died with what it had claimed.
    let mut worker = fresh.db.begin().await.unwrap();
    let held = "SELECT payload FROM public.saga_outbox WHERE (payload ->> 'n')::int = 3 FOR UPDATE";
    worker.query(Sql::both(held)).await.unwrap();
    let left = "UPDATE public.saga_outbox SET status = 'claimed', worker_id = 'dead',
        claimed_at = now() - interval '10 minutes' WHERE (payload ->> 'n')::int = 9";
    let failed = "UPDATE public.saga_outbox SET status = 'failed', retry_count = 1,
        claimed_at = now() - interval '10 minutes' WHERE (payload ->> 'n')::int = 12";
    fresh.db.script(format!("{left}; {failed}")).await.unwrap();
    while relay.step().await.unwrap() != Step::Idle {}
    worker.rollback().await.unwrap();
    while relay.step().await.unwrap() != Step::Idle {}
    let got = broker.got();
    assert_eq!(states(&fresh.db).await, [("sent".to_owned(), 700)]);
    assert_eq!(got.len(), 700, "once each");
    for aggregate in [0, 1, 2, 4] {
        let of = numbers(&got).into_iter().filter(|n| n % 5 == aggregate);
        assert!(of.is_sorted());
    }
    let body: Value = serde_json::from_slice(&got[0].message.body).unwrap();
    assert_eq!(got[0].topic, "kafka:OrderCreated");
    assert_eq!(got[0].partition_key.as_deref(), Some("o0"));
    assert_eq!(
        Some(got[0].message.id.0.as_str()),
        body["event_id"].as_str()
    );
    for (name, value) in [
        ("tenant", "a"),
        ("event_type", "OrderCreated"),
        ("saga_id", "s0"),
    ] {
        assert_eq!(got[0].message.header(name), Some(value));
    }
    for name in [
        "saga_id",
        "aggregate_type",
        "aggregate_id",
        "event_type",
        "timestamp",
    ] {
        assert!(body[name].is_string(), "{body}");
    }
}

#[tokio::test]
async fn refused_events_of_the_old_table_wait_and_die_there_and_an_outage_charges_nobody() {
    let fresh = both().await.remove(1);
    fresh.db.script(TABLES.to_owned()).await.unwrap();
    insert(&fresh.db, 0..20, "").await;
    let broker = FakeBroker::new(Mood::Down);
    let mut relay = in_place(&fresh.db, &broker, "r1");
    for _ in 0..5 {
        assert_eq!(relay.step().await.unwrap(), Step::Down);
    }
    let charged = "SELECT coalesce(sum(retry_count), 0) FROM public.saga_outbox";
    let charged = fresh.db.query(Sql::both(charged)).await.unwrap();
    assert_eq!(charged[0].get::<i64>(0).unwrap(), 0);
    // Whose number is 7 is refused, and the next of its aggregate wait for its fate.
    broker.refuse(b"\"n\":7}");
    let relay = tokio::sync::Mutex::new(relay);
    wait_until(Duration::from_secs(20), "the bad one to die", || async {
        relay.lock().await.step().await.unwrap();
        states(&fresh.db).await == [("dead_letter".to_owned(), 1), ("sent".to_owned(), 19)]
    })
    .await;
    let of: Vec<i64> = numbers(&broker.got())
        .into_iter()
        .filter(|n| n % 5 == 2)
        .collect();
    assert_eq!(of, [2, 12, 17]);
    let dead = "SELECT retry_count::bigint, last_error FROM public.saga_outbox
        WHERE status = 'dead_letter'";
    let dead = fresh.db.query(Sql::both(dead)).await.unwrap();
    assert_eq!(dead[0].get::<i64>(0).unwrap(), 3);
    assert_eq!(dead[0].get::<String>(1).unwrap(), "on purpose");
}

#[tokio::test]
async fn one_relay_at_a_time_serves_the_old_table_and_what_was_sent_long_ago_is_archived() {
    let fresh = both().await.remove(1);
    fresh.db.script(TABLES.to_owned()).await.unwrap();
    let old = "UPDATE public.saga_outbox SET status = 'sent',
        sent_at = now() - (payload ->> 'n')::int * interval '1 day'";
    insert(&fresh.db, 0..10, old).await;
    insert(&fresh.db, 10..11, "").await;
    let broker = FakeBroker::new(Mood::Up);
    let (mut first, mut second) = (
        in_place(&fresh.db, &broker, "r1"),
        in_place(&fresh.db, &broker, "r2"),
    );
    assert_eq!(first.step().await.unwrap(), Step::Did(1));
    insert(&fresh.db, 11..12, "").await;
    assert_eq!(second.step().await.unwrap(), Step::Idle, "the other has it");
    let archived = "SELECT count(*) FROM public.saga_outbox_archive";
    let archived = fresh.db.query(Sql::both(archived)).await.unwrap();
    assert_eq!(archived[0].get::<i64>(0).unwrap(), 3, "7, 8 and 9 days ago");
    drop(first);
    let second = tokio::sync::Mutex::new(second);
    wait_until(Duration::from_secs(10), "the end of the lease", || async {
        second.lock().await.step().await.unwrap() == Step::Did(1)
    })
    .await;
}

/// Takes its time for each call.
struct SlowBroker(Arc<FakeBroker>);

#[async_trait]
impl Broker for SlowBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        tokio::time::sleep(Duration::from_millis(60)).await;
        self.0.publish(messages).await
    }
}

#[tokio::test]
async fn a_slow_broker_does_not_outlast_the_lease_of_the_old_table() {
    let fresh = both().await.remove(1);
    fresh.db.script(TABLES.to_owned()).await.unwrap();
    // 60 waves of one event, the first 30 of which take longer than a lease.
    let one_aggregate = "UPDATE public.saga_outbox SET aggregate_id = 'o'";
    insert(&fresh.db, 0..60, one_aggregate).await;
    let broker = FakeBroker::new(Mood::Up);
    let settings = RelaySettings {
        batch_max: 30,
        lease: Duration::from_secs(1),
        ..RelaySettings::default()
    };
    let tasks = Tasks::new();
    for holder in ["r1", "r2"] {
        let slow = Arc::new(SlowBroker(broker.clone()));
        let relay = SagaOutbox::new(fresh.db.clone(), slow, holder, settings.clone());
        tasks.spawn(holder, relay.run(tasks.shutdown()));
    }
    wait_until(Duration::from_secs(30), "all to be sent", || async {
        states(&fresh.db).await == [("sent".to_owned(), 60)]
    })
    .await;
    tasks.join(Duration::from_secs(5)).await;
    let expected: Vec<i64> = (0..60).collect();
    assert_eq!(numbers(&broker.got()), expected, "in order, once each");
}
