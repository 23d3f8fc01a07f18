//! Cases for the eight calls of a log.

use std::time::Duration;

use ratebox_kit::{Message, Timestamp};

use super::bed::{Bed, bodies, body};
use crate::{
    Append, ClaimScope, Claimed, Entry, EntryId, Error, GroupName, HandTo, Lane, LaneQuota, Lanes,
    Settlement, Subscription, Wait,
};

const SECOND: Duration = Duration::from_secs(1);

async fn claim_idle(bed: &Bed, sub: &Subscription, max: usize) -> Claimed {
    let scope = ClaimScope::Idle(bed.idle());
    bed.log
        .claim(sub, Lane::Normal, EntryId::MIN, scope, max)
        .await
        .unwrap()
}

async fn ack(bed: &Bed, sub: &Subscription, entries: &[Entry]) {
    let acks: Vec<_> = entries
        .iter()
        .map(|entry| Settlement::Ack {
            lane: entry.lane,
            id: entry.id,
        })
        .collect();
    bed.log.settle(sub, &acks).await.unwrap();
}

fn keys(entries: &[Entry]) -> Vec<(Lane, EntryId)> {
    entries.iter().map(|entry| (entry.lane, entry.id)).collect()
}

fn delay(entry: &Entry, wait: Duration) -> Settlement<'_> {
    Settlement::Delay {
        entry,
        wait,
        failed_at: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

/// Ids grow, fields come back byte for byte and in order.
pub async fn entries_come_in_order_and_carry_their_message(bed: Bed) {
    let sub = bed.member("a").await;
    let message = Message::new("m1", vec![0xff, 0x00, b'x']).with_header("traceparent", "t1");
    let append = Append::new(bed.stream.clone(), message);
    let first = bed.log.append(&[append]).await.remove(0).unwrap();
    let rest = bed.append(Lane::Normal, &["b", "c"]).await;
    assert!(first < rest[0] && rest[0] < rest[1]);
    let entries = bed.read(&sub, 10).await;
    let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [first, rest[0], rest[1]]);
    let names: Vec<_> = entries[0]
        .fields
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["data", "rb-id", "traceparent"]);
    assert_eq!(&entries[0].field("data").unwrap()[..], [0xff, 0x00, b'x']);
    assert_eq!(entries[0].message_id(), "m1");
    assert_eq!((entries[0].deliveries, entries[0].attempt()), (1, 0));
}

/// No entry goes to two members.
pub async fn members_of_a_group_share_the_entries(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    bed.append_many(Lane::Normal, 6).await;
    let mut got = Vec::new();
    for sub in [&a, &b, &a, &b] {
        got.extend(bodies(&bed.read(sub, 2).await));
    }
    let all: Vec<String> = (0..6).map(|number| format!("normal-{number}")).collect();
    assert_eq!(got, all);
}

/// Groups start at the start of the stream and do not disturb each other.
pub async fn every_group_sees_every_entry(bed: Bed) {
    bed.append(Lane::Normal, &["a", "b"]).await;
    let (g, h) = (bed.member_of("g", "x").await, bed.member_of("h", "x").await);
    assert_eq!(bodies(&bed.read(&g, 10).await), ["a", "b"]);
    assert_eq!(bodies(&bed.read(&h, 10).await), ["a", "b"]);
    bed.log.ensure_group(&g).await.unwrap();
    assert!(bed.read(&g, 10).await.is_empty());
}

/// A waiting read ends with the first entry of any lane.
pub async fn a_read_waits_for_the_next_entry(bed: Bed) {
    let sub = bed.member("a").await;
    let quotas = Lane::ALL.map(|lane| LaneQuota { lane, max: 5 });
    let read = bed
        .log
        .read(&sub, &quotas, Wait::ForFresh(Duration::from_secs(20)));
    let append = async {
        tokio::task::yield_now().await;
        bed.append(Lane::Low, &["late"]).await;
    };
    let (entries, ()) = tokio::join!(read, append);
    let entries = entries.unwrap();
    assert_eq!(bodies(&entries), ["late"]);
    assert_eq!(entries[0].lane, Lane::Low);
    let short = bed
        .log
        .read(&sub, &quotas, Wait::ForFresh(Duration::from_millis(20)))
        .await
        .unwrap();
    assert!(short.is_empty());
}

/// Nobody waits for ever for an entry whose consumer died.
pub async fn what_a_dead_member_held_is_claimed_after_the_idle_time(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    bed.append(Lane::Normal, &["x", "y"]).await;
    bed.read(&a, 10).await;
    assert!(claim_idle(&bed, &b, 10).await.entries.is_empty());
    bed.pass(bed.idle()).await;
    let claimed = claim_idle(&bed, &b, 10).await;
    assert_eq!(bodies(&claimed.entries), ["x", "y"]);
    assert!(claimed.entries.iter().all(|entry| entry.deliveries == 2));
    assert_eq!((claimed.next, claimed.vanished.len()), (EntryId::MIN, 0));
    ack(&bed, &b, &claimed.entries).await;
    assert_eq!(bed.pending("g").await, 0);
    bed.pass(bed.idle()).await;
    assert!(claim_idle(&bed, &b, 10).await.entries.is_empty());
}

/// A long handler keeps its entries, and touching does not count as a delivery.
pub async fn a_heartbeat_prevents_the_claim(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    bed.append(Lane::Normal, &["x"]).await;
    let held = bed.read(&a, 10).await;
    for _ in 0..3 {
        bed.pass(bed.idle() / 2).await;
        assert!(bed.log.touch(&a, &keys(&held)).await.unwrap().is_empty());
        assert!(claim_idle(&bed, &b, 10).await.entries.is_empty());
    }
    bed.pass(bed.idle()).await;
    let claimed = claim_idle(&bed, &b, 10).await;
    assert_eq!(claimed.entries[0].deliveries, 2);
}

/// Whoever lost the lease can do no harm with it.
pub async fn a_stale_member_cannot_touch_or_settle_what_another_owns(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    bed.append(Lane::Normal, &["x"]).await;
    let stale = bed.read(&a, 10).await;
    bed.pass(bed.idle()).await;
    let owned = claim_idle(&bed, &b, 10).await.entries;
    assert_eq!(
        bed.log.touch(&a, &keys(&stale)).await.unwrap(),
        keys(&stale)
    );
    let view = Append::new(bed.other("dlq"), Message::new("x", ""));
    let (lane, id) = (stale[0].lane, stale[0].id);
    let settlements = [
        delay(&stale[0], Duration::ZERO),
        Settlement::Bury {
            entry: &stale[0],
            view: Some(&view),
        },
        Settlement::Release {
            lane,
            id,
            deliveries: 1,
            to: HandTo::WhoeverWaits,
        },
    ];
    bed.log.settle(&a, &settlements).await.unwrap();
    assert_eq!(bed.admin.delayed(&a).await.unwrap().count, 0);
    assert!(
        bed.admin
            .info(&view.stream)
            .await
            .unwrap()
            .is_none_or(|info| info.length == 0)
    );
    assert!(bed.log.touch(&b, &keys(&owned)).await.unwrap().is_empty());
    assert_eq!(bed.pending("g").await, 1);
    ack(&bed, &a, &stale).await;
    ack(&bed, &b, &owned).await;
    ack(&bed, &b, &owned).await;
    assert_eq!(bed.pending("g").await, 0);
    assert_eq!(
        bed.log.touch(&b, &keys(&owned)).await.unwrap(),
        keys(&owned)
    );
}

/// When an answer is lost, its entries are ours without our knowing.
pub async fn entries_that_were_never_seen_come_back_uncounted(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    let ids = bed.append(Lane::Normal, &["x", "y", "z"]).await;
    bed.read(&b, 1).await;
    bed.read(&a, 10).await;
    let scope = ClaimScope::Own { except: &ids[1..2] };
    let claimed = bed
        .log
        .claim(&a, Lane::Normal, EntryId::MIN, scope, 10)
        .await
        .unwrap();
    assert_eq!(bodies(&claimed.entries), ["z"]);
    assert_eq!(claimed.entries[0].deliveries, 1);
}

/// Live entries at the front do not hide dead ones behind them.
pub async fn a_claim_gets_past_entries_that_are_still_worked_on(bed: Bed) {
    let (a, b, c) = (
        bed.member("a").await,
        bed.member("b").await,
        bed.member("c").await,
    );
    bed.append_many(Lane::Normal, 60).await;
    let live = bed.read(&a, 50).await;
    bed.read(&b, 10).await;
    bed.pass(bed.idle()).await;
    bed.log.touch(&a, &keys(&live)).await.unwrap();
    let mut cursor = EntryId::MIN;
    let mut got = Vec::new();
    for _ in 0..40 {
        let scope = ClaimScope::Idle(bed.idle());
        let claimed = bed
            .log
            .claim(&c, Lane::Normal, cursor, scope, 3)
            .await
            .unwrap();
        assert!(claimed.entries.len() <= 3);
        got.extend(bodies(&claimed.entries));
        cursor = claimed.next;
        if cursor == EntryId::MIN {
            break;
        }
    }
    let dead: Vec<String> = (50..60).map(|number| format!("normal-{number}")).collect();
    assert_eq!(got, dead);
}

/// A lost message is never lost quietly.
pub async fn a_pending_entry_that_vanished_is_told_until_it_is_acknowledged(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    let ids = bed.append(Lane::Normal, &["x", "y"]).await;
    bed.read(&a, 10).await;
    bed.sabotage.lose_entry(&bed.stream, ids[0]).await;
    bed.pass(bed.idle()).await;
    let claimed = claim_idle(&bed, &b, 10).await;
    assert_eq!(bodies(&claimed.entries), ["y"]);
    assert_eq!(claimed.vanished, [ids[0]]);
    // As if that answer had got lost.
    assert_eq!(claim_idle(&bed, &b, 10).await.vanished, [ids[0]]);
    let (lane, id) = (Lane::Normal, ids[0]);
    let told = Settlement::Ack { lane, id };
    bed.log.settle(&b, &[told]).await.unwrap();
    bed.pass(bed.idle()).await;
    assert!(claim_idle(&bed, &b, 10).await.vanished.is_empty());
    assert_eq!(bed.pending("g").await, 1);
}

/// A failing message blocks nobody, and is still the same message.
pub async fn a_retry_waits_outside_the_pending_list_and_keeps_its_id(bed: Bed) {
    let sub = bed.member("a").await;
    let ids = bed.append(Lane::Low, &["x"]).await;
    let quotas = [LaneQuota {
        lane: Lane::Low,
        max: 5,
    }];
    let mut id = ids[0];
    for attempt in 1..=2 {
        let entries = bed.log.read(&sub, &quotas, Wait::None).await.unwrap();
        assert_eq!(entries[0].id, id);
        bed.log
            .settle(&sub, &[delay(&entries[0], SECOND)])
            .await
            .unwrap();
        let waiting = bed.admin.delayed(&sub).await.unwrap();
        assert_eq!(waiting.count, 1);
        assert!(waiting.next_in.unwrap() <= SECOND);
        assert_eq!(bed.log.promote(&sub, 10).await.unwrap(), 0);
        bed.pass(SECOND).await;
        assert_eq!(bed.log.promote(&sub, 10).await.unwrap(), 1);
        assert_eq!(bed.log.promote(&sub, 10).await.unwrap(), 0);
        let peeked = bed
            .admin
            .peek(sub.lanes.stream(Lane::Low), id.next(), 5)
            .await
            .unwrap();
        let again = &peeked[0];
        assert_eq!((again.attempt(), again.first_entry()), (attempt, ids[0]));
        assert_eq!(
            (again.message_id().as_ref(), body(again).as_str()),
            ("id-x", "x")
        );
        assert_eq!(again.only_for(), Some("g"));
        id = again.id;
    }
}

/// The consumer's copy is the last one, so it must not be dropped.
pub async fn a_retry_saves_an_entry_that_vanished_while_it_was_held(bed: Bed) {
    let sub = bed.member("a").await;
    let ids = bed.append(Lane::Normal, &["x"]).await;
    let held = bed.read(&sub, 5).await;
    bed.sabotage.lose_entry(&bed.stream, ids[0]).await;
    // The heartbeat may notice first.
    bed.log.touch(&sub, &keys(&held)).await.unwrap();
    bed.log
        .settle(&sub, &[delay(&held[0], Duration::ZERO)])
        .await
        .unwrap();
    bed.pass(Duration::from_millis(5)).await;
    assert_eq!(bed.log.promote(&sub, 5).await.unwrap(), 1);
    assert_eq!(bodies(&bed.read(&sub, 5).await), ["x"]);
}

/// What is not started is not kept from others.
pub async fn a_released_entry_is_claimed_at_once_and_uncounted(bed: Bed) {
    let (a, b) = (bed.member("a").await, bed.member("b").await);
    bed.append(Lane::Normal, &["x"]).await;
    let held = bed.read(&a, 5).await;
    let (lane, id) = (held[0].lane, held[0].id);
    let release = Settlement::Release {
        lane,
        id,
        deliveries: held[0].deliveries,
        to: HandTo::WhoeverWaits,
    };
    bed.log.settle(&a, &[release]).await.unwrap();
    let claimed = claim_idle(&bed, &b, 5).await;
    assert_eq!(bodies(&claimed.entries), ["x"]);
    assert_eq!(claimed.entries[0].deliveries, 1);
}

/// So that it can be made again.
pub async fn a_group_that_does_not_exist_is_named(bed: Bed) {
    let mut sub = bed.member("a").await;
    sub.group = GroupName::new("nobody");
    let quotas = [LaneQuota {
        lane: Lane::Normal,
        max: 5,
    }];
    for wait in [Wait::None, Wait::ForFresh(Duration::from_millis(50))] {
        let error = bed.log.read(&sub, &quotas, wait).await.unwrap_err();
        assert!(matches!(&error, Error::NoGroup { group, .. } if group.as_str() == "nobody"));
        assert!(error.is_retryable());
    }
}

/// Fan-out with an own cursor.
pub async fn tail_sees_everything_and_misses_nothing_between_calls(bed: Bed) {
    let stream = bed.stream.clone();
    let none = bed
        .log
        .tail(&bed.other("missing"), None, 5, Duration::ZERO)
        .await
        .unwrap();
    assert!(none.entries.is_empty());
    bed.append(Lane::Normal, &["before"]).await;
    let start = bed
        .log
        .tail(&stream, None, 5, Duration::ZERO)
        .await
        .unwrap();
    assert!(start.entries.is_empty());
    bed.append_many(Lane::Normal, 7).await;
    for _reader in 0..2 {
        let mut cursor = start.next;
        let mut got = Vec::new();
        loop {
            let tail = bed
                .log
                .tail(&stream, Some(cursor), 3, Duration::ZERO)
                .await
                .unwrap();
            cursor = tail.next;
            if tail.entries.is_empty() {
                break;
            }
            got.extend(bodies(&tail.entries));
        }
        let all: Vec<String> = (0..7).map(|number| format!("normal-{number}")).collect();
        assert_eq!(got, all);
    }
    let everything = bed
        .log
        .tail(&stream, Some(EntryId::MIN), 100, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(everything.entries.len(), 8);
    let waiting = bed
        .log
        .tail(&stream, Some(everything.next), 5, Duration::from_secs(20));
    let append = async {
        tokio::task::yield_now().await;
        bed.append(Lane::Normal, &["late"]).await;
    };
    let (late, ()) = tokio::join!(waiting, append);
    assert_eq!(bodies(&late.unwrap().entries), ["late"]);
}

/// Answers and views do not grow for ever.
pub async fn a_stream_of_answers_keeps_about_what_it_is_told(bed: Bed) {
    let stream = bed.other("answers");
    let append = |number: usize| {
        let message = Message::new(number.to_string(), number.to_string());
        Append::new(stream.clone(), message).keep_about(100)
    };
    for round in 0..10 {
        let appends: Vec<_> = (0..100)
            .map(|number| append(round * 100 + number))
            .collect();
        assert!(bed.log.append(&appends).await.iter().all(Result::is_ok));
    }
    let info = bed.admin.info(&stream).await.unwrap().unwrap();
    assert!((100..=300).contains(&info.length), "kept {}", info.length);
    assert_eq!(info.appended, 1_000);
    assert!(info.may_have_lost_after(EntryId::new(1, 0)));
    assert!(!info.may_have_lost_after(info.last));
    let last = bed.admin.peek(&stream, info.last, 5).await.unwrap();
    assert_eq!(bodies(&last), ["999"]);
    assert_eq!(Lanes::only(&stream).iter().count(), 1);
}
