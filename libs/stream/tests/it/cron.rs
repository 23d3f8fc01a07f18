//! Jobs by the calendar: once over all processes, made up for after an outage, on every log.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Db, SqliteSettings};
use ratebox_kit::{Clock, Tasks, Timestamp};
use ratebox_stream::cron::{CatchUp, Cron, Firings, Job};
use ratebox_stream::handler::{Meta, NoEffects, Router};
use ratebox_stream::testing::TestBus;
use ratebox_stream::{Admin, EntryId, MemoryLog, RedisLog, SqliteLog, StreamName};
use ratebox_testkit::{RedisOptions, RedisServer, TempDir, unique_name, wait_until};
use ratebox_valkey::{Settings, Valkey};

const NOON: &str = "2026-05-01T12:00:00Z";

/// Two handles on one log, as two processes have them.
struct Pair {
    name: &'static str,
    firings: [Arc<dyn Firings>; 2],
    admin: Arc<dyn Admin>,
    clock: Clock,
    stream: String,
    _folder: Option<TempDir>,
}

impl Pair {
    fn new<L: Firings + Admin + 'static>(
        name: &'static str,
        clock: &Clock,
        first: Arc<L>,
        second: Arc<L>,
    ) -> Self {
        Self {
            name,
            admin: first.clone(),
            firings: [first, second],
            clock: clock.clone(),
            stream: unique_name("cron"),
            _folder: None,
        }
    }

    fn job(&self, expression: &str) -> Job {
        Job::new("job", expression, "UTC", &self.stream, "tick").unwrap()
    }

    fn cron(&self, process: usize, job: Job) -> Cron {
        Cron::new(Arc::clone(&self.firings[process]), self.clock.clone()).job(job)
    }

    /// The moments of what is on the stream, as the clock shows them.
    async fn moments(&self) -> Vec<String> {
        let stream = StreamName::new(&self.stream);
        let entries = self.admin.peek(&stream, EntryId::MIN, 1_000).await.unwrap();
        let moment = |entry: &ratebox_stream::Entry| {
            let moment = entry.field("cron-moment").unwrap();
            assert_eq!(&entry.field("type").unwrap()[..], b"tick");
            let moment = std::str::from_utf8(moment).unwrap();
            assert_eq!(entry.message_id(), format!("cron/job/{moment}"));
            moment.trim_start_matches("2026-05-01T").to_owned()
        };
        entries.iter().map(moment).collect()
    }
}

fn noon() -> Clock {
    Clock::manual(NOON.parse().unwrap())
}

async fn pairs() -> Vec<Pair> {
    let clock = noon();
    let log = Arc::new(MemoryLog::new(clock.clone()));
    let memory = Pair::new("memory", &clock, log.clone(), log);

    let clock = noon();
    let folder = TempDir::new().unwrap();
    let file = SqliteSettings::new(folder.path().join("bus.db"));
    let mut files = Vec::new();
    for _ in 0..2 {
        let db = Db::sqlite(&file).unwrap();
        files.push(Arc::new(SqliteLog::open(db, clock.clone()).await.unwrap()));
    }
    let mut sqlite = Pair::new("SQLite", &clock, files.remove(0), files.remove(0));
    sqlite._folder = Some(folder);

    let url = RedisServer::shared().unwrap().url();
    let log = || Arc::new(RedisLog::new(Valkey::lazy(&Settings::new(url)).unwrap()));
    let redis = Pair::new("Redis", &noon(), log(), log());
    vec![memory, sqlite, redis]
}

#[tokio::test]
async fn a_moment_is_fired_once_though_every_process_has_the_job() {
    for pair in pairs().await {
        let crons = [0, 1].map(|process| pair.cron(process, pair.job("* * * * *")));
        for step in 0..40 {
            let order = if step % 2 == 0 { [0, 1] } else { [1, 0] };
            for process in order {
                crons[process].step().await.unwrap();
            }
            pair.clock.advance(Duration::from_secs(7));
        }
        // Noon itself was over when the job was seen first.
        let expected = ["12:01:00Z", "12:02:00Z", "12:03:00Z", "12:04:00Z"];
        assert_eq!(pair.moments().await, expected, "{}", pair.name);
    }
}

#[tokio::test]
async fn two_processes_that_fire_at_the_same_time_append_once() {
    for pair in pairs().await {
        let crons = [0, 1].map(|process| pair.cron(process, pair.job("* * * * * *")));
        for cron in &crons {
            cron.step().await.unwrap();
        }
        let before = pair.moments().await.len();
        for _ in 0..30 {
            pair.clock.advance(Duration::from_secs(1));
            let (first, second) = tokio::join!(crons[0].step(), crons[1].step());
            first.and(second).unwrap();
        }
        let moments = pair.moments().await;
        assert_eq!(moments.len() - before, 30, "{}", pair.name);
        assert!(moments.is_sorted(), "{} {moments:?}", pair.name);
    }
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_as_the_job_says() {
    for (catch_up, expected) in [
        (CatchUp::None, vec![]),
        (CatchUp::Last, vec!["17:00:00Z"]),
        (
            CatchUp::All { max: 3 },
            vec!["15:00:00Z", "16:00:00Z", "17:00:00Z"],
        ),
        (
            CatchUp::All { max: 100 },
            vec![
                "13:00:00Z",
                "14:00:00Z",
                "15:00:00Z",
                "16:00:00Z",
                "17:00:00Z",
            ],
        ),
    ] {
        let clock = Clock::manual(NOON.parse().unwrap());
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let pair = Pair::new("memory", &clock, log.clone(), log);
        let job = || pair.job("0 * * * *").catch_up(catch_up);
        pair.cron(0, job()).step().await.unwrap();
        // Every process is away for five hours and a half.
        pair.clock.advance(Duration::from_secs(5 * 3_600 + 1_800));
        let cron = pair.cron(1, job());
        let next = cron.step().await.unwrap();
        assert_eq!(pair.moments().await, expected, "{catch_up:?}");
        assert_eq!(next, Some(Duration::from_secs(1_800)));
        pair.clock.advance(Duration::from_secs(1_800));
        cron.step().await.unwrap();
        assert_eq!(
            pair.moments().await.len(),
            expected.len() + 1,
            "{catch_up:?}"
        );
    }
}

#[tokio::test]
async fn a_job_counts_from_its_first_sight_not_from_the_last_restart() {
    for pair in pairs().await {
        // Restarted every forty seconds, across every full minute.
        for _ in 0..8 {
            let job = pair.job("* * * * *").catch_up(CatchUp::All { max: 100 });
            pair.cron(0, job).step().await.unwrap();
            pair.clock.advance(Duration::from_secs(40));
        }
        assert_eq!(pair.moments().await.len(), 4, "{}", pair.name);
    }
}

#[tokio::test]
async fn jitter_delays_a_moment_and_keeps_the_order() {
    let clock = Clock::manual(NOON.parse().unwrap());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    let pair = Pair::new("memory", &clock, log.clone(), log);
    let job = pair.job("* * * * *").jitter(Duration::from_secs(240));
    let cron = pair.cron(0, job.catch_up(CatchUp::All { max: 100 }));
    let mut late = 0;
    for _ in 0..1_200 {
        cron.step().await.unwrap();
        pair.clock.advance(Duration::from_secs(1));
        let fired = pair.moments().await.len();
        let passed = pair
            .clock
            .now()
            .duration_since(NOON.parse().unwrap())
            .as_secs()
            / 60;
        late += usize::from(fired < usize::try_from(passed).unwrap());
    }
    let moments = pair.moments().await;
    assert!(moments.len() >= 15, "{moments:?}");
    assert!(moments.is_sorted() && late > 100, "{late} {moments:?}");
}

#[tokio::test]
async fn a_job_on_a_test_bus_fires_as_the_clock_moves() {
    async fn tick(meta: Meta) -> NoEffects {
        assert!(meta.header("cron-moment").is_some());
        NoEffects
    }
    let job = Job::new("nightly", "30 2 * * *", "Europe/Berlin", "ticks", "tick").unwrap();
    let start: Timestamp = "2026-03-27T12:00:00Z".parse().unwrap();
    let bus = TestBus::starting_at(start).job(job);
    let bus = bus.worker("ticks", "g", Router::new().on("tick", tick));
    bus.run_until_idle().await;
    // Three nights, in one of which half past two does not exist.
    bus.advance(Duration::from_secs(3 * 86_400)).await;
    let ids: Vec<String> = bus
        .on("ticks")
        .await
        .iter()
        .map(|it| it.message_id().into_owned())
        .collect();
    let expected = [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
    ];
    assert_eq!(ids, expected.map(|moment| format!("cron/nightly/{moment}")));
}

const PROCESS_URL: &str = "RATEBOX_TEST_CRON_URL";

/// A process of its own for the test below; nothing when it runs with the others.
#[tokio::test]
async fn one_process_with_a_job_of_every_second() {
    let Ok(url) = std::env::var(PROCESS_URL) else {
        return;
    };
    let log = Arc::new(RedisLog::new(Valkey::lazy(&Settings::new(url)).unwrap()));
    let job = Job::new("job", "* * * * * *", "UTC", "ticks", "tick").unwrap();
    let job = job.catch_up(CatchUp::All { max: 100 });
    let tasks = Tasks::new();
    Cron::new(log, Clock::system())
        .job(job)
        .run(&tasks.shutdown())
        .await;
}

fn process(url: &str) -> Child {
    let name = "cron::one_process_with_a_job_of_every_second";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name]).env(PROCESS_URL, url);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_process_costs_no_moment_and_doubles_none() {
    let server = RedisServer::start(RedisOptions::default()).unwrap();
    let log = RedisLog::new(Valkey::lazy(&Settings::new(server.url())).unwrap());
    let stream = StreamName::new("ticks");
    let count = || async {
        let entries = log.peek(&stream, EntryId::MIN, 1_000).await.unwrap();
        entries.len()
    };
    let mut running = vec![process(&server.url()), process(&server.url())];
    let patience = Duration::from_secs(60);
    wait_until(patience, "the first moments", || async {
        count().await >= 2
    })
    .await;
    for round in 1..=3 {
        // The older one goes with SIGKILL, wherever it is; a new one takes its place.
        let mut killed = running.remove(0);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let wanted = 2 + round * 2;
        wait_until(patience, "moments go on", || async {
            count().await >= wanted
        })
        .await;
        running.push(process(&server.url()));
    }
    for mut process in running {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let entries = log.peek(&stream, EntryId::MIN, 1_000).await.unwrap();
    let moment = |entry: &ratebox_stream::Entry| {
        let text = std::str::from_utf8(entry.field("cron-moment").unwrap()).unwrap();
        text.parse::<Timestamp>().unwrap().as_second()
    };
    let moments: Vec<i64> = entries.iter().map(moment).collect();
    let without_gap: Vec<i64> = (moments[0]..=moments[moments.len() - 1]).collect();
    assert_eq!(moments, without_gap);
}
