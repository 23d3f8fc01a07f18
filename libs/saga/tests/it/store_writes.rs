//! What is written comes back as it was, once, and refuses nobody else.

use bytes::Bytes;
use ratebox_saga::{
    Append, Class, Entry, Error, HeadChange, Kind, Parent, Record, Status, Wake, Written,
};

use crate::beds::{self, at_ms, change, nothing, record, records, saga, start, with_key};

#[tokio::test]
async fn a_saga_comes_back_as_it_was_written() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let parent = bed.started(owner).await;
        let mut new = with_key("trip", "order 'ÿ\"; --");
        new.parent = Some(Parent {
            saga: parent,
            step: "book".to_owned(),
        });
        assert_eq!(
            bed.write(owner, &[start(new.clone())]).await,
            [Written::Kept]
        );
        let all = Record {
            seq: 1,
            step: "flug nach 東京".into(),
            item: 4,
            kind: Kind::Retry,
            class: Some(Class::Unknown),
            attempt: 2,
            at: at_ms(1),
            took_us: 77,
            due: Some(at_ms(2)),
            payload: Some(Bytes::from_static(b"\"\\u0000\"")),
            note: Some("no answer".to_owned()),
            who: Some("ada".to_owned()),
        };
        let append = Append {
            records: vec![record(0), all],
            ..nothing(new.id)
        };
        assert_eq!(bed.append(owner, append.clone()).await, Written::Kept);
        let stored = bed.load(new.id).await;
        assert_eq!(stored.records, append.records, "{}", bed.name);
        let head = &stored.head;
        assert_eq!(head.id, new.id);
        assert_eq!((&head.definition, head.version), (&new.definition, 3));
        assert_eq!((&head.hash, &head.key), (&new.hash, &new.key));
        assert_eq!((&head.parent, &head.input), (&new.parent, &new.input));
        assert_eq!((head.status, head.wake), (Status::Executing, Wake::Live));
        assert_eq!((&head.error, &head.output), (&None, &None));
        assert_eq!((head.owner, head.ended_at), (Some(owner), None));
        assert_eq!(head.created_at, new.created_at);
        assert_eq!(head.updated_at, new.created_at);
    }
}

#[tokio::test]
async fn a_key_belongs_to_the_first_saga_of_its_definition_and_others_are_told_whose_it_is() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let first = with_key("trip", "k");
        assert_eq!(
            bed.write(owner, &[start(first.clone())]).await,
            [Written::Kept]
        );
        let batch = [
            start(saga("trip")),
            start(with_key("trip", "k")),
            start(with_key("order", "k")),
            start(first.clone()),
        ];
        let written = bed.write(owner, &batch).await;
        let exists = Written::Exists(first.id);
        let expected = [Written::Kept, exists, Written::Kept, Written::Kept];
        assert_eq!(written, expected, "{}", bed.name);
        let found = bed.store.find("trip", "k").await.unwrap();
        assert_eq!(found, Some(first.id), "{}", bed.name);
        assert_eq!(bed.store.find("trip", "K").await.unwrap(), None);
        let Entry::Start(refused) = &batch[1] else {
            unreachable!()
        };
        assert!(bed.store.load(&[refused.id]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn two_starts_of_a_key_in_one_batch_make_one_saga() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let (first, second) = (with_key("trip", "k"), with_key("trip", "k"));
        let (first_id, batch) = (first.id, [start(first), start(second)]);
        let written = bed.write(owner, &batch).await;
        let expected = [Written::Kept, Written::Exists(first_id)];
        assert_eq!(written, expected, "{}", bed.name);
    }
}

#[tokio::test]
async fn a_batch_that_is_written_again_changes_nothing() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let (one, two) = (bed.started(owner).await, bed.started(owner).await);
        let end = Append {
            records: vec![record(1)],
            head: Some(change(Status::Completed, Wake::Live)),
            ..nothing(two)
        };
        bed.append(owner, records(two, 0..1)).await;
        let batch = [
            start(with_key("trip", "k")),
            Entry::Append(records(one, 0..2)),
            Entry::Append(end),
        ];
        for _ in 0..3 {
            assert_eq!(bed.write(owner, &batch).await, [Written::Kept; 3]);
        }
        assert_eq!(bed.load(one).await.records.len(), 2, "{}", bed.name);
        let two = bed.load(two).await;
        assert_eq!(two.records.len(), 2, "{}", bed.name);
        assert_eq!(two.head.status, Status::Completed);
    }
}

#[tokio::test]
async fn two_entries_about_one_saga_are_kept_in_their_order() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let new = saga("trip");
        let id = new.id;
        let end = Append {
            records: vec![record(2)],
            head: Some(change(Status::Completed, Wake::Live)),
            ..nothing(id)
        };
        let batch = [
            start(new),
            Entry::Append(records(id, 0..2)),
            Entry::Append(end),
        ];
        assert_eq!(bed.write(owner, &batch).await, [Written::Kept; 3]);
        let stored = bed.load(id).await;
        let seqs: Vec<u32> = stored.records.iter().map(|it| it.seq).collect();
        assert_eq!(seqs, [0, 1, 2], "{}", bed.name);
        assert_eq!(stored.head.status, Status::Completed, "{}", bed.name);
    }
}

#[tokio::test]
async fn a_head_keeps_its_first_error_and_its_end_can_be_taken_back() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let id = bed.started(owner).await;
        let head = |status, error: &str, output: Option<&'static [u8]>, ms| HeadChange {
            status,
            wake: Wake::Live,
            error: Some(error.to_owned()),
            output: output.map(Bytes::from_static),
            at: at_ms(ms),
        };
        let changes = [
            head(Status::Completed, "first", Some(b"1"), 1),
            head(Status::Compensating, "second", None, 2),
            head(Status::RolledBack, "third", None, 3),
        ];
        let expected = [Some(at_ms(1)), None, Some(at_ms(3))];
        for (change, ended_at) in changes.into_iter().zip(expected) {
            let (status, at) = (change.status, change.at);
            let append = Append {
                head: Some(change),
                ..nothing(id)
            };
            assert_eq!(bed.append(owner, append).await, Written::Kept);
            let head = bed.load(id).await.head;
            assert_eq!((head.status, head.updated_at), (status, at));
            assert_eq!(head.ended_at, ended_at, "{}", bed.name);
            assert_eq!(head.error.as_deref(), Some("first"), "{}", bed.name);
            assert_eq!(head.output.as_deref(), Some(&b"1"[..]), "{}", bed.name);
        }
    }
}

#[tokio::test]
async fn an_append_to_a_strangers_saga_is_refused_and_its_neighbours_are_kept() {
    for bed in beds::all().await {
        let (owner, stranger) = (bed.join().await, bed.join().await);
        let (mine, other) = (bed.started(owner).await, bed.started(stranger).await);
        let end = Append {
            records: vec![record(0)],
            head: Some(change(Status::Completed, Wake::Live)),
            ..nothing(other)
        };
        let batch = [
            Entry::Append(records(mine, 0..1)),
            Entry::Append(end),
            Entry::Append(records(ratebox_saga::SagaId::new(), 0..1)),
            start(saga("trip")),
        ];
        let written = bed.write(owner, &batch).await;
        let no = Written::NotYours;
        let expected = [Written::Kept, no, no, Written::Kept];
        assert_eq!(written, expected, "{}", bed.name);
        assert_eq!(bed.load(mine).await.records.len(), 1);
        let other = bed.load(other).await;
        assert!(other.records.is_empty(), "{}", bed.name);
        assert_eq!(other.head.status, Status::Executing, "{}", bed.name);
    }
}

#[tokio::test]
async fn a_fork_begins_with_its_records_and_one_whose_key_is_taken_writes_none() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let mut fork = with_key("trip", "k");
        fork.records = vec![record(0), record(1)];
        let mut second = with_key("trip", "k");
        second.records = vec![record(0)];
        let (id, second_id) = (fork.id, second.id);
        let written = bed.write(owner, &[start(fork), start(second)]).await;
        assert_eq!(written, [Written::Kept, Written::Exists(id)]);
        assert_eq!(bed.load(id).await.records.len(), 2, "{}", bed.name);
        let mut late = saga("trip");
        late.id = second_id;
        assert_eq!(bed.write(owner, &[start(late)]).await, [Written::Kept]);
        assert!(bed.load(second_id).await.records.is_empty(), "{}", bed.name);
    }
}

#[tokio::test]
async fn an_entry_that_the_store_cannot_take_keeps_nothing_of_its_batch() {
    for bed in beds::all().await {
        if bed.name == "memory" {
            continue; // It takes everything.
        }
        let owner = bed.join().await;
        let (good, mut bad) = (saga("trip"), saga("trip"));
        bad.input = Bytes::from_static(b"\xff\xfe");
        let (entries, id) = ([start(good.clone()), start(bad)], good.id);
        let batch: Vec<&Entry> = entries.iter().collect();
        let error = bed.store.write(owner, &batch).await.unwrap_err();
        assert!(!error.is_retryable(), "{}: {error}", bed.name);
        assert!(bed.store.load(&[id]).await.unwrap().is_empty());
        assert_eq!(bed.write(owner, &[start(good)]).await, [Written::Kept]);
    }
}

#[tokio::test]
async fn a_batch_in_which_many_keys_exist_is_written_and_answered_in_order() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let first: Vec<Entry> = (0..100)
            .map(|n| start(with_key("trip", &n.to_string())))
            .collect();
        assert!(
            bed.write(owner, &first)
                .await
                .iter()
                .all(|it| *it == Written::Kept)
        );
        let open = bed.started(owner).await;
        // Every other key exists; one comes twice in the batch; one entry is a repetition.
        let mut batch: Vec<Entry> = (0..200)
            .map(|n| start(with_key("trip", &(n * 2).to_string())))
            .collect();
        let (twice, again) = (start(with_key("trip", "398")), first[7].clone());
        batch.extend([twice, Entry::Append(records(open, 0..2)), again]);
        let id = |entry: &Entry| match entry {
            Entry::Start(new) => new.id,
            Entry::Append(it) => it.saga,
        };
        let written = bed.write(owner, &batch).await;
        for (n, written) in written[..200].iter().enumerate() {
            let expected = match first.get(n * 2) {
                Some(there) => Written::Exists(id(there)),
                None => Written::Kept,
            };
            assert_eq!(*written, expected, "{} {n}", bed.name);
        }
        let rest = [
            Written::Exists(id(&batch[199])),
            Written::Kept,
            Written::Kept,
        ];
        assert_eq!(written[200..], rest, "{}", bed.name);
        assert_eq!(bed.load(open).await.records.len(), 2, "{}", bed.name);
    }
}

#[tokio::test]
async fn a_fenced_process_is_told_so_even_when_all_keys_of_its_batch_exist() {
    for bed in beds::all().await {
        let (gone, other) = (bed.join().await, bed.join().await);
        let there = start(with_key("trip", "1"));
        bed.write(other, &[there]).await;
        bed.store.leave(gone).await.unwrap();
        let (late, fresh) = (start(with_key("trip", "1")), start(with_key("trip", "2")));
        for batch in [vec![&fresh], vec![&late], vec![&late, &fresh]] {
            let written = bed.store.write(gone, &batch).await;
            assert!(matches!(written, Err(Error::Fenced)), "{}", bed.name);
        }
    }
}
