//! The reader of the protocol against that of the `redis` crate, on what a server may send, and on
//! what none should.

use bytes::Bytes;
use proptest::prelude::*;
use ratebox_valkey::{Error, Part, Parts, Reply};
use redis::Value;

/// A reply as it stands on the wire, and what it means.
#[derive(Clone, Debug)]
struct Sample {
    wire: Vec<u8>,
    means: Value,
}

fn line(kind: char, text: impl std::fmt::Display) -> Vec<u8> {
    format!("{kind}{text}\r\n").into_bytes()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&line('$', bytes.len())[..], bytes, b"\r\n"].concat()
}

fn leaf() -> impl Strategy<Value = Sample> {
    let sample = |wire, means| Sample { wire, means };
    prop_oneof![
        any::<i64>().prop_map(move |it| sample(line(':', it), Value::Int(it))),
        "[ -~]{0,20}".prop_map(move |it| sample(line('+', &it), Value::SimpleString(it))),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(move |it| sample(text(&it), Value::BulkString(it))),
        Just(sample(b"_\r\n".to_vec(), Value::Nil)),
        Just(sample(b"$-1\r\n".to_vec(), Value::Nil)),
        Just(sample(b"*-1\r\n".to_vec(), Value::Nil)),
    ]
}

fn joined(head: Vec<u8>, parts: &[Sample]) -> Vec<u8> {
    let wires = parts.iter().map(|part| part.wire.clone());
    std::iter::once(head).chain(wires).flatten().collect()
}

fn sample() -> impl Strategy<Value = Sample> {
    leaf().prop_recursive(5, 60, 6, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6).prop_map(|parts| Sample {
            wire: joined(line('*', parts.len()), &parts),
            means: Value::Array(parts.into_iter().map(|part| part.means).collect()),
        });
        let pairs = prop::collection::vec((inner.clone(), inner), 0..4).prop_map(|pairs| {
            let flat: Vec<_> = pairs
                .iter()
                .flat_map(|(a, b)| [a.clone(), b.clone()])
                .collect();
            let means = pairs.into_iter().map(|(a, b)| (a.means, b.means));
            Sample {
                wire: joined(line('%', flat.len() / 2), &flat),
                means: Value::Map(means.collect()),
            }
        });
        prop_oneof![list, pairs]
    })
}

/// The tree of a reply. A simple text is a text to us.
fn tree(parts: &mut Parts<'_>) -> Result<Value, Error> {
    Ok(match parts.next()? {
        Part::Nothing => Value::Nil,
        Part::Number(number) => Value::Int(number),
        Part::Text(text) => Value::BulkString(text.to_vec()),
        Part::List(count) => {
            Value::Array((0..count).map(|_| tree(parts)).collect::<Result<_, _>>()?)
        }
        Part::Pairs(count) => {
            let pair = |_| Ok((tree(parts)?, tree(parts)?));
            Value::Map((0..count).map(pair).collect::<Result<_, Error>>()?)
        }
        Part::Failed(error) => return Err(error),
    })
}

fn all_texts_alike(value: Value) -> Value {
    match value {
        Value::SimpleString(text) => Value::BulkString(text.into_bytes()),
        Value::Okay => Value::BulkString(b"OK".to_vec()),
        Value::Array(items) => Value::Array(items.into_iter().map(all_texts_alike).collect()),
        Value::Map(pairs) => {
            let alike = |(a, b)| (all_texts_alike(a), all_texts_alike(b));
            Value::Map(pairs.into_iter().map(alike).collect())
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn a_reply_means_the_same_as_to_the_redis_crate(sample in sample()) {
        let theirs = redis::parse_redis_value(&sample.wire).unwrap();
        let reply = Reply::read(&Bytes::from(sample.wire)).unwrap().unwrap();
        let ours = tree(&mut reply.parts()).unwrap();
        prop_assert_eq!(&ours, &all_texts_alike(theirs));
        prop_assert_eq!(ours, all_texts_alike(sample.means));
    }

    #[test]
    fn a_reply_that_is_cut_anywhere_waits_for_the_rest(sample in sample()) {
        for cut in 0..sample.wire.len() {
            let cut = Bytes::copy_from_slice(&sample.wire[..cut]);
            prop_assert!(Reply::read(&cut).unwrap().is_none());
        }
    }

    #[test]
    fn a_reply_that_comes_with_the_next_one_ends_where_it_ends(sample in sample()) {
        let both = [&sample.wire[..], b"+next\r\n"].concat();
        let reply = Reply::read(&Bytes::from(both)).unwrap().unwrap();
        prop_assert_eq!(tree(&mut reply.parts()).unwrap(), all_texts_alike(sample.means));
        let mut parts = reply.parts();
        parts.skip().unwrap();
        prop_assert!(parts.next().is_err(), "nothing is left after it");
    }

    #[test]
    fn bytes_that_are_no_reply_are_refused_or_read_and_never_panic(
        bytes in prop::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'%'), Just(b'|'), Just(b'>'), Just(b'='), Just(b'-'),
            Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'), Just(b'9'), any::<u8>(),
        ], 0..60),
    ) {
        if let Ok(Some(reply)) = Reply::read(&Bytes::from(bytes)) {
            let _seen = tree(&mut reply.parts());
            let shown = format!("{reply:?}");
            prop_assert!(shown.starts_with("Reply of "));
        }
    }

    #[test]
    fn a_reply_with_one_byte_changed_never_panics(
        sample in sample(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut wire = sample.wire;
        let at = at.index(wire.len());
        wire[at] = byte;
        if let Ok(Some(reply)) = Reply::read(&Bytes::from(wire)) {
            let _seen = tree(&mut reply.parts());
        }
    }
}

#[test]
fn what_no_server_should_send_is_refused_before_it_costs_memory() {
    for hostile in [
        &b"*99999999999\r\n"[..],
        b"*99999999\r\n",
        b"*-2\r\n",
        b"$99999999999999999999\r\n",
        b"$600000000\r\n",
        b"$+5\r\nhello\r\n",
        b"$5\r\nhello!!",
        b"*\r\n",
        b"$?\r\n",
        b"hello\r\n",
        b"+a\rb\r\n",
        &b"*1\r\n".repeat(17),
        &b"+".repeat(70_000),
    ] {
        let head = String::from_utf8_lossy(&hostile[..hostile.len().min(20)]).into_owned();
        let refused = Reply::read(&Bytes::copy_from_slice(hostile));
        let error = refused.map(|reply| reply.is_some()).expect_err(&head);
        assert!(
            error.is_retryable() && error.to_string().contains("protocol"),
            "{error}"
        );
    }
    let promise = Bytes::from_static(b"*16000000\r\n$500000000\r\n");
    assert!(
        Reply::read(&promise).unwrap().is_none(),
        "believed when it comes"
    );
}

#[test]
fn what_nobody_asked_for_and_what_is_said_beside_are_passed_over() {
    let wire = b">2\r\n+message\r\n*1\r\n:1\r\n|1\r\n+ttl\r\n:3\r\n*2\r\n+a\r\n$0\r\n\r\n";
    let reply = Reply::read(&Bytes::from_static(wire)).unwrap().unwrap();
    let mut parts = reply.parts();
    assert_eq!(parts.list().unwrap(), 2);
    assert_eq!(parts.text().unwrap(), b"a");
    assert_eq!(parts.text().unwrap(), b"");
}

#[test]
fn errors_in_a_reply_keep_their_meaning() {
    for (wire, expected) in [
        (
            &b"-NOGROUP No such key 's' or consumer group 'g'\r\n"[..],
            Error::NoGroup,
        ),
        (
            b"!29\r\nOOM command not allowed when.\r\n",
            Error::OutOfMemory,
        ),
        (
            b"-LOADING Redis is loading the dataset in memory\r\n",
            Error::Unavailable {
                code: "LOADING".to_owned(),
            },
        ),
        (
            b"-MOVED 3999 127.0.0.1:6381\r\n",
            Error::Command {
                code: "MOVED".to_owned(),
                detail: "3999 127.0.0.1:6381".to_owned(),
            },
        ),
        (
            b"-ERR unknown command 'x', with args beginning with: 'secret'\r\n",
            Error::Command {
                code: "ERR".to_owned(),
                detail: "unknown command 'x'".to_owned(),
            },
        ),
    ] {
        let reply = Reply::read(&Bytes::from_static(wire)).unwrap().unwrap();
        assert_eq!(reply.parts().list(), Err(expected.clone()));
        assert_eq!(reply.parts().text(), Err(expected));
    }
}
