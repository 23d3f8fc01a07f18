//! An origin that answers each request after a fixed time, and notes how long it really took: timers
//! wake late, and this thread has other work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use ratebox_kit::{Stopwatch, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a request's head.
const HEAD_MAX: usize = 8 * 1024;

/// How long each call took.
type Calls = Arc<Mutex<Vec<Duration>>>;

/// A running origin; it ends with its tasks.
pub(super) struct Origin {
    pub(super) address: String,
    calls: Calls,
}

// === impl Origin ===

impl Origin {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) async fn start(takes: Duration, tasks: &Tasks) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let calls = Calls::default();
        let (counted, owner) = (Arc::clone(&calls), tasks.clone());
        tasks.spawn("origin", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                owner.spawn("origin call", async move {
                    // A caller that hangs up ends it.
                    let _ = serve(stream, takes, &counted).await;
                });
            }
        });
        Ok(Self { address, calls })
    }

    /// How long each call since the last look took.
    pub(super) fn calls(&self) -> Vec<Duration> {
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(mut stream: TcpStream, takes: Duration, calls: &Mutex<Vec<Duration>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(HEAD_MAX);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD_MAX || stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let watch = Stopwatch::start();
        tokio::time::sleep(takes).await;
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let path = String::from_utf8_lossy(line);
        let key = path
            .split(' ')
            .nth(1)
            .and_then(|path| path.rsplit('/').next());
        let body = format!(
            "{{\"id\":{},\"text\":\"{}\"}}",
            key.unwrap_or("0"),
            "x".repeat(200)
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(watch.elapsed());
    }
}
