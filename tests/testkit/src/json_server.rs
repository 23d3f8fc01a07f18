//! A server on loopback that answers every GET with one JSON document, and counts who asked.
//!
//! It runs on a thread of its own, so that it keeps working while a test blocks.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::free_port;

/// Longest head of a request that is read.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// How long a client may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct JsonServer {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<(u16, String)>,
    asked: AtomicU64,
    ended: AtomicBool,
}

// === impl JsonServer ===

impl JsonServer {
    /// Starts to answer `document`.
    ///
    /// # Errors
    /// When the thread or the listener cannot be made.
    pub fn start(document: &Value) -> Result<Self> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared {
            answer: Mutex::new((200, document.to_string())),
            asked: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("json server".to_owned())
            .spawn(move || for_thread.serve(&listener))?;
        Ok(Self {
            port,
            shared,
            thread: Some(thread),
        })
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An address on it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/jwks.json", self.port)
    }

    /// Answers this from now on.
    pub fn serve(&self, document: &Value) {
        self.answer(200, &document.to_string());
    }

    /// Answers this status and text from now on.
    ///
    /// # Panics
    /// When the thread of the server did.
    pub fn answer(&self, status: u16, text: &str) {
        let mut answer = self.shared.answer.lock().expect("the server goes on");
        *answer = (status, text.to_owned());
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for JsonServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            // A client that went away is its own business.
            let _ = stream.and_then(|stream| self.one(stream));
        }
    }

    fn one(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|it| it == b"\r\n\r\n") {
            let length = stream.read(&mut piece)?;
            if length == 0 || head.len() > HEAD_MAX_BYTES {
                return Ok(());
            }
            head.extend_from_slice(&piece[..length]);
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (status, text) = match self.answer.lock() {
            Ok(answer) => answer.clone(),
            Err(_) => return Ok(()),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(answer.as_bytes())
    }
}
