//! A message has one effect, however often and in whatever company it comes.

use bytes::Bytes;
use ratebox_db::Dialect;
use ratebox_kit::{Clock, DeadLetter, DeadLetterClass, DeadLetters};
use ratebox_stream::{Entry, EntryId, StreamName, field};

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

/// As the bus gives up what nobody acknowledged.
fn letter(entry: &Entry) -> DeadLetter {
    let now = Clock::system().now();
    let fields = entry.fields.iter();
    let fields = fields.filter(|(name, _)| name.as_str() != field::FIRST_ENTRY);
    DeadLetter {
        message_id: entry.message_id().into_owned(),
        stream: entry.stream.to_string(),
        entry_id: entry.first_entry().to_string(),
        lane: "normal".to_owned(),
        fields: fields
            .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
            .collect(),
        class: DeadLetterClass::Poison,
        error: "delivered 3 times without an outcome".to_owned(),
        code: "delivery.poison".to_owned(),
        fail_count: 3,
        first_failed_at: now,
        last_failed_at: now,
        consumer: "one".to_owned(),
        group: "workers".to_owned(),
        attempts: Vec::new(),
    }
}

/// Workers that die between commit and acknowledgement, one after another.
#[tokio::test]
async fn a_foreign_message_that_was_judged_is_no_dead_letter_that_waits() {
    for bench in Bench::both().await {
        let carried = || {
            let mut carried = entry(2);
            let (first, from) = ("7-0", "others");
            carried
                .fields
                .push((field::FIRST_ENTRY.into(), first.into()));
            carried
                .fields
                .push((field::FIRST_STREAM.into(), from.into()));
            carried
        };
        bench.handle(vec![entry(1), carried()]).await;
        let letters = [entry(1), carried(), entry(3)].map(|it| letter(&it));
        bench.store.keep(&letters).await.unwrap();
        let resolved = "SELECT count(*) FROM dead_letters d JOIN validation_requests q
            ON q.id = d.request_id WHERE d.state = 'replayed' AND q.state = 'success'";
        assert_eq!(bench.count(resolved).await, 2, "{}", bench.name);
        let waiting = bench.store.dead_letter_count().await;
        assert_eq!(waiting.unwrap(), 1, "{}: nobody judged it", bench.name);
    }
}

/// Whoever could name an entry that is yet to come would have it taken for a duplicate.
#[tokio::test]
async fn a_foreign_message_cannot_take_the_place_of_one_that_comes_later() {
    for bench in Bench::both().await {
        let mut first = entry(1);
        let later = entry(2).id.to_string();
        first.fields.push((field::FIRST_ENTRY.into(), later.into()));
        bench.handle(vec![first]).await;
        let mut low = entry(3);
        low.stream = StreamName::new("{raw_items}:low");
        let of = Bytes::from_static(b"raw_items");
        low.fields.push((field::FIRST_STREAM.into(), of));
        let same = low.id.to_string();
        low.fields.push((field::FIRST_ENTRY.into(), same.into()));
        bench.handle(vec![low]).await;
        bench.handle(vec![entry(2), entry(3)]).await;
        assert_eq!(bench.answered(), 4, "{}: four verdicts", bench.name);
        assert_eq!(bench.count("SELECT count(*) FROM raw_items").await, 4);
        assert_eq!(bench.suppressed().await, 0, "{}", bench.name);
    }
}

#[tokio::test]
async fn a_first_entry_of_a_far_day_leaves_no_row_without_a_partition() {
    let [_, bench] = Bench::both().await;
    assert_eq!(bench.name, "PostgreSQL");
    let now_ms = u64::try_from(Clock::system().now_ms()).unwrap();
    for (number, far) in ["281474976710655-0", "18446744073709551615-0"]
        .into_iter()
        .enumerate()
    {
        let mut forged = entry(0);
        forged.id = EntryId::new(now_ms, number as u64);
        forged.fields.push((field::FIRST_ENTRY.into(), far.into()));
        bench.handle(vec![forged]).await;
    }
    assert_eq!(bench.answered(), 2);
    for table in [
        "SELECT count(*) FROM raw_items_default",
        "SELECT count(*) FROM raw_item_errors_default",
        "SELECT count(*) FROM validation_responses_default",
    ] {
        assert_eq!(bench.count(table).await, 0, "{table}");
    }
}

/// What any producer may write, and what PostgreSQL's columns do not hold.
#[tokio::test]
async fn the_figures_that_an_entry_says_it_has_cost_it_no_verdict() {
    for bench in Bench::both().await {
        for (number, attempt) in (0..).zip(["2147483647", "4294967295", "-1", "x"]) {
            let mut odd = entry(number);
            odd.fields.push((field::ATTEMPT.into(), attempt.into()));
            bench.handle(vec![odd]).await;
        }
        assert_eq!(bench.answered(), 4, "{}", bench.name);
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
