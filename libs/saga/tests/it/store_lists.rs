//! Finding, counting and forgetting sagas.

use std::sync::Arc;

use ratebox_saga::{Count, Entry, Filter, Parent, SagaId, Status, Wake, Written};

use crate::beds::{self, Bed, at_ms, letter, now, records, saga, start, with_key};

async fn ids(bed: &Bed, filter: Filter) -> Vec<SagaId> {
    let heads = bed.store.list(&filter).await.unwrap();
    heads.iter().map(|it| it.id).collect()
}

fn any() -> Filter {
    Filter {
        limit: 100,
        ..Filter::default()
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn a_list_has_what_fits_and_a_filter_that_fits_nothing_lists_nothing() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let mut all = [
            with_key("trip", "a"),
            with_key("trip", "b"),
            with_key("order", "a"),
        ];
        all[2].parent = Some(Parent {
            saga: all[0].id,
            step: "book".to_owned(),
        });
        for (ms, it) in all.iter_mut().enumerate() {
            it.created_at = at_ms(i64::try_from(ms).unwrap());
        }
        let entries: Vec<Entry> = all.iter().cloned().map(start).collect();
        assert_eq!(bed.write(owner, &entries).await, [Written::Kept; 3]);
        bed.change(owner, all[1].id, Status::Completed, Wake::Live)
            .await;
        let (a, b, c) = (all[0].id, all[1].id, all[2].id);
        let text = |it: &str| Some(it.to_owned());
        let cases = [
            (any(), vec![a, b, c]),
            (
                Filter {
                    definition: text("trip"),
                    ..any()
                },
                vec![a, b],
            ),
            (
                Filter {
                    definition: text("tri_"),
                    ..any()
                },
                vec![],
            ),
            (
                Filter {
                    key: text("a"),
                    ..any()
                },
                vec![a, c],
            ),
            (
                Filter {
                    definition: text("trip"),
                    key: text("a"),
                    ..any()
                },
                vec![a],
            ),
            (
                Filter {
                    definition: text("trip"),
                    key: text("c"),
                    ..any()
                },
                vec![],
            ),
            (
                Filter {
                    statuses: vec![Status::Executing],
                    ..any()
                },
                vec![a, c],
            ),
            (
                Filter {
                    statuses: vec![Status::Completed, Status::Parked],
                    ..any()
                },
                vec![b],
            ),
            (
                Filter {
                    statuses: vec![Status::Parked],
                    ..any()
                },
                vec![],
            ),
            (
                Filter {
                    statuses: vec![Status::Failed],
                    ..any()
                },
                vec![],
            ),
            (
                Filter {
                    parent: Some(a),
                    ..any()
                },
                vec![c],
            ),
            (
                Filter {
                    parent: Some(b),
                    ..any()
                },
                vec![],
            ),
            (
                Filter {
                    created_from: Some(at_ms(1)),
                    ..any()
                },
                vec![b, c],
            ),
            (
                Filter {
                    created_before: Some(at_ms(1)),
                    ..any()
                },
                vec![a],
            ),
            (
                Filter {
                    after: Some(a),
                    ..any()
                },
                vec![b, c],
            ),
            (
                Filter {
                    after: Some(a),
                    limit: 1,
                    ..any()
                },
                vec![b],
            ),
            (Filter { limit: 0, ..any() }, vec![]),
        ];
        for (filter, expected) in cases {
            let found = ids(&bed, filter.clone()).await;
            assert_eq!(found, expected, "{}: {filter:?}", bed.name);
        }
    }
}

#[tokio::test]
async fn sagas_are_counted_by_definition_and_status() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        assert_eq!(bed.store.counts().await.unwrap(), []);
        let ended = bed.started(owner).await;
        bed.change(owner, ended, Status::Completed, Wake::Live)
            .await;
        bed.started(owner).await;
        bed.started(owner).await;
        bed.write(owner, &[start(saga("order"))]).await;
        let count = |definition: &str, status, sagas| Count {
            definition: definition.to_owned(),
            status,
            sagas,
        };
        let mut counts = bed.store.counts().await.unwrap();
        counts.sort_by_key(|it| (it.definition.clone(), it.status));
        let expected = [
            count("order", Status::Executing, 1),
            count("trip", Status::Executing, 2),
            count("trip", Status::Completed, 1),
        ];
        assert_eq!(counts, expected, "{}", bed.name);
    }
}

#[tokio::test]
async fn the_ended_are_forgotten_with_all_they_have_and_the_running_stay() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let new = with_key("trip", "k");
        let (ended, running) = (new.id, bed.started(owner).await);
        bed.write(owner, &[start(new)]).await;
        bed.append(owner, records(ended, 0..3)).await;
        let before = now();
        bed.change(owner, ended, Status::RolledBack, Wake::Live)
            .await;
        bed.store.post(&letter(ended, "late")).await.unwrap();
        assert_eq!(bed.store.ended(before, 10).await.unwrap(), []);
        let after = at_ms(i64::from(u32::MAX) * 100);
        assert_eq!(bed.store.ended(after, 10).await.unwrap(), [ended]);
        assert!(bed.store.ended(after, 0).await.unwrap().is_empty());
        let deleted = bed.store.delete(&[ended, running, SagaId::new()]).await;
        assert_eq!(deleted.unwrap(), 1, "{}", bed.name);
        assert!(bed.store.load(&[ended]).await.unwrap().is_empty());
        assert_eq!(bed.load(running).await.head.id, running);
        assert_eq!(bed.store.delete(&[ended]).await.unwrap(), 0);
        let again = with_key("trip", "k");
        let id = again.id;
        assert_eq!(bed.write(owner, &[start(again)]).await, [Written::Kept]);
        assert_eq!(bed.store.find("trip", "k").await.unwrap(), Some(id));
        let stored = bed.load(id).await;
        assert!(stored.records.is_empty() && stored.letters.is_empty());
    }
}

#[tokio::test]
async fn a_store_answers_and_hides_nothing_from_a_second_look() {
    for bed in beds::all().await {
        bed.store.ping().await.unwrap();
        let owner = bed.join().await;
        let (one, two) = (bed.started(owner).await, bed.started(owner).await);
        let mut loaded = bed.store.load(&[two, SagaId::new(), one]).await.unwrap();
        loaded.sort_by_key(|it| it.head.id);
        let ids: Vec<SagaId> = loaded.iter().map(|it| it.head.id).collect();
        assert_eq!(ids, [one, two], "{}", bed.name);
        let definition: Arc<str> = "trip".into();
        assert!(loaded.iter().all(|it| it.head.definition == definition));
    }
}
