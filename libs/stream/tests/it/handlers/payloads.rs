//! Bodies that are sealed, kept elsewhere, or changed by a codec of the program's own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::{Clock, DeadLetterClass, Message, Secret};
use ratebox_stream::handler::{Failure, Meta, NoEffects, Router, State};
use ratebox_stream::payload::{
    ClaimCheck, Codec, Codecs, Collector, DirectoryStore, Keys, PayloadStore, Seal,
};
use ratebox_stream::testing::TestBus;
use ratebox_stream::{
    Admin, Append, ConsumerName, Error, GroupName, Lane, LaneQuota, Lanes, Log, MemoryLog,
    Settlement, Step, StreamName, Subscription, Wait,
};
use ratebox_testkit::TempDir;

const BODY: &str = "a body that nobody else should read";

/// Takes only the body that was sent.
async fn same(State(expected): State<String>, body: Bytes) -> Result<NoEffects, Failure> {
    let is_same = body == expected.as_bytes();
    is_same
        .then_some(NoEffects)
        .ok_or_else(|| Failure::dead("body.other", "another body"))
}

fn secret(digit: &str) -> Secret {
    Secret::new(digit.repeat(64))
}

fn keys() -> Keys {
    Keys::new("old", &secret("a")).unwrap()
}

fn seal(keys: Keys) -> Codecs {
    Codecs::new().then(Seal::new(keys))
}

fn bus(codecs: Codecs, body: &str) -> TestBus {
    let router = Router::with_state(body.to_owned())
        .on("t", same)
        .codecs(codecs);
    TestBus::new().worker("s", "g", router)
}

fn message(id: &str, body: &str) -> Message {
    Message::new(id, body.to_owned()).with_header("type", "t")
}

#[tokio::test]
async fn a_sealed_body_is_read_by_its_handler_and_by_nobody_on_the_way() {
    let bus = bus(seal(keys()), BODY);
    let sealed = seal(keys()).encode(message("m", BODY)).await.unwrap();
    let again = seal(keys()).encode(message("m", BODY)).await.unwrap();
    assert_ne!(sealed.body, again.body, "no two look alike");
    assert_eq!(sealed.body.len(), BODY.len() + 1 + 24 + 16);
    let id = bus.send_message("s", sealed).await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
    for entry in bus.on("s").await {
        let clear = |value: &Bytes| value.windows(6).any(|part| part == b"nobody");
        assert!(!entry.fields.iter().any(|(_, value)| clear(value)));
    }
    let shown = format!("{:?}", Seal::new(keys()));
    assert!(
        shown.contains("old") && !shown.contains("170") && !shown.contains("aaa"),
        "{shown}"
    );
}

#[tokio::test]
async fn whatever_is_changed_in_a_sealed_message_is_a_dead_letter_of_its_own_class() {
    let bus = bus(seal(keys()), BODY);
    let sealed = seal(keys()).encode(message("m", BODY)).await.unwrap();
    let mut broken = Vec::new();
    // Any byte of the body: version, salt, text and tag.
    for at in [0, 1, 24, 25, 40, sealed.body.len() - 1] {
        let mut body = sealed.body.to_vec();
        body[at] ^= 1;
        broken.push(Message {
            body: body.into(),
            ..sealed.clone()
        });
    }
    broken.push(Message {
        body: sealed.body.slice(..20),
        ..sealed.clone()
    });
    broken.push(Message {
        body: Bytes::new(),
        ..sealed.clone()
    });
    for (number, message) in broken.into_iter().enumerate() {
        let id = bus.send_message("s", message).await;
        bus.run_until_idle().await;
        assert_eq!(bus.dead_letters().len(), number + 1);
        bus.assert_dead(&id, "seal.broken");
    }
    // A body that is moved to another message, and one without a seal.
    let mut moved = sealed.clone();
    moved.id.0 = "other".to_owned();
    let moved = bus.send_message("s", moved).await;
    let open = bus.send_message("s", message("open", BODY)).await;
    bus.run_until_idle().await;
    bus.assert_dead(&moved, "seal.broken");
    bus.assert_dead(&open, "seal.missing");
    let letters = bus.dead_letters();
    assert!(
        letters
            .iter()
            .all(|it| it.class == DeadLetterClass::Tampered),
        "{letters:?}"
    );
}

#[tokio::test]
async fn keys_are_changed_while_messages_are_under_way() {
    let both = keys().and_open_with("new", &secret("b")).unwrap();
    let new = Keys::new("new", &secret("b")).unwrap();
    let changed = new.clone().and_open_with("old", &secret("a")).unwrap();
    for receiver in [both, changed] {
        let bus = bus(seal(receiver), BODY);
        for (id, sender) in [("by-old", keys()), ("by-new", new.clone())] {
            let sealed = seal(sender).encode(message(id, BODY)).await.unwrap();
            let id = bus.send_message("s", sealed).await;
            bus.run_until_idle().await;
            bus.assert_done(&id);
        }
    }
    // A key that has not come yet: tried again, and lost to nobody.
    let bus = bus(seal(keys()), BODY);
    let sealed = seal(new).encode(message("m", BODY)).await.unwrap();
    let id = bus.send_message("s", sealed).await;
    bus.run_until_idle().await;
    bus.assert_retried(&id, 1);
    // The same name with another secret is not the same key.
    let forged = Keys::new("old", &secret("c")).unwrap();
    let forged = seal(forged).encode(message("forged", BODY)).await.unwrap();
    let forged = bus.send_message("s", forged).await;
    bus.run_until_idle().await;
    bus.assert_dead(&forged, "seal.broken");
}

#[tokio::test]
async fn open_messages_are_taken_only_where_it_is_allowed() {
    let codecs = Codecs::new().then(Seal::new(keys()).take_open_ones_too());
    let bus = bus(codecs, BODY);
    let id = bus.send_message("s", message("m", BODY)).await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
}

#[test]
fn a_secret_that_is_no_key_is_refused_without_showing_it() {
    for text in ["", "abc", &"g".repeat(64), &"a".repeat(63)] {
        let error = Keys::new("k", &Secret::new(text)).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
        assert!(text.is_empty() || !error.contains(text));
    }
    assert!(Keys::new("a b", &secret("a")).is_err());
}

fn store() -> (TempDir, Arc<DirectoryStore>) {
    let folder = TempDir::new().unwrap();
    let store = DirectoryStore::open(folder.path().join("bodies")).unwrap();
    (folder, Arc::new(store))
}

#[tokio::test]
async fn a_large_body_goes_to_the_store_and_a_small_one_stays() {
    let (_folder, store) = store();
    let codecs = || Codecs::new().then(ClaimCheck::new(store.clone(), 1_000));
    for (length, kept) in [(1_000, 0), (1_001, 1)] {
        let body = "x".repeat(length);
        let bus = bus(codecs(), &body);
        let claimed = codecs().encode(message("m", &body)).await.unwrap();
        assert_eq!(claimed.body.is_empty(), kept == 1);
        let id = bus.send_message("s", claimed).await;
        bus.run_until_idle().await;
        bus.assert_done(&id);
        assert_eq!(store.oldest(10).await.unwrap().len(), kept);
    }
}

#[tokio::test]
async fn a_body_that_is_missing_is_tried_again_and_one_that_was_changed_is_dead() {
    let (folder, store) = store();
    let codecs = Codecs::new().then(ClaimCheck::new(store.clone(), 10));
    let bus = bus(codecs.clone(), BODY);
    let claimed = codecs.encode(message("m", BODY)).await.unwrap();
    let key = store.oldest(1).await.unwrap()[0];
    let file = folder.path().join("bodies").join(key.to_string());
    std::fs::rename(&file, folder.path().join("away")).unwrap();
    let id = bus.send_message("s", claimed.clone()).await;
    bus.run_until_idle().await;
    bus.assert_retried(&id, 1);
    std::fs::rename(folder.path().join("away"), &file).unwrap();
    bus.advance(Duration::from_secs(60)).await;
    bus.assert_done(&id);
    std::fs::write(&file, BODY.replace("nobody", "anyone")).unwrap();
    let id = bus
        .send_message(
            "s",
            Message {
                id: ratebox_kit::MessageId("n".to_owned()),
                ..claimed
            },
        )
        .await;
    bus.run_until_idle().await;
    bus.assert_dead(&id, "claim.broken");
    assert_eq!(bus.dead_letters()[0].class, DeadLetterClass::Tampered);
}

#[tokio::test]
async fn what_is_sealed_first_is_sealed_in_the_store() {
    let (_folder, store) = store();
    let codecs = seal(keys()).then(ClaimCheck::new(store.clone(), 10));
    let bus = bus(codecs.clone(), BODY);
    let id = bus
        .send_message("s", codecs.encode(message("m", BODY)).await.unwrap())
        .await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
    let key = store.oldest(1).await.unwrap()[0];
    let kept = store.get(key).await.unwrap().unwrap();
    assert!(!kept.windows(6).any(|part| part == b"nobody"));
}

#[tokio::test]
async fn a_body_outlives_its_entry_until_every_group_is_done_and_the_time_is_over() {
    let (_folder, store) = store();
    let keep = Duration::from_secs(3_600);
    // Keys carry the machine's time, so the clock begins there.
    let clock = Clock::manual(Clock::system().now());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    let groups = ["fast", "slow"].map(|group| {
        let lanes = Lanes::only(&StreamName::new("s"));
        Subscription::new(lanes, GroupName::new(group), ConsumerName::new("c"))
    });
    for group in &groups {
        log.ensure_group(group).await.unwrap();
    }
    let codecs = Codecs::new().then(ClaimCheck::new(store.clone(), 10));
    let claimed = codecs.encode(message("m", BODY)).await.unwrap();
    let append = Append::new(StreamName::new("s"), claimed);
    let entry = log.append(&[append]).await.remove(0).unwrap();
    let admin: Arc<dyn Admin> = log.clone();
    let collector = Collector::new(store.clone(), admin, groups.to_vec(), keep, clock.clone());
    let quota = [LaneQuota {
        lane: Lane::Normal,
        max: 1,
    }];
    for group in &groups {
        clock.advance(keep * 2);
        assert_eq!(
            collector.step().await.unwrap(),
            Step::Idle,
            "{}",
            group.group
        );
        log.read(group, &quota, Wait::None).await.unwrap();
        assert_eq!(
            collector.step().await.unwrap(),
            Step::Idle,
            "{}",
            group.group
        );
        let ack = Settlement::Ack {
            lane: Lane::Normal,
            id: entry,
        };
        log.settle(group, &[ack]).await.unwrap();
    }
    assert_eq!(collector.step().await.unwrap(), Step::Did(1));
    assert!(store.oldest(9).await.unwrap().is_empty());
    // One that nobody owes, but that is young: its message may be on its way.
    codecs.encode(message("n", BODY)).await.unwrap();
    let young = Clock::manual(Clock::system().now());
    let admin: Arc<dyn Admin> = log.clone();
    let collector = Collector::new(store.clone(), admin, groups.to_vec(), keep, young);
    assert_eq!(collector.step().await.unwrap(), Step::Idle);
}

/// Writes each run of a byte as the byte and its length: a compression of the program's own.
struct Runs;

#[async_trait]
impl Codec for Runs {
    async fn encode(&self, message: Message) -> Result<Message, Error> {
        let mut short: Vec<u8> = Vec::new();
        for byte in &message.body {
            match short.last_chunk_mut::<2>() {
                Some([last, count]) if last == byte && *count < u8::MAX => *count += 1,
                _ => short.extend([*byte, 1]),
            }
        }
        let message = Message {
            body: short.into(),
            ..message
        };
        Ok(message.with_header("encoding", "runs"))
    }

    async fn decode(&self, meta: &Meta, body: Bytes) -> Result<Bytes, Failure> {
        if meta.header("encoding") != Some("runs") {
            return Ok(body);
        }
        let runs = body.chunks_exact(2);
        Ok(runs
            .flat_map(|run| vec![run[0]; usize::from(run[1])])
            .collect())
    }
}

#[tokio::test]
async fn a_codec_of_the_programs_own_compresses_before_the_seal() {
    let body = "a".repeat(10_000);
    let codecs = Codecs::new().then(Runs).then(Seal::new(keys()));
    let bus = bus(codecs.clone(), &body);
    let short = codecs.encode(message("m", &body)).await.unwrap();
    assert!(short.body.len() < 200, "{}", short.body.len());
    let id = bus.send_message("s", short).await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
}
