//! Deadlines, the cap, and the end of a process.

use std::time::Duration;

use futures_util::future::try_join_all;
use ratebox_gateway::{ListenSettings, bind};
use ratebox_kit::Stopwatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::join;
use tokio::net::TcpStream;

use crate::door::{Door, ITEM, VALIDATE, code_of, post, post_with};
use crate::framing::exchange;

const SHORT: Duration = Duration::from_millis(400);
/// Deadlines are looked at four times in the shortest of them.
const LATEST: Duration = Duration::from_secs(4);

fn impatient() -> ListenSettings {
    ListenSettings {
        first_byte_timeout: SHORT,
        head_timeout: SHORT,
        idle_timeout: SHORT,
        ..ListenSettings::default()
    }
}

/// Reads until the server ends the connection; panics when it does not.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut text = Vec::new();
    let end = tokio::time::timeout(LATEST, stream.read_to_end(&mut text)).await;
    let _ = end.expect("the server ends the connection");
    text
}

#[tokio::test]
async fn a_burst_of_connections_waits_for_a_server_that_is_busy() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: what Linux keeps for the server is all there is.
    let burst = try_join_all((0..1_000).map(|_| TcpStream::connect(address)));
    let connected = tokio::time::timeout(LATEST, burst).await;
    let connected = connected.expect("no connection is dropped").unwrap();
    assert_eq!(connected.len(), 1_000);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let door = Door::with(|plan| plan.settings.listen = impatient()).await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(door.connect().await);
    }
    for mut stream in streams {
        assert!(until_closed(&mut stream).await.is_empty());
    }
}

#[tokio::test]
async fn a_head_that_trickles_is_closed_and_others_are_served_meanwhile() {
    let door = Door::with(|plan| plan.settings.listen = impatient()).await;
    let client = door.client("ann").await;
    let mut slow = door.connect().await;
    let watch = Stopwatch::start();
    let trickle = async {
        for byte in b"GET /api/health/live HTTP/1.1\r\nHost: x\r\nX-Long: "
            .iter()
            .cycle()
        {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            let mut answer = [0];
            let read = slow.read(&mut answer);
            if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(Duration::from_millis(20), read).await
            {
                break;
            }
        }
        assert!(watch.elapsed() < LATEST, "{:?}", watch.elapsed());
    };
    let good = async {
        for _ in 0..20 {
            assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
        }
    };
    join!(trickle, good);
}

/// With the settings as they are shipped: what trickles is gone within ten seconds, and nobody
/// else waits for it.
#[tokio::test]
async fn two_thousand_connections_that_trickle_hold_nobody_up() {
    const SLOW: usize = 2_000;
    const GONE_AFTER: Duration = Duration::from_secs(11);
    let door = Door::open().await;
    let client = door.client("ann").await;
    let mut slow = Vec::with_capacity(SLOW);
    for _ in 0..SLOW {
        let mut stream = door.connect().await;
        stream.write_all(b"GET /api/health/live HT").await.unwrap();
        slow.push(stream);
    }
    let watch = Stopwatch::start();
    let good = async {
        let mut took = Vec::new();
        while watch.elapsed() < Duration::from_secs(6) {
            let one = Stopwatch::start();
            assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
            took.push(one.elapsed());
        }
        took
    };
    let trickle = async {
        for stream in &mut slow {
            // Closed already, perhaps.
            let _ = stream.write_all(b"T").await;
        }
        for stream in &mut slow {
            let left = GONE_AFTER.saturating_sub(watch.elapsed());
            let mut rest = Vec::new();
            let end = tokio::time::timeout(left, stream.read_to_end(&mut rest)).await;
            let _ = end.expect("closed in time");
        }
    };
    let (mut took, ()) = join!(good, trickle);
    took.sort_unstable();
    // Who waits for the slow ones waits for seconds, every time; a busy machine makes a few wait.
    let nine_of_ten = took[took.len() * 9 / 10];
    assert!(nine_of_ten < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let door = Door::with(|plan| plan.settings.listen = impatient()).await;
    let client = door.client("ann").await;
    let mut idle = door.connect().await;
    idle.write_all(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    // Waits four times as long as a connection may idle.
    let busy = post_with(&client, VALIDATE, &[("prefer", "wait=2")], ITEM.as_bytes());
    let (closed, answer) = join!(until_closed(&mut idle), busy);
    assert!(closed.starts_with(b"HTTP/1.1 200"));
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let door = Door::with(|plan| plan.settings.body.timeout = SHORT).await;
    let token = door.token("ann", &["create"]).await;
    let mut slow = door.connect().await;
    let head = format!(
        "POST {VALIDATE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(until_closed(&mut slow).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("body.too_slow"), "{answer}");
}

/// Reads one answer to its end; the connection stays.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut bytes: Vec<u8> = Vec::new();
    let whole = async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let mut lines = head.lines();
                let length = lines.find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    return text;
                }
            }
            let read = stream.read_buf(&mut bytes).await.unwrap();
            assert!(read > 0, "the server ended the connection: {text}");
        }
    };
    let answer = tokio::time::timeout(LATEST, whole).await;
    answer.expect("an answer in time")
}

/// A request with a body that nobody wants to read.
fn unwanted(path: &str, token: Option<&str>, length: usize) -> String {
    let token = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{token}Content-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_leaves_its_connection_open() {
    let door = Door::open().await;
    let reader = door.token("ann", &["find"]).await;
    let writer = door.token("ann", &["create"]).await;
    for (path, token, status) in [
        (VALIDATE, None, 401),
        (VALIDATE, Some(reader.as_str()), 403),
        ("/api/nothing", None, 404),
        ("/api/health", None, 405),
        (VALIDATE, Some(writer.as_str()), 415),
    ] {
        let mut stream = door.connect().await;
        for length in [5, 60_000, 64 * 1024] {
            let head = unwanted(path, token, length);
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b' '; length]).await.unwrap();
            let answer = one_answer(&mut stream).await;
            let begins = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&begins), "{path} {length}: {answer}");
            assert!(!answer.contains("connection: close"), "{path} {length}");
        }
        let next = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(next).await.unwrap();
        let answer = one_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_out_ends_its_connection_with_a_word() {
    let door = Door::with(|plan| plan.settings.body.timeout = SHORT).await;
    let large = unwanted(VALIDATE, None, 100_000) + &" ".repeat(100_000);
    let never = unwanted(VALIDATE, None, 10);
    let chunked = format!(
        "POST {VALIDATE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\n{{}}\r\n0\r\n\r\n"
    );
    for request in [large, never, chunked] {
        let mut stream = door.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

/// Most clients write all of a body before they read.
#[tokio::test]
async fn a_client_that_writes_far_too_much_gets_to_read_its_refusal() {
    const LENGTH: usize = 24 << 20;
    let door = Door::open().await;
    let token = door.token("ann", &["create"]).await;
    let head = unwanted(VALIDATE, Some(&token), LENGTH);
    let head = head.replace("text/plain", "application/json");
    let mut stream = door.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; LENGTH]).await.unwrap();
    let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut() {
    let door = Door::with(|plan| plan.settings.listen.write_timeout = SHORT).await;
    let mut deaf = door.connect().await;
    // The description has some 50 KB; a thousand of them fill every buffer on the way.
    let many = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    deaf.write_all(many.as_bytes()).await.unwrap();
    let watch = Stopwatch::start();
    ratebox_testkit::wait_until(Duration::from_secs(10), "the connection is cut", || async {
        let cut = |error: std::io::Error| error.kind() != std::io::ErrorKind::WouldBlock;
        deaf.try_write(b"G").is_err_and(cut)
    })
    .await;
    assert!(watch.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn connections_beyond_the_cap_are_told_so() {
    let door = Door::with(|plan| plan.settings.listen.connections_max = 3).await;
    let live = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = door.connect().await;
        stream.write_all(live).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    let mut refused = door.connect().await;
    // It writes all of a long body before it reads.
    let head =
        b"POST /api/validation/validate HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n";
    refused.write_all(head).await.unwrap();
    refused.write_all(&vec![b' '; 2_000_000]).await.unwrap();
    let answer = String::from_utf8(until_closed(&mut refused).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/problem+json"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())));
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["code"], "http.too_many_connections");
    drop(held.pop());
    ratebox_testkit::wait_until(LATEST, "a place is free", || async {
        exchange(&door, live).await.status == Some(200)
    })
    .await;
}

#[tokio::test]
async fn a_stop_answers_what_is_open_and_takes_nothing_new() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let mut idle = door.connect().await;
    idle.write_all(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let waiting = post_with(&client, VALIDATE, &[("prefer", "wait=25")], ITEM.as_bytes());
    let stop = async {
        door.published("validation_requests", 1).await;
        let late = door.close().await;
        assert!(late.is_empty(), "{late:?}");
    };
    let watch = Stopwatch::start();
    let (answer, (), closed) = join!(waiting, stop, until_closed(&mut idle));
    // The wait ends early, with what is known by then.
    assert_eq!(
        (answer.status, answer.header("connection")),
        (202, Some("close"))
    );
    assert!(watch.elapsed() < Duration::from_secs(15));
    assert!(closed.starts_with(b"HTTP/1.1 200"));
    assert!(TcpStream::connect(door.address).await.is_err());
    assert_eq!(door.requests().await, 1);
    door.outbox_is_empty().await;
}

#[tokio::test]
async fn a_stop_finishes_what_was_submitted() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    let posts = (0..50).map(|_| post(&client, VALIDATE, ITEM.as_bytes()));
    let stop = async {
        ratebox_testkit::wait_until(LATEST, "some are taken", || async {
            door.requests().await > 0
        })
        .await;
        door.close().await
    };
    // Those that came too late find no listener; those that were answered 202 are kept.
    let posts = futures_util::future::join_all(
        posts.map(|post| futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(post))),
    );
    let (answers, late) = join!(posts, stop);
    assert!(late.is_empty(), "{late:?}");
    let taken = answers
        .into_iter()
        .flatten()
        .filter(|answer| answer.status == 202)
        .count();
    assert!(taken > 0);
    assert!(door.requests().await >= u64::try_from(taken).unwrap());
}

#[tokio::test]
async fn readiness_says_no_before_the_listener_closes() {
    let settings = ListenSettings {
        close_after: Duration::from_millis(500),
        ..ListenSettings::default()
    };
    let door = Door::with(|plan| plan.settings.listen = settings).await;
    door.ready().await;
    door.tasks.stop();
    let answer = door.anybody().get("/api/health/ready").await.unwrap();
    assert_eq!(answer.status, 503);
    let client = door.client("ann").await;
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    assert!(door.close().await.is_empty());
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_at_once() {
    let door = Door::with(|plan| plan.settings.accept.queue_max_bytes = 100).await;
    let client = door.client("ann").await;
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (503, "accept.busy")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(door.requests().await, 0);
}
