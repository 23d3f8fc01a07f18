//! The stores that every case of the conformance suite runs on, and rows to put into them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_db::{Db, PostgresSettings, SqliteSettings, migrate};
use ratebox_kit::{Secret, Timestamp, id};
use ratebox_saga::{
    Append, Entry, HeadChange, Kind, Letter, MIGRATIONS, MemoryStore, NewSaga, OWNER, Owner,
    Record, RedisStore, SagaId, SqlStore, Status, Store, Stored, Time, Wake, Written,
};
use ratebox_testkit::{PostgresServer, RedisServer, TempDir, unique_name};
use ratebox_valkey::{Settings, Valkey};

/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(10);

/// An empty store of one kind.
pub(crate) struct Bed {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    _folder: Option<TempDir>,
}

/// A database of each kind with the tables. The folder must outlive the handle.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) db: Db,
    pub(crate) folder: Option<TempDir>,
}

pub(crate) async fn databases() -> Vec<Fresh> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("test.db");
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("saga"))
        .unwrap();
    let fresh = vec![
        Fresh {
            name: "SQLite",
            db: Db::sqlite(&SqliteSettings::new(file)).unwrap(),
            folder: Some(folder),
        },
        Fresh {
            name: "PostgreSQL",
            db: Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap(),
            folder: None,
        },
    ];
    for it in &fresh {
        migrate(&it.db, OWNER, MIGRATIONS).await.unwrap();
    }
    fresh
}

/// One empty store of each kind.
pub(crate) async fn all() -> Vec<Bed> {
    let mut beds = vec![Bed {
        name: "memory",
        store: Arc::new(MemoryStore::new(Time::system())),
        _folder: None,
    }];
    let server = RedisServer::shared().unwrap();
    let valkey = Valkey::lazy(&Settings::new(server.url())).unwrap();
    beds.push(Bed {
        name: "Redis",
        store: Arc::new(RedisStore::new(valkey, &unique_name("saga"))),
        _folder: None,
    });
    for it in databases().await {
        beds.push(Bed {
            name: it.name,
            store: Arc::new(SqlStore::new(it.db)),
            _folder: it.folder,
        });
    }
    beds
}

// === impl Bed ===

impl Bed {
    /// A process whose lease lasts.
    pub(crate) async fn join(&self) -> Owner {
        self.store.join("test", LONG).await.unwrap()
    }

    /// A process whose lease has ended, but that nobody fenced yet.
    pub(crate) async fn join_late(&self) -> Owner {
        self.store.join("late", Duration::ZERO).await.unwrap()
    }

    pub(crate) async fn write(&self, owner: Owner, entries: &[Entry]) -> Vec<Written> {
        let batch: Vec<&Entry> = entries.iter().collect();
        self.store.write(owner, &batch).await.unwrap()
    }

    /// A saga of `owner` that is on disk.
    pub(crate) async fn started(&self, owner: Owner) -> SagaId {
        let new = saga("trip");
        let id = new.id;
        assert_eq!(self.write(owner, &[start(new)]).await, [Written::Kept]);
        id
    }

    pub(crate) async fn append(&self, owner: Owner, append: Append) -> Written {
        self.write(owner, &[Entry::Append(append)]).await[0]
    }

    pub(crate) async fn change(&self, owner: Owner, saga: SagaId, status: Status, wake: Wake) {
        let append = Append {
            head: Some(change(status, wake)),
            ..nothing(saga)
        };
        let written = self.append(owner, append).await;
        assert_eq!(written, Written::Kept, "{}", self.name);
    }

    pub(crate) async fn load(&self, saga: SagaId) -> Stored {
        let mut stored = self.store.load(&[saga]).await.unwrap();
        assert_eq!(stored.len(), 1, "{}", self.name);
        stored.pop().unwrap()
    }

    /// Takes over until so many sagas changed hands; those that are live.
    pub(crate) async fn adopt(&self, owner: Owner, sagas: usize) -> Vec<SagaId> {
        let (mut live, mut taken) = (Vec::new(), 0);
        // Leases end by the store's own clock.
        let take = async {
            while taken < sagas {
                let adopted = self.store.adopt(owner, 100).await.unwrap();
                live.extend(adopted.live);
                taken += adopted.sagas;
            }
        };
        tokio::time::timeout(DEADLINE, take).await.unwrap();
        assert_eq!(taken, sagas, "{}", self.name);
        live.sort_unstable();
        live
    }
}

/// Now, as stores keep it.
pub(crate) fn now() -> Timestamp {
    Time::system().now()
}

/// So many milliseconds after 2026 began.
pub(crate) fn at_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_767_225_600_000 + ms).unwrap()
}

pub(crate) fn saga(definition: &str) -> NewSaga {
    NewSaga {
        id: SagaId::new(),
        definition: definition.into(),
        version: 3,
        hash: "c0ffee".into(),
        key: None,
        parent: None,
        input: Bytes::from_static(br#"{"to":"Oslo"}"#),
        status: Status::Executing,
        created_at: now(),
        records: Vec::new(),
    }
}

pub(crate) fn with_key(definition: &str, key: &str) -> NewSaga {
    NewSaga {
        key: Some(key.to_owned()),
        ..saga(definition)
    }
}

pub(crate) fn start(new: NewSaga) -> Entry {
    Entry::Start(Box::new(new))
}

pub(crate) fn record(seq: u32) -> Record {
    Record {
        seq,
        step: "hotel".into(),
        item: 0,
        kind: Kind::Done,
        class: None,
        attempt: 1,
        at: now(),
        took_us: 1_200,
        due: None,
        payload: Some(Bytes::from_static(b"{\"room\":7}")),
        note: None,
        who: None,
    }
}

/// An append that says nothing yet.
pub(crate) fn nothing(saga: SagaId) -> Append {
    Append {
        saga,
        records: Vec::new(),
        head: None,
        letters: Vec::new(),
        follow_ups: Vec::new(),
    }
}

pub(crate) fn records(saga: SagaId, seqs: std::ops::Range<u32>) -> Append {
    Append {
        records: seqs.map(record).collect(),
        ..nothing(saga)
    }
}

pub(crate) fn change(status: Status, wake: Wake) -> HeadChange {
    HeadChange {
        status,
        wake,
        error: None,
        output: None,
        at: now(),
    }
}

pub(crate) fn letter(saga: SagaId, subject: &str) -> Letter {
    Letter {
        id: id::new(),
        saga,
        verb: "signal".to_owned(),
        subject: subject.to_owned(),
        payload: Some(Bytes::from_static(b"true")),
        who: "ada".to_owned(),
        why: "she said so".to_owned(),
        at: now(),
    }
}
