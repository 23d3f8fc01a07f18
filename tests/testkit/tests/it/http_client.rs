//! The client reads what servers send, and hides nothing.

use std::time::Duration;

use ratebox_testkit::HttpClient;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server that gives these answers, one a request, on as many connections as are opened; a
/// connection is closed after an answer that ends it. Returns its address.
async fn server(answers: &'static [&'static str]) -> (String, JoinSet<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut seen = Vec::new();
        let mut answers = answers.iter();
        let mut connections = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections += 1;
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]);
                seen.push(format!("{connections}: {text}"));
                let Some(answer) = answers.next() else {
                    return seen;
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answers.len() == 0 {
                    return seen;
                }
                if !answer.contains("content-length") && !answer.contains("chunked") {
                    break;
                }
            }
        }
    });
    (address, serving)
}

#[tokio::test]
async fn answers_of_every_framing_are_read_on_kept_connections() {
    let (address, mut serving) = server(&[
        "HTTP/1.1 202 Accepted\r\ncontent-length: 8\r\nX-Request-Id: 7\r\n\r\n{\"a\": 1}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 500 Oops\r\n\r\nuntil the end",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ])
    .await;
    let client = HttpClient::new(&address).with_token("t");
    let answer = client.post_json("/a", &json!({"b": 2})).await.unwrap();
    assert_eq!(
        (answer.status, answer.json().unwrap()),
        (202, json!({"a": 1}))
    );
    assert_eq!(answer.header("x-request-ID"), Some("7"));
    assert_eq!(client.get("/b").await.unwrap().text(), "abcde");
    assert_eq!(client.get("/c").await.unwrap().status, 200);
    let answer = client.get("/d").await.unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (500, "until the end")
    );
    assert!(answer.json().unwrap_err().to_string().contains("500"));
    assert_eq!(client.get("/e").await.unwrap().status, 204);

    let seen = serving.join_next().await.unwrap().unwrap();
    assert_eq!(
        seen[0].split_once("host").unwrap().0,
        "1: POST /a HTTP/1.1\r\n",
    );
    assert!(seen[0].contains("authorization: Bearer t\r\n"));
    assert!(
        seen[0].ends_with("content-length: 7\r\n\r\n{\"b\":2}"),
        "{}",
        seen[0]
    );
    assert!(
        seen[3].starts_with("1: "),
        "one connection served four requests"
    );
    assert!(
        seen[4].starts_with("2: "),
        "the closed one was not used again"
    );
}

#[tokio::test]
async fn a_request_is_never_sent_twice() {
    let (address, mut serving) =
        server(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]).await;
    let error = HttpClient::new(&address)
        .post_json("/", &json!(1))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("closed within the body"),
        "{error}"
    );
    assert_eq!(serving.join_next().await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let (address, mut serving) = server(&["HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    let answer = HttpClient::new(&address)
        .raw(b"GARBAGE\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(
        serving.join_next().await.unwrap().unwrap(),
        ["1: GARBAGE\r\n\r\n"]
    );
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let client = HttpClient::new(&address).with_deadline(Duration::from_millis(50));
    let error = client.get("/").await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
}
