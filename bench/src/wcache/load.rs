//! An open loop over many connections: each request has its time, whatever became of those before.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ratebox_kit::Stopwatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is sent, and how fast.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// `host:port`.
    pub(super) address: String,
    pub(super) connections: u64,
    pub(super) per_second: u64,
    pub(super) length: Duration,
    /// The path of the n-th request.
    pub(super) path: fn(u64) -> String,
}

/// How long each request took, by its number.
pub(super) type Taken = Vec<(u64, Duration)>;

/// Sends all of it.
///
/// # Errors
/// When a connection fails, or an answer is not 200.
pub(super) async fn run(plan: &Plan) -> Result<Taken> {
    let plan = Arc::new(plan.clone());
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(&plan.address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let watch = Stopwatch::start();
    let mut all = JoinSet::new();
    for (number, stream) in (0..).zip(streams) {
        let plan = Arc::clone(&plan);
        all.spawn(async move { connection(&plan, number, stream, watch).await });
    }
    let mut taken = Taken::new();
    for of_one in all.join_all().await {
        taken.extend(of_one?);
    }
    Ok(taken)
}

async fn connection(
    plan: &Plan,
    first: u64,
    mut stream: TcpStream,
    watch: Stopwatch,
) -> Result<Taken> {
    let mut taken = Taken::new();
    let mut answer = Vec::with_capacity(ANSWER_MAX);
    for number in (first..).step_by(usize::try_from(plan.connections)?) {
        let due = Duration::from_micros(number * 1_000_000 / plan.per_second);
        if due >= plan.length {
            break;
        }
        let now = watch.elapsed();
        let began = match due.checked_sub(now) {
            // The timer may wake late, which is none of the server's time.
            Some(wait) => {
                tokio::time::sleep(wait).await;
                watch.elapsed()
            }
            // The answer before is late: this one counts from its own time on.
            None => due,
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\n\r\n",
            (plan.path)(number),
            plan.address
        );
        let asked = ask(&mut stream, request.as_bytes(), &mut answer);
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        answered.context("no answer")??;
        taken.push((number, watch.elapsed().saturating_sub(began)));
    }
    Ok(taken)
}

/// One request, and its answer to the last byte.
async fn ask(stream: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(request).await?;
    answer.clear();
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "the service hung up");
        if let Some(length) = length(answer)?
            && answer.len() >= length
        {
            break;
        }
        ensure!(answer.len() < ANSWER_MAX, "too long an answer");
    }
    let status = answer.get(9..12).unwrap_or_default();
    ensure!(
        status == b"200",
        "{}",
        String::from_utf8_lossy(answer)
            .lines()
            .next()
            .unwrap_or_default()
    );
    Ok(())
}

/// Bytes of the whole answer, once its head is there.
fn length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_lowercase();
    let field = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = field
        .context("an answer without its length")?
        .trim()
        .parse()?;
    Ok(Some(end + 4 + body))
}
