//! Two real processes over one server: this test binary once more, which reads and changes keys as
//! it is told on its standard input. The rows of the origin lie on the server, too.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join, join_all, try_join_all};
use ratebox_cache::{Cache, Tier, ValkeyTier};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_testkit::{RedisServer, unique_name, wait_until};
use ratebox_valkey::{Error as ValkeyError, Settings, Valkey};
use tokio::sync::oneshot;

use crate::ground::{SOON, setting, steady};

const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

/// What tells the child that it is one: address and prefix.
const PLACE: &str = "RATEBOX_TEST_CACHE_PLACE";

/// Begins what the child answers, among what the test harness prints.
const ANSWER: &str = "> ";

// === The process, from outside ===

/// A process with a cache.
struct Process {
    child: Child,
    input: Mutex<ChildStdin>,
    asked: Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>>,
    next: AtomicU64,
}

impl Process {
    /// Starts one and waits until it hears the server.
    async fn start(url: &str, prefix: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::a_process_of_the_other_tests"])
            .args(["--ignored", "--nocapture"])
            .env(PLACE, format!("{url} {prefix}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = Mutex::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        let asked: Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>> = Arc::default();
        let answered = Arc::clone(&asked);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Some((id, answer)) =
                    line.strip_prefix(ANSWER).and_then(|it| it.split_once(' '))
                else {
                    continue;
                };
                let asker = answered.lock().unwrap().remove(&id.parse::<u64>().unwrap());
                let _ = asker.unwrap().send(answer.to_owned());
            }
            // Who still waits is told that the process is gone.
            answered.lock().unwrap().clear();
        });
        let process = Self {
            child,
            input,
            asked,
            next: AtomicU64::new(0),
        };
        assert_eq!(process.ask("hear").await, "yes");
        process
    }

    /// Has it do something, and returns what it answers.
    async fn ask(&self, what: &str) -> String {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.asked.lock().unwrap().insert(id, answer);
        writeln!(self.input.lock().unwrap(), "{id} {what}").unwrap();
        answered.await.expect("the process is gone")
    }

    async fn read(&self, key: &str, takes_ms: u64) -> u64 {
        let answer = self.ask(&format!("read {key} {takes_ms}")).await;
        answer.parse().expect(&answer)
    }

    /// Writes the next version to the origin, then invalidates.
    async fn write(&self, key: &str) -> u64 {
        let answer = self.ask(&format!("write {key} 0")).await;
        answer.parse().expect(&answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

// === The process, from inside ===

/// How long a change by another process may take to be heard, on a busy machine.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// What the child works with.
struct Inside {
    cache: Cache<str, u64>,
    tier: Tier,
    rows: Valkey,
    prefix: String,
    tasks: Tasks,
}

impl Inside {
    fn open(place: &str) -> Self {
        let (url, prefix) = place.split_once(' ').unwrap();
        let tasks = Tasks::new();
        let valkey = Valkey::lazy(&Settings::new(url)).unwrap();
        let settings = ValkeyTier {
            prefix: format!("{prefix}cache:"),
            ..ValkeyTier::default()
        };
        let tier = Tier::valkey(&valkey, &settings, &tasks).unwrap();
        let builder = Cache::builder("rows", &tier).policy(steady(HOUR));
        Self {
            cache: builder.tasks(&tasks).build().unwrap(),
            tier,
            rows: valkey.separate(),
            prefix: prefix.to_owned(),
            tasks,
        }
    }

    async fn number(&self, command: &str, key: &str) -> Result<u64, ValkeyError> {
        number(&self.rows, command, &format!("{}{key}", self.prefix)).await
    }

    async fn answer(&self, words: &[&str]) -> String {
        let answered = match words {
            ["hear"] => {
                wait_until(SOON, "the tier hears", || async { self.tier.is_watching() }).await;
                return "yes".to_owned();
            }
            ["read", key, takes_ms] => self.read(key, takes_ms.parse().unwrap()).await,
            ["write", key, _] => match self.number("INCR", &format!("row:{key}")).await {
                Ok(version) => {
                    let told = self.cache.invalidate(*key).await;
                    told.map(|()| version).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
            ["crowd", key, readers] => {
                let readers = (0..readers.parse::<u64>().unwrap()).map(|_| self.read(key, 50));
                let read = try_join_all(readers).await;
                read.map(|values| values.into_iter().sum::<u64>())
            }
            words => panic!("{words:?}"),
        };
        answered.map_or_else(|error| error, |number| number.to_string())
    }

    /// Reads through the cache. What changes after the origin was asked is not in its answer.
    async fn read(&self, key: &str, takes_ms: u64) -> Result<u64, String> {
        let (rows, prefix) = (self.rows.clone(), self.prefix.clone());
        let row = format!("{prefix}row:{key}");
        let load = move || async move {
            number(&rows, "INCR", &format!("{prefix}loads")).await?;
            let version = number(&rows, "GET", &row).await?;
            tokio::time::sleep(MS * u32::try_from(takes_ms).unwrap()).await;
            Ok::<_, ValkeyError>(version)
        };
        let read = self.cache.get_or_load(key, load).await;
        read.map(|value| *value.unwrap())
            .map_err(|error| error.to_string())
    }
}

async fn number(valkey: &Valkey, command: &str, key: &str) -> Result<u64, ValkeyError> {
    let mut asked = redis::cmd(command);
    asked.arg(key);
    let number: Option<u64> = valkey.query_as(&asked).await?;
    Ok(number.unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of the other tests of this file"]
async fn a_process_of_the_other_tests() {
    let Ok(place) = std::env::var(PLACE) else {
        return;
    };
    let inside = Arc::new(Inside::open(&place));
    let (lines, mut come) = tokio::sync::mpsc::channel::<String>(1_024);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            lines.blocking_send(line).unwrap();
        }
    });
    while let Some(line) = come.recv().await {
        let inside_here = Arc::clone(&inside);
        inside.tasks.spawn("asked", async move {
            let words: Vec<&str> = line.split(' ').collect();
            let (id, words) = words.split_first().unwrap();
            let answer = inside_here.answer(words).await;
            println!("{ANSWER}{id} {answer}");
        });
    }
}

// === The tests ===

async fn two() -> (Process, Process, String) {
    let url = RedisServer::shared().unwrap().url();
    let prefix = format!("{}:", unique_name("processes"));
    let (a, b) = join(Process::start(url, &prefix), Process::start(url, &prefix)).await;
    (a, b, prefix)
}

/// Asks the server itself.
fn loads(prefix: &str) -> u64 {
    let told = RedisServer::shared()
        .unwrap()
        .command(&["GET", &format!("{prefix}loads")])
        .unwrap();
    told.as_str().map_or(0, |text| text.parse().unwrap())
}

/// What a process answers as soon as it has heard of a change; what its memory had at first may be
/// from before, for that long and no longer.
async fn newest(reader: &Process, key: &str, version: u64) -> u64 {
    let watch = Stopwatch::start();
    loop {
        let read = reader.read(key, 0).await;
        if read >= version || watch.elapsed() > HEARD_WITHIN {
            return read;
        }
        tokio::time::sleep(MS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vk_10_no_value_is_stale_after_deletes_during_loads_of_two_real_processes() {
    let tries = setting("RATEBOX_TEST_CACHE_RACES", 2_000);
    let (a, b, prefix) = two().await;
    let mut stale = 0;
    let keys: Vec<String> = (0..tries).map(|n| n.to_string()).collect();
    for (round, keys) in keys.chunks(200).enumerate() {
        let (reader, writer) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let tries = keys.iter().map(async |key| {
            let load = reader.read(key, 10);
            let change = async {
                tokio::time::sleep(MS * 4).await;
                writer.write(key).await
            };
            let (_, version) = join(load, change).await;
            let newest = newest(reader, key, version);
            let (there, elsewhere) = join(newest, writer.read(key, 0)).await;
            usize::from(there < version || elsewhere < version)
        });
        stale += join_all(tries).await.into_iter().sum::<usize>();
    }
    assert_eq!(stale, 0, "of {tries}");
    // The race was there: many of the first loads were in vain.
    assert!(
        loads(&prefix) > tries + tries / 4,
        "{} loads",
        loads(&prefix)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_misses_over_two_real_processes_cost_one_load() {
    let (a, b, prefix) = two().await;
    let (of_a, of_b) = join(a.ask("crowd k 500"), b.ask("crowd k 500")).await;
    assert_eq!((&*of_a, &*of_b), ("0", "0"));
    assert_eq!(loads(&prefix), 1);
}
