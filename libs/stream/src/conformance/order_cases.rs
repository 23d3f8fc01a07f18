//! Cases about partitions, their owners, and the order of keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ratebox_kit::{Message, Stopwatch};

use super::order_bed::Fate;
use super::{Effects, OrderBed, Process};
use crate::policy::Expired;
use crate::{Chooser, KeyOrder, Lane, Partitions, Policy, field};

/// What the members own now, by partition.
async fn owners(members: &[&Process]) -> BTreeMap<u32, usize> {
    let mut owners = BTreeMap::new();
    for process in members {
        for number in process.member.partitions().await {
            *owners.entry(number).or_default() += 1;
        }
    }
    owners
}

/// Waits until every partition has one owner and the members' shares differ by one at most.
async fn balanced(bed: &OrderBed, partitions: &Partitions, members: &[&Process]) {
    bed.until("the partitions are balanced", async || {
        let mut sizes = BTreeSet::new();
        for process in members {
            sizes.insert(process.member.partitions().await.len());
        }
        let spread = sizes.last().unwrap() - sizes.first().unwrap();
        let owners = owners(members).await;
        let once = owners.values().all(|count| *count == 1);
        spread <= 1 && once && owners.len() == partitions.count() as usize
    })
    .await;
}

/// One owner at a time; its epoch stays while it renews and grows with the next one.
pub async fn a_lease_has_one_owner_until_it_ends_or_is_given_back(bed: OrderBed) {
    let partitions = bed.partitions(2);
    let owner = bed.connect().ownership;
    let [a, b] = ["a", "b"].map(|name| bed.member_of(&partitions, 0, name));
    let long = Duration::from_secs(60);
    let first = owner.lease(&a, long).await.unwrap().unwrap();
    assert_eq!(owner.lease(&b, long).await.unwrap(), None);
    assert_eq!(owner.lease(&a, long).await.unwrap(), Some(first));
    assert_eq!(owner.owner(&b).await.unwrap().unwrap().member, a.consumer);
    let other = bed.member_of(&partitions, 1, "b");
    assert!(owner.lease(&other, long).await.unwrap().is_some());
    owner.give_back(&b).await.unwrap();
    assert_eq!(owner.lease(&b, long).await.unwrap(), None, "it was not his");
    owner.give_back(&a).await.unwrap();
    assert_eq!(owner.owner(&a).await.unwrap(), None);
    let short = Duration::from_millis(300);
    let second = owner.lease(&b, short).await.unwrap().unwrap();
    assert!(second > first);
    bed.bed.pass(short).await;
    let third = owner.lease(&a, long).await.unwrap().unwrap();
    assert!(third > second);
    assert_eq!(owner.owner(&b).await.unwrap().unwrap().epoch, third);
}

/// Members are met while they live.
pub async fn members_that_left_or_died_are_not_met(bed: OrderBed) {
    let owner = bed.connect().ownership;
    let names = async |name: &str, length_ms| {
        let (sub, length) = (bed.whole(name), Duration::from_millis(length_ms));
        let met = owner.meet(&sub, length).await.unwrap();
        met.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("b", 60_000).await, ["b"]);
    assert_eq!(names("a", 60_000).await, ["a", "b"]);
    assert_eq!(names("c", 200).await, ["a", "b", "c"]);
    owner.leave(&bed.whole("b")).await.unwrap();
    bed.bed.pass(Duration::from_millis(250)).await;
    assert_eq!(names("a", 60_000).await, ["a"]);
}

/// Shares follow the members: one, then three, then two.
pub async fn partitions_are_shared_out_evenly_and_each_has_an_owner(bed: OrderBed) {
    let partitions = bed.partitions(8);
    let effects = Effects::new(|_, _| None);
    let start = |name| {
        bed.process(
            name,
            &partitions,
            bed.terms(KeyOrder::None),
            effects.handlers(),
        )
    };
    let a = start("a");
    balanced(&bed, &partitions, &[&a]).await;
    let (b, c) = (start("b"), start("c"));
    balanced(&bed, &partitions, &[&a, &b, &c]).await;
    bed.append_keyed(&partitions, 400, 40).await;
    b.stop().await;
    balanced(&bed, &partitions, &[&a, &c]).await;
    bed.until("all is done", async || effects.count() == 400)
        .await;
    bed.until("nothing is pending", async || {
        bed.pending(&partitions).await == 0
    })
    .await;
    assert_eq!(effects.refused(), 0);
}

/// What a dead member held comes with its partition, as soon as the lease ended.
pub async fn a_dead_members_partitions_go_to_others_with_what_it_held(bed: OrderBed) {
    let partitions = bed.partitions(4);
    let stuck = Effects::new(|_, _| Some(Fate::Retry));
    let mut a = bed.process(
        "a",
        &partitions,
        bed.terms(KeyOrder::PerKey),
        stuck.handlers(),
    );
    balanced(&bed, &partitions, &[&a]).await;
    bed.append_keyed(&partitions, 40, 40).await;
    bed.until("it holds all", async || a.member.held().await >= 30)
        .await;
    let effects = Effects::new(|_, _| None);
    let terms = bed.terms(KeyOrder::PerKey);
    let lease = terms.lease;
    let watch = Stopwatch::start();
    a.kill();
    let b = bed.process("b", &partitions, terms, effects.handlers());
    balanced(&bed, &partitions, &[&b]).await;
    bed.until("what the dead one held is done", async || {
        effects.count() + bed.letters.kept().len() >= 40
    })
    .await;
    // A lease, a turn to see it, and as much again for a busy machine.
    assert!(
        watch.elapsed() < lease * 2 + Duration::from_secs(4),
        "{:?}",
        watch.elapsed()
    );
    b.stop().await;
}

/// A stop costs no lease: others own everything at their next turn.
pub async fn a_stop_hands_everything_over_at_once(bed: OrderBed) {
    let partitions = bed.partitions(4);
    let effects = Effects::new(|_, _| None);
    let terms = crate::Terms {
        lease: Duration::from_secs(300),
        ..bed.terms(KeyOrder::PerKey)
    };
    let a = bed.process("a", &partitions, terms.clone(), effects.handlers());
    balanced(&bed, &partitions, &[&a]).await;
    let b = bed.process("b", &partitions, terms, effects.handlers());
    balanced(&bed, &partitions, &[&a, &b]).await;
    let watch = Stopwatch::start();
    a.stop().await;
    balanced(&bed, &partitions, &[&b]).await;
    assert!(watch.elapsed() < Duration::from_secs(10));
    b.stop().await;
    assert_eq!(
        bed.connect()
            .ownership
            .meet(&bed.whole("c"), Duration::from_secs(1))
            .await
            .unwrap()
            .len(),
        1
    );
}

/// An owner whose renewals fail reads nothing more and commits nothing more; the next one does.
pub async fn a_stale_owner_neither_reads_nor_commits(bed: OrderBed) {
    let partitions = bed.partitions(1);
    let effects = Effects::new(|_, _| None);
    let fences: Arc<std::sync::Mutex<Vec<crate::Fence>>> = Arc::default();
    let noted = Arc::clone(&fences);
    let inner = effects.handlers();
    let handlers = move |fence: &crate::Fence| {
        noted.lock().unwrap().push(fence.clone());
        crate::Handlers::of(&inner, fence)
    };
    let a = bed.process("a", &partitions, bed.terms(KeyOrder::PerKey), handlers);
    balanced(&bed, &partitions, &[&a]).await;
    let stale = fences.lock().unwrap()[0].clone();
    assert!(stale.is_open() && stale.check().await.unwrap());
    // Somebody takes the partition behind its back, as the server lets one after a long silence.
    let owner = bed.connect().ownership;
    owner
        .give_back(&bed.member_of(&partitions, 0, "a"))
        .await
        .unwrap();
    let thief = bed.member_of(&partitions, 0, "thief");
    let taken = owner.lease(&thief, Duration::from_secs(60)).await.unwrap();
    assert!(taken.is_some_and(|epoch| epoch > stale.epoch()));
    assert!(!stale.check().await.unwrap(), "the server knows");
    bed.until("the member knows, too", async || !stale.is_open())
        .await;
    bed.until("it lets go", async || {
        a.member.partitions().await.is_empty()
    })
    .await;
    // A read that waited when the fence closed has ended; real leases end later than that.
    bed.bed.pass(bed.policy().block * 2).await;
    bed.append_keyed(&partitions, 10, 10).await;
    bed.bed.pass(bed.policy().block).await;
    assert_eq!((effects.count(), bed.pending(&partitions).await), (0, 0));
    owner.give_back(&thief).await.unwrap();
    bed.until("it is taken again under a new epoch", async || {
        effects.count() == 10
    })
    .await;
    a.stop().await;
}

/// Others of the partition go on while one key waits for its retries.
pub async fn a_failing_key_holds_up_only_itself(bed: OrderBed) {
    let partitions = bed.partitions(1);
    let left = AtomicUsize::new(3);
    let effects = Effects::new(move |key, number| {
        let fails = key == "k0"
            && number == 0
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1))
                .is_ok();
        fails.then_some(Fate::Retry)
    });
    bed.append_keyed(&partitions, 200, 10).await;
    let a = bed.process(
        "a",
        &partitions,
        bed.terms(KeyOrder::PerKey),
        effects.handlers(),
    );
    bed.until("all are done", async || effects.count() == 200)
        .await;
    for key in 0..10 {
        assert_eq!(effects.of(&format!("k{key}")), (0..20).collect::<Vec<_>>());
    }
    assert_eq!((effects.tries(), bed.letters.kept().len()), (203, 0));
    bed.until("nothing is pending", async || {
        bed.pending(&partitions).await == 0
    })
    .await;
    a.stop().await;
}

/// A head that is given up, at once or after its last retry, lets the next one go.
pub async fn the_letter_of_a_dead_head_frees_its_key(bed: OrderBed) {
    let partitions = bed.partitions(1);
    let effects = Effects::new(|_, number| match number {
        1 => Some(Fate::Dead),
        2 => Some(Fate::Retry),
        _ => None,
    });
    bed.append_keyed(&partitions, 10, 2).await;
    let a = bed.process(
        "a",
        &partitions,
        bed.terms(KeyOrder::PerKey),
        effects.handlers(),
    );
    bed.until("the last ones are done", async || {
        ["k0", "k1"]
            .iter()
            .all(|key| effects.of(key).last() == Some(&4))
    })
    .await;
    for key in ["k0", "k1"] {
        assert_eq!(effects.of(key), [0, 1, 3, 4]);
    }
    let letters = bed.letters.kept();
    let fails: Vec<u32> = letters
        .iter()
        .filter(|it| it.code == "test.retry")
        .map(|it| it.fail_count)
        .collect();
    assert_eq!((letters.len(), fails), (4, vec![4, 4]));
    bed.until("nothing is pending", async || {
        bed.pending(&partitions).await == 0
    })
    .await;
    a.stop().await;
}

/// A head that was put off waits in its place, without an attempt; one whose deadline is over and
/// that is dropped lets the next one go.
pub async fn what_is_put_off_or_too_late_keeps_its_key_in_order(bed: OrderBed) {
    let partitions = bed.partitions(1);
    let left = AtomicUsize::new(5);
    let effects = Effects::new(move |_, number| {
        let left = || {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1))
                .is_ok()
        };
        (number == 1 && left()).then_some(Fate::Snooze)
    });
    let late = |message: Message| message.with_header(field::EXPIRES_AT, "1");
    let message = |number: u64| {
        let message = Message::new(format!("k0-{number}"), number.to_string());
        let message = message.with_header(field::KEY, "k0");
        if number == 2 { late(message) } else { message }
    };
    let chooser = Chooser::new(partitions.clone());
    let appends: Vec<_> = (0..5)
        .map(|number| chooser.append(Lane::Normal, message(number)))
        .collect();
    for answer in bed.bed.log.append(&appends).await {
        answer.unwrap();
    }
    let policy = Policy {
        expired: Expired::Drop,
        ..bed.policy()
    };
    let behaviour = (policy, bed.terms(KeyOrder::PerKey));
    let a = bed.process_that("a", &partitions, behaviour, effects.handlers());
    bed.until("the last one is done", async || {
        effects.of("k0").last() == Some(&4)
    })
    .await;
    assert_eq!(effects.of("k0"), [0, 1, 3, 4]);
    assert_eq!((effects.tries(), bed.letters.kept().len()), (9, 0));
    bed.until("nothing is pending", async || {
        bed.pending(&partitions).await == 0
    })
    .await;
    a.stop().await;
}

/// Members come, go and die while messages fail: no effect is lost, and none passes another of its
/// key.
pub async fn a_key_keeps_its_order_over_owners_and_retries(bed: OrderBed) {
    let partitions = bed.partitions(4);
    let tries = AtomicUsize::new(0);
    let effects = Effects::new(move |_, _| {
        let fails = tries.fetch_add(1, Ordering::SeqCst) % 23 == 22;
        fails.then_some(Fate::Retry)
    });
    bed.append_keyed(&partitions, 3_000, 60).await;
    let start = |name: &str| {
        bed.process(
            name,
            &partitions,
            bed.terms(KeyOrder::PerKey),
            effects.handlers(),
        )
    };
    let mut a = start("a");
    let b = start("b");
    bed.until("work flows", async || effects.count() > 300)
        .await;
    a.kill();
    let c = start("c");
    bed.until("work flows on", async || effects.count() > 1_000)
        .await;
    b.stop().await;
    let d = start("d");
    bed.until("all are done", async || {
        effects.count() + bed.letters.kept().len() >= 3_000
    })
    .await;
    assert_eq!(effects.inversions(), 0);
    bed.until("nothing is pending", async || {
        bed.pending(&partitions).await == 0
    })
    .await;
    assert_eq!(effects.count() + bed.letters.kept().len(), 3_000);
    c.stop().await;
    d.stop().await;
}

/// A key that fails for long has more waiting behind it than memory may hold.
pub async fn more_waits_than_is_kept_in_memory(bed: OrderBed) {
    let partitions = bed.partitions(1);
    let open = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&open);
    let effects = Effects::new(move |key, number| {
        let shut = key == "k0" && number == 0 && gate.load(Ordering::SeqCst) == 0;
        shut.then_some(Fate::Retry)
    });
    // Of two keys, so that half of them wait behind the one that fails.
    bed.append_keyed(&partitions, 5_000, 2).await;
    let a = bed.process(
        "a",
        &partitions,
        bed.terms(KeyOrder::PerKey),
        effects.handlers(),
    );
    bed.until("the other key is done or the first gave up", async || {
        effects.of("k1").len() == 2_500 || !bed.letters.kept().is_empty()
    })
    .await;
    assert!(
        a.member.held().await < 3_000,
        "what waits is not all in memory"
    );
    open.store(1, Ordering::SeqCst);
    bed.until("all are done", async || {
        effects.count() + bed.letters.kept().len() == 5_000
    })
    .await;
    assert_eq!(effects.inversions(), 0);
    bed.until("nothing is pending", async || {
        bed.pending(&partitions).await == 0
    })
    .await;
    a.stop().await;
}

/// A message that always fails gets as many tries as it has, however often its partition changes
/// hands, and its letter tells of all of them.
pub async fn the_next_owner_counts_attempts_on(bed: OrderBed) {
    let partitions = bed.partitions(1);
    let effects = Effects::new(|_, number| (number == 1).then_some(Fate::Retry));
    let wait = Duration::from_millis(300);
    let policy = || Policy {
        retry_backoff: ratebox_kit::Backoff {
            first: wait,
            max: wait,
        },
        ..bed.policy()
    };
    let terms = || bed.terms(KeyOrder::PerKey);
    bed.append_keyed(&partitions, 6, 2).await;
    let start = |name| {
        let behaviour = (policy(), terms());
        bed.process_that(name, &partitions, behaviour, effects.handlers())
    };
    let mut a = start("a");
    // The first of each key, and two tries of each that fails.
    bed.until("two tries have failed", async || effects.tries() >= 6)
        .await;
    a.kill();
    let b = start("b");
    bed.until("the last ones are done", async || {
        ["k0", "k1"]
            .iter()
            .all(|key| effects.of(key).last() == Some(&2))
    })
    .await;
    // One try of each may have been cut off by the death.
    let tries = effects.tries();
    assert!((12..=14).contains(&tries), "{tries} tries");
    let letters = bed.letters.kept();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!((letter.fail_count, letter.attempts.len()), (4, 4));
        assert_ne!(letter.attempts[0].consumer, letter.attempts[3].consumer);
    }
    b.stop().await;
}
