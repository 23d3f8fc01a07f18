//! Requests that two readers could cut differently: a corpus of raw bytes. Each is refused and
//! ends its connection, so that nothing can be smuggled behind it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::door::Door;

/// What came back for raw bytes.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Of the first answer; `None` when there was none.
    pub(crate) status: Option<u16>,
    /// How many answers.
    pub(crate) answers: usize,
    /// The server ended the connection.
    pub(crate) closed: bool,
    /// All that came.
    pub(crate) text: String,
}

impl Seen {
    /// A refusal in the form of all others: a problem with a code, and an id.
    fn is_a_problem(&self) -> bool {
        let Some((head, body)) = self.text.split_once("\r\n\r\n") else {
            return false;
        };
        head.contains("application/problem+json")
            && head.contains("x-request-id: ")
            && serde_json::from_str::<serde_json::Value>(body)
                .is_ok_and(|it| it["code"].is_string())
    }
}

/// A server that has answered and means to end the connection does so within this.
const AFTER_ANSWER: Duration = Duration::from_millis(500);

/// Sends bytes and reads until the server is done with them.
pub(crate) async fn exchange(door: &Door, bytes: &[u8]) -> Seen {
    exchange_parts(door, &[bytes]).await
}

/// The same, with a pause after each part.
pub(crate) async fn exchange_parts(door: &Door, parts: &[&[u8]]) -> Seen {
    let mut stream = door.connect().await;
    let mut text = Vec::new();
    let mut closed = false;
    for part in parts {
        // A server that has refused already may not take the rest.
        if stream.write_all(part).await.is_err() {
            break;
        }
        if parts.len() > 1 {
            closed = read_for(&mut stream, &mut text, Duration::from_millis(30)).await;
        }
    }
    if !closed {
        closed = read_for(&mut stream, &mut text, Duration::from_secs(3)).await;
    }
    let text = String::from_utf8_lossy(&text);
    Seen {
        status: text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok()),
        answers: text.matches("HTTP/1.1 ").count(),
        closed,
        text: text.into_owned(),
    }
}

/// Reads until nothing comes for `quiet` (or for long before the first byte); true when the
/// connection ended.
async fn read_for(stream: &mut tokio::net::TcpStream, text: &mut Vec<u8>, quiet: Duration) -> bool {
    let mut buffer = [0; 16 * 1024];
    loop {
        let patience = if text.is_empty() {
            quiet
        } else {
            quiet.min(AFTER_ANSWER)
        };
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(read)) => text.extend_from_slice(&buffer[..read]),
            Err(_) => return false,
        }
    }
}

/// A request that would be answered 200 if it were read as a request of its own.
const SMUGGLED: &str = "GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n";

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn refused() -> Vec<String> {
    let post = "POST /api/validation/validate HTTP/1.1\r\nHost: x\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let mut corpus: Vec<String> = Vec::new();
    let mut head = |lines: &str| corpus.push(format!("{post}{lines}\r\n"));
    // Two lengths, or a length and an encoding.
    head("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n");
    head("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n");
    head("transfer-encoding: chunked\r\ncontent-length: 0\r\n");
    head("Content-Length: 0\r\nContent-Length: 5\r\n");
    head("Content-Length: 5\r\nContent-Length: 0\r\n");
    head("Content-Length: 0\r\nContent-Length: 0\r\n");
    head("Content-Length: 0, 0\r\n");
    // Lengths that are no numbers.
    for length in [
        "+5",
        "-1",
        "0x10",
        "1e3",
        "5 5",
        "5;x",
        "5.0",
        "",
        " ",
        "\u{661}",
        "٥",
        "18446744073709551616",
        "99999999999999999999999",
        "00000000000000000000005",
    ] {
        head(&format!("Content-Length: {length}\r\n"));
    }
    // Encodings other than chunked, or chunked in disguise.
    for coding in [
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "gzip",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "chunked,",
        ", chunked",
        "",
        "\u{b}chunked",
        "chunked\u{0}",
    ] {
        head(&format!("Transfer-Encoding: {coding}\r\n"));
    }
    head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
    head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n");
    // Names with room for another reading.
    head("Transfer-Encoding : chunked\r\n");
    head("Content-Length : 5\r\n");
    head("Content-Length\t: 5\r\n");
    head(" Content-Length: 5\r\n");
    head("X: y\r\n Content-Length: 5\r\n");
    head("X: y\r\n\tTransfer-Encoding: chunked\r\n");
    head("Content\u{0}-Length: 5\r\n");
    head("X: a\u{0}b\r\n");
    head("X: a\rContent-Length: 5\r\n");
    head("no colon\r\n");
    head(": no name\r\n");
    head("Host: y\r\n");
    // Lines that do not end in CRLF.
    head("X: y\nContent-Length: 5\r\n");
    corpus.push("GET /api/health/live HTTP/1.1\nHost: x\n\n".to_owned());
    corpus.push("GET /api/health/live HTTP/1.1\r\nHost: x\n\r\n".to_owned());
    corpus.push("GET /api/health/live HTTP/1.1\r\nHost: x\r\n\n".to_owned());
    // Request lines.
    for line in [
        "GET /api/health/live HTTP/1.1 x",
        "GET  /api/health/live HTTP/1.1",
        "GET /api/health/live",
        "GET /api/health/live HTTP/2.0",
        "GET /api/health/live HTTP/1.1x",
        "GET /api/health/live HTTP/0.9",
        "GET /a b HTTP/1.1",
        "G\u{0}T / HTTP/1.1",
        "/ HTTP/1.1",
        "GET /api/health/live http/1.1",
    ] {
        corpus.push(format!("{line}\r\nHost: x\r\n\r\n"));
    }
    corpus.push("GET /api/health/live HTTP/1.1\r\n\r\n".to_owned());
    corpus.push("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned());
    corpus.push("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned());
    corpus.push("\r\n\r\n\r\n\r\n".to_owned());
    corpus.push("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned());
    // Chunks.
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "-5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "\r\nhello\r\n",
        "g\r\nhello\r\n",
        "ffffffffffffffff\r\nhello",
        "fffffffffffffffff\r\nhello",
        "100000000\r\nhello",
        "5;a\nb\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        corpus.push(format!("{chunked}{body}"));
    }
    corpus.push(format!(
        "{chunked}5;{}\r\nhello\r\n0\r\n\r\n",
        "x".repeat(1 << 20)
    ));
    corpus.push(format!("{chunked}0\r\nX: {}\r\n\r\n", "y".repeat(20_000)));
    corpus
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_end_their_connection() {
    let door = Door::open().await;
    let corpus = refused();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    for bytes in &corpus {
        let with_another = format!("{bytes}{SMUGGLED}");
        let seen = exchange(&door, with_another.as_bytes()).await;
        let shown: String = bytes.chars().take(160).collect();
        assert!(seen.closed, "{seen:?} {shown:?}");
        // Without a token a well-framed POST is 401, which a broken body may be as well: it is
        // refused before its body is read, and nothing behind it is.
        let refused = matches!(seen.status, None | Some(400 | 401 | 431 | 505));
        assert!(refused && seen.answers <= 1, "{seen:?} {shown:?}");
        assert!(seen.status.is_none() || seen.is_a_problem(), "{seen:?}");
    }
    assert_eq!(door.requests().await, 0);
}

#[tokio::test]
async fn a_broken_body_is_400_when_it_is_read() {
    let door = Door::open().await;
    let token = door.token("ann", &["admin"]).await;
    let head = format!(
        "POST /api/validation/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for body in [
        "5\nhello\r\n",
        "g\r\n",
        "5\r\nhelloworld\r\n",
        "fffffffff\r\n",
    ] {
        let bytes = format!("{head}{body}{SMUGGLED}");
        let seen = exchange(&door, bytes.as_bytes()).await;
        assert_eq!(
            (seen.status, seen.answers, seen.closed),
            (Some(400), 1, true),
            "{body:?}"
        );
        let seen = exchange_parts(&door, &[head.as_bytes(), body.as_bytes()]).await;
        assert_eq!(
            (seen.status, seen.answers, seen.closed),
            (Some(400), 1, true),
            "{body:?}"
        );
    }
    assert_eq!(door.requests().await, 0);
}

#[tokio::test]
async fn well_framed_requests_are_read_however_they_are_cut() {
    let door = Door::open().await;
    let token = door.token("ann", &["admin"]).await;
    let head = format!(
        "POST /api/validation/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n"
    );
    let item = r#"{"phone":"1"}"#;
    let sized = format!("{head}Content-Length: {}\r\n\r\n{item}", item.len());
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n8;note=x\r\n{}\r\n0\r\nX: y\r\n\r\n",
        &item[..5],
        &item[5..]
    );
    let both = format!("\r\n{sized}{chunked}{SMUGGLED}");
    let seen = exchange(&door, both.as_bytes()).await;
    assert_eq!(
        (seen.status, seen.answers, seen.closed),
        (Some(202), 3, false)
    );
    for text in [&sized, &chunked] {
        for cut in [1, 17, text.len() / 2, text.len() - 1] {
            let (one, two) = text.as_bytes().split_at(cut);
            let seen = exchange_parts(&door, &[one, two]).await;
            assert_eq!((seen.status, seen.answers), (Some(202), 1), "{cut}");
        }
    }
    assert_eq!(door.requests().await, 10);
}

#[tokio::test]
async fn heads_that_are_too_large_are_431() {
    let door = Door::open().await;
    let long = format!(
        "GET /api/health/live HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "y".repeat(65 * 1024)
    );
    let lines: String = (0..100)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect();
    let many = format!("GET /api/health/live HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    for bytes in [long, many] {
        let seen = exchange(&door, bytes.as_bytes()).await;
        assert_eq!(
            (seen.status, seen.closed),
            (Some(431), true),
            "{} bytes",
            bytes.len()
        );
        assert!(seen.is_a_problem(), "{seen:?}");
    }
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    assert_eq!(exchange(&door, target.as_bytes()).await.status, Some(404));
    let lines: String = (0..98).map(|number| format!("X-{number}: y\r\n")).collect();
    let enough = format!("GET /api/health/live HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    assert_eq!(exchange(&door, enough.as_bytes()).await.status, Some(200));
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one() {
    let door = Door::open().await;
    let many = SMUGGLED.repeat(10_000);
    let seen = exchange(&door, many.as_bytes()).await;
    assert_eq!((seen.status, seen.answers), (Some(200), 10_000));
}
