//! Letters: what others tell a saga.

use std::time::Duration;

use ratebox_saga::{Append, Ctx, Posted, Saga, SagaId, Status, Wake, Written};

use crate::beds::{self, at_ms, change, letter, nothing, record};

#[tokio::test]
async fn a_letter_is_kept_once_and_handed_to_an_owner_once() {
    for bed in beds::all().await {
        let (owner, other) = (bed.join().await, bed.join().await);
        let id = bed.started(owner).await;
        let store = &bed.store;
        let mut letters = vec![letter(id, "b"), letter(id, "a"), letter(id, "c")];
        for (ms, it) in letters.iter_mut().enumerate() {
            it.at = at_ms(i64::try_from(ms).unwrap());
        }
        for it in letters.iter().rev().chain(&letters) {
            assert_eq!(store.post(it).await.unwrap(), Posted::Kept);
        }
        assert!(store.mail(other, 10).await.unwrap().is_empty());
        let mail = store.mail(owner, 2).await.unwrap();
        assert_eq!(mail, letters[..2], "{}", bed.name);
        assert_eq!(store.mail(owner, 10).await.unwrap(), letters[2..]);
        assert!(store.mail(owner, 10).await.unwrap().is_empty());
        assert_eq!(bed.load(id).await.letters, letters, "{}", bed.name);
        let stranger = letter(SagaId::new(), "x");
        let posted = store.post(&stranger).await.unwrap();
        assert_eq!(posted, Posted::NoSuchSaga, "{}", bed.name);
    }
}

#[tokio::test]
async fn an_heir_gets_the_letters_that_the_dead_did_not_answer() {
    for bed in beds::all().await {
        let (leaver, heir) = (bed.join().await, bed.join().await);
        let id = bed.started(leaver).await;
        bed.change(leaver, id, Status::Executing, Wake::Letter)
            .await;
        let (answered, open) = (letter(id, "answered"), letter(id, "open"));
        bed.store.post(&answered).await.unwrap();
        bed.store.post(&open).await.unwrap();
        assert_eq!(bed.store.mail(leaver, 10).await.unwrap().len(), 2);
        let append = Append {
            records: vec![record(0)],
            letters: vec![answered.id],
            ..nothing(id)
        };
        assert_eq!(bed.append(leaver, append).await, Written::Kept);
        bed.store.leave(leaver).await.unwrap();
        assert!(bed.adopt(heir, 1).await.is_empty(), "{}", bed.name);
        let mail = bed.store.mail(heir, 10).await.unwrap();
        assert_eq!(mail, [open], "{}", bed.name);
    }
}

#[tokio::test]
async fn an_end_takes_the_unread_letters_and_a_later_one_is_still_taken() {
    for bed in beds::all().await {
        let owner = bed.join().await;
        let id = bed.started(owner).await;
        bed.store.post(&letter(id, "late")).await.unwrap();
        let end = Append {
            records: vec![record(0)],
            head: Some(change(Status::Completed, Wake::Live)),
            ..nothing(id)
        };
        assert_eq!(bed.append(owner, end).await, Written::Kept);
        assert!(bed.load(id).await.letters.is_empty(), "{}", bed.name);
        assert!(bed.store.mail(owner, 10).await.unwrap().is_empty());
        let undo = letter(id, "undo");
        assert_eq!(bed.store.post(&undo).await.unwrap(), Posted::Kept);
        assert_eq!(bed.store.mail(owner, 10).await.unwrap(), [undo]);
    }
}

#[tokio::test]
async fn a_letter_to_an_ended_saga_of_a_process_that_is_gone_is_read_by_another() {
    for bed in beds::all().await {
        let (gone, heir) = (bed.join().await, bed.join().await);
        let (before, after) = (bed.started(gone).await, bed.started(gone).await);
        for id in [before, after] {
            bed.change(gone, id, Status::Completed, Wake::Letter).await;
        }
        // One was handed out and not answered, the other is posted when nobody is left.
        let handed = letter(before, "handed");
        bed.store.post(&handed).await.unwrap();
        assert_eq!(bed.store.mail(gone, 10).await.unwrap().len(), 1);
        assert_eq!(bed.store.adopt(heir, 10).await.unwrap().sagas, 0);
        bed.store.leave(gone).await.unwrap();
        let late = letter(after, "late");
        bed.store.post(&late).await.unwrap();
        let mut live = bed.adopt(heir, 2).await;
        live.sort_unstable();
        let mut both = [before, after];
        both.sort_unstable();
        assert_eq!(live, both, "{}", bed.name);
        for (id, letter) in [(before, handed), (after, late)] {
            let stored = bed.load(id).await;
            assert_eq!(stored.head.owner, Some(heir), "{}", bed.name);
            assert_eq!(stored.letters, [letter], "{}", bed.name);
        }
        assert_eq!(bed.store.adopt(heir, 10).await.unwrap().sagas, 0);
    }
}

#[tokio::test]
async fn definitions_are_kept_once_and_the_latest_come_first() {
    for bed in beds::all().await {
        let outline = |name: &str, hours: u64| {
            let b = Saga::<u32>::builder(name);
            let step = b.step("a", async |_: Ctx, n: u32| Ok(n)).read_only();
            b.after(step)
                .sleep("rest", Duration::from_secs(hours * 3_600));
            b.build().unwrap().outline()
        };
        let (one, two, slower) = (outline("one", 1), outline("two", 1), outline("one", 2));
        bed.store
            .describe(std::slice::from_ref(&one))
            .await
            .unwrap();
        bed.store
            .describe(&[two.clone(), one.clone()])
            .await
            .unwrap();
        let all = bed.store.outlines(None, 10).await.unwrap();
        assert_eq!(all, [two.clone(), one.clone()], "{}", bed.name);
        // Times may change under the same hash.
        assert_eq!(one.hash(), slower.hash());
        bed.store
            .describe(std::slice::from_ref(&slower))
            .await
            .unwrap();
        let kept = bed.store.outline("one", one.hash()).await.unwrap();
        assert_eq!(kept, Some(slower), "{}", bed.name);
        assert_eq!(bed.store.outline("one", "x").await.unwrap(), None);
        let of_two = bed.store.outlines(Some("two"), 10).await.unwrap();
        assert_eq!(of_two, [two], "{}", bed.name);
        assert_eq!(bed.store.outlines(None, 1).await.unwrap().len(), 1);
    }
}
