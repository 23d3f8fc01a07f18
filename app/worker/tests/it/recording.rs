//! A message has one effect, however often and in whatever company it comes.

use ratebox_db::Dialect;
use ratebox_stream::{StreamName, field};

use crate::bench::{Bench, entry};

#[tokio::test]
async fn messages_that_were_recorded_before_have_no_second_effect_among_new_ones() {
    for bench in Bench::both().await {
        bench.handle((0..40).map(entry).collect()).await;
        assert_eq!(bench.answered(), 40, "{}", bench.name);
        // A crash between commit and acknowledgement: some come again, together with new ones.
        bench.handle((30..90).map(entry).collect()).await;
        bench.handle(vec![entry(5)]).await;
        bench.handle((80..92).map(entry).collect()).await;
        assert_eq!(bench.answered(), 92);
        for table in [
            "SELECT count(*) FROM raw_items",
            "SELECT count(*) FROM validation_responses",
            "SELECT count(*) FROM validation_requests WHERE state = 'success'",
            "SELECT count(*) FROM consumer_inbox",
            "SELECT CAST(sum(messages_processed) AS bigint) FROM stream_consumer_stats",
        ] {
            assert_eq!(bench.count(table).await, 92, "{}: {table}", bench.name);
        }
        assert_eq!(bench.suppressed().await, 21, "{}", bench.name);
    }
}

#[tokio::test]
async fn a_message_twice_in_one_batch_has_one_effect() {
    for bench in Bench::both().await {
        let twice = (0..20).chain(10..30).map(entry).collect();
        bench.handle(twice).await;
        assert_eq!(bench.answered(), 30, "{}", bench.name);
        assert_eq!(bench.count("SELECT count(*) FROM raw_items").await, 30);
        assert_eq!(bench.suppressed().await, 10, "{}", bench.name);
    }
}

/// As an import of a stream's entries brings it.
#[tokio::test]
async fn a_foreign_message_that_is_carried_to_another_lane_is_the_same_message() {
    for bench in Bench::both().await {
        bench.handle(vec![entry(1)]).await;
        let mut carried = entry(2);
        carried.stream = StreamName::new("{raw_items}:low");
        carried.fields = entry(1).fields;
        for (name, value) in [
            (field::ID, "whatever".to_owned()),
            (field::FIRST_ENTRY, entry(1).id.to_string()),
            (field::FIRST_STREAM, "raw_items".to_owned()),
        ] {
            carried.fields.push((name.into(), value.into()));
        }
        bench.handle(vec![carried]).await;
        assert_eq!(bench.count("SELECT count(*) FROM raw_items").await, 1);
        assert_eq!(bench.suppressed().await, 1, "{}", bench.name);
    }
}

#[tokio::test]
async fn duplicates_alone_are_counted_too() {
    for bench in Bench::both().await {
        for _ in 0..3 {
            bench.handle((0..20).map(entry).collect()).await;
        }
        assert_eq!(bench.suppressed().await, 40, "{}", bench.name);
    }
}

/// A batch that fails for a known message costs its connection; the next ones are asked for first.
#[tokio::test]
async fn known_messages_cost_a_connection_once() {
    for bench in Bench::both().await {
        if bench.store.db().dialect() == Dialect::Sqlite {
            continue;
        }
        let again = || bench.handle((0..20).map(entry).collect());
        again().await;
        again().await;
        let connection = "SELECT pg_backend_pid()::bigint";
        let before = bench.count(connection).await;
        again().await;
        assert_eq!(bench.count(connection).await, before);
        assert_eq!(bench.suppressed().await, 40);
        // What is new is kept in one round trip again.
        bench.handle((20..40).map(entry).collect()).await;
        assert_eq!(bench.answered(), 40);
    }
}

#[tokio::test]
async fn batches_at_the_same_time_share_messages_and_none_is_doubled() {
    for bench in Bench::both().await {
        let batches =
            (0..4).map(|part| bench.handle((part * 20..part * 20 + 40).map(entry).collect()));
        futures_util::future::join_all(batches).await;
        assert_eq!(bench.answered(), 100, "{}", bench.name);
        assert_eq!(bench.count("SELECT count(*) FROM raw_items").await, 100);
        let counted = "SELECT CAST(sum(messages_processed) AS bigint) FROM stream_consumer_stats";
        assert_eq!(bench.count(counted).await, 100);
    }
}

#[tokio::test]
async fn when_a_row_exists_although_its_mark_is_gone_the_verdict_is_answered_again() {
    for bench in Bench::both().await {
        bench.handle((0..20).map(entry).collect()).await;
        // Marks are forgotten after their window; a replay may come later.
        let forget = "DELETE FROM consumer_inbox".to_owned();
        bench.store.db().script(forget).await.unwrap();
        bench.handle((10..30).map(entry).collect()).await;
        assert_eq!(bench.answered(), 40, "{}", bench.name);
        assert_eq!(bench.count("SELECT count(*) FROM raw_items").await, 30);
        assert_eq!(
            bench
                .count("SELECT count(*) FROM validation_responses")
                .await,
            30
        );
    }
}
