//! What a worker tells the caches of look-ups.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ratebox_intake::{LOOKUP_BUCKETS, LookupKind};
use ratebox_store::{LookupScope, Store};
use ratebox_worker::{LookupCaches, Watched};

use crate::bench::{Bench, entry};

/// Caches that remember what they were told.
struct Caches {
    store: Store,
    watched: Watched,
    /// Whether a record was in the store when the worker asked.
    was_there: Mutex<Vec<bool>>,
    forgotten: Mutex<Vec<Vec<u16>>>,
}

impl Caches {
    fn new(bench: &Bench, watched: Watched) -> Arc<Self> {
        Arc::new(Self {
            store: bench.store.clone(),
            watched,
            was_there: Mutex::default(),
            forgotten: Mutex::default(),
        })
    }

    fn forgotten(&self) -> Vec<Vec<u16>> {
        std::mem::take(&mut self.forgotten.lock().unwrap())
    }
}

#[async_trait]
impl LookupCaches for Caches {
    async fn watched(&self) -> Watched {
        let all = LookupScope {
            owner: None,
            rows_max: 10,
        };
        let (kind, phone) = (LookupKind::Phone, "+84912345000");
        let there = self.store.sightings(kind, phone, all).await.unwrap();
        self.was_there.lock().unwrap().push(there.is_some());
        self.watched.clone()
    }

    async fn forget(&self, buckets: &[u16]) {
        self.forgotten.lock().unwrap().push(buckets.to_vec());
    }
}

fn watched(buckets: impl IntoIterator<Item = u16>) -> Watched {
    let mut field = vec![0_u8; LOOKUP_BUCKETS / 8];
    for bucket in buckets {
        field[usize::from(bucket / 8)] |= 0x80 >> (bucket % 8);
    }
    Watched::new(vec![field])
}

fn bucket_of_phone(number: u64) -> u16 {
    LookupKind::Phone.bucket(&format!("+84912345{number:03}"))
}

#[tokio::test]
async fn watched_buckets_are_told_once_a_batch_after_its_commit() {
    for bench in Bench::both().await {
        let account = LookupKind::BankAccount.bucket("1234567890");
        let email = LookupKind::Email.bucket("a7@b.vn");
        let (phone, other) = (bucket_of_phone(3), bucket_of_phone(999));
        let caches = Caches::new(&bench, watched([phone, account, email, other]));
        let bench = bench.with_lookups(caches.clone());
        bench.handle((0..40).map(entry).collect()).await;
        let mut expected = vec![phone, account, email];
        expected.sort_unstable();
        assert_eq!(caches.forgotten(), [expected], "{}", bench.name);
        assert_eq!(*caches.was_there.lock().unwrap(), [true], "{}", bench.name);
        // What was recorded before changes nothing.
        bench.handle((0..40).map(entry).collect()).await;
        assert!(caches.forgotten().is_empty(), "{}", bench.name);
        bench.handle((30..60).map(entry).collect()).await;
        assert_eq!(caches.forgotten(), [vec![account]], "{}", bench.name);
    }
}

#[tokio::test]
async fn while_nobody_looks_there_is_one_question_a_batch_and_nothing_else() {
    for bench in Bench::both().await {
        let caches = Caches::new(&bench, Watched::default());
        let bench = bench.with_lookups(caches.clone());
        bench.handle((0..40).map(entry).collect()).await;
        assert_eq!(caches.was_there.lock().unwrap().len(), 1, "{}", bench.name);
        assert!(caches.forgotten().is_empty(), "{}", bench.name);
    }
}

#[tokio::test]
async fn what_is_only_checked_is_not_told() {
    for bench in Bench::both().await {
        let caches = Caches::new(&bench, watched([bucket_of_phone(2)]));
        let bench = bench.with_lookups(caches.clone());
        let mut check = entry(1);
        let item = r#"{"phone":"0912345002","bank_account":"1234567890"}"#;
        let data = format!(r#"{{"v":1,"action":"check","data":{{"items":[{item}]}}}}"#);
        check.fields = vec![("data".into(), data.into())];
        bench.handle(vec![check]).await;
        assert_eq!(bench.answered(), 1, "{}", bench.name);
        assert!(caches.forgotten().is_empty(), "{}", bench.name);
        bench.handle(vec![entry(2)]).await;
        let told = caches.forgotten();
        assert_eq!(told, [vec![bucket_of_phone(2)]], "{}", bench.name);
    }
}
