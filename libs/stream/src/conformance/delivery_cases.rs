//! Cases for the second port and the producer on top of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Message, MessageId, Timestamp};

use super::bed::{Bed, bodies};
use crate::{
    Bounds, Dispatch, Entry, EntryId, Error, Lane, LaneQuota, Lanes, Place, Producer, Receipt,
    Scheduled, Sent, Subscription, Wait,
};

const SOON: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(3_600);

fn message(id: &str) -> Message {
    Message::new(id, format!("body of {id}"))
}

fn producer(bed: &Bed) -> Producer {
    Producer::new(bed.delivery(), Lanes::of(&bed.stream))
}

/// What is on all lanes, after what is due has been promoted.
async fn due(bed: &Bed, sub: &Subscription) -> Vec<Entry> {
    bed.log.promote(sub, 1_000).await.unwrap();
    let quotas = Lane::ALL.map(|lane| LaneQuota { lane, max: 100 });
    bed.log.read(sub, &quotas, Wait::None).await.unwrap()
}

fn ids(scheduled: &[Scheduled]) -> Vec<&str> {
    scheduled
        .iter()
        .map(|it| it.message_id.0.as_str())
        .collect()
}

fn schedule_of(sent: &Sent) -> Timestamp {
    match sent.receipt().place {
        Place::Schedule(due) => due,
        Place::Stream(id) => panic!("it went to the stream as {id}"),
    }
}

/// On its own lane, with all its fields, for every group, and once.
pub async fn a_scheduled_message_comes_when_it_is_due_and_not_before(bed: Bed) {
    let (g, h) = (bed.member_of("g", "a").await, bed.member_of("h", "b").await);
    let producer = producer(&bed);
    let later = message("later").with_header("source", "api");
    let later = Dispatch::new(later).on(Lane::High).after(SOON);
    let sent = producer.send(later).await.unwrap();
    assert!(!sent.is_duplicate());
    assert_eq!(sent.receipt().message_id, MessageId("later".to_owned()));
    let due_at = schedule_of(&sent);
    // A time that is over means now.
    let over = Timestamp::from_second(1_000_000_000).unwrap();
    let at_once = producer.send_at(message("over"), over).await.unwrap();
    assert!(matches!(at_once.receipt().place, Place::Stream(_)));
    let mut entries = due(&bed, &g).await;
    // The other time is told on the log's clock.
    let second = producer.send_at(message("second"), due_at).await.unwrap();
    if let Place::Schedule(second_at) = second.receipt().place {
        assert_eq!(second_at, due_at);
    }
    bed.pass(SOON + Duration::from_millis(50)).await;
    entries.extend(due(&bed, &g).await);
    assert_eq!(entries.len(), 3);
    let of = |id: &str| entries.iter().find(|entry| entry.message_id() == id);
    let [_over, later, second] = ["over", "later", "second"].map(|id| of(id).unwrap());
    // However long the log took for each answer: it wrote none before its time.
    let due_ms = due_at.as_millisecond() as u64;
    assert!(later.id.ms >= due_ms && second.id.ms >= due_ms);
    assert_eq!((later.lane, second.lane), (Lane::High, Lane::Normal));
    let names: Vec<&str> = later.fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["data", "rb-id", "source"]);
    assert_eq!((later.attempt(), later.deliveries), (0, 1));
    assert!(due(&bed, &g).await.is_empty());
    assert_eq!(due(&bed, &h).await.len(), 3);
}

/// In the order in which they are due, page by page.
pub async fn what_is_scheduled_can_be_listed_and_taken_out(bed: Bed) {
    let sub = bed.member("a").await;
    let producer = producer(&bed);
    assert_eq!(producer.scheduled(0, 10).await.unwrap(), []);
    for (id, wait_s) in [("c", 300), ("a", 100), ("b/ü", 200)] {
        let wait = Duration::from_secs(wait_s);
        producer.send_after(message(id), wait).await.unwrap();
    }
    let low = Dispatch::new(message("low")).on(Lane::Low).after(LONG);
    let sent = producer.send(low).await.unwrap();
    let all = producer.scheduled(0, 10).await.unwrap();
    assert_eq!(ids(&all), ["a", "b/ü", "c", "low"]);
    assert_eq!((all[0].lane, all[3].lane), (Lane::Normal, Lane::Low));
    assert_eq!(all[3].due, schedule_of(&sent));
    assert_eq!(ids(&producer.scheduled(1, 2).await.unwrap()), ["b/ü", "c"]);
    assert_eq!(producer.scheduled(1, 0).await.unwrap(), []);
    assert!(producer.unschedule("b/ü").await.unwrap());
    assert!(!producer.unschedule("b/ü").await.unwrap());
    assert!(producer.unschedule("low").await.unwrap());
    assert!(!producer.unschedule("nobody").await.unwrap());
    assert_eq!(ids(&producer.scheduled(0, 10).await.unwrap()), ["a", "c"]);
    assert!(due(&bed, &sub).await.is_empty());
}

/// Saying it again after a lost answer makes no second message.
pub async fn a_message_that_is_scheduled_again_moves(bed: Bed) {
    let sub = bed.member("a").await;
    let producer = producer(&bed);
    let far = producer.send_after(message("m"), LONG).await.unwrap();
    let near = producer.send_after(message("m"), SOON).await.unwrap();
    assert!(schedule_of(&near) < schedule_of(&far));
    assert_eq!(producer.scheduled(0, 10).await.unwrap().len(), 1);
    bed.pass(SOON + Duration::from_millis(50)).await;
    assert_eq!(due(&bed, &sub).await.len(), 1);
    bed.pass(bed.idle()).await;
    assert!(due(&bed, &sub).await.is_empty());
}

/// The answer names the first one. Keys of different streams have nothing to do with each other.
pub async fn of_messages_with_one_key_the_first_is_taken(bed: Bed) {
    let sub = bed.member("a").await;
    let producer = producer(&bed);
    let once = |id: &str, key: &str| Dispatch::new(message(id)).once(key, LONG);
    let first = producer.send(once("first", "k")).await.unwrap();
    let second = producer
        .send(once("second", "k").on(Lane::High))
        .await
        .unwrap();
    assert_eq!(second, Sent::Duplicate(first.receipt().clone()));
    let other = producer.send(once("other", "l")).await.unwrap();
    assert!(!other.is_duplicate());
    let entries = due(&bed, &sub).await;
    assert_eq!(bodies(&entries), ["body of first", "body of other"]);
    let place = Place::Stream(entries[0].id);
    let message_id = MessageId("first".to_owned());
    assert_eq!(first, Sent::Accepted(Receipt { message_id, place }));
}

/// On the log's clock; a remembered key costs nothing for longer than that.
pub async fn a_key_is_forgotten_after_its_window(bed: Bed) {
    let sub = bed.member("a").await;
    let producer = producer(&bed);
    let once = |id: &str, window| Dispatch::new(message(id)).once("k", window);
    for round in 0..2 {
        let first = producer.send(once(&format!("first-{round}"), SOON)).await;
        assert!(!first.unwrap().is_duplicate());
        // A longer window of a later one does not make the first one's longer.
        let second = producer.send(once("second", LONG)).await;
        assert!(second.unwrap().is_duplicate());
        bed.pass(SOON + Duration::from_millis(50)).await;
    }
    let bodies = bodies(&due(&bed, &sub).await);
    assert_eq!(bodies, ["body of first-0", "body of first-1"]);
    let sender = Producer::new(bed.delivery(), Lanes::of(&bed.stream));
    let endless = Dispatch::new(message("x")).once("x".repeat(1_025), SOON);
    let error = sender.send(endless).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && !error.is_retryable());
}

/// From when it was taken, whether it waits or went out.
pub async fn a_key_holds_for_scheduled_messages_too(bed: Bed) {
    let sub = bed.member("a").await;
    let producer = producer(&bed);
    let once = |id: &str| Dispatch::new(message(id)).once("k", LONG);
    let first = producer.send(once("first").after(SOON)).await.unwrap();
    let waiting = producer.send(once("second").after(LONG)).await.unwrap();
    assert_eq!(waiting, Sent::Duplicate(first.receipt().clone()));
    bed.pass(SOON + Duration::from_millis(50)).await;
    assert_eq!(bodies(&due(&bed, &sub).await), ["body of first"]);
    let gone = producer.send(once("third")).await.unwrap();
    assert_eq!(gone, Sent::Duplicate(first.receipt().clone()));
    assert!(due(&bed, &sub).await.is_empty());
}

/// The key and the message are one step.
pub async fn two_producers_race_and_one_message_of_a_key_is_taken(bed: Bed) {
    let sub = bed.member("a").await;
    let sends = (0..20).map(|number| {
        let producer = producer(&bed);
        let keyed = move |key: u32| {
            let id = format!("{number}-{key}");
            Dispatch::new(message(&id)).once(format!("k{key}"), LONG)
        };
        async move { producer.send_all((0..3).map(keyed).collect()).await }
    });
    let answers = futures_util::future::join_all(sends).await;
    let mut accepted = HashSet::new();
    let mut named = HashSet::new();
    for sent in answers.into_iter().flatten().map(Result::unwrap) {
        named.insert(sent.receipt().message_id.clone());
        if let Sent::Accepted(receipt) = sent {
            assert!(accepted.insert(receipt.message_id));
        }
    }
    assert_eq!((accepted.len(), &accepted), (3, &named));
    assert_eq!(due(&bed, &sub).await.len(), 3);
}

/// Refused is not stored; what is stored stays; and it goes on when consumers catch up.
pub async fn a_full_stream_refuses_and_keeps_what_it_has(bed: Bed) {
    let sub = bed.member("a").await;
    let limits = Bounds {
        depth: Some(5),
        ..Bounds::default()
    };
    let producer = producer(&bed).with_limits(limits);
    let batch = |from: usize, count: usize| {
        let number = from..from + count;
        number.map(|it| message(&it.to_string()).into()).collect()
    };
    let sent = producer.send_all(batch(0, 8)).await;
    let taken = sent.iter().filter(|it| it.is_ok()).count();
    assert_eq!(taken, 5);
    let error = sent.into_iter().find_map(Result::err).unwrap();
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        format!("{} is full: it has 5 entries of 5", bed.stream)
    );
    // Another lane has room of its own.
    let high = Dispatch::new(message("high")).on(Lane::High);
    producer.send(high).await.unwrap();
    // Delivered is not done.
    let entries = bed.read(&sub, 10).await;
    assert_eq!(entries.len(), 5);
    tokio::time::sleep(crate::LOAD_FRESH * 2).await;
    assert!(matches!(
        producer.send(message("x")).await,
        Err(Error::Backlog { .. })
    ));
    let acks: Vec<_> = entries[..2]
        .iter()
        .map(|entry| crate::Settlement::Ack {
            lane: entry.lane,
            id: entry.id,
        })
        .collect();
    bed.log.settle(&sub, &acks).await.unwrap();
    let patience = ratebox_kit::Stopwatch::start();
    while producer.send(message("room")).await.is_err() {
        assert!(patience.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = producer.send_all(batch(10, 4)).await;
    assert_eq!(left.iter().filter(|it| it.is_ok()).count(), 1);
    assert_eq!(bed.read(&sub, 10).await.len(), 2);
}

/// Bytes are about; the schedule is counted over all lanes.
pub async fn bytes_and_the_schedule_have_limits_too(bed: Bed) {
    let large = || Message::new("large", vec![b'x'; 10_000]);
    let limits = Bounds {
        depth: None,
        bytes: Some(100_000),
        scheduled: Some(2),
    };
    let (log, lanes) = (bed.delivery(), Lanes::of(&bed.stream));
    let load = log.load(&lanes, Lane::Normal, &limits).await;
    assert_eq!(load.unwrap(), crate::Load::default());
    bed.member("a").await;
    let of = || producer(&bed).with_limits(limits);
    let sent = of()
        .send_all((0..12).map(|_| large().into()).collect())
        .await;
    let taken = sent.iter().filter(|it| it.is_ok()).count();
    assert!((8..=10).contains(&taken), "{taken} fit");
    // A new producer sees what others have filled.
    let sent = of().send_all(vec![large().into(), large().into()]).await;
    assert!(sent.iter().any(Result::is_err), "{sent:?}");
    for (id, lane) in [("a", Lane::High), ("b", Lane::Low)] {
        let later = Dispatch::new(message(id)).on(lane).after(LONG);
        of().send(later).await.unwrap();
    }
    let error = of().send_after(message("c"), LONG).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it has 2 scheduled messages of 2")
    );
    let load = log.load(&lanes, Lane::Normal, &limits).await.unwrap();
    assert!(load.bytes > 80_000 && load.scheduled == 2, "{load:?}");
}

/// Each answer stands where its message stood.
pub async fn one_call_sends_messages_of_every_kind_in_place(bed: Bed) {
    let sub = bed.member("a").await;
    let producer = Arc::new(producer(&bed));
    let mut monster = message("monster");
    for number in 0..crate::policy::FIELDS_MAX {
        monster = monster.with_header(format!("f{number}"), "v");
    }
    let kinds = vec![
        Dispatch::new(message("plain")),
        Dispatch::new(message("later")).after(LONG),
        Dispatch::new(message("once")).once("k", LONG),
        Dispatch::new(monster).after(LONG),
        Dispatch::new(message("again")).once("k", LONG),
        Dispatch::new(message("last")).on(Lane::Low),
    ];
    let sent = producer.send_all(kinds).await;
    let names: Vec<_> = sent
        .iter()
        .map(|it| it.as_ref().map_or("error", |it| &it.receipt().message_id.0))
        .collect();
    assert_eq!(names, ["plain", "later", "once", "error", "once", "last"]);
    assert!(matches!(sent[3], Err(Error::TooManyFields { .. })));
    let duplicates = sent.iter().flatten().filter(|it| it.is_duplicate());
    assert_eq!(duplicates.count(), 1);
    let mut bodies = bodies(&due(&bed, &sub).await);
    bodies.sort_unstable();
    assert_eq!(bodies, ["body of last", "body of once", "body of plain"]);
    assert!(producer.send_all(Vec::new()).await.is_empty());
}

/// It is on no stream yet, and nobody else may think it lost or forget its body.
pub async fn a_message_that_waits_for_its_time_is_owed(bed: Bed) {
    let sub = bed.member("a").await;
    let owed = async || {
        let floors = bed.admin.floor(&sub).await.unwrap();
        floors.iter().map(|it| it.owed_from).collect::<Vec<_>>()
    };
    assert_eq!(owed().await, [None, None, None]);
    let producer = producer(&bed);
    let later = Dispatch::new(message("later")).on(Lane::Low).after(LONG);
    producer.send(later).await.unwrap();
    let soon = Dispatch::new(message("soon")).on(Lane::High).after(SOON);
    producer.send(soon).await.unwrap();
    let min = Some(EntryId::MIN);
    assert_eq!(owed().await, [min, None, min]);
    bed.pass(SOON).await;
    bed.log.promote(&sub, 1_000).await.unwrap();
    let high = owed().await[0];
    assert!(high > min, "it is on its stream: {high:?}");
    assert!(producer.unschedule("later").await.unwrap());
    assert_eq!(owed().await, [high, None, None]);
}
