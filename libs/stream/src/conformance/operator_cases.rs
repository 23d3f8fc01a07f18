//! Cases for the operator's side.

use std::time::Duration;

use ratebox_kit::Timestamp;

use super::bed::{Bed, bodies};
use crate::{
    ClaimScope, EntryId, GroupName, Lane, LaneFloor, Retention, Settlement, Subscription,
    TrimOrder, trim,
};

async fn owed(bed: &Bed, sub: &Subscription) -> Vec<Option<EntryId>> {
    let floors: Vec<LaneFloor> = bed.admin.floor(sub).await.unwrap();
    floors.into_iter().map(|floor| floor.owed_from).collect()
}

async fn ack(bed: &Bed, sub: &Subscription, lane: Lane, ids: &[EntryId]) {
    let acks: Vec<_> = ids
        .iter()
        .map(|id| Settlement::Ack { lane, id: *id })
        .collect();
    bed.log.settle(sub, &acks).await.unwrap();
}

/// Nothing is made by looking.
pub async fn a_missing_stream_owes_nothing(bed: Bed) {
    assert_eq!(bed.admin.info(&bed.other("missing")).await.unwrap(), None);
    bed.admin.ping().await.unwrap();
    let mut sub = bed.member("a").await;
    bed.append(Lane::Normal, &["x"]).await;
    sub.group = GroupName::new("nobody");
    assert_eq!(owed(&bed, &sub).await, [None, None, None]);
    assert_eq!(bed.admin.delayed(&sub).await.unwrap().count, 0);
    let trimmed = bed
        .admin
        .trim(
            &bed.other("missing"),
            Retention {
                max_age: None,
                max_len: Some(0),
            },
        )
        .await
        .unwrap();
    assert_eq!(trimmed.removed, 0);
}

/// The figures that monitoring shows.
pub async fn info_tells_what_is_pending_and_what_lags(bed: Bed) {
    let sub = bed.member("a").await;
    let ids = bed.append_many(Lane::Normal, 5).await;
    bed.read(&sub, 3).await;
    ack(&bed, &sub, Lane::Normal, &ids[..1]).await;
    let info = bed.admin.info(&bed.stream).await.unwrap().unwrap();
    assert_eq!((info.length, info.appended), (5, 5));
    assert_eq!((info.first, info.last), (Some(ids[0]), ids[4]));
    let group = &info.groups[0];
    assert_eq!((group.name.as_str(), group.last_delivered), ("g", ids[2]));
    assert_eq!((group.pending, group.oldest_pending), (2, Some(ids[1])));
    assert_eq!(group.lag, Some(2));
    assert_eq!(group.consumers.len(), 1);
    assert_eq!(
        (group.consumers[0].name.as_str(), group.consumers[0].pending),
        ("a", 2)
    );
}

/// The predecessor's trim by count lost what was not yet read.
pub async fn trim_keeps_what_any_group_has_not_acknowledged(bed: Bed) {
    let (g, h) = (bed.member_of("g", "a").await, bed.member_of("h", "a").await);
    let ids = bed.append_many(Lane::Normal, 20).await;
    bed.read(&g, 20).await;
    bed.read(&h, 12).await;
    ack(&bed, &g, Lane::Normal, &ids).await;
    ack(&bed, &h, Lane::Normal, &ids[..5]).await;
    ack(&bed, &h, Lane::Normal, &ids[7..12]).await;
    let nothing = Retention {
        max_age: None,
        max_len: Some(0),
    };
    let trimmed = bed.admin.trim(&bed.stream, nothing).await.unwrap();
    assert_eq!(trimmed.removed, 5);
    assert_eq!(trimmed.held_by, Some(GroupName::new("h")));
    bed.pass(bed.idle()).await;
    let scope = ClaimScope::Idle(bed.idle());
    let claimed = bed
        .log
        .claim(&h, Lane::Normal, EntryId::MIN, scope, 10)
        .await
        .unwrap();
    assert_eq!(bodies(&claimed.entries), ["normal-5", "normal-6"]);
    assert!(claimed.vanished.is_empty());
    ack(&bed, &h, Lane::Normal, &ids[5..7]).await;
    let three = Retention {
        max_age: None,
        max_len: Some(10),
    };
    assert_eq!(bed.admin.trim(&bed.stream, three).await.unwrap().removed, 5);
    assert_eq!(bed.read(&h, 20).await.len(), 8);
    let info = bed.admin.info(&bed.stream).await.unwrap().unwrap();
    assert_eq!(info.length, 10);
}

/// Of a case that a machine which stands still says nothing about.
const TRIES_MAX: usize = 20;

/// Age counts, too; with no group nobody is owed anything.
pub async fn trim_by_age_keeps_the_young(bed: Bed) {
    const AGE: Duration = Duration::from_millis(600);
    let stream = bed.stream.clone();
    for _ in 0..TRIES_MAX {
        bed.append(Lane::Normal, &["old"]).await;
        bed.pass(AGE + Duration::from_millis(100)).await;
        let young = bed.append(Lane::Normal, &["young"]).await[0];
        let retention = Retention {
            max_age: Some(AGE),
            max_len: None,
        };
        let removed = bed.admin.trim(&stream, retention).await.unwrap().removed;
        let left = bed.admin.peek(&stream, EntryId::MIN, 5).await.unwrap();
        let after = bed.append(Lane::Normal, &["after"]).await[0];
        let all = Retention {
            max_age: None,
            max_len: Some(0),
        };
        bed.admin.trim(&stream, all).await.unwrap();
        // By the log's clock. Where the machine stood still meanwhile, it was old when it was trimmed.
        if after.ms - young.ms < AGE.as_millis() as u64 {
            assert_eq!(removed, 1);
            assert_eq!(bodies(&left), ["young"]);
            return;
        }
    }
    panic!("the machine stood still in each of {TRIES_MAX} tries");
}

/// What the relay compares its rows with.
pub async fn the_floor_is_the_oldest_thing_that_is_owed(bed: Bed) {
    let sub = bed.member("a").await;
    assert_eq!(owed(&bed, &sub).await, [None, None, None]);
    let ids = bed.append_many(Lane::Normal, 4).await;
    let low = bed.append(Lane::Low, &["l"]).await;
    assert_eq!(owed(&bed, &sub).await, [None, Some(ids[0]), Some(low[0])]);
    let entries = bed.read(&sub, 3).await;
    ack(&bed, &sub, Lane::Normal, &ids[..1]).await;
    assert_eq!(owed(&bed, &sub).await[1], Some(ids[1]));
    ack(&bed, &sub, Lane::Normal, &ids[2..3]).await;
    let failed_at = Timestamp::from_second(1_700_000_000).unwrap();
    let wait = Duration::from_secs(60);
    let delay = Settlement::Delay {
        entry: &entries[1],
        wait,
        failed_at,
    };
    bed.log.settle(&sub, &[delay]).await.unwrap();
    assert_eq!(owed(&bed, &sub).await[1], Some(ids[1]));
    let other = bed.member_of("h", "a").await;
    bed.read(&other, 10).await;
    ack(&bed, &other, Lane::Normal, &ids).await;
    assert_eq!(owed(&bed, &other).await[1], None);
}

/// Removing a member that owns entries would lose them.
pub async fn only_empty_dead_members_are_removed(bed: Bed) {
    let (owner, empty, me) = (
        bed.member("owner").await,
        bed.member("empty").await,
        bed.member("me").await,
    );
    bed.append(Lane::Normal, &["x"]).await;
    bed.read(&owner, 5).await;
    bed.read(&empty, 5).await;
    let gone = bed
        .admin
        .remove_dead_consumers(&me, bed.idle())
        .await
        .unwrap();
    assert!(gone.is_empty());
    bed.pass(bed.idle()).await;
    bed.read(&me, 5).await;
    let gone = bed
        .admin
        .remove_dead_consumers(&me, bed.idle())
        .await
        .unwrap();
    assert!(
        !gone
            .iter()
            .any(|name| name.as_str() == "owner" || name.as_str() == "me")
    );
    let info = bed.admin.info(&bed.stream).await.unwrap().unwrap();
    let left: Vec<_> = info.groups[0]
        .consumers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert!(
        left.contains(&"owner") && !left.contains(&"empty"),
        "left: {left:?}"
    );
    assert_eq!(bed.pending("g").await, 1);
}

/// For the command line and the console.
pub async fn peek_looks_without_delivering(bed: Bed) {
    let sub = bed.member("a").await;
    let ids = bed.append_many(Lane::Normal, 3).await;
    let seen = bed.admin.peek(&bed.stream, ids[1], 10).await.unwrap();
    assert_eq!(bodies(&seen), ["normal-1", "normal-2"]);
    assert_eq!(seen[0].deliveries, 0);
    assert_eq!(bed.read(&sub, 10).await.len(), 3);
}

/// A dead group would hold a stream for ever; only those that somebody gave up are not waited for.
pub async fn trim_waits_for_every_group_but_those_given_up(bed: Bed) {
    let (g, dead) = (
        bed.member_of("g", "a").await,
        bed.member_of("dead", "a").await,
    );
    let ids = bed.append_many(Lane::Normal, 10).await;
    bed.read(&dead, 2).await;
    bed.read(&g, 6).await;
    ack(&bed, &g, Lane::Normal, &ids[..6]).await;
    let order = |ignored: &[&str]| TrimOrder {
        retention: Retention {
            max_age: None,
            max_len: Some(0),
        },
        max_bytes: None,
        ignored: ignored.iter().map(GroupName::new).collect(),
    };
    let held = trim(&*bed.admin, &bed.stream, &order(&[])).await.unwrap();
    assert_eq!(
        (held.removed, held.held_by),
        (0, Some(GroupName::new("dead")))
    );
    let held = trim(&*bed.admin, &bed.stream, &order(&["dead"]))
        .await
        .unwrap();
    assert_eq!((held.removed, held.held_by), (6, Some(GroupName::new("g"))));
    assert_eq!(
        bed.read(&g, 20).await.len(),
        4,
        "what g needs is still there"
    );
    let all = order(&["dead", "g"]);
    assert_eq!(
        trim(&*bed.admin, &bed.stream, &all).await.unwrap().removed,
        4
    );
}

/// Counts alone let large entries fill a server.
pub async fn trim_by_bytes_keeps_about_so_many_and_all_that_is_owed(bed: Bed) {
    let sub = bed.member("a").await;
    let body = "x".repeat(2_000);
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.extend(bed.append(Lane::Normal, &[body.as_str()]).await);
    }
    let before = bed.admin.bytes(&bed.stream).await.unwrap();
    assert!(before >= 60 * 2_000, "{before}");
    assert_eq!(bed.admin.bytes(&bed.other("missing")).await.unwrap(), 0);
    let order = TrimOrder {
        max_bytes: Some(before / 3),
        ..TrimOrder::default()
    };
    let held = trim(&*bed.admin, &bed.stream, &order).await.unwrap();
    assert_eq!((held.removed, held.held_by), (0, Some(GroupName::new("g"))));
    bed.read(&sub, 60).await;
    ack(&bed, &sub, Lane::Normal, &ids).await;
    let trimmed = trim(&*bed.admin, &bed.stream, &order).await.unwrap();
    let after = bed.admin.bytes(&bed.stream).await.unwrap();
    assert!(
        after <= before / 3 && trimmed.removed < 60,
        "{trimmed:?}, {after}"
    );
}

/// Somebody else reads from the middle on; who reads already notices nothing.
pub async fn a_new_group_reads_from_an_entry_on(bed: Bed) {
    let sub = bed.member("a").await;
    let ids = bed.append_many(Lane::Normal, 5).await;
    bed.read(&sub, 5).await;
    let group = GroupName::new("late");
    let make = async || {
        bed.admin
            .make_group(&bed.stream, &group, ids[3])
            .await
            .unwrap()
    };
    assert!(make().await);
    assert!(!make().await, "there is one already");
    let mut late = sub.clone();
    late.group = group.clone();
    let read = bed.read(&late, 10).await;
    assert_eq!(bodies(&read), ["normal-3", "normal-4"]);
    assert_eq!(bed.pending("g").await, 5);
}
