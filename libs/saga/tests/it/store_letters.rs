//! Letters: what others tell a saga.

use ratebox_saga::{Append, Posted, SagaId, Status, Wake, Written};

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
