//! Imports whose saga is of another release: this process cannot run it, and says so by parking it.

use std::time::Duration;

use ratebox_imports::NAME;
use ratebox_saga::{
    Append, By, Desk, Entry, HeadChange, Journal, Kind, NewSaga, Order, Outcome, Record, SagaId,
    Status, Store as _, Time, Wake, Written,
};
use ratebox_store::{CancelAnswer, ImportFilter, ImportSummary, State};
use ratebox_testkit::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bed::{Bed, SOON, Taken, dataset};

fn three() -> Value {
    let names = ["a", "b", "c"];
    json!(names.map(|name| dataset(name, 3)))
}

/// The saga of an import as a rolling update leaves it: its definition has another hash.
async fn parked(bed: &Bed, import: Uuid) -> SagaId {
    let store = bed.sagas();
    let owner = store.join("another release", SOON).await.unwrap();
    let (saga, at) = (SagaId::new(), bed.store.clock().now());
    let new = NewSaga {
        id: saga,
        definition: NAME.into(),
        version: 1,
        hash: "of another release".into(),
        key: Some(import.to_string()),
        parent: None,
        input: json!({ "import": import }).to_string().into(),
        status: Status::Executing,
        created_at: at,
        records: Vec::new(),
    };
    let record = Record {
        seq: 0,
        step: "".into(),
        item: 0,
        kind: Kind::Parked,
        class: None,
        attempt: 0,
        at,
        took_us: 0,
        due: None,
        payload: None,
        note: Some("no such definition".to_owned()),
        who: None,
    };
    let append = Append {
        saga,
        records: vec![record],
        head: Some(HeadChange {
            status: Status::Parked,
            wake: Wake::Letter,
            error: None,
            output: None,
            at,
        }),
        letters: Vec::new(),
        follow_ups: Vec::new(),
    };
    for entry in [Entry::Start(Box::new(new)), Entry::Append(append)] {
        let written = store.write(owner, &[&entry]).await.unwrap();
        assert_eq!(written, [Written::Kept], "{}", bed.name);
    }
    store.leave(owner).await.unwrap();
    bed.store.attend_import(import, saga.0).await.unwrap();
    saga
}

/// As `ratebox saga abandon` does.
async fn abandon(bed: &Bed, saga: SagaId) {
    let desk = Desk::new(&Journal::new(bed.sagas()), Time::system());
    let by = By::new("ops", "its release is gone");
    let sent = desk.prepare(saga, &Order::Abandon, &by).await.unwrap();
    desk.send(&sent).await.unwrap();
    let outcome = desk.settled(&sent, SOON).await.unwrap();
    assert_eq!(outcome, Outcome::Done, "{}", bed.name);
}

#[tokio::test]
async fn an_import_whose_saga_no_process_can_run_ends_once_that_is_abandoned() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&three(), Taken::AtOnce).await;
        let saga = parked(&bed, import).await;
        let mut entries = bed.requests_of(import).await;
        entries.truncate(1);
        bed.judge(entries).await;
        let asked = bed.store.ask_import_cancel(import, "ann").await.unwrap();
        assert_eq!(asked, Some(CancelAnswer::Asked), "{}", bed.name);
        // Whoever has the definition may come back: it is not ended while it is parked.
        let left = process.starter.pick_up_left().await.unwrap();
        assert_eq!(left, 0, "{}", bed.name);
        assert!(!bed.status(import).await.state.is_terminal());
        abandon(&bed, saga).await;
        let left = process.starter.pick_up_left().await.unwrap();
        assert_eq!(left, 1, "{}", bed.name);
        let ended = bed.ended(import).await;
        assert_eq!(ended.state, State::Cancelled, "{}", bed.name);
        bed.is_whole(import).await;
        assert_eq!(bed.told(import).await["items_done"], 3, "{}", bed.name);
    }
}

#[tokio::test]
async fn the_list_is_no_further_behind_than_the_status_while_the_saga_is_parked() {
    for bed in Bed::both().await {
        let import = bed.take(&three(), Taken::AtOnce).await;
        parked(&bed, import).await;
        let list = async |states: &[State]| {
            let filter = ImportFilter {
                states: states.to_vec(),
                ..ImportFilter::default()
            };
            bed.store.imports(&filter, 10).await.unwrap()
        };
        let untouched = list(&[State::Queued]).await;
        assert_eq!((untouched.len(), untouched[0].items_done), (1, 0));
        let mut entries = bed.requests_of(import).await;
        entries.truncate(1);
        bed.judge(entries).await;
        // Nobody has counted it.
        let parts = bed.status(import).await.parts;
        let judged: Vec<_> = parts.iter().map(|part| part.state.has_verdict()).collect();
        assert_eq!(judged, [true, false, false], "{}", bed.name);
        let open = [State::Queued, State::Processing];
        let choices: [&[State]; 3] = [&[], &open[1..], &open];
        for states in choices {
            let listed = list(states).await;
            let of = |it: &ImportSummary| (it.state, it.items_done, it.requests_done, it.requests);
            let figures: Vec<_> = listed.iter().map(of).collect();
            let expected = [(State::Processing, 3, 1, 3)];
            assert_eq!(figures, expected, "{} {states:?}", bed.name);
        }
        assert!(list(&[State::Queued]).await.is_empty(), "{}", bed.name);
    }
}

#[tokio::test]
async fn what_is_judged_while_the_saga_is_parked_is_counted_all_the_same() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&three(), Taken::AtOnce).await;
        parked(&bed, import).await;
        let mut entries = bed.requests_of(import).await;
        entries.truncate(1);
        bed.judge(entries).await;
        for _ in 0..2 {
            process.starter.chores().await;
            let open = ImportFilter {
                states: vec![State::Queued, State::Processing],
                ..ImportFilter::default()
            };
            let listed = bed.store.imports(&open, 10).await.unwrap();
            let (state, figures) = (listed[0].state, (listed[0].done, listed[0].failed));
            assert_eq!(state, State::Processing, "{}", bed.name);
            assert_eq!((listed[0].items_done, figures), (3, (2, 1)), "{}", bed.name);
        }
    }
}

#[tokio::test]
async fn an_import_that_cannot_be_looked_after_keeps_nobody_from_the_others() {
    for bed in Bed::both().await {
        let process = bed.process();
        let old = bed.take(&three(), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        bed.judge(bed.requests_of(old).await).await;
        bed.ended(old).await;
        // Looked at in the order of their ids: the sick one is the first.
        let sick = bed.take(&three(), Taken::AtOnce).await;
        parked(&bed, sick).await;
        let unreadable = "UPDATE saga_journal SET kind = 99 WHERE kind = 21".to_owned();
        bed.store.db().script(unreadable).await.unwrap();
        let left = bed.take(&three(), Taken::AtOnce).await;
        let gone = SagaId::new().0;
        bed.store.attend_import(left, gone).await.unwrap();
        process.starter.chores().await;
        let ended = bed.ended(left).await;
        assert_eq!(ended.state, State::Cancelled, "{}", bed.name);
        let starter = process.starter.keeping(Some(Duration::from_millis(1)));
        let is_forgotten = || async {
            starter.chores().await;
            bed.store.import_report(old).await.unwrap().is_none()
        };
        Box::pin(wait_until(SOON, "the old one is forgotten", is_forgotten)).await;
        let sick = bed.status(sick).await;
        assert_eq!(sick.state, State::Queued, "{}", bed.name);
    }
}
