//! The predecessor's tables are taken over once, however often it is asked for.

use std::time::Duration;

use ratebox_db::Sql;
use ratebox_intake::{Profile, Rules, decode};
use ratebox_store::{Adoption, Compared, Error, PREDECESSOR_SCHEMA, Progress};
use serde_json::Value;

use crate::databases::{Fresh, fresh, postgres};

/// The predecessor's tables, as its own script made them but for extensions and indexes.
const TABLES: &str = "
    CREATE TABLE public.raw_items (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), phone text, bank_account text, data jsonb,
        validation_state text DEFAULT 'PENDING', created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now(), source varchar(100) DEFAULT 'unknown',
        stream_id varchar(255), consumer_group varchar(100), consumer_name varchar(100),
        processing_started_at timestamp, processing_completed_at timestamp,
        retry_count int DEFAULT 0, last_error text);
    CREATE TABLE public.raw_item_errors (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        item_id uuid NOT NULL REFERENCES public.raw_items (id), error_code int NOT NULL,
        field text, occurred_at timestamptz DEFAULT now(), message text);
    CREATE TABLE public.stream_consumer_stats (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), consumer_group varchar(100) NOT NULL,
        consumer_name varchar(100) NOT NULL, stream_name varchar(100) NOT NULL,
        messages_processed int DEFAULT 0, messages_with_errors int DEFAULT 0,
        last_message_id varchar(255), last_processed_at timestamp DEFAULT now(),
        created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(),
        UNIQUE (consumer_group, consumer_name, stream_name));";

const ROWS: &str = "
    INSERT INTO public.raw_items (id, data, validation_state, created_at, source, stream_id,
        consumer_group, consumer_name, processing_started_at, processing_completed_at) VALUES
        ('11111111-1111-4111-8111-111111111111',
         '{\"name\":\"An\",\"phone\":\"0912 345 678\",\"bank_account\":\"12345678901\"}',
         'DONE', '2025-06-30 23:59:59.5+00', 'crawler', '1751327999500-0', 'g', 'worker_1',
         '2025-06-30 23:59:59.5', '2025-06-30 23:59:59.9'),
        ('22222222-2222-4222-8222-222222222222', '{\"phone\":\"123\",\"bank_account\":\"456\"}',
         'ERROR', '2025-07-01 00:00:00+00', NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO public.raw_items (id, phone, validation_state, created_at) VALUES
        ('33333333-3333-4333-8333-333333333333', '0987654321', 'PENDING', '2025-07-02 00:00:00+00');
    INSERT INTO public.raw_items (id, validation_state, source, created_at, last_error) VALUES
        ('44444444-4444-4444-8444-444444444444', 'ERROR', 'error', '1999-01-01 00:00:00+00',
         'it broke');
    INSERT INTO public.raw_item_errors (item_id, error_code, field, occurred_at, message) VALUES
        ('22222222-2222-4222-8222-222222222222', 101, 'phone', '2025-07-01 00:00:01+00',
         'Phone number too short: 3 chars, minimum 10'),
        ('22222222-2222-4222-8222-222222222222', 201, 'bank_account', '2025-07-01 00:00:02+00',
         'Bank account too short: 3 chars, minimum 8');
    INSERT INTO public.stream_consumer_stats (consumer_group, consumer_name, stream_name,
        messages_processed, messages_with_errors) VALUES ('g', 'worker_1', 'raw_items', 7, 2);";

fn adoption() -> Adoption {
    Adoption {
        schema: PREDECESSOR_SCHEMA.to_owned(),
        owner: "bus".to_owned(),
        rules: Rules::new(Profile::Classic),
    }
}

async fn with_predecessor(rows: &str) -> Fresh {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let script = format!("{TABLES} {rows}");
    fresh.store.db().script(script).await.unwrap();
    fresh
}

async fn one(fresh: &Fresh, sql: &'static str) -> String {
    let rows = fresh.store.db().query(Sql::both(sql)).await.unwrap();
    rows[0].get(0).unwrap()
}

fn found(compared: &[Compared]) -> Vec<(&str, u64, u64)> {
    compared
        .iter()
        .map(|it| (it.what, it.there, it.here))
        .collect()
}

#[tokio::test]
async fn the_predecessor_s_tables_are_copied_once_however_often() {
    let fresh = with_predecessor(ROWS).await;
    let everything = [
        ("items DONE", 1, 1),
        ("items ERROR", 2, 2),
        ("items PENDING", 1, 1),
        ("items DLQ", 0, 0),
        ("errors", 2, 2),
        ("consumers", 1, 1),
    ];
    for _ in 0..2 {
        let mut last = None;
        let compared = fresh
            .store
            .adopt(&adoption(), |it| last = Some(it))
            .await
            .unwrap();
        assert_eq!(found(&compared), everything);
        let end = Progress {
            done: 4,
            total: 4,
            comparing: true,
        };
        assert_eq!(last, Some(end));
    }
    let counts = fresh.store.item_counts().await.unwrap();
    assert_eq!((counts.total, counts.done, counts.error), (3, 1, 2));
    assert_eq!((counts.pending, counts.stream_processed), (1, 7));
    let views = one(
        &fresh,
        "SELECT count(*)::text FROM pg_views WHERE viewname LIKE 'adopt%'",
    );
    assert_eq!(views.await, "0");
}

#[tokio::test]
async fn an_adopted_item_is_like_one_of_ours() {
    let fresh = with_predecessor(ROWS).await;
    fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    let done = one(
        &fresh,
        "SELECT row_to_json(i)::text FROM raw_items_2025_06 i WHERE status = 'success'",
    );
    let done: Value = serde_json::from_str(&done.await).unwrap();
    assert_eq!(done["id"], done["request_id"]);
    // The last half second of June, in milliseconds, then version 7.
    let id = done["id"].as_str().unwrap();
    assert!(id.starts_with("0197c348-860c-7"), "{id}");
    assert_eq!(
        (&done["phone"], &done["owner"], &done["source"]),
        (&"+84912345678".into(), &"bus".into(), &"crawler".into())
    );
    assert_eq!(
        (&done["payload"]["phone"], &done["result"]["verdict"]),
        (&"0912 345 678".into(), &"DONE".into())
    );
    let times = one(
        &fresh,
        "SELECT extract(epoch FROM processing_completed_at - created_at)::float8::text
         FROM raw_items WHERE status = 'success'",
    );
    assert_eq!(times.await, "0.4");
    let codes = one(
        &fresh,
        "SELECT string_agg(error_no || ':' || error_code || ':' || field, ' ' ORDER BY error_no)
         FROM raw_item_errors_2025_07",
    );
    assert_eq!(codes.await, "0:101:phone 1:201:bank_account");
    let broken = one(
        &fresh,
        "SELECT error::text FROM raw_items_default WHERE source = 'error'",
    );
    assert!(broken.await.contains("\"code\": 910"));
}

/// The predecessor's worker polled its table; ours hears of requests.
#[tokio::test]
async fn an_item_that_waits_becomes_a_request_that_the_relay_publishes() {
    let fresh = with_predecessor(ROWS).await;
    fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    let later = fresh.clock.now() + Duration::from_secs(60);
    let waiting = fresh.store.unfinished_before("low", later, 10).await;
    let waiting = waiting.unwrap();
    assert_eq!(waiting.len(), 1);
    let decoded = decode(&[("data", &waiting[0].body)], 10).unwrap();
    let request = decoded.into_own().unwrap();
    assert_eq!(request.request_id, waiting[0].id);
    assert_eq!(request.items[0].json(), "{\"phone\": \"0987654321\"}");
    assert_eq!((&*request.owner, &*request.source), ("bus", "unknown"));
    let old = "33333333-3333-4333-8333-333333333333";
    assert_eq!(request.external_ref.as_deref(), Some(old));
    assert_eq!(request.profile, Some(Profile::Classic));
    assert_eq!(request.accepted_at().to_string(), "2025-07-02T00:00:00Z");
}

/// Whoever adopted with an earlier release has it among the items.
#[tokio::test]
async fn an_item_that_was_copied_while_it_waited_is_handed_over_by_the_next_run() {
    let fresh = with_predecessor(ROWS).await;
    fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    let as_before = "INSERT INTO raw_items (id, request_id, item_no, payload, source, status,
            profile, ruleset, confidence, owner, stream_id, consumer_group, consumer_name,
            processing_started_at, processing_completed_at, created_at, updated_at)
        SELECT id, id, 0, '{}'::jsonb, source, 'pending', 'classic', 'predecessor', 0.5, owner, '', '',
            '', accepted_at, accepted_at, accepted_at, accepted_at FROM validation_requests;
        DELETE FROM validation_requests;";
    let script = as_before.to_owned();
    fresh.store.db().script(script).await.unwrap();
    let compared = fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    assert_eq!(found(&compared)[2], ("items PENDING", 1, 1));
    let counts = fresh.store.item_counts().await.unwrap();
    assert_eq!((counts.total, counts.pending), (3, 1));
}

#[tokio::test]
async fn an_item_that_was_handed_over_is_not_copied_whatever_becomes_of_it_there() {
    let fresh = with_predecessor(ROWS).await;
    fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    let judged = "UPDATE public.raw_items SET validation_state = 'ERROR'
            WHERE validation_state = 'PENDING';
        INSERT INTO public.raw_item_errors (item_id, error_code, message)
            VALUES ('33333333-3333-4333-8333-333333333333', 200, 'Bank account is required');";
    let script = judged.to_owned();
    fresh.store.db().script(script).await.unwrap();
    let compared = fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    let expected = [
        ("items DONE", 1, 1),
        ("items ERROR", 3, 3),
        ("items PENDING", 0, 0),
        ("items DLQ", 0, 0),
        ("errors", 2, 2),
        ("consumers", 1, 1),
    ];
    assert_eq!(found(&compared), expected);
    let counts = fresh.store.item_counts().await.unwrap();
    assert_eq!((counts.total, counts.pending), (3, 1));
}

#[tokio::test]
async fn what_came_since_is_added_and_what_differs_is_told() {
    let fresh = with_predecessor(ROWS).await;
    fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    let more = "INSERT INTO public.raw_items (validation_state) SELECT 'DONE'
        FROM generate_series(1, 4500);
        UPDATE raw_items SET status = 'dlq' WHERE source = 'error';";
    fresh.store.db().script(more.to_owned()).await.unwrap();
    let mut steps = 0;
    let compared = fresh
        .store
        .adopt(&adoption(), |_| steps += 1)
        .await
        .unwrap();
    assert_eq!(
        compared[0],
        Compared {
            what: "items DONE",
            there: 4501,
            here: 4501
        }
    );
    assert_eq!(
        compared[1],
        Compared {
            what: "items ERROR",
            there: 2,
            here: 1
        }
    );
    assert_eq!(steps, 6, "three pages, copied and compared");
}

#[tokio::test]
async fn older_tables_without_some_columns_will_do() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let old = "CREATE SCHEMA \"Old one\";
        CREATE TABLE \"Old one\".raw_items (id uuid PRIMARY KEY, data json, validation_state text,
            created_at timestamp);
        INSERT INTO \"Old one\".raw_items VALUES
            (gen_random_uuid(), '{\"phone\":\"0912345678\"}', 'DONE', '2025-05-05 10:00:00');";
    fresh.store.db().script(old.to_owned()).await.unwrap();
    let adoption = Adoption {
        schema: "Old one".to_owned(),
        ..adoption()
    };
    let compared = fresh.store.adopt(&adoption, |_| {}).await.unwrap();
    assert_eq!(
        compared[0],
        Compared {
            what: "items DONE",
            there: 1,
            here: 1
        }
    );
    let at = one(
        &fresh,
        "SELECT (created_at AT TIME ZONE 'UTC')::text FROM raw_items_2025_05",
    );
    assert_eq!(at.await, "2025-05-05 10:00:00");
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_refused_with_a_reason() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let refused = async |schema: &str| {
        let adoption = Adoption {
            schema: schema.to_owned(),
            ..adoption()
        };
        let error = fresh.store.adopt(&adoption, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Adoption { .. }), "{error:?}");
        error.to_string()
    };
    assert!(refused("public").await.contains("--from-schema"));
    assert!(refused("ratebox").await.contains("our own tables"));
    let other = "CREATE TABLE public.raw_items (id uuid, status text);";
    fresh.store.db().script(other.to_owned()).await.unwrap();
    assert!(refused("public").await.contains("not the predecessor's"));
    let sqlite = &crate::databases::both().await[0];
    let error = sqlite.store.adopt(&adoption(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("PostgreSQL"), "{error}");
}

/// Their views have the same names.
#[tokio::test]
async fn whoever_adopts_second_waits_and_finds_everything_done() {
    let fresh = with_predecessor(ROWS).await;
    let (told, hears) = tokio::sync::oneshot::channel();
    let turn = fresh.store.adopting(|| {}).await.unwrap();
    let first = async {
        hears.await.unwrap();
        let compared = fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
        drop(turn);
        compared
    };
    let second = async {
        let waits = || told.send(()).unwrap();
        let _turn = fresh.store.adopting(waits).await.unwrap();
        fresh.store.adopt(&adoption(), |_| {}).await.unwrap()
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(found(&first), found(&second));
    assert_eq!(found(&first)[0], ("items DONE", 1, 1));
}

#[tokio::test]
async fn an_item_that_was_kept_as_text_is_the_object_that_it_holds() {
    let fresh = fresh("PostgreSQL", postgres()).await;
    let rows = "CREATE TABLE public.raw_items (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            data text, validation_state text DEFAULT 'DONE', created_at timestamptz DEFAULT now(),
            source text);
        INSERT INTO public.raw_items (data, source) VALUES
            (' {\"phone\":\"0912345678\"}', 'object'), ('{\"phone\": ', 'broken'),
            ('{\"phone\":\"\\u0000\"}', 'nul'), ('just words', 'words'), ('[1]', 'list');";
    fresh.store.db().script(rows.to_owned()).await.unwrap();
    let compared = fresh.store.adopt(&adoption(), |_| {}).await.unwrap();
    assert_eq!(found(&compared)[0], ("items DONE", 5, 5));
    let kinds = one(
        &fresh,
        "SELECT string_agg(source || ' ' || jsonb_typeof(payload), ', ' ORDER BY source)
         FROM raw_items",
    );
    let expected = "broken string, list string, nul string, object object, words string";
    assert_eq!(kinds.await, expected);
    let phone = one(
        &fresh,
        "SELECT phone FROM raw_items WHERE source = 'object'",
    );
    assert_eq!(phone.await, "+84912345678");
    let functions = one(
        &fresh,
        "SELECT count(*)::text FROM pg_proc WHERE proname LIKE 'adopt%'",
    );
    assert_eq!(functions.await, "0");
}
