//! What only stores in a database have: transactions to join, and an outbox.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ratebox_db::{Committed, Dialect, Sql, Tx};
use ratebox_kit::{FollowUp, FollowUps, PortError, Staged};
use ratebox_saga::{
    Append, Entry, Error, NewSaga, POSTGRES_STATEMENTS, STATEMENTS, SqlStore, Status, Store,
    Written,
};

use crate::beds::{LONG, databases, nothing, record, records, saga, start, with_key};

const COUNT: Sql = Sql::both("SELECT count(*) FROM effects");

async fn effects(db: &ratebox_db::Db) -> u64 {
    db.query(COUNT).await.unwrap()[0].get(0).unwrap()
}

#[tokio::test]
async fn every_statement_is_understood() {
    for it in databases().await {
        for sql in STATEMENTS {
            it.db.prepare(sql).await.unwrap_or_else(|error| {
                panic!("{}: {error}: {}", it.name, sql.text(it.db.dialect()))
            });
        }
        if it.db.dialect() == Dialect::Postgres {
            for sql in POSTGRES_STATEMENTS {
                it.db.prepare(sql).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_entry_in_a_transaction_is_kept_if_and_only_if_that_commits() {
    for it in databases().await {
        it.db
            .script("CREATE TABLE effects (id integer)".to_owned())
            .await
            .unwrap();
        let store = SqlStore::new(it.db.clone());
        let owner = store.join("test", LONG).await.unwrap();
        for commits in [false, true] {
            let (new, own) = (saga("trip"), saga("trip"));
            let ids = [new.id, own.id];
            let pending = NewSaga {
                status: Status::Pending,
                ..new
            };
            let mut tx = store.database().unwrap().begin().await.unwrap();
            tx.execute(Sql::both("INSERT INTO effects VALUES (1)"))
                .await
                .unwrap();
            let entries = [
                (None, start(pending)),
                (Some(owner), start(own)),
                (Some(owner), Entry::Append(records(ids[1], 0..1))),
            ];
            for (owner, entry) in &entries {
                let one = store.write_in(&mut tx, *owner, entry).await.unwrap();
                assert_eq!(one.written, Written::Kept, "{}", it.name);
            }
            if commits {
                tx.commit().await.unwrap();
            } else {
                drop(tx);
            }
            let stored = store.load(&ids).await.unwrap();
            assert_eq!(stored.len(), if commits { 2 } else { 0 }, "{}", it.name);
            assert_eq!(effects(&it.db).await, u64::from(commits), "{}", it.name);
        }
        let adopted = store.adopt(owner, 10).await.unwrap();
        assert_eq!(adopted.live.len(), 1, "{}", it.name);
        let taken = store.load(&adopted.live).await.unwrap().remove(0).head;
        assert_eq!((taken.status, taken.owner), (Status::Pending, Some(owner)));
    }
}

#[tokio::test]
async fn a_transaction_of_a_fenced_process_or_about_a_strangers_saga_keeps_nothing() {
    for it in databases().await {
        let store = SqlStore::new(it.db.clone());
        let (fenced, owner) = (
            store.join("a", LONG).await.unwrap(),
            store.join("b", LONG).await.unwrap(),
        );
        let own = saga("trip");
        let id = own.id;
        store.write(owner, &[&start(own)]).await.unwrap();
        store.leave(fenced).await.unwrap();
        let append = Entry::Append(records(id, 0..1));
        for entry in [start(saga("trip")), append.clone()] {
            let mut tx = it.db.begin().await.unwrap();
            let error = store.write_in(&mut tx, Some(fenced), &entry).await.err();
            assert!(matches!(error, Some(Error::Fenced)), "{}", it.name);
        }
        let mut tx = it.db.begin().await.unwrap();
        let error = store.write_in(&mut tx, None, &append).await.err();
        assert!(matches!(error, Some(Error::Refused { .. })), "{}", it.name);
        drop(tx);
        let stranger = store.join("c", LONG).await.unwrap();
        let mut tx = it.db.begin().await.unwrap();
        let one = store.write_in(&mut tx, Some(stranger), &append).await;
        assert_eq!(one.unwrap().written, Written::NotYours, "{}", it.name);
        drop(tx);
        assert!(store.load(&[id]).await.unwrap()[0].records.is_empty());
    }
}

/// Remembers what it was given, and what was published.
#[derive(Clone, Default)]
struct Notebook {
    added: Arc<Mutex<Vec<FollowUp>>>,
    published: Arc<Mutex<usize>>,
}

struct Page(Notebook, usize);

#[async_trait]
impl FollowUps<Tx, Committed> for Notebook {
    async fn add(
        &self,
        tx: &mut Tx,
        messages: Vec<FollowUp>,
    ) -> Result<Box<dyn Staged<Committed>>, PortError> {
        for message in &messages {
            let refused = Sql::both("INSERT INTO nowhere VALUES (1)");
            let taken = Sql::both("INSERT INTO effects VALUES (1)");
            tx.execute(if message.topic == "never" {
                refused
            } else {
                taken
            })
            .await
            .map_err(|error| PortError::new("no effect", error))?;
        }
        let page = Page(self.clone(), messages.len());
        self.added.lock().unwrap().extend(messages);
        Ok(Box::new(page))
    }
}

#[async_trait]
impl Staged<Committed> for Page {
    async fn publish(self: Box<Self>, _proof: &Committed) {
        *self.0.published.lock().unwrap() += self.1;
    }
}

#[tokio::test]
async fn messages_to_others_are_added_with_their_entry_once_and_published_after_the_commit() {
    for it in databases().await {
        it.db
            .script("CREATE TABLE effects (id integer)".to_owned())
            .await
            .unwrap();
        let notebook = Notebook::default();
        let store = SqlStore::new(it.db.clone()).with_outbox(notebook.clone());
        let owner = store.join("test", LONG).await.unwrap();
        let new = with_key("trip", "k");
        let (id, other) = (new.id, saga("trip"));
        let batch = [start(new), start(other.clone())];
        store.write(owner, &[&batch[0], &batch[1]]).await.unwrap();
        let append = Entry::Append(Append {
            records: vec![record(0)],
            follow_ups: vec![FollowUp::new("trips", "{}")],
            ..nothing(id)
        });
        let plain = Entry::Append(records(other.id, 0..1));
        for _ in 0..2 {
            let written = store.write(owner, &[&append, &plain]).await.unwrap();
            assert_eq!(written, [Written::Kept; 2], "{}", it.name);
        }
        assert_eq!(notebook.added.lock().unwrap().len(), 1, "{}", it.name);
        assert_eq!(*notebook.published.lock().unwrap(), 1, "{}", it.name);
        assert_eq!(effects(&it.db).await, 1, "{}", it.name);
        let deaf = SqlStore::new(it.db.clone());
        let second = Entry::Append(Append {
            records: vec![record(1)],
            follow_ups: vec![FollowUp::new("trips", "{}")],
            ..nothing(id)
        });
        let error = deaf.write(owner, &[&second]).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{}", it.name);
        assert_eq!(store.load(&[id]).await.unwrap()[0].records.len(), 1);
    }
}

/// Errors of an outbox were all taken for outages: the batch was tried again for ever, with all
/// other sagas of its process behind it.
#[tokio::test]
async fn a_message_that_the_outbox_never_takes_is_no_outage() {
    for it in databases().await {
        it.db
            .script("CREATE TABLE effects (id integer)".to_owned())
            .await
            .unwrap();
        let store = SqlStore::new(it.db.clone()).with_outbox(Notebook::default());
        let owner = store.join("test", LONG).await.unwrap();
        let new = saga("trip");
        let id = new.id;
        store.write(owner, &[&start(new)]).await.unwrap();
        let append = Entry::Append(Append {
            records: vec![record(0)],
            follow_ups: vec![FollowUp::new("never", "{}")],
            ..nothing(id)
        });
        let error = store.write(owner, &[&append]).await.unwrap_err();
        assert!(!error.is_retryable(), "{}: {error}", it.name);
        assert!(store.load(&[id]).await.unwrap()[0].records.is_empty());
    }
}
