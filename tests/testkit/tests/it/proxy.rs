//! The proxy carries, delays, swallows and cuts.

use std::io::ErrorKind;
use std::time::Duration;

use ratebox_testkit::{TcpProxy, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SHORT: Duration = Duration::from_millis(100);

/// A server that says everything back.
struct Echo {
    port: u16,
    _serving: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                open.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Self {
            port,
            _serving: serving,
        }
    }
}

async fn connect(proxy: &TcpProxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap()
}

async fn says_back(stream: &mut TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut back = vec![0; word.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, word.as_bytes());
}

#[tokio::test]
async fn what_goes_in_comes_out_and_an_end_travels_on() {
    let echo = Echo::start().await;
    let proxy = TcpProxy::to(echo.port).unwrap();
    let mut stream = connect(&proxy).await;
    let large = "x".repeat(300_000);
    let (mut from, mut to) = stream.split();
    let mut back = String::new();
    let (sent, read) = tokio::join!(
        async {
            to.write_all(large.as_bytes()).await?;
            to.shutdown().await
        },
        from.read_to_string(&mut back)
    );
    sent.unwrap();
    read.unwrap();
    assert_eq!(back, large);
    drop(stream);
    wait_until(Duration::from_secs(5), "nothing is open", || async {
        proxy.open() == 0
    })
    .await;
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_what_comes_until_it_resumes() {
    let echo = Echo::start().await;
    let proxy = TcpProxy::to(echo.port).unwrap();
    let mut stream = connect(&proxy).await;
    says_back(&mut stream, "hello").await;
    proxy.cut();
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // The reset may meet the newcomer while it connects or while it reads.
    if let Ok(mut newcomer) = TcpStream::connect(("127.0.0.1", proxy.port())).await {
        assert!(newcomer.read(&mut [0]).await.is_err());
    }
    proxy.resume();
    says_back(&mut connect(&proxy).await, "again").await;
    proxy.cut_once();
    says_back(&mut connect(&proxy).await, "and again").await;
}

#[tokio::test]
async fn a_black_hole_is_silent_and_gives_back_what_it_held() {
    let echo = Echo::start().await;
    let proxy = TcpProxy::to(echo.port).unwrap();
    let mut stream = connect(&proxy).await;
    says_back(&mut stream, "hello").await;
    proxy.black_hole();
    stream.write_all(b"x").await.unwrap();
    assert!(tokio::time::timeout(SHORT, stream.read_u8()).await.is_err());
    proxy.resume();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_delay_counts_in_both_directions() {
    let echo = Echo::start().await;
    let proxy = TcpProxy::to(echo.port).unwrap();
    let mut stream = connect(&proxy).await;
    proxy.delay(SHORT);
    let waited = ratebox_kit::Stopwatch::start();
    says_back(&mut stream, "slow").await;
    assert!(waited.elapsed() >= 2 * SHORT);
}

#[tokio::test]
async fn an_address_is_rewritten_to_the_proxy() {
    let proxy = TcpProxy::to(1).unwrap();
    let port = proxy.port();
    for (from, to) in [
        (
            "redis://127.0.0.1:6379",
            format!("redis://127.0.0.1:{port}"),
        ),
        (
            "redis://127.0.0.1:6379/2",
            format!("redis://127.0.0.1:{port}/2"),
        ),
        (
            "postgres://a@127.0.0.1:5432/b",
            format!("postgres://a@127.0.0.1:{port}/b"),
        ),
    ] {
        assert_eq!(proxy.url(from), to);
    }
}
