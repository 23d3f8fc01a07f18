//! `ratebox cache tour` on services that break their promises: it names the scene and exits with 1.

use std::net::Ipv4Addr;
use std::process::Command;

use ratebox_testkit::{Output, Ratebox, RateboxOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cache_service::{embedded, started};

fn tour(url: &str, words: &[&str]) -> Output {
    let tour = RateboxOptions::new("cache").args(["tour", url]);
    tour.args(words).run().unwrap()
}

/// Each scene that failed, with what was wrong.
fn failed(output: &Output) -> Vec<(String, String)> {
    let told: Value = serde_json::from_str(&output.stdout).unwrap();
    let scenes = told["scenes"].as_array().unwrap();
    assert_eq!(scenes.len(), 15);
    let text = |of: &Value| of.as_str().unwrap().to_owned();
    let failed = scenes.iter().filter(|scene| scene["ok"] == false);
    let failed: Vec<_> = failed
        .map(|scene| (text(&scene["scene"]), text(&scene["seen"])))
        .collect();
    assert_eq!(told["failed"], failed.len());
    failed
}

/// Does not remember what is absent, and all else as it should.
async fn forgetful() -> Ratebox {
    started(embedded().env("CACHE_NEG_TTL", "0")).await
}

#[tokio::test]
async fn a_tour_names_the_one_scene_that_fails_with_its_time_and_exits_with_1() {
    let service = forgetful().await;
    let name = "what is absent is remembered";
    let ended = tour(&service.base_url(), &["--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let why = "the origin was asked again".to_owned();
    assert_eq!(failed(&ended), [(name.to_owned(), why)]);
    let ended = tour(&service.base_url(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("1 of 15 scenes failed"), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let (scenes, sum) = lines.split_at(15);
    for line in scenes {
        let is_failed = line.contains(name);
        let mark = if is_failed { "FAIL " } else { "ok   " };
        assert!(line.starts_with(mark), "{line}");
        let time = line.split(" ms").next().unwrap().rsplit(' ').next();
        assert!(time.unwrap().parse::<f64>().unwrap() > 0.0, "{line}");
    }
    let [_, sum] = sum else { panic!("{sum:?}") };
    assert!(sum.starts_with("14 of 15 scenes as promised, "), "{sum}");
}

/// Runs a command on a terminal of its own and prints what it said.
const TERMINAL: &str = "
import pty, sys
sys.exit(pty.spawn(sys.argv[1:]) >> 8)
";

#[tokio::test]
async fn on_a_terminal_the_tour_is_coloured_unless_nobody_wants_that() {
    let service = forgetful().await;
    let binary = RateboxOptions::new("cache").binary_path().unwrap();
    for no_colour in ["", "1"] {
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL]).arg(&binary);
        command.args(["cache", "tour", &*service.base_url()]);
        command.env("NO_COLOR", no_colour);
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let text = String::from_utf8_lossy(&done.stdout);
        let colours = [
            "\u{1b}[32mok",
            "\u{1b}[31mFAIL",
            "\u{1b}[1;31m14 of 15 scenes",
        ];
        for colour in colours {
            assert_eq!(text.contains(colour), no_colour.is_empty(), "{text}");
        }
        assert_eq!(text.contains('\u{1b}'), no_colour.is_empty(), "{text}");
        assert!(text.contains("14 of 15 scenes"), "{text}");
    }
}

/// What a service says that knows two users and figures that never move.
fn said(path: &str) -> Value {
    let path = path.split('?').next().unwrap();
    match path.rsplit_once('/').unwrap() {
        ("/users", uid) => json!({"id": uid.parse::<u64>().unwrap(), "name": "Ada"}),
        _ => json!({
            "ok": true, "circuit_breaker": "closed", "connected": true, "hit_ratio": 0.5,
            "strategies": {"cache-aside": {"loads": 7}, "singleflight": {"loads": 7}},
            "resources": {"users": {"loads": 14, "stale": 3}},
        }),
    }
}

/// Answers one request with 200, whatever it is.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 4_096]);
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            length => head.extend_from_slice(&piece[..length]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let body = said(head.split(' ').nth(1).unwrap()).to_string();
    let length = body.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_says_the_right_words_and_loads_nothing_passes_no_scene_about_loads() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // The tour may have gone.
            let _ = answer(stream).await;
        }
    };
    let touring = tokio::task::spawn_blocking(move || tour(&url, &["--json"]));
    let ended = tokio::select! {
        ended = touring => ended.unwrap(),
        () = serving => unreachable!("it serves for ever"),
    };
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed = failed(&ended);
    for (scene, why) in [
        ("a first read asks the origin", "one read caused 0 loads"),
        ("a crowd loads once", "20 readers caused 0 loads"),
        ("a stale value is served at once", "it was no stale value"),
    ] {
        let expected = (scene.to_owned(), why.to_owned());
        assert!(failed.contains(&expected), "{scene}: {failed:?}");
    }
    let well = ["the service is well", "a second read does not"];
    assert!(failed.iter().all(|(scene, _)| !well.contains(&&**scene)));
}
