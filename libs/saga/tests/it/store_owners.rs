//! Leases, fencing, takeover, and what is due.

use std::time::Duration;

use ratebox_saga::{Append, Entry, Error, SagaId, Status, Wake, Written};

use crate::beds::{self, Bed, LONG, at_ms, change, nothing, record, records, saga, start};

/// Fences a process whose lease has ended.
async fn fence(bed: &Bed, by: ratebox_saga::Owner, late: ratebox_saga::Owner) {
    let look = async {
        loop {
            bed.store.adopt(by, 0).await.unwrap();
            // What it owns is not touched by a limit of 0.
            if let Err(Error::Fenced) = bed.store.due(late, at_ms(0), 1).await {
                return;
            }
        }
    };
    let deadline = Duration::from_secs(10);
    tokio::time::timeout(deadline, look).await.unwrap();
}

#[tokio::test]
async fn every_membership_has_a_greater_number() {
    for bed in beds::all().await {
        let (first, second) = (bed.join().await, bed.join().await);
        assert!(
            0 < first.epoch && first.epoch < second.epoch,
            "{}",
            bed.name
        );
    }
}

#[tokio::test]
async fn a_fenced_process_can_do_nothing_any_more() {
    for bed in beds::all().await {
        let (late, other) = (bed.join_late().await, bed.join().await);
        let id = bed.started(late).await;
        fence(&bed, other, late).await;
        let new = saga("trip");
        let new_id = new.id;
        for entry in [start(new), Entry::Append(records(id, 0..1))] {
            let error = bed.store.write(late, &[&entry]).await.unwrap_err();
            assert!(matches!(error, Error::Fenced), "{}: {error}", bed.name);
        }
        let store = &bed.store;
        let errors = [
            store.renew(late, LONG).await.unwrap_err(),
            store.adopt(late, 10).await.unwrap_err(),
            store.claim(late, id).await.unwrap_err(),
            store.due(late, at_ms(0), 10).await.unwrap_err(),
            store.mail(late, 10).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Fenced), "{}: {error}", bed.name);
            assert!(!error.is_retryable());
        }
        assert!(store.load(&[new_id]).await.unwrap().is_empty());
        assert!(bed.load(id).await.records.is_empty(), "{}", bed.name);
    }
}

#[tokio::test]
async fn a_lease_that_ended_unnoticed_is_renewed() {
    for bed in beds::all().await {
        let late = bed.join_late().await;
        let id = bed.started(late).await;
        bed.store.renew(late, LONG).await.unwrap();
        let other = bed.join().await;
        let adopted = bed.store.adopt(other, 10).await.unwrap();
        assert_eq!((adopted.sagas, adopted.more), (0, false), "{}", bed.name);
        assert_eq!(bed.append(late, records(id, 0..1)).await, Written::Kept);
    }
}

#[tokio::test]
async fn a_dead_process_sagas_change_hands_and_only_the_living_are_named() {
    for bed in beds::all().await {
        let late = bed.join_late().await;
        let (live, timed, quiet, ended) = (
            bed.started(late).await,
            bed.started(late).await,
            bed.started(late).await,
            bed.started(late).await,
        );
        let (executing, at) = (Status::Executing, at_ms(5));
        bed.change(late, timed, executing, Wake::At(at)).await;
        bed.change(late, quiet, Status::Parked, Wake::Letter).await;
        bed.change(late, ended, Status::Completed, Wake::Live).await;
        let heir = bed.join().await;
        assert_eq!(bed.adopt(heir, 3).await, [live], "{}", bed.name);
        for id in [live, timed, quiet] {
            assert_eq!(bed.load(id).await.head.owner, Some(heir), "{}", bed.name);
        }
        assert_eq!(bed.load(ended).await.head.owner, Some(late), "{}", bed.name);
        assert_eq!(bed.store.due(heir, at, 10).await.unwrap(), [timed]);
        assert_eq!(bed.append(heir, records(live, 0..1)).await, Written::Kept);
        let again = bed.store.adopt(heir, 10).await.unwrap();
        assert_eq!((again.sagas, again.more), (0, false), "{}", bed.name);
    }
}

#[tokio::test]
async fn a_takeover_has_a_limit_and_says_that_there_is_more() {
    for bed in beds::all().await {
        let (leaver, heir) = (bed.join().await, bed.join().await);
        for _ in 0..5 {
            bed.started(leaver).await;
        }
        bed.store.leave(leaver).await.unwrap();
        let first = bed.store.adopt(heir, 3).await.unwrap();
        assert_eq!((first.sagas, first.more), (3, true), "{}", bed.name);
        assert_eq!(first.live.len(), 3);
        let second = bed.store.adopt(heir, 3).await.unwrap();
        assert_eq!((second.sagas, second.more), (2, false), "{}", bed.name);
        assert!(first.live.iter().all(|it| !second.live.contains(it)));
    }
}

#[tokio::test]
async fn two_heirs_share_an_inheritance_without_quarrel() {
    for bed in beds::all().await {
        let leaver = bed.join().await;
        let heirs = [bed.join().await, bed.join().await];
        let mut sagas = Vec::new();
        for _ in 0..40 {
            sagas.push(bed.started(leaver).await);
        }
        bed.store.leave(leaver).await.unwrap();
        let take = async |heir| {
            let mut mine = Vec::new();
            loop {
                let adopted = bed.store.adopt(heir, 7).await.unwrap();
                mine.extend(adopted.live);
                if adopted.sagas == 0 && !adopted.more {
                    return mine;
                }
            }
        };
        let (one, two) = tokio::join!(take(heirs[0]), take(heirs[1]));
        let mut all: Vec<SagaId> = one.iter().chain(&two).copied().collect();
        all.sort_unstable();
        sagas.sort_unstable();
        assert_eq!(all, sagas, "{}", bed.name);
        for (heir, ids) in heirs.into_iter().zip([one, two]) {
            for id in ids {
                assert_eq!(bed.load(id).await.head.owner, Some(heir), "{}", bed.name);
            }
        }
    }
}

#[tokio::test]
async fn who_holds_a_running_saga_keeps_it_and_an_ended_one_is_anybodys() {
    for bed in beds::all().await {
        let (owner, other) = (bed.join().await, bed.join().await);
        let id = bed.started(owner).await;
        let store = &bed.store;
        assert!(store.claim(owner, id).await.unwrap());
        assert!(!store.claim(other, id).await.unwrap(), "{}", bed.name);
        assert!(!store.claim(other, SagaId::new()).await.unwrap());
        bed.change(owner, id, Status::Completed, Wake::Live).await;
        assert!(store.claim(other, id).await.unwrap(), "{}", bed.name);
        assert_eq!(bed.load(id).await.head.status, Status::Completed);
        let reopen = Append {
            records: vec![record(0)],
            head: Some(change(Status::Compensating, Wake::Live)),
            ..nothing(id)
        };
        let written = bed.append(owner, reopen.clone()).await;
        assert_eq!(written, Written::NotYours, "{}", bed.name);
        assert_eq!(bed.append(other, reopen).await, Written::Kept);
        assert!(!store.claim(owner, id).await.unwrap(), "{}", bed.name);
        store.leave(other).await.unwrap();
        assert!(store.claim(owner, id).await.unwrap(), "{}", bed.name);
    }
}

#[tokio::test]
async fn what_is_due_comes_earliest_first_and_until_a_time() {
    for bed in beds::all().await {
        let (owner, other) = (bed.join().await, bed.join().await);
        let mut ids = Vec::new();
        for ms in [30, 10, 20] {
            let id = bed.started(owner).await;
            let wake = Wake::At(at_ms(ms));
            bed.change(owner, id, Status::Executing, wake).await;
            ids.push(id);
        }
        bed.started(owner).await;
        let due = async |owner, ms, limit| bed.store.due(owner, at_ms(ms), limit).await.unwrap();
        assert_eq!(due(owner, 9, 10).await, [], "{}", bed.name);
        assert_eq!(due(owner, 20, 10).await, [ids[1], ids[2]], "{}", bed.name);
        assert_eq!(due(owner, 99, 2).await, [ids[1], ids[2]], "{}", bed.name);
        assert_eq!(due(other, 99, 10).await, [], "{}", bed.name);
        bed.change(owner, ids[1], Status::Executing, Wake::Live)
            .await;
        bed.change(owner, ids[2], Status::Completed, Wake::At(at_ms(20)))
            .await;
        assert_eq!(due(owner, 99, 10).await, [ids[0]], "{}", bed.name);
    }
}

#[tokio::test]
async fn nothing_is_written_after_a_takeover() {
    for bed in beds::all().await {
        let lease = Duration::from_millis(30);
        let zombie = bed.store.join("zombie", lease).await.unwrap();
        let mut sagas = Vec::new();
        for _ in 0..4 {
            sagas.push(bed.started(zombie).await);
        }
        let heir = bed.join().await;
        // It never renews and writes as fast as it can, until it is told that it is fenced.
        let write = async |saga| {
            for seq in 0.. {
                let entry = Entry::Append(records(saga, seq..seq + 1));
                match bed.store.write(zombie, &[&entry]).await {
                    Ok(written) if written == [Written::Kept] => {}
                    Ok(_) | Err(Error::Fenced) => return,
                    Err(error) => panic!("{}: {error}", bed.name),
                }
                tokio::task::yield_now().await;
            }
        };
        let take = async {
            bed.adopt(heir, sagas.len()).await;
            let mut seen = Vec::new();
            for id in &sagas {
                seen.push(bed.load(*id).await.records.len());
            }
            seen
        };
        let (seen, ..) = tokio::join!(
            take,
            write(sagas[0]),
            write(sagas[1]),
            write(sagas[2]),
            write(sagas[3])
        );
        for (id, seen) in sagas.iter().zip(seen) {
            assert_eq!(bed.load(*id).await.records.len(), seen, "{}", bed.name);
        }
    }
}
