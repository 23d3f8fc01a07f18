//! What is known of a value.

use std::time::Duration;

use ratebox_intake::{LookupKind, item_id};
use ratebox_kit::id;
use ratebox_store::{Batch, ItemRow, LookupScope, Rewrite, SOURCES_MAX, Sightings, Stamp};

use crate::databases::{Fresh, both};

const ALL: LookupScope<'static> = LookupScope {
    owner: None,
    rows_max: 1000,
};

struct Seen<'a> {
    phone: &'a str,
    source: &'a str,
    owner: &'a str,
    done: bool,
}

async fn record(fresh: &Fresh, seen: &[Seen<'_>]) {
    let now = fresh.clock.now();
    let mut batch = Batch::new(Rewrite::Never);
    let stamp = Stamp {
        ruleset: "1.0.0",
        group: "group",
        consumer: "worker",
        started_at: now,
        completed_at: now,
    };
    for it in seen {
        let request = id::new();
        batch.item(&ItemRow {
            id: item_id(request, 0),
            request_id: request,
            item_no: 0,
            payload: "{}",
            source: it.source,
            done: it.done,
            result: None,
            error: None,
            phone: Some(it.phone),
            bank_account: Some("0071000123456"),
            email: None,
            profile: "classic",
            confidence: 0.95,
            owner: it.owner,
            stream_id: "1-1",
            retry_count: 0,
        });
    }
    let statements = batch.into_statements(&stamp).unwrap();
    fresh.store.db().run(statements).await.unwrap();
}

const fn seen<'a>(phone: &'a str, source: &'a str, owner: &'a str, done: bool) -> Seen<'a> {
    Seen {
        phone,
        source,
        owner,
        done,
    }
}

async fn of(fresh: &Fresh, phone: &str, scope: LookupScope<'_>) -> Option<Sightings> {
    let found = fresh.store.sightings(LookupKind::Phone, phone, scope);
    found.await.unwrap()
}

#[tokio::test]
async fn items_are_counted_by_verdict_and_source_with_first_and_last() {
    for fresh in both().await {
        assert_eq!(of(&fresh, "+841", ALL).await, None, "{}", fresh.name);
        let first = fresh.clock.now();
        let two = [
            seen("+841", "api", "a", true),
            seen("+842", "api", "a", true),
        ];
        record(&fresh, &two).await;
        fresh.clock.advance(Duration::from_secs(60));
        record(&fresh, &[seen("+841", "extension", "b", false)]).await;
        fresh.clock.advance(Duration::from_secs(60));
        record(&fresh, &[seen("+841", "extension", "a", true)]).await;
        let found = of(&fresh, "+841", ALL).await.unwrap();
        assert_eq!((found.seen, found.done, found.error), (3, 2, 1));
        let sources = [("extension".to_owned(), 2), ("api".to_owned(), 1)];
        assert_eq!(found.sources, sources, "{}", fresh.name);
        assert_eq!((found.other_sources, found.at_least), (0, false));
        let micros = |time: Option<ratebox_kit::Timestamp>| time.unwrap().as_microsecond();
        assert_eq!(micros(found.first_at), first.as_microsecond());
        assert_eq!(micros(found.last_at), fresh.clock.now().as_microsecond());
    }
}

#[tokio::test]
async fn an_owner_sees_its_own_items_only() {
    for fresh in both().await {
        record(
            &fresh,
            &[
                seen("+841", "api", "a", true),
                seen("+841", "api", "b", true),
                seen("+842", "api", "b", true),
            ],
        )
        .await;
        let of_a = LookupScope {
            owner: Some("a"),
            ..ALL
        };
        assert_eq!(of(&fresh, "+841", of_a).await.unwrap().seen, 1);
        assert_eq!(of(&fresh, "+842", of_a).await, None, "{}", fresh.name);
        let many = vec!["+842".to_owned(), "+841".to_owned(), "+841".to_owned()];
        let store = &fresh.store;
        let found = store.sightings_of_many(LookupKind::Phone, many, of_a).await;
        let found = found.unwrap();
        assert_eq!(found.len(), 1, "{}", fresh.name);
        assert_eq!(found["+841"].seen, 1);
    }
}

#[tokio::test]
async fn many_values_are_found_at_once_and_none_is_found_in_another_column() {
    for fresh in both().await {
        let phones: Vec<String> = (0..500).map(|n| format!("+84{n}")).collect();
        let rows: Vec<_> = phones.iter().step_by(2).collect();
        let rows: Vec<_> = rows.iter().map(|it| seen(it, "api", "a", true)).collect();
        record(&fresh, &rows).await;
        let store = &fresh.store;
        let found = store.sightings_of_many(LookupKind::Phone, phones.clone(), ALL);
        let found = found.await.unwrap();
        assert_eq!(found.len(), 250, "{}", fresh.name);
        assert!(found.contains_key("+84498") && !found.contains_key("+84499"));
        let other = store
            .sightings_of_many(LookupKind::Email, phones, ALL)
            .await;
        assert!(other.unwrap().is_empty(), "{}", fresh.name);
        let account = store.sightings(LookupKind::BankAccount, "0071000123456", ALL);
        assert_eq!(account.await.unwrap().unwrap().seen, 250);
        let none = store.sightings_of_many(LookupKind::Email, Vec::new(), ALL);
        assert!(none.await.unwrap().is_empty(), "{}", fresh.name);
    }
}

#[tokio::test]
async fn a_value_that_everybody_sends_is_counted_up_to_a_limit() {
    for fresh in both().await {
        let sources: Vec<String> = (0..SOURCES_MAX + 5).map(|n| format!("s{n:03}")).collect();
        let rows: Vec<_> = sources
            .iter()
            .map(|it| seen("+841", it, "a", true))
            .collect();
        record(&fresh, &rows).await;
        let found = of(&fresh, "+841", ALL).await.unwrap();
        assert_eq!((found.sources.len(), found.other_sources), (SOURCES_MAX, 5));
        let ten = LookupScope {
            rows_max: 10,
            ..ALL
        };
        let found = of(&fresh, "+841", ten).await.unwrap();
        assert_eq!((found.at_least, found.seen), (true, 10), "{}", fresh.name);
        assert_eq!((found.first_at, found.last_at), (None, None));
        // Others' items are looked at too, and not counted: it is not known whether there are ours.
        let of_b = LookupScope {
            owner: Some("b"),
            ..ten
        };
        let found = of(&fresh, "+841", of_b).await.unwrap();
        assert_eq!((found.at_least, found.seen), (true, 0), "{}", fresh.name);
    }
}
