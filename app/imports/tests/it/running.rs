//! From acceptance to the end.

use ratebox_db::Sql;
use ratebox_kit::id;
use ratebox_saga::Status;
use ratebox_store::State;
use ratebox_testkit::wait_until;
use serde_json::json;

use crate::bed::{Bed, SOON, Taken, dataset};

#[tokio::test]
async fn the_definition_has_no_flaws_and_draws_its_road() {
    let [bed, _] = Bed::both().await;
    let saga = bed.process().saga;
    let steps: Vec<&str> = saga.steps().collect();
    assert_eq!(steps, ["open", "submit", "follow", "report", "tell"]);
}

#[tokio::test]
async fn an_import_is_cut_judged_counted_and_told() {
    for bed in Bed::both().await {
        let process = bed.process();
        for (n, taken) in [(1, Taken::AsItCame), (2, Taken::AtOnce)] {
            let datasets = json!([dataset("a", 2500), dataset("b", 3)]);
            let import = bed.take(&datasets, taken).await;
            assert_eq!(bed.status(import).await.state, State::Queued);
            assert_eq!(process.starter.step().await.unwrap(), 1);
            bed.judge(bed.requests_of(import).await).await;
            bed.published_are(4 * n).await;
            let ended = bed.ended(import).await;
            assert_eq!(ended.state, State::Partial, "{} {taken:?}", bed.name);
            let sizes: Vec<_> = ended.parts.iter().map(|it| it.item_count).collect();
            assert_eq!(sizes, [1000, 1000, 500, 3]);
            let failed: u32 = ended.parts.iter().map(|it| it.failed).sum();
            let done: u32 = ended.parts.iter().map(|it| it.done).sum();
            // Every third lacks the account: 833 of the first dataset, 1 of the second.
            assert_eq!((done, failed), (2503 - 834, 834));
            let told = bed.told(import).await;
            assert_eq!(told["status"], "partial");
            assert_eq!(told["verdicts"], json!({"DONE": done, "ERROR": failed}));
            assert_eq!(told["codes"], json!([{"code": 200, "count": failed}]));
            assert_eq!(
                (&told["type"], &told["owner"]),
                (&json!("import"), &json!("ann"))
            );
        }
        assert_eq!(
            bed.count("SELECT count(*) FROM imports WHERE body IS NOT NULL")
                .await,
            0
        );
    }
}

#[tokio::test]
async fn an_import_whose_items_are_all_good_is_a_success_and_of_bad_ones_an_error() {
    for bed in Bed::both().await {
        let process = bed.process();
        let good = json!([{"items": [{"phone": "0912345678", "bank_account": "12345678901"}]}]);
        let bad = json!([{"items": [{"phone": "1"}, {}]}]);
        for (datasets, state) in [(good, State::Success), (bad, State::Error)] {
            let import = bed.take(&datasets, Taken::AtOnce).await;
            process.starter.step().await.unwrap();
            bed.judge(bed.requests_of(import).await).await;
            assert_eq!(bed.ended(import).await.state, state, "{}", bed.name);
        }
    }
}

#[tokio::test]
async fn a_dead_request_ends_its_import_without_a_verdict_of_its_own() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed
            .take(&json!([dataset("a", 1), dataset("b", 1)]), Taken::AtOnce)
            .await;
        process.starter.step().await.unwrap();
        let mut entries = bed.requests_of(import).await;
        let dead = bed.status(import).await.parts[1].request_id;
        let kill =
            "UPDATE validation_requests SET state = 'dead', body = NULL WHERE batch_id = 'b'";
        bed.store.db().script(kill.to_owned()).await.unwrap();
        entries.truncate(1);
        bed.judge(entries).await;
        let ended = bed.ended(import).await;
        assert_eq!(ended.state, State::Partial, "{}", bed.name);
        assert_eq!(
            (ended.parts[1].request_id, ended.parts[1].state),
            (dead, State::Dead)
        );
        assert_eq!((ended.parts[0].done, ended.parts[1].done), (1, 0));
    }
}

#[tokio::test]
async fn an_import_that_the_store_refuses_is_dead_and_says_so() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&json!([dataset("a", 2)]), Taken::AsItCame).await;
        // Somebody has the id of its request.
        let part = bed.status(import).await.parts[0].request_id;
        let theirs = bed.take(&json!([dataset("x", 1)]), Taken::AtOnce).await;
        let other = bed.status(theirs).await.parts[0].request_id;
        let rename = ratebox_db::Sql {
            postgres: "UPDATE validation_requests SET id = $1 WHERE id = $2",
            sqlite: "UPDATE validation_requests SET id = ?1 WHERE id = ?2",
        };
        let rename = rename.with(vec![part.into(), other.into()]);
        bed.store.db().execute(rename).await.unwrap();
        process.starter.step().await.unwrap();
        // The request that is there has no verdict; the import waits for nobody.
        let gone = "DELETE FROM validation_requests".to_owned();
        let refused = async {
            while process
                .engine
                .counts()
                .await
                .unwrap()
                .iter()
                .all(|it| it.status != Status::Compensating)
            {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, refused).await.unwrap();
        bed.store.db().script(gone).await.unwrap();
        let ended = bed.ended(import).await;
        assert_eq!(ended.state, State::Dead, "{}", bed.name);
        assert!(ended.error.unwrap().contains("refused"));
        assert_eq!(bed.told(import).await["status"], "dead");
    }
}

/// A gateway of an earlier release took it, and promised its requests.
#[tokio::test]
async fn what_was_taken_before_it_was_refused_is_cut_and_judged() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&json!([dataset("a", 1)]), Taken::AsItCame).await;
        let body = r#"{"datasets":[],"datasets":[{"id":"x","items":[
            {"phone":"1","phone":"0912345678","bank_account":"12345678901"}],"id":"a"}]}"#;
        let refused = ratebox_intake::parse_bulk(body.as_bytes(), 9, 9);
        assert_eq!(refused.unwrap_err().code(), "field.repeated");
        let taken = ratebox_db::Sql {
            postgres: "UPDATE imports SET body = $1 WHERE id = $2",
            sqlite: "UPDATE imports SET body = ?1 WHERE id = ?2",
        };
        let taken = taken.with(vec![body.as_bytes().to_vec().into(), import.into()]);
        bed.store.db().execute(taken).await.unwrap();
        process.starter.step().await.unwrap();
        bed.judge(bed.requests_of(import).await).await;
        let ended = bed.ended(import).await;
        assert_eq!(
            (ended.state, ended.parts[0].done),
            (State::Success, 1),
            "{}",
            bed.name
        );
    }
}

/// A migration has yet to come, say. The data is not to blame, so nobody gives the import up.
#[tokio::test]
async fn an_import_waits_for_a_table_that_is_not_as_it_should_be() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&json!([dataset("a", 3)]), Taken::AsItCame).await;
        let alter = async |sql: &'static str| {
            bed.store.db().execute(Sql::both(sql)).await.unwrap();
        };
        alter("ALTER TABLE validation_requests RENAME COLUMN external_ref TO gone").await;
        process.starter.step().await.unwrap();
        let saga = process.saga_of(import).await;
        wait_until(SOON, "the cut is refused", || async {
            let history = process.engine.history(saga).await.unwrap();
            let mut records = history.records.iter();
            records.any(|it| &*it.step == "submit" && it.note.is_some())
        })
        .await;
        alter("ALTER TABLE validation_requests RENAME COLUMN gone TO external_ref").await;
        bed.judge(bed.requests_of(import).await).await;
        let ended = bed.ended(import).await;
        assert_eq!(ended.state, State::Partial, "{}", bed.name);
    }
}

#[tokio::test]
async fn two_processes_that_find_the_same_import_start_one_saga() {
    for bed in Bed::both().await {
        let (one, two) = (bed.process(), bed.process());
        for _ in 0..5 {
            let import = bed.take(&json!([dataset("a", 3)]), Taken::AsItCame).await;
            let (a, b) = tokio::join!(one.starter.step(), two.starter.step());
            assert!(a.unwrap() + b.unwrap() >= 1);
            assert!(bed.store.unattended_imports(9).await.unwrap().is_empty());
            let _ = import;
        }
        bed.published_are(5).await;
        assert_eq!(
            bed.count("SELECT count(*) FROM sagas").await,
            5,
            "{}",
            bed.name
        );
    }
}

#[tokio::test]
async fn an_import_that_is_not_there_ends_its_saga() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = ratebox_imports::Import { import: id::new() };
        let handle = process.engine.start(&process.saga, &import).await.unwrap();
        assert_eq!(
            handle.settled().await.unwrap(),
            Status::RolledBack,
            "{}",
            bed.name
        );
    }
}
