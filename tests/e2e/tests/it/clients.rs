//! Clients in another language: a consumer that reads what the relay sends, which here is the
//! predecessor's table, served in place; and one that knows the cache service's contract alone.

use std::process::Command;
use std::time::Duration;

use ratebox_testkit::{Ratebox, RateboxOptions, RedisOptions, RedisServer, tools, wait_until};
use serde_json::Value;

use crate::cache_service::{embedded, on, started};
use crate::place::Place;

/// The predecessor's table, and 60 unsent events of 6 aggregates as it writes them.
pub(crate) const EVENTS: &str = "
    CREATE TABLE public.saga_outbox (event_id UUID PRIMARY KEY, saga_id VARCHAR(255) NOT NULL,
        aggregate_type VARCHAR(255) NOT NULL DEFAULT 'saga', aggregate_id VARCHAR(255) NOT NULL,
        event_type VARCHAR(255) NOT NULL, payload JSONB NOT NULL,
        headers JSONB NOT NULL DEFAULT '{}', status VARCHAR(50) NOT NULL DEFAULT 'pending',
        created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), claimed_at TIMESTAMPTZ,
        sent_at TIMESTAMPTZ, retry_count INTEGER NOT NULL DEFAULT 0, last_error TEXT,
        worker_id VARCHAR(255), CONSTRAINT valid_status CHECK (
            status IN ('pending', 'claimed', 'sent', 'failed', 'dead_letter')));
    INSERT INTO public.saga_outbox (event_id, saga_id, aggregate_id, event_type, payload, headers,
        created_at)
    SELECT gen_random_uuid(), 's' || n % 6, 's' || n % 6, 'OrderCreated',
        jsonb_build_object('n', n, 'name', 'Đặng Thị Ánh'), '{\"tenant\": \"a\"}',
        now() + n * interval '1 ms'
    FROM generate_series(0, 59) n";

#[tokio::test]
async fn a_python_consumer_of_redis_reads_the_predecessor_s_events_served_in_place() {
    let place = Place::new();
    place.token();
    place.postgres.sql(EVENTS).unwrap();
    let _relay = Ratebox::relay(|it| {
        let options = place.on(it);
        options.env("RATEBOX_RELAY__SAGA_OUTBOX", "bus")
    })
    .unwrap();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/python/redis_consumer.py"
    );
    let output = Command::new("python3")
        .args([script, &place.redis.url(), "OrderCreated", "60"])
        .env("PYTHONPATH", tools::python_clients().unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut last = [-1; 6];
    for line in lines.lines() {
        let got: Value = serde_json::from_str(line).unwrap();
        let body = &got["data"];
        assert_eq!(
            (&got["rb-id"], &got["event_id"]),
            (&body["event_id"], &body["event_id"])
        );
        assert_eq!(
            (&got["tenant"], &got["event_type"]),
            (&"a".into(), &"OrderCreated".into())
        );
        assert_eq!(body["payload"]["name"], "Đặng Thị Ánh");
        let n = body["payload"]["n"].as_i64().unwrap();
        let aggregate = usize::try_from(n % 6).unwrap();
        assert!(last[aggregate] < n, "an aggregate keeps its order");
        last[aggregate] = n;
    }
    assert_eq!(lines.lines().count(), 60);
    let sent = "SELECT count(*) FROM public.saga_outbox WHERE status = 'sent'";
    wait_until(Duration::from_secs(10), "the rows to say so", || async {
        place.postgres.sql(sent).unwrap() == "60"
    })
    .await;
}

/// Has a client walk the contract of the cache service.
async fn walk(options: RateboxOptions) {
    let options = options.env("RATE_MAX_TOKENS", "100");
    let service = started(options.env("RATEBOX_CACHE__IDENTITY_HEADER", "X-User")).await;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/python/cache_client.py"
    );
    let mut client = Command::new("python3");
    client.args([script, &service.base_url()]);
    let output = tokio::task::spawn_blocking(move || client.output());
    let output = output.await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}{}", service.logs());
    assert!(told.lines().count() > 50, "{told}");
}

#[tokio::test]
async fn a_client_that_knows_the_contract_alone_walks_the_cache_service_in_one_process() {
    walk(embedded()).await;
}

#[tokio::test]
async fn a_client_that_knows_the_contract_alone_walks_the_cache_service_on_valkey() {
    let server = RedisServer::start(RedisOptions::valkey()).unwrap();
    walk(on(server.port())).await;
}
