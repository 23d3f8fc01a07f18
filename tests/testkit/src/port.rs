//! Ports that stay ours.
//!
//! Asking the system for port 0 and closing it again hands the port to whoever connects next, which
//! is fatal to a server that is killed and must come back on its port. So ports come from below the
//! range that the system gives to outgoing connections, and each is reserved by a locked file until
//! this process ends.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// First port handed out; below 32768, where Linux starts with outgoing connections.
const FIRST: u16 = 12_000;
/// How many ports there are to choose from.
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A loopback port that nobody listens on, and that no other test process gets before this one ends.
///
/// # Panics
/// When all 20,000 are taken.
pub fn free_port() -> u16 {
    let start = u16::from_le_bytes(ratebox_kit::id::random_bytes::<2>());
    let _ = NEXT.compare_exchange(0, start % COUNT, Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if reserve(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

fn reserve(port: u16) -> bool {
    let Ok(file) = lock_file(port) else {
        return true; // Without a place for lock files the port is merely probably free.
    };
    if file.try_lock().is_err() {
        return false;
    }
    RESERVED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push(file);
    true
}

fn lock_file(port: u16) -> std::io::Result<File> {
    let folder: PathBuf = std::env::temp_dir().join("ratebox-ports");
    std::fs::create_dir_all(&folder)?;
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once() {
        let first = free_port();
        assert_ne!(first, free_port());
        assert!((FIRST..FIRST + COUNT).contains(&first));
    }
}
