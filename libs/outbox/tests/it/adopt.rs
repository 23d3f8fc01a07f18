//! Taking over the predecessor's tables.

use std::sync::Arc;

use ratebox_db::Sql;
use ratebox_outbox::{Adopted, OutboxAdmin, Relay, RelaySettings, Step, adopt};
use serde_json::Value;

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;

const TABLES: &str = "
    CREATE TABLE public.saga_outbox (event_id uuid PRIMARY KEY, saga_id varchar(255) NOT NULL,
        aggregate_type varchar(255) DEFAULT 'saga', aggregate_id varchar(255),
        event_type varchar(255) NOT NULL, payload jsonb NOT NULL, headers jsonb DEFAULT '{}',
        status varchar(50) NOT NULL DEFAULT 'pending' CHECK (status IN
            ('pending', 'claimed', 'sent', 'failed', 'dead_letter')),
        created_at timestamptz NOT NULL DEFAULT now(), claimed_at timestamptz,
        sent_at timestamptz, retry_count int DEFAULT 0, last_error text,
        worker_id varchar(255));
    CREATE TABLE public.consumer_inbox (event_id uuid PRIMARY KEY, consumer_name varchar(255),
        source_topic varchar(255), event_type varchar(255), payload jsonb,
        consumed_at timestamptz DEFAULT now(), processing_duration_ms int);
    INSERT INTO public.saga_outbox
        (event_id, saga_id, aggregate_id, event_type, payload, headers, status, created_at)
    SELECT gen_random_uuid(), 's' || n % 5, 's' || n % 5, 'OrderCreated',
        jsonb_build_object('n', n), '{\"tenant\": \"a\"}',
        (ARRAY['pending', 'claimed', 'sent', 'failed', 'dead_letter'])[1 + n / 5 % 5],
        now() + n * interval '1 ms'
    FROM generate_series(0, 2499) n;
    INSERT INTO public.consumer_inbox (event_id, consumer_name, source_topic, event_type)
    SELECT event_id, 'billing', 'orders', event_type FROM public.saga_outbox
    WHERE status = 'sent'";

#[tokio::test]
async fn unsent_events_of_the_predecessor_are_sent_in_order_and_what_was_consumed_stays_known() {
    let fresh = both().await.remove(1);
    assert_eq!(
        adopt(&fresh.db).await.unwrap(),
        Adopted::default(),
        "there is nothing yet"
    );
    fresh.db.script(TABLES.to_owned()).await.unwrap();
    let adopted = adopt(&fresh.db).await.unwrap();
    let expected = Adopted {
        events: 1500,
        dead: 500,
        marks: 500,
    };
    assert_eq!(adopted, expected);
    assert_eq!(adopt(&fresh.db).await.unwrap(), Adopted::default(), "once");
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
