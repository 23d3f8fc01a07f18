//! Dead letters are listed, inspected, edited, purged and exported.

use bytes::Bytes;
use ratebox_kit::DeadLetterClass;
use ratebox_operator::{By, Change, Error, Payload, letter_shown};
use ratebox_store::{DeadLetterFilter, LetterStates, Refusal};
use ratebox_stream::Append;
use serde_json::Value;
use uuid::Uuid;

use crate::replays::{again, one};
use crate::ward::{Mood, Ward, both, by, envelope};

fn field(name: &str, value: &str) -> (String, Bytes) {
    (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()))
}

#[tokio::test]
async fn a_letter_tells_every_attempt_and_keeps_the_bytes() {
    for ward in both().await {
        let id = ward.request("ann").await;
        ward.work(Mood::Stumble("db.value")).await;
        let head = ward.letter().await;
        let shown = ward.letters.show(head.id).await.unwrap();
        assert_eq!(head.message_id, id.to_string(), "{}", ward.name);
        assert_eq!((head.fail_count, head.group.as_str()), (3, "g"));
        assert_eq!(head.owner.as_deref(), Some("ann"));
        let attempts = &shown.letter.attempts;
        assert_eq!(attempts.len(), 3, "{}: {attempts:?}", ward.name);
        assert!(attempts.is_sorted_by_key(|attempt| attempt.at));
        for attempt in attempts {
            assert_eq!((&*attempt.code, &*attempt.consumer), ("db.value", "doctor"));
            assert_eq!(attempt.error, "stumbled on purpose");
        }
        let fields = &shown.letter.fields;
        assert_eq!(fields[0], ("data".to_owned(), envelope_of(&ward, id).await));
        assert!(!fields.iter().any(|(name, _)| name == "rb-history"));
    }
}

async fn envelope_of(ward: &Ward, id: Uuid) -> Bytes {
    let entries = ward
        .admin
        .peek(ward.sub.lanes.base(), ratebox_stream::EntryId::MIN, 10);
    let entries = entries.await.unwrap();
    let of = |entry: &&ratebox_stream::Entry| entry.message_id() == id.to_string();
    entries
        .iter()
        .find(of)
        .unwrap()
        .field("data")
        .unwrap()
        .clone()
}

#[tokio::test]
async fn filters_and_cursor_find_what_they_name() {
    for ward in both().await {
        let ann = ward.request("ann").await;
        ward.work(Mood::Refuse("a.code")).await;
        for _ in 0..3 {
            ward.request("bob").await;
        }
        let between = ward.store.clock().now();
        ward.work(Mood::Stumble("b.code")).await;
        let count = async |change: &dyn Fn(&mut DeadLetterFilter)| {
            let mut filter = DeadLetterFilter::default();
            change(&mut filter);
            let (count, bytes) = ward.store.count_dead_letters(&filter).await.unwrap();
            assert_eq!(bytes > 0, count > 0);
            assert_eq!(
                ward.letters.list(&filter, 10).await.unwrap().len() as u64,
                count
            );
            count
        };
        assert_eq!(count(&|_| {}).await, 4, "{}", ward.name);
        assert_eq!(
            count(&|it| it.class = Some(DeadLetterClass::Permanent)).await,
            1
        );
        assert_eq!(count(&|it| it.code = Some("b.code".to_owned())).await, 3);
        assert_eq!(count(&|it| it.owner = Some("ann".to_owned())).await, 1);
        assert_eq!(count(&|it| it.message_id = Some(ann.to_string())).await, 1);
        let stream = ward.sub.lanes.base().to_string();
        assert_eq!(count(&|it| it.stream = Some(stream.clone())).await, 4);
        assert_eq!(count(&|it| it.stream = Some("other".to_owned())).await, 0);
        assert_eq!(count(&|it| it.from = Some(between)).await, 3);
        assert_eq!(count(&|it| it.until = Some(between)).await, 1);
        assert_eq!(count(&|it| it.states = LetterStates::Stuck).await, 0);
        let mut filter = DeadLetterFilter::default();
        let mut seen = Vec::new();
        loop {
            let page = ward.letters.list(&filter, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
            seen.extend(page.iter().map(|head| head.id));
        }
        assert!(
            seen.len() == 4 && seen.is_sorted_by(|a, b| a > b),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn an_edited_letter_is_judged_as_edited_and_the_original_is_kept() {
    for ward in both().await {
        let id = ward.request("ann").await;
        ward.work(Mood::Refuse("x")).await;
        let letter = ward.letter().await.id;
        let original = envelope_of(&ward, id).await;
        let text = std::str::from_utf8(&original).unwrap();
        let better = Bytes::from(text.replace("0909123456", "0909123457"));
        let edit = async |data: &Bytes| {
            let change = Change::Data(data.clone());
            ward.letters.edit(letter, change, &by()).await
        };
        let bad = [
            (Bytes::from_static(b"{"), "dead_letter.not_a_message"),
            (
                Bytes::from_static(b"{\"v\":9}"),
                "dead_letter.not_a_message",
            ),
            (
                envelope(ratebox_kit::id::new(), "ann"),
                "dead_letter.other_message",
            ),
            (envelope(id, "bob"), "dead_letter.other_message"),
        ];
        for (data, code) in bad {
            assert_eq!(edit(&data).await.unwrap_err().code(), code);
        }
        let ours = Change::Fields(vec![field("rb-id", "x")]);
        let refused = ward.letters.edit(letter, ours, &by()).await.unwrap_err();
        assert_eq!(refused.code(), "dead_letter.wrong_edit");
        assert!(!ward.letter().await.edited);
        edit(&better).await.unwrap();
        let outcome = again(&ward, one(letter), false).await;
        assert_eq!((outcome.replayed, outcome.refused), (1, 0));
        assert_eq!(
            edit(&better).await.unwrap_err().code(),
            "dead_letter.on_its_way"
        );
        ward.work(Mood::Cure).await;
        let (message, fields) = ward.doctor.cured.lock().unwrap().remove(0);
        assert_eq!(message, id.to_string(), "{}", ward.name);
        assert_eq!(fields[0].1, better);
        let shown = ward.letters.show(letter).await.unwrap();
        assert_eq!(shown.letter.fields[0].1, original);
        let deeds: Vec<_> = shown.deeds.iter().map(|it| it.action.as_str()).collect();
        assert_eq!(deeds, ["dead_letter.replay", "dead_letter.edit"]);
        assert_eq!(
            (&*shown.deeds[1].actor, &*shown.deeds[1].reason),
            ("cli:test", "a test")
        );
    }
}

#[tokio::test]
async fn a_malformed_foreign_letter_is_repaired_field_by_field() {
    for ward in both().await {
        let base = ward.sub.lanes.base().clone();
        ward.append(Append::verbatim(base, vec![field("phone", "0909123456")]))
            .await;
        ward.work(Mood::Refuse("entry.no_message")).await;
        let letter = ward.letter().await;
        assert_eq!(letter.request_id, None);
        let change = Change::Data(Bytes::from_static(b"{}"));
        let refused = ward
            .letters
            .edit(letter.id, change, &by())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), "dead_letter.wrong_edit");
        let fields = vec![field("phone", "0909123450"), field("source", "x")];
        let change = Change::Fields(fields.clone());
        ward.letters.edit(letter.id, change, &by()).await.unwrap();
        again(&ward, one(letter.id), false).await;
        ward.work(Mood::Cure).await;
        let (message, sent) = ward.doctor.cured.lock().unwrap().remove(0);
        assert_eq!(message, letter.message_id, "{}", ward.name);
        assert_eq!(sent[..2], fields);
        assert!(!sent.iter().any(|(name, _)| name == "data"));
        let replayed = ward.letter().await.request_id.unwrap();
        let ms = letter.entry_id.split('-').next().unwrap().parse().unwrap();
        let expected = ratebox_intake::foreign_request_id(ms, &letter.stream, &letter.entry_id);
        assert_eq!(replayed, expected);
    }
}

#[tokio::test]
async fn a_purge_deletes_what_was_counted_and_nothing_else() {
    for ward in both().await {
        for _ in 0..3 {
            ward.request("ann").await;
        }
        ward.work(Mood::Refuse("a")).await;
        ward.request("ann").await;
        ward.work(Mood::Refuse("b")).await;
        let filter = DeadLetterFilter {
            code: Some("a".to_owned()),
            ..DeadLetterFilter::default()
        };
        let would = ward.letters.would_purge(&filter).await.unwrap();
        assert_eq!((would.matched, would.purged), (3, 0), "{}", ward.name);
        assert_eq!(would.sample.len(), 3);
        let changed = ward.letters.purge(&filter, 2, &by()).await.unwrap_err();
        assert!(matches!(
            changed,
            Error::CountChanged {
                expected: 2,
                now: 3
            }
        ));
        assert_eq!(ward.store.dead_letter_count().await.unwrap(), 4);
        let done = ward.letters.purge(&filter, 3, &by()).await.unwrap();
        assert_eq!(done.purged, 3);
        let left = ward.letter().await;
        assert_eq!(left.code, "b");
        ward.letters.purge_one(left.id, &by()).await.unwrap();
        let gone = ward.letters.purge_one(left.id, &by()).await.unwrap_err();
        assert_eq!(gone.code(), "dead_letter.unknown");
        let deeds = ward.store.deeds(None, None, 100).await.unwrap();
        let purges = deeds.iter().filter(|it| it.action == "dead_letter.purge");
        assert_eq!(purges.count(), 4);
        let outcome = again(&ward, one(left.id), true).await;
        assert_eq!(outcome.refusals, [(left.id, Refusal::Unknown)]);
    }
}

#[tokio::test]
async fn an_export_has_every_letter_and_only_as_much_payload_as_allowed() {
    for ward in both().await {
        let base = ward.sub.lanes.base().clone();
        for number in 0..120 {
            let raw = ("raw".to_owned(), Bytes::from_static(b"\x00\xff"));
            let phone = field("phone", &format!("09091234{number:03}"));
            let append = Append::verbatim(base.clone(), vec![phone, raw]);
            ward.append(append).await;
        }
        ward.work(Mood::Refuse("a")).await;
        for (payload, shows) in [
            (Payload::Hidden, false),
            (Payload::Masked, false),
            (Payload::Plain, true),
        ] {
            let mut lines = Vec::new();
            let all = DeadLetterFilter::default();
            let take = |line| {
                lines.push(line);
                Ok(())
            };
            let count = ward.letters.export(&all, payload, take).await.unwrap();
            assert_eq!((count, lines.len()), (120, 120), "{}", ward.name);
            let text = lines.join("\n");
            assert_eq!(text.contains("09091234007"), shows, "{payload:?}");
            let first: Value = serde_json::from_str(&lines[0]).unwrap();
            if shows {
                assert_eq!(first["fields"][1]["base64"], "AP8=");
            }
        }
        let letters = ward
            .letters
            .list(&DeadLetterFilter::default(), 1)
            .await
            .unwrap();
        let shown = ward.letters.show(letters[0].id).await.unwrap();
        let masked = letter_shown(&shown, Payload::Masked).to_string();
        assert!(!masked.contains("09091234"), "{masked}");
    }
}

#[test]
fn a_deed_needs_a_reason() {
    assert!(By::new("cli:x", "  ").is_err());
    assert!(By::new("cli:x", &"x".repeat(501)).is_err());
    assert_eq!(
        By::new("cli:x", " because\nso ").unwrap().reason(),
        "because so"
    );
}
