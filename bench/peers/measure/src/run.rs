//! What the Rust peers of BUS print: rate, their own CPU, that of Redis (`REDIS_PID`), and the
//! bytes of Redis's data a message before the run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static RUN: OnceLock<Run> = OnceLock::new();
static DONE: AtomicUsize = AtomicUsize::new(0);

struct Run {
    peer: &'static str,
    messages: usize,
    stored_bytes: f64,
    began: OnceLock<(Instant, f64, f64)>,
}

pub fn messages() -> usize {
    let given = std::env::var("BUS_MESSAGES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

pub fn redis_url() -> String {
    std::env::var("REDIS_URL").expect("REDIS_URL")
}

/// Before anything is read.
pub fn start(peer: &'static str) {
    let messages = messages();
    let run = Run {
        peer,
        messages,
        stored_bytes: dataset_bytes() / messages as f64,
        began: OnceLock::new(),
    };
    assert!(RUN.set(run).is_ok(), "started once");
}

/// Counts a message; the last one ends the process with its line.
pub fn count() {
    let run = RUN.get().expect("started");
    run.began.get_or_init(|| (Instant::now(), own_cpu_s(), redis_cpu_s()));
    if DONE.fetch_add(1, Ordering::Relaxed) + 1 == run.messages {
        std::thread::spawn(finish);
    }
}

fn finish() {
    let run = RUN.get().expect("started");
    let (at, own, redis) = run.began.get().expect("counted");
    let took = at.elapsed().as_secs_f64();
    // The last acknowledgements go out.
    std::thread::sleep(Duration::from_millis(300));
    let each = |seconds: f64| seconds / run.messages as f64 * 1e6;
    println!(
        "{{\"workload\":\"BUS\",\"peer\":\"{}\",\"case\":\"drain\",\"messages\":{},\"msg_per_s\":{:.0},\
         \"client_cpu_us\":{:.2},\"server_cpu_us\":{:.2},\"stored_bytes\":{:.0},\"left_bytes\":{:.0}}}",
        run.peer,
        run.messages,
        run.messages as f64 / took,
        each(own_cpu_s() - own),
        each(redis_cpu_s() - redis),
        run.stored_bytes,
        dataset_bytes() / run.messages as f64,
    );
    std::process::exit(0);
}

fn own_cpu_s() -> f64 {
    cpu_s("self")
}

fn redis_cpu_s() -> f64 {
    cpu_s(&std::env::var("REDIS_PID").expect("REDIS_PID"))
}

fn cpu_s(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn dataset_bytes() -> f64 {
    let port = std::env::var("REDIS_PORT").expect("REDIS_PORT");
    let mut redis = TcpStream::connect(format!("127.0.0.1:{port}")).expect("Redis");
    redis.write_all(b"INFO memory\r\nQUIT\r\n").expect("sent");
    let mut told = String::new();
    redis.read_to_string(&mut told).expect("an answer");
    let line = told.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0.0)
}
