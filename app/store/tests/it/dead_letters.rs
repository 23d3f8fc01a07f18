//! Dead letters keep the original bytes and come once.

use bytes::Bytes;
use ratebox_db::{Db, Dialect, PostgresSettings, Sql};
use ratebox_kit::{Attempt, DeadLetter, DeadLetterClass, DeadLetters, Timestamp, id};
use ratebox_store::{
    CACHE_WRITERS, DeadLetterFilter, LetterHead, LetterState, LetterStates, Refusal, ReplayOrder,
    State, StoredLetter,
};
use uuid::Uuid;

use crate::databases::{Fresh, both, fresh};
use crate::requests::request;

fn letter(fresh: &Fresh, message_id: &str, class: DeadLetterClass) -> DeadLetter {
    DeadLetter {
        message_id: message_id.to_owned(),
        stream: "requests".to_owned(),
        entry_id: format!("{}-0", message_id.len()),
        lane: "normal".to_owned(),
        fields: vec![
            ("data".to_owned(), Bytes::from_static(b"\x00\xff{not json")),
            ("empty".to_owned(), Bytes::new()),
        ],
        class,
        error: "on purpose".to_owned(),
        code: "test.code".to_owned(),
        fail_count: 4,
        first_failed_at: fresh.clock.now(),
        last_failed_at: fresh.clock.now(),
        consumer: "w".to_owned(),
        group: "g".to_owned(),
        attempts: vec![Attempt {
            at: Timestamp::from_millisecond(fresh.clock.now_ms()).unwrap(),
            consumer: "w".to_owned(),
            code: "test.code".to_owned(),
            error: "on purpose".to_owned(),
        }],
    }
}

/// The letter as the consumer gave it.
fn as_kept(stored: &StoredLetter) -> DeadLetter {
    let head = stored.head.clone();
    DeadLetter {
        message_id: head.message_id,
        stream: head.stream,
        entry_id: head.entry_id,
        lane: head.lane,
        fields: stored.fields.clone(),
        class: head.class,
        error: head.error,
        code: head.code,
        fail_count: head.fail_count,
        first_failed_at: head.first_failed_at,
        last_failed_at: head.last_failed_at,
        consumer: head.consumer,
        group: head.group,
        attempts: stored.attempts.clone(),
    }
}

#[tokio::test]
async fn a_letter_keeps_its_bytes_and_marks_its_request_dead() {
    for fresh in both().await {
        let own = request(&fresh, "me");
        let statement = fresh
            .store
            .insert_requests(std::slice::from_ref(&own))
            .unwrap();
        fresh.store.db().execute(statement).await.unwrap();
        let dead = letter(&fresh, &own.id.to_string(), DeadLetterClass::Transient);
        fresh.store.keep(std::slice::from_ref(&dead)).await.unwrap();
        fresh.store.keep(std::slice::from_ref(&dead)).await.unwrap();
        let kept = fresh
            .store
            .dead_letters(&DeadLetterFilter::default(), 10)
            .await
            .unwrap();
        assert_eq!(kept.len(), 1, "{}", fresh.name);
        let whole = fresh.store.whole_letter(kept[0].id).await.unwrap().unwrap();
        assert_eq!(as_kept(&whole), dead);
        assert_eq!(whole.head, kept[0]);
        assert_eq!(
            (kept[0].request_id, kept[0].owner.as_deref()),
            (Some(own.id), Some("me"))
        );
        let status = fresh
            .store
            .status(own.id, Some("me"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.state, State::Dead, "{}", fresh.name);
    }
}

/// How often PostgreSQL has read all requests, as far as this connection knows.
async fn reads_of_all_requests(db: &Db) -> i64 {
    db.query(Sql::both("SELECT pg_stat_force_next_flush()"))
        .await
        .unwrap();
    let told = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'validation_requests'";
    db.query(Sql::both(told)).await.unwrap()[0].get(0).unwrap()
}

#[tokio::test]
async fn a_letter_finds_its_request_without_reading_all_of_them() {
    let settings = PostgresSettings {
        pool_max: 1,
        ..crate::databases::postgres_settings()
    };
    let fresh = fresh("PostgreSQL", Db::postgres(&settings).unwrap()).await;
    let db = fresh.store.db();
    let many =
        "INSERT INTO ratebox.validation_requests (id, owner, source, action, lane, item_count,
            state, accepted_at)
        SELECT gen_random_uuid(), 'o', 's', 'validate', 'normal', 1, 'success', now()
        FROM generate_series(1, 20000); ANALYZE ratebox.validation_requests;";
    db.script(many.to_owned()).await.unwrap();
    let own = request(&fresh, "me");
    let statement = fresh.store.insert_requests(std::slice::from_ref(&own));
    db.execute(statement.unwrap()).await.unwrap();
    let before = reads_of_all_requests(db).await;
    let foreign = letter(&fresh, "no uuid", DeadLetterClass::Poison);
    let dead = letter(&fresh, &own.id.to_string(), DeadLetterClass::Transient);
    fresh.store.keep(&[foreign, dead]).await.unwrap();
    assert_eq!(reads_of_all_requests(db).await, before);
    let all = DeadLetterFilter::default();
    let kept = fresh.store.dead_letters(&all, 10).await.unwrap();
    let mut requests: Vec<_> = kept.iter().map(|it| it.request_id).collect();
    requests.sort_unstable();
    assert_eq!(requests, [None, Some(own.id)]);
}

#[tokio::test]
async fn letters_are_filtered_and_paged_newest_first() {
    for fresh in both().await {
        let store = &fresh.store;
        for n in 0..5 {
            let class = if n % 2 == 0 {
                DeadLetterClass::Poison
            } else {
                DeadLetterClass::Malformed
            };
            let name = "x".repeat(n + 1);
            store.keep(&[letter(&fresh, &name, class)]).await.unwrap();
        }
        let poison = DeadLetterFilter {
            class: Some(DeadLetterClass::Poison),
            ..Default::default()
        };
        assert_eq!(
            store.dead_letters(&poison, 10).await.unwrap().len(),
            3,
            "{}",
            fresh.name
        );
        let page = store
            .dead_letters(&DeadLetterFilter::default(), 2)
            .await
            .unwrap();
        let next = DeadLetterFilter {
            before: Some(page[1].id),
            ..Default::default()
        };
        let rest = store.dead_letters(&next, 10).await.unwrap();
        assert_eq!((page.len(), rest.len()), (2, 3));
        assert!(page[1].id > rest[0].id && page[0].id > page[1].id);
        let other = DeadLetterFilter {
            code: Some("other".to_owned()),
            ..Default::default()
        };
        assert!(store.dead_letters(&other, 10).await.unwrap().is_empty());
        assert_eq!(store.dead_letter_count().await.unwrap(), 5);
    }
}

#[tokio::test]
async fn a_letter_whose_id_is_no_uuid_is_kept_too() {
    for fresh in both().await {
        let message = format!("requests/{}", id::new());
        let odd = letter(&fresh, &message, DeadLetterClass::Malformed);
        fresh.store.keep(std::slice::from_ref(&odd)).await.unwrap();
        let kept = fresh
            .store
            .dead_letters(&DeadLetterFilter::default(), 1)
            .await
            .unwrap();
        let whole = fresh.store.whole_letter(kept[0].id).await.unwrap().unwrap();
        assert_eq!(
            (kept[0].request_id, as_kept(&whole)),
            (None, odd),
            "{}",
            fresh.name
        );
    }
}

/// Whoever may append to the bus can make a letter say anything. One that could not be kept would stop
/// the worker that brings it, and all others after it.
#[tokio::test]
async fn a_letter_is_kept_whatever_its_message_says_of_itself() {
    for fresh in both().await {
        let odd = |number: usize, change: &dyn Fn(&mut DeadLetter)| {
            let mut odd = letter(&fresh, "x", DeadLetterClass::Malformed);
            odd.entry_id = format!("{number}-0");
            odd.message_id = format!("requests/{number}-0");
            change(&mut odd);
            odd
        };
        let letters = [
            odd(0, &|_| {}),
            odd(1, &|it| it.message_id = "\0 \n\u{1b}[2J".to_owned()),
            odd(2, &|it| it.message_id = "x".repeat(100_000)),
            odd(3, &|it| it.fail_count = u32::MAX),
            odd(4, &|it| it.first_failed_at = Timestamp::MIN),
            odd(5, &|it| it.first_failed_at = Timestamp::MAX),
            odd(6, &|it| {
                (it.error, it.code) = ("a\0b".to_owned(), "c\0".to_owned())
            }),
            odd(7, &|_| {}),
        ];
        fresh.store.keep(&letters).await.unwrap();
        let all = DeadLetterFilter::default();
        let mut kept = fresh.store.dead_letters(&all, 20).await.unwrap();
        kept.sort_by(|a, b| a.entry_id.cmp(&b.entry_id));
        assert_eq!(kept.len(), letters.len(), "{}", fresh.name);
        assert_eq!(kept[1].message_id, "\u{fffd} \u{fffd}\u{fffd}[2J");
        assert_eq!(kept[2].message_id.len(), 500);
        assert_eq!(kept[3].fail_count, u32::try_from(i32::MAX).unwrap());
        assert_eq!(kept[4].first_failed_at, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&*kept[6].error, &*kept[6].code),
            ("a\u{fffd}b", "c\u{fffd}")
        );
        for (before, after) in letters.iter().zip(&kept) {
            let whole = fresh.store.whole_letter(after.id).await.unwrap().unwrap();
            assert_eq!(whole.fields, before.fields, "{}", fresh.name);
        }
        for number in [0, 7] {
            let whole = fresh.store.whole_letter(kept[number].id).await;
            assert_eq!(as_kept(&whole.unwrap().unwrap()), letters[number]);
        }
    }
}

/// Nobody knows today what a column will refuse tomorrow.
#[tokio::test]
async fn a_letter_that_the_database_refuses_is_kept_bare_and_costs_the_others_nothing() {
    for fresh in both().await {
        let refuse = match fresh.store.db().dialect() {
            Dialect::Postgres => "ALTER TABLE dead_letters ADD CHECK (error <> 'odd')",
            Dialect::Sqlite => {
                "CREATE TRIGGER odd BEFORE INSERT ON dead_letters WHEN NEW.error = 'odd'
                    BEGIN SELECT RAISE(ABORT, 'odd'); END"
            }
        };
        fresh.store.db().script(refuse.to_owned()).await.unwrap();
        let own = request(&fresh, "me");
        let statement = fresh.store.insert_requests(std::slice::from_ref(&own));
        fresh.store.db().execute(statement.unwrap()).await.unwrap();
        let mut letters = Vec::new();
        for number in 0..7 {
            let message = format!("message {number}");
            let mut dead = letter(&fresh, &message, DeadLetterClass::Transient);
            dead.entry_id = format!("{number}-0");
            letters.push(dead);
        }
        letters[2].error = "odd".to_owned();
        letters[5].error = "odd".to_owned();
        letters[5].message_id = own.id.to_string();
        fresh.store.keep(&letters).await.unwrap();
        let all = DeadLetterFilter::default();
        let mut kept = fresh.store.dead_letters(&all, 20).await.unwrap();
        kept.sort_by(|a, b| a.entry_id.cmp(&b.entry_id));
        assert_eq!(kept.len(), 7, "{}", fresh.name);
        for (before, after) in letters.iter().zip(&kept) {
            let whole = fresh.store.whole_letter(after.id).await.unwrap().unwrap();
            if before.error == "odd" {
                assert_eq!(after.code, "dead_letter.not_as_it_was", "{}", fresh.name);
                assert_eq!(whole.fields, before.fields);
                assert_eq!((&after.group, &after.lane), (&before.group, &before.lane));
            } else {
                assert_eq!(as_kept(&whole), *before, "{}", fresh.name);
            }
        }
        assert_eq!(kept[2].message_id, "requests/2-0");
        assert_eq!(kept[5].request_id, Some(own.id));
        let status = fresh.store.status(own.id, Some("me")).await;
        assert_eq!(
            status.unwrap().unwrap().state,
            State::Dead,
            "{}",
            fresh.name
        );
    }
}

/// Copies of one message, or whatever a producer says came first: one batch may have several.
#[tokio::test]
async fn letters_of_one_first_entry_are_kept_together_and_hold_nothing_up() {
    for fresh in both().await {
        let (one, other) = (id::new().to_string(), format!("x{}", id::new()));
        let mut letters = Vec::new();
        for number in 0..3 {
            for message in [&one, &other] {
                let mut dead = letter(&fresh, message, DeadLetterClass::Transient);
                dead.attempts[0].error = format!("number {number}");
                letters.push(dead);
            }
        }
        fresh.store.keep(&letters).await.unwrap();
        let all = DeadLetterFilter::default();
        let kept = fresh.store.dead_letters(&all, 10).await.unwrap();
        assert_eq!(kept.len(), 2, "{}", fresh.name);
        for head in kept {
            let whole = fresh.store.whole_letter(head.id).await.unwrap().unwrap();
            let errors: Vec<&str> = whole.attempts.iter().map(|it| it.error.as_str()).collect();
            assert_eq!(
                errors,
                ["number 0", "number 1", "number 2"],
                "{}",
                fresh.name
            );
        }
    }
}

#[tokio::test]
async fn a_history_is_bounded_and_told_once() {
    for fresh in both().await {
        let message = id::new().to_string();
        let mut dead = letter(&fresh, &message, DeadLetterClass::Transient);
        for number in 0..200 {
            dead.attempts[0].error = format!("{number} {}", "x".repeat(150));
            fresh.store.keep(std::slice::from_ref(&dead)).await.unwrap();
            fresh.store.keep(std::slice::from_ref(&dead)).await.unwrap();
        }
        let kept = fresh
            .store
            .dead_letters(&DeadLetterFilter::default(), 2)
            .await
            .unwrap();
        assert_eq!(kept.len(), 1);
        let whole = fresh.store.whole_letter(kept[0].id).await.unwrap().unwrap();
        let attempts = &whole.attempts;
        assert!((20..100).contains(&attempts.len()), "{}", attempts.len());
        assert_eq!(attempts.last(), dead.attempts.last(), "{}", fresh.name);
    }
}

/// A letter is forgotten only when its message has a verdict, however old it is.
#[tokio::test]
async fn only_letters_with_a_verdict_are_forgotten() {
    for fresh in both().await {
        let (judged, waiting, dead) = (
            request(&fresh, "me"),
            request(&fresh, "me"),
            request(&fresh, "me"),
        );
        for (number, own) in [&judged, &waiting, &dead].into_iter().enumerate() {
            let statement = fresh.store.insert_requests(std::slice::from_ref(own));
            fresh.store.db().execute(statement.unwrap()).await.unwrap();
            let mut letter = letter(&fresh, &own.id.to_string(), DeadLetterClass::Transient);
            letter.entry_id = format!("{number}-0");
            letter.fields[0].1 = own.body.clone();
            fresh.store.keep(&[letter]).await.unwrap();
        }
        let all = DeadLetterFilter::default();
        let heads = fresh.store.dead_letters(&all, 9).await.unwrap();
        let replayed = heads
            .iter()
            .filter(|head| head.request_id != Some(dead.id))
            .map(|head| head.id);
        fresh.clock.advance(std::time::Duration::from_secs(1));
        let order = ReplayOrder {
            ids: replayed.collect(),
            actor: "test",
            reason: "test",
            force: false,
        };
        let replaying = fresh.store.begin_replay(&order).await.unwrap();
        replaying.commit(Vec::new()).await.unwrap();
        let verdict = "UPDATE validation_requests SET state = 'success' WHERE id = $1";
        let verdict = ratebox_db::Sql {
            postgres: verdict,
            sqlite: "UPDATE validation_requests SET state = 'success' WHERE id = ?1",
        };
        let done = verdict.with(vec![judged.id.into()]);
        fresh.store.db().execute(done).await.unwrap();
        let again = fresh.store.begin_replay(&order).await.unwrap();
        let why = |request: Uuid| {
            let is_its = |head: &&LetterHead| head.request_id == Some(request);
            let letter = heads.iter().find(is_its).unwrap().id;
            again
                .refused
                .iter()
                .find(|(id, _)| *id == letter)
                .unwrap()
                .1
        };
        assert_eq!(why(judged.id), Refusal::Resolved, "{}", fresh.name);
        assert_eq!(why(waiting.id), Refusal::OnItsWay, "{}", fresh.name);
        drop(again);
        fresh.clock.advance(std::time::Duration::from_secs(1));
        let now = fresh.clock.now();
        let forgotten = fresh.store.forget_resolved_letters(now).await.unwrap();
        assert_eq!(forgotten, 1, "{}", fresh.name);
        let any = DeadLetterFilter {
            states: LetterStates::Any,
            ..DeadLetterFilter::default()
        };
        let left = fresh.store.dead_letters(&any, 9).await.unwrap();
        assert!(left.iter().all(|head| head.request_id != Some(judged.id)));
        assert_eq!(left.len(), 2, "{}", fresh.name);
    }
}

async fn with_state(fresh: &Fresh, state: &'static str) -> Uuid {
    let own = request(fresh, "me");
    let statement = fresh.store.insert_requests(std::slice::from_ref(&own));
    fresh.store.db().execute(statement.unwrap()).await.unwrap();
    let over = Sql {
        postgres: "UPDATE validation_requests SET state = $2 WHERE id = $1",
        sqlite: "UPDATE validation_requests SET state = ?2 WHERE id = ?1",
    };
    let over = over.with(vec![own.id.into(), state.into()]);
    fresh.store.db().execute(over).await.unwrap();
    own.id
}

/// The workers that judged it died before they acknowledged it, so the bus took it for poison.
#[tokio::test]
async fn a_letter_whose_request_is_over_already_waits_for_nobody() {
    let any = DeadLetterFilter {
        states: LetterStates::Any,
        ..DeadLetterFilter::default()
    };
    for fresh in both().await {
        let store = &fresh.store;
        let words = ["success", "partial", "error", "cancelled", "queued", "dead"];
        let mut letters = Vec::new();
        for (number, state) in words.into_iter().enumerate() {
            let own = with_state(&fresh, state).await;
            let mut poison = letter(&fresh, &own.to_string(), DeadLetterClass::Poison);
            (poison.entry_id, poison.code) = (format!("{number}-0"), state.to_owned());
            letters.push(poison);
        }
        // The worker was asked, and would have known it.
        let judged = with_state(&fresh, "success").await;
        let mut refused = letter(&fresh, &judged.to_string(), DeadLetterClass::Malformed);
        (refused.entry_id, refused.code) = ("9-0".to_owned(), "refused".to_owned());
        letters.push(refused);
        for _ in 0..2 {
            store.keep(&letters).await.unwrap();
            assert_eq!(
                store.dead_letter_count().await.unwrap(),
                3,
                "{}",
                fresh.name
            );
        }
        let waiting = store.dead_letters(&DeadLetterFilter::default(), 9).await;
        let mut waiting: Vec<_> = waiting.unwrap().into_iter().map(|it| it.code).collect();
        waiting.sort();
        assert_eq!(waiting, ["dead", "queued", "refused"], "{}", fresh.name);
        let all = store.dead_letters(&any, 9).await.unwrap();
        assert_eq!(all.len(), letters.len(), "{}", fresh.name);
        let resolved: Vec<_> = all
            .iter()
            .filter(|it| it.state == LetterState::Resolved)
            .collect();
        assert_eq!(resolved.len(), 4, "{}", fresh.name);
        for head in &resolved {
            let whole = store.whole_letter(head.id).await.unwrap().unwrap();
            assert!(letters.contains(&as_kept(&whole)), "{}", fresh.name);
            assert_eq!((head.replay_count, head.owner.as_deref()), (0, Some("me")));
        }
        let order = ReplayOrder {
            ids: all.iter().map(|it| it.id).collect(),
            actor: "test",
            reason: "test",
            force: false,
        };
        let replaying = store.begin_replay(&order).await.unwrap();
        let is_resolved = |it: &&(Uuid, Refusal)| it.1 == Refusal::Resolved;
        assert_eq!(replaying.refused.iter().filter(is_resolved).count(), 4);
        drop(replaying);
        fresh.clock.advance(std::time::Duration::from_secs(1));
        let now = fresh.clock.now();
        assert_eq!(store.forget_resolved_letters(now).await.unwrap(), 4);
    }
}

#[tokio::test]
async fn a_letter_that_was_replayed_and_judged_does_not_die_again() {
    for fresh in both().await {
        let store = &fresh.store;
        let own = with_state(&fresh, "queued").await;
        let dead = letter(&fresh, &own.to_string(), DeadLetterClass::Transient);
        store.keep(std::slice::from_ref(&dead)).await.unwrap();
        let head = store.dead_letters(&DeadLetterFilter::default(), 1).await;
        let head = head.unwrap().remove(0);
        let order = ReplayOrder {
            ids: vec![head.id],
            actor: "test",
            reason: "test",
            force: false,
        };
        fresh.clock.advance(std::time::Duration::from_secs(1));
        let replaying = store.begin_replay(&order).await.unwrap();
        replaying.commit(Vec::new()).await.unwrap();
        let judged = Sql::both("UPDATE validation_requests SET state = 'success'");
        store.db().execute(judged).await.unwrap();
        fresh.clock.advance(std::time::Duration::from_secs(1));
        let poison = letter(&fresh, &own.to_string(), DeadLetterClass::Poison);
        store.keep(&[poison]).await.unwrap();
        let whole = store.whole_letter(head.id).await.unwrap().unwrap();
        assert_eq!(whole.head.state, LetterState::Resolved, "{}", fresh.name);
        assert_eq!(as_kept(&whole), dead, "{}: as it was", fresh.name);
    }
}

/// It would come after the writes that were made since, and undo them.
#[tokio::test]
async fn a_queued_write_of_the_cache_is_not_replayed() {
    for fresh in both().await {
        let write = DeadLetter {
            group: CACHE_WRITERS.to_owned(),
            ..letter(&fresh, &id::new().to_string(), DeadLetterClass::Permanent)
        };
        fresh.store.keep(&[write]).await.unwrap();
        let filter = DeadLetterFilter::default();
        let kept = fresh.store.dead_letters(&filter, 2).await.unwrap();
        for force in [false, true] {
            let order = ReplayOrder {
                ids: vec![kept[0].id],
                actor: "test",
                reason: "test",
                force,
            };
            let replaying = fresh.store.begin_replay(&order).await.unwrap();
            assert!(replaying.letters.is_empty(), "{}", fresh.name);
            let refused = [(kept[0].id, Refusal::QueuedWrite)];
            assert_eq!(replaying.refused, refused, "{}", fresh.name);
        }
    }
}
