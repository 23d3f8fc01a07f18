//! Streams: a dead consumer's work handed on, trims, replays into new groups, files and back.

use std::time::Duration;

use bytes::Bytes;
use ratebox_operator::{ClaimOrder, Error, Identity, Payload, Streams, TrimWish};
use ratebox_store::{DeadLetterFilter, LetterHead, LetterStates};
use ratebox_stream::{
    Append, ConsumerName, EntryId, GroupName, Lane, LaneQuota, Retention, Subscription, TrimOrder,
    Wait,
};

use crate::ward::{Mood, Ward, both, by, owned};

fn streams(ward: &Ward) -> Streams {
    Streams::new(
        ward.log.clone(),
        ward.admin.clone(),
        ward.sub.lanes.clone(),
        ward.store.clone(),
    )
}

fn fields(number: usize) -> Vec<(String, Bytes)> {
    vec![
        ("phone".to_owned(), format!("090912{number:04}").into()),
        ("raw".to_owned(), Bytes::from_static(b"\x00\xff\n")),
    ]
}

async fn fill(ward: &Ward, count: usize) {
    for number in 0..count {
        let base = ward.sub.lanes.base().clone();
        ward.append(Append::verbatim(base, fields(number))).await;
    }
}

async fn read(ward: &Ward, sub: &Subscription, max: usize) -> usize {
    let quota = [LaneQuota {
        lane: Lane::Normal,
        max,
    }];
    let read = ward.log.read(sub, &quota, Wait::None);
    read.await.unwrap().len()
}

#[tokio::test]
async fn what_a_dead_consumer_holds_goes_to_the_others_at_once() {
    for ward in both().await {
        fill(&ward, 250).await;
        let mut dead = ward.sub.clone();
        dead.consumer = ConsumerName::new("dead");
        assert_eq!(read(&ward, &dead, 250).await, 250, "{}", ward.name);
        let desk = streams(&ward);
        let mut order = ClaimOrder {
            group: GroupName::new("g"),
            consumer: ConsumerName::new("dead"),
            idle_min: Duration::from_secs(60),
            force: false,
        };
        let alive = desk.claim(&order, &by()).await.unwrap_err();
        assert!(matches!(alive, Error::Alive { .. }), "{alive:?}");
        order.force = true;
        assert_eq!(desk.claim(&order, &by()).await.unwrap(), 250);
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 250, "{}", ward.name);
        order.consumer = ConsumerName::new("nobody");
        let unknown = desk.claim(&order, &by()).await.unwrap_err();
        assert_eq!(unknown.code(), "consumer.unknown");
        let deeds = ward.store.deeds(Some("dead"), None, 9).await.unwrap();
        assert_eq!(deeds[0].action, "stream.claim");
    }
}

/// What kills every consumer that touches it must not be handed on for ever.
#[tokio::test]
async fn an_entry_that_is_handed_on_keeps_its_count_of_deliveries() {
    for ward in both().await {
        fill(&ward, 1).await;
        for name in ["one", "two", "three"] {
            let mut dead = ward.sub.clone();
            dead.consumer = ConsumerName::new(name);
            let scope = ratebox_stream::ClaimScope::Idle(Duration::from_secs(60));
            let taken = read(&ward, &dead, 1).await
                + ward
                    .log
                    .claim(&dead, Lane::Normal, EntryId::MIN, scope, 1)
                    .await
                    .unwrap()
                    .entries
                    .len();
            assert_eq!(taken, 1, "{} {name}", ward.name);
            let order = ClaimOrder {
                group: GroupName::new("g"),
                consumer: dead.consumer.clone(),
                idle_min: Duration::ZERO,
                force: false,
            };
            assert_eq!(streams(&ward).claim(&order, &by()).await.unwrap(), 1);
        }
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 0, "{}: it is poison by now", ward.name);
        assert_eq!(ward.letter().await.class.as_str(), "poison");
    }
}

#[tokio::test]
async fn a_trim_waits_for_groups_unless_it_is_forced_and_is_written_down() {
    for ward in both().await {
        fill(&ward, 10).await;
        let desk = streams(&ward);
        let mut wish = TrimWish {
            order: TrimOrder {
                retention: Retention {
                    max_age: None,
                    max_len: Some(2),
                },
                ..TrimOrder::default()
            },
            force: false,
        };
        let base = ward.sub.lanes.base();
        let held = desk.trim(base, &wish, &by()).await.unwrap();
        assert_eq!((held.removed, held.held_by), (0, Some(GroupName::new("g"))));
        wish.force = true;
        let forced = desk.trim(base, &wish, &by()).await.unwrap();
        assert_eq!((forced.removed, forced.held_by), (8, None), "{}", ward.name);
        let seen = desk.look(base).await.unwrap();
        assert_eq!(seen.info.unwrap().length, 2);
        assert_eq!(seen.lane, Some(Lane::Normal));
        let deeds = ward
            .store
            .deeds(Some(base.as_str()), None, 9)
            .await
            .unwrap();
        assert!(
            deeds[0]
                .detail
                .as_ref()
                .unwrap()
                .contains("\"forced\":true")
        );
    }
}

#[tokio::test]
async fn a_new_group_replays_and_the_old_one_notices_nothing() {
    for ward in both().await {
        fill(&ward, 5).await;
        ward.work(Mood::Cure).await;
        let base = ward.sub.lanes.base().clone();
        let all = ward.admin.peek(&base, EntryId::MIN, 9).await.unwrap();
        let (desk, group) = (streams(&ward), GroupName::new("again"));
        let names = [base.clone()];
        desk.replay(&names, &group, all[2].id, &by()).await.unwrap();
        let twice = desk.replay(&names, &group, EntryId::MIN, &by()).await;
        assert_eq!(twice.unwrap_err().code(), "group.exists");
        let mut late = ward.sub.clone();
        late.group = group;
        assert_eq!(read(&ward, &late, 9).await, 3, "{}", ward.name);
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 5);
    }
}

/// All letters, by what they are known by.
async fn letters(ward: &Ward) -> Vec<LetterHead> {
    let filter = DeadLetterFilter {
        states: LetterStates::Any,
        ..DeadLetterFilter::default()
    };
    let mut letters = ward.letters.list(&filter, 99).await.unwrap();
    letters.sort_by_key(|letter| letter.id);
    letters
}

#[tokio::test]
async fn an_imported_message_that_dies_again_is_the_letter_that_it_was() {
    for ward in both().await {
        fill(&ward, 1).await;
        ward.request("ann").await;
        ward.work(Mood::Refuse("a")).await;
        let before = letters(&ward).await;
        assert_eq!(before.len(), 2, "{}", ward.name);
        let (desk, base) = (streams(&ward), ward.sub.lanes.base().clone());
        let (mut entries, mut dead) = (Vec::new(), Vec::new());
        let all = (EntryId::MIN, EntryId::MAX);
        let take = |line| {
            entries.push(line);
            Ok(())
        };
        let export = desk.lookout().export(&base, all, Payload::Plain, take);
        assert_eq!(export.await.unwrap(), 2);
        let take = |line| {
            dead.push(line);
            Ok(())
        };
        let filter = DeadLetterFilter::default();
        let export = ward.letters.export(&filter, Payload::Plain, take);
        assert_eq!(export.await.unwrap(), 2);
        let low = ward.sub.lanes.stream(Lane::Low).clone();
        let by = by();
        for (number, (to, lines)) in [
            (&base, &entries),
            (&low, &entries),
            (&base, &dead),
            (&low, &dead),
        ]
        .into_iter()
        .enumerate()
        {
            let lines = lines.iter().cloned().map(Ok);
            let import = desk.import(to, lines, Identity::Kept, &by, |_| {});
            assert_eq!(import.await.unwrap(), 2);
            let code = ["b", "c", "d", "e"][number];
            ward.work(Mood::Refuse(code)).await;
            let after = letters(&ward).await;
            assert_eq!(after.len(), 2, "{} {code}: {after:?}", ward.name);
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((before.id, &*after.code), (after.id, code));
                assert_eq!(before.message_id, after.message_id);
                assert_eq!((&*after.stream, &*after.lane), (base.as_str(), "normal"));
            }
        }
        let mut masked = Vec::new();
        let take = |line| {
            masked.push(line);
            Ok(())
        };
        let export = ward.letters.export(&filter, Payload::Masked, take);
        assert_eq!(export.await.unwrap(), 2);
        let lines = masked.into_iter().map(Ok);
        let refused = desk.import(&base, lines, Identity::AsWritten, &by, |_| {});
        let refused = refused.await.unwrap_err();
        assert!(matches!(refused, Error::NotALine { number: 1 }));
    }
}

#[tokio::test]
async fn a_stream_goes_into_a_file_and_back_byte_by_byte() {
    for ward in both().await {
        fill(&ward, 450).await;
        let (desk, base) = (streams(&ward), ward.sub.lanes.base().clone());
        let export = async |payload, range| {
            let mut lines = Vec::new();
            let take = |line| {
                lines.push(line);
                Ok(())
            };
            let export = desk.lookout().export(&base, range, payload, take);
            let count = export.await.unwrap();
            assert_eq!(count as usize, lines.len());
            lines
        };
        let all = (EntryId::MIN, EntryId::MAX);
        let lines = export(Payload::Plain, all).await;
        assert_eq!(lines.len(), 450, "{}", ward.name);
        let masked = export(Payload::Masked, all).await;
        assert!(!masked.join("").contains("0909120007"));
        let low = ward.sub.lanes.stream(Lane::Low).clone();
        let import = async |lines: &[String], identity| {
            let lines = lines.iter().cloned().map(Ok);
            desk.import(&low, lines, identity, &by(), |_| {}).await
        };
        let refused = import(&masked, Identity::Kept).await.unwrap_err();
        assert!(
            matches!(refused, Error::NotALine { number: 1 }),
            "{refused:?}"
        );
        assert_eq!(import(&lines, Identity::Kept).await.unwrap(), 450);
        assert_eq!(import(&lines[..10], Identity::Kept).await.unwrap(), 10);
        let there = ward.admin.peek(&low, EntryId::MIN, 1_000).await.unwrap();
        assert_eq!(there.len(), 460);
        assert_eq!(owned(&there[7])[..2], fields(7));
        assert_eq!(there[7].message_id(), there[457].message_id());
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 450, "what came twice was judged once");
        assert_eq!(import(&lines[..1], Identity::AsWritten).await.unwrap(), 1);
        ward.work(Mood::Cure).await;
        assert_eq!(ward.cured(), 451, "{}", ward.name);
        let broken = [lines[0].clone(), "{".to_owned()];
        let refused = import(&broken, Identity::Kept).await.unwrap_err();
        assert!(matches!(refused, Error::NotALine { number: 2 }));
    }
}
