//! Bodies that are made smaller on their way, and those that only say so.

use bytes::Bytes;
use ratebox_kit::{DeadLetterClass, Message, Secret};
use ratebox_stream::handler::{Failure, NoEffects, Router, State};
use ratebox_stream::payload::{Codecs, Compress, Compression, Keys, Seal};
use ratebox_stream::testing::TestBus;

const WAYS: [Compression; 2] = [Compression::Zstd, Compression::Lz4];

/// Takes only the body that was sent.
async fn same(State(expected): State<Bytes>, body: Bytes) -> Result<NoEffects, Failure> {
    let is_same = body == expected;
    is_same
        .then_some(NoEffects)
        .ok_or_else(|| Failure::dead("body.other", "another body"))
}

fn bus(codecs: Codecs, body: &[u8]) -> TestBus {
    let router = Router::with_state(Bytes::copy_from_slice(body))
        .on("t", same)
        .codecs(codecs);
    TestBus::new().worker("s", "g", router)
}

fn message(body: &[u8]) -> Message {
    Message::new("m", body.to_vec()).with_header("type", "t")
}

fn packing(way: Compression) -> Codecs {
    Codecs::new().then(Compress::new(way))
}

fn text() -> Vec<u8> {
    "the same again and again, ".repeat(400).into_bytes()
}

#[tokio::test]
async fn a_packed_body_is_smaller_on_the_stream_and_whole_at_its_handler() {
    for way in WAYS {
        let sent = packing(way).encode(message(&text())).await.unwrap();
        assert!(sent.body.len() < text().len() / 20, "{}", sent.body.len());
        // Whichever way the receiver sends by.
        for receiver in WAYS {
            let bus = bus(packing(receiver), &text());
            let id = bus.send_message("s", sent.clone()).await;
            bus.run_until_idle().await;
            bus.assert_done(&id);
        }
    }
}

#[tokio::test]
async fn what_would_not_get_smaller_stays_as_it_is() {
    let noise: Vec<u8> = (0..40)
        .flat_map(|_| ratebox_kit::id::random_bytes::<64>())
        .collect();
    for way in WAYS {
        for body in [&text()[..512], &noise[..], b""] {
            let sent = packing(way).encode(message(body)).await.unwrap();
            assert_eq!(sent, message(body));
            let bus = bus(packing(way), body);
            let id = bus.send_message("s", sent).await;
            bus.run_until_idle().await;
            bus.assert_done(&id);
        }
        let few = Codecs::new().then(Compress::new(way).above(10).at_most(100));
        for (length, is_packed) in [(10, false), (90, true), (101, false)] {
            let sent = few.encode(message(&vec![b'x'; length])).await.unwrap();
            assert_eq!(sent.body.len() < length, is_packed, "{length}");
        }
    }
}

/// The message as it was packed, under another mark.
fn marked(sent: &Message, id: &str, mark: &str) -> Message {
    let plain = Message::new(id, sent.body.clone()).with_header("type", "t");
    plain.with_header("rb-packed", mark)
}

#[tokio::test]
async fn a_body_that_comes_to_more_than_is_allowed_is_not_unpacked() {
    let bomb = vec![0; 64 << 20];
    for way in WAYS {
        let sender = Codecs::new().then(Compress::new(way).at_most(usize::MAX));
        let sent = sender.encode(message(&bomb)).await.unwrap();
        assert!(sent.body.len() < bomb.len() / 200);
        let bus = bus(packing(way), &bomb);
        let honest = bus.send_message("s", sent.clone()).await;
        // One that says that it is small comes to no more than it says.
        let name = format!("{way:?}").to_lowercase();
        let liar = marked(&sent, "liar", &format!("{name} 1000"));
        let liar = bus.send_message("s", liar).await;
        let huge = marked(&sent, "huge", &format!("{name} {}", u64::MAX));
        let huge = bus.send_message("s", huge).await;
        bus.run_until_idle().await;
        bus.assert_dead(&honest, "packed.too_large");
        bus.assert_dead(&huge, "packed.too_large");
        bus.assert_dead(&liar, "packed.broken");
        let letters = bus.dead_letters();
        let is_malformed = |class| class == DeadLetterClass::Malformed;
        assert!(letters.iter().all(|it| is_malformed(it.class)));
    }
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_dead_and_an_unknown_way_is_tried_again() {
    for way in WAYS {
        let sent = packing(way).encode(message(&text())).await.unwrap();
        let length = text().len();
        let name = format!("{way:?}").to_lowercase();
        let bus = bus(packing(way), &text());
        let mut broken = vec![
            marked(&sent, "short", &format!("{name} {}", length - 1)),
            marked(&sent, "long", &format!("{name} {}", length + 1)),
            marked(&sent, "no-length", &name),
            marked(&sent, "no-number", &format!("{name} many")),
            marked(&sent, "empty", ""),
        ];
        let cut = sent.body.slice(..sent.body.len() / 2);
        for (id, body) in [("cut", cut), ("gone", Bytes::new())] {
            let half = Message {
                body,
                ..sent.clone()
            };
            broken.push(marked(&half, id, &format!("{name} {length}")));
        }
        for message in broken {
            let id = bus.send_message("s", message).await;
            bus.run_until_idle().await;
            bus.assert_dead(&id, "packed.broken");
        }
        let unknown = marked(&sent, "unknown", &format!("brotli {length}"));
        let unknown = bus.send_message("s", unknown).await;
        bus.run_until_idle().await;
        bus.assert_retried(&unknown, 1);
    }
}

#[tokio::test]
async fn what_is_packed_before_the_seal_is_small_and_sealed() {
    for way in WAYS {
        let keys = Keys::new("k", &Secret::new("a".repeat(64))).unwrap();
        let codecs = packing(way).then(Seal::new(keys));
        let bus = bus(codecs.clone(), &text());
        let sent = codecs.encode(message(&text())).await.unwrap();
        assert!(sent.body.len() < text().len() / 10);
        let is_clear = |part: &[u8]| part == b"again";
        assert!(!sent.body.windows(5).any(is_clear));
        let id = bus.send_message("s", sent).await;
        bus.run_until_idle().await;
        bus.assert_done(&id);
    }
}
