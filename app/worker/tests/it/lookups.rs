//! What a worker tells the caches of look-ups.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_intake::{LOOKUP_BUCKETS, LookupKind};
use ratebox_store::{LookupScope, Store};
use ratebox_worker::{LookupCaches, Watched};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bench::{Bench, entry};

/// What the caches hear.
#[derive(Debug, PartialEq)]
enum Heard {
    /// The question who looks; whether a certain record was in the store then.
    Question {
        was_there: bool,
    },
    Forget(Vec<u16>),
}

/// Caches that pass on what they hear.
struct Caches {
    store: Store,
    watched: Watched,
    heard: UnboundedSender<Heard>,
}

impl Caches {
    fn new(bench: &Bench, watched: Watched) -> (Arc<Self>, UnboundedReceiver<Heard>) {
        let (heard, told) = unbounded_channel();
        let caches = Self {
            store: bench.store.clone(),
            watched,
            heard,
        };
        (Arc::new(caches), told)
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
        let was_there = there.is_some();
        self.heard.send(Heard::Question { was_there }).unwrap();
        self.watched.clone()
    }

    async fn forget(&self, buckets: &[u16]) {
        self.heard.send(Heard::Forget(buckets.to_vec())).unwrap();
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
async fn watched_buckets_are_told_after_the_commit() {
    for bench in Bench::both().await {
        let account = LookupKind::BankAccount.bucket("1234567890");
        let email = LookupKind::Email.bucket("a7@b.vn");
        let (phone, other) = (bucket_of_phone(3), bucket_of_phone(999));
        let (caches, mut told) = Caches::new(&bench, watched([phone, account, email, other]));
        let bench = bench.with_lookups(caches);
        let question = Heard::Question { was_there: true };
        bench.handle((0..40).map(entry).collect()).await;
        let mut expected = vec![phone, account, email];
        expected.sort_unstable();
        assert_eq!(told.recv().await.unwrap(), question, "{}", bench.name);
        let forgotten = told.recv().await.unwrap();
        assert_eq!(forgotten, Heard::Forget(expected), "{}", bench.name);
        // What was recorded before changes nothing.
        bench.handle((0..40).map(entry).collect()).await;
        bench.handle((30..60).map(entry).collect()).await;
        assert_eq!(told.recv().await.unwrap(), question, "{}", bench.name);
        let forgotten = told.recv().await.unwrap();
        assert_eq!(forgotten, Heard::Forget(vec![account]), "{}", bench.name);
        assert!(told.try_recv().is_err(), "{}", bench.name);
    }
}

#[tokio::test]
async fn while_nobody_looks_there_is_a_question_and_nothing_else() {
    for bench in Bench::both().await {
        let (caches, mut told) = Caches::new(&bench, Watched::default());
        let bench = bench.with_lookups(caches);
        for number in 1..3 {
            bench.handle(vec![entry(number)]).await;
            let heard = told.recv().await.unwrap();
            assert!(matches!(heard, Heard::Question { .. }), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn what_is_only_checked_is_not_told() {
    for bench in Bench::both().await {
        let (caches, mut told) = Caches::new(&bench, watched([bucket_of_phone(2)]));
        let bench = bench.with_lookups(caches);
        let mut check = entry(1);
        let item = r#"{"phone":"0912345002","bank_account":"1234567890"}"#;
        let data = format!(r#"{{"v":1,"action":"check","data":{{"items":[{item}]}}}}"#);
        check.fields = vec![("data".into(), data.into())];
        bench.handle(vec![check]).await;
        assert_eq!(bench.answered(), 1, "{}", bench.name);
        bench.handle(vec![entry(2)]).await;
        let heard = told.recv().await.unwrap();
        assert_eq!(
            heard,
            Heard::Question { was_there: false },
            "{}",
            bench.name
        );
        let forgotten = told.recv().await.unwrap();
        assert_eq!(
            forgotten,
            Heard::Forget(vec![bucket_of_phone(2)]),
            "{}",
            bench.name
        );
        assert!(told.try_recv().is_err(), "{}", bench.name);
    }
}
