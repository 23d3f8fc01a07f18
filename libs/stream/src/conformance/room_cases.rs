//! Cases about the rooms of owners, and about what a group is behind by.

use std::time::Duration;

use ratebox_kit::Message;

use super::bed::body;
use super::{Judge, OrderBed, done};
use crate::{
    Append, Door, Entered, Entrant, EntryId, Lane, LaneQuota, Settlement, Subscription, Wait, Watch,
};

const DOOR: Door = Door {
    window: 20,
    turn: 5,
};

/// So many messages of an owner, numbered from `from` on; the body is owner and number.
fn entrants(bed: &OrderBed, owner: &str, from: usize, count: usize) -> Vec<Entrant> {
    let message =
        |number: usize| Message::new(format!("{owner}-{number}"), format!("{owner}-{number}"));
    let append = |number| Append::new(bed.bed.stream.clone(), message(number));
    (from..from + count)
        .map(|number| Entrant {
            append: append(number),
            owner: owner.to_owned(),
        })
        .collect()
}

async fn enter(
    bed: &OrderBed,
    sub: &Subscription,
    owner: &str,
    from: usize,
    count: usize,
) -> usize {
    let rooms = bed.connect().rooms;
    let answers = rooms
        .enter(sub, &entrants(bed, owner, from, count), DOOR)
        .await;
    let places = answers.into_iter().map(Result::unwrap);
    places.filter(|place| *place == Entered::Room).count()
}

/// Reads everything, letting who waits in, and returns the bodies in order.
async fn read_all(bed: &OrderBed, sub: &Subscription, skip: &[String]) -> Vec<String> {
    let connection = bed.connect();
    let mut read = Vec::new();
    loop {
        let admitted = connection.rooms.admit(sub, DOOR, skip, 500).await.unwrap();
        let quotas = [LaneQuota {
            lane: Lane::Normal,
            max: 10,
        }];
        let entries = connection.log.read(sub, &quotas, Wait::None).await.unwrap();
        if entries.is_empty() && admitted == 0 {
            return read;
        }
        read.extend(entries.iter().map(body));
    }
}

/// Ten messages come soon after they were sent, whoever has sent thousands before.
pub async fn who_floods_waits_behind_himself(bed: OrderBed) {
    let sub = bed.bed.member("a").await;
    assert_eq!(enter(&bed, &sub, "flood", 0, 1_000).await, 980);
    assert_eq!(enter(&bed, &sub, "small", 0, 10).await, 10);
    assert_eq!(enter(&bed, &sub, "third", 0, 10).await, 10);
    let rooms = bed.connect().rooms.rooms(&sub, 10).await.unwrap();
    let mut waiting: Vec<(String, u64)> =
        rooms.into_iter().map(|it| (it.owner, it.waiting)).collect();
    waiting.sort_unstable();
    assert_eq!(
        waiting,
        [
            ("flood".to_owned(), 980),
            ("small".to_owned(), 10),
            ("third".to_owned(), 10)
        ]
    );
    let floors = bed.bed.admin.floor(&sub).await.unwrap();
    let normal = floors
        .iter()
        .find(|floor| floor.lane == Lane::Normal)
        .unwrap();
    assert_eq!(
        normal.owed_from,
        Some(EntryId::MIN),
        "what waits in a room is owed"
    );
    let read = read_all(&bed, &sub, &[]).await;
    assert_eq!(read.len(), 1_020);
    // The window that was full, then two rounds of three turns, each seen a window later at most.
    let last = read
        .iter()
        .rposition(|body| !body.starts_with("flood"))
        .unwrap();
    assert!(
        last < 20 + 2 * 3 * 5 + 20,
        "the last of the others came as number {last}"
    );
    for owner in ["flood", "small", "third"] {
        let of = read.iter().filter(|body| body.starts_with(owner));
        let numbers: Vec<usize> = of
            .map(|body| body[owner.len() + 1..].parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{owner} lost its order");
    }
    assert!(
        bed.connect()
            .rooms
            .rooms(&sub, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        enter(&bed, &sub, "flood", 1_000, 5).await,
        0,
        "a short lane takes all"
    );
}

/// Who cannot be worked on now is not let in, and all others are.
pub async fn who_is_skipped_stays_in_his_room(bed: OrderBed) {
    let sub = bed.bed.member("a").await;
    enter(&bed, &sub, "capped", 0, 100).await;
    enter(&bed, &sub, "free", 0, 30).await;
    let read = read_all(&bed, &sub, &["capped".to_owned()]).await;
    assert_eq!(
        read.iter().filter(|body| body.starts_with("free")).count(),
        30
    );
    assert_eq!(read.len(), 50, "the window took twenty of the other before");
    assert_eq!(read_all(&bed, &sub, &[]).await.len(), 80);
}

/// A consumer lets in by itself what waits, and nothing is left.
pub async fn a_consumer_opens_the_door(bed: OrderBed) {
    let letters = super::Letters::new();
    let consumer = bed.bed.consumer("a", &letters, bed.policy()).await;
    let consumer = consumer.with_rooms(bed.connect().rooms, DOOR);
    let sub = bed.bed.member("a").await;
    enter(&bed, &sub, "flood", 0, 300).await;
    enter(&bed, &sub, "small", 0, 10).await;
    let judge = Judge::new(|entry| Some(done(entry)));
    bed.until("all are done", async || {
        consumer.step(&judge).await.unwrap();
        judge.seen().len() == 310
    })
    .await;
    let seen = judge.seen();
    let last = seen
        .iter()
        .rposition(|body| body.starts_with("small"))
        .unwrap();
    assert!(last < 100, "the last one came as number {last}");
}

/// What is unread, pending and old is counted by ourselves, also after deletions.
pub async fn a_backlog_is_counted_by_ourselves(bed: OrderBed) {
    let backlogs = bed.connect().backlogs;
    let sub = bed.bed.member("a").await;
    let ids = bed.bed.append_many(Lane::Normal, 50).await;
    bed.bed.append_many(Lane::Low, 3).await;
    let read = bed.bed.read(&sub, 10).await;
    bed.bed.sabotage.lose_entry(&bed.bed.stream, ids[20]).await;
    enter(&bed, &sub, "o", 0, 7).await;
    bed.bed.pass(Duration::from_millis(100)).await;
    let watch = Watch::new(backlogs, sub.clone(), Duration::from_millis(10));
    let backlog = watch.step().await.unwrap();
    let on = |lane| backlog.lanes.iter().find(|it| it.lane == lane).unwrap();
    let normal = on(Lane::Normal);
    assert_eq!(
        (normal.unread, normal.is_exact, normal.pending),
        (39, true, 10)
    );
    assert_eq!(
        (normal.oldest, normal.pending_ids.len()),
        (Some(ids[0]), 10)
    );
    assert_eq!(normal.pending_ages().iter().sum::<u64>(), 10);
    assert!(normal.oldest_age() >= Duration::from_millis(100));
    assert_eq!((on(Lane::Low).unread, on(Lane::High).oldest), (3, None));
    assert_eq!((backlog.in_rooms, backlog.total()), (7, 39 + 10 + 3 + 7));
    assert_eq!(
        backlog.wanted_members(Duration::from_millis(10)),
        backlog.members * 2
    );
    let acks: Vec<_> = read
        .iter()
        .map(|it| Settlement::Ack {
            lane: it.lane,
            id: it.id,
        })
        .collect();
    bed.bed.log.settle(&sub, &acks).await.unwrap();
    let later = watch.step().await.unwrap();
    assert_eq!(later.lanes.iter().map(|it| it.pending).sum::<u64>(), 0);
}
