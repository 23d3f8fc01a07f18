//! The published measurements: starts servers of its own, runs the named workloads, and prints
//! one line of JSON a result. `--help` says how; README.md says what is timed.

mod bars;
mod beside;
mod bus;
mod consume;
mod embedded;
mod inputs;
mod meter;
mod proc;
mod report;
mod resp;
mod servers;
mod w1;
mod w2;
mod w3;
mod w4;
mod w5;
mod w6;
mod wcache;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use ratebox_testkit::{Ratebox, RateboxOptions};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::beside::Peers;
use crate::inputs::Message;
use crate::report::Line;
use crate::servers::Servers;

/// The binary's: a library that is measured in this process runs as it does there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "\
usage: ratebox-bench [W1 W2 W3 W4 W5 W6 WCACHE EMB BUS] [--json] [--rounds N] [--seconds S] [--case NAME]
                     [--beside DIR] [--set-up]

  W1         100,000 messages on the bus to rows, answers and acknowledgements
  W2         request to answer over the bus, 1 and 64 at a time
  W3         POST /api/validation/validate, 64 connections, accept = stream and durable
  W4         sagas of five steps, 1 to 256 at a time, on PostgreSQL and SQLite
  W5         events from a commit to a stream: by their sender, by a relay, and a backlog;
             messages handled once
  W6         the cache under 64 readers and a loader of 20 ms, and a crowd for one key
  WCACHE     hits in memory and on the server, limiter, breaker; the cache service under
             5,000 requests a second over 1,000 connections; races of loads and deletes, tags,
             a cut link, a crowd of misses, a breaker's crowd
  EMB        `ratebox up` on SQLite: first verdict, items a second, memory
  BUS        the bus alone: a backlog of 500,000, pick-up at 2,000 a second, lanes, messages
             whose time has come
             (all nine when none is named)
  --json     one JSON object a line in place of tables
  --rounds   how often everything is measured (1)
  --seconds  length of the parts that run for a time (W2 6, W3 10, W4 6, W5 10, W6 20, WCACHE 10, EMB 6)
  --case     of W5 only latency, drain, inbox or dead-rows, of BUS only drain, pickup, lanes or delayed,
             of WCACHE only l1, l1-all, l2, guards, service, races-1p, races-2p, tags, cut-link, crowd
             or half-open
  --beside   a copy of the peers' folder whose setup.sh was run: its servers are used, and its
             peers are measured in the same rounds
  --set-up   Redis rewrites its append-only file from 1 GB on, as docs/Operating-The-Bus.md says for a
             busy bus, and not from 64 MB on; for the peers, too

The binary is that of RATEBOX_BIN, else the one beside this program.";

/// Lines of a log that are shown when something fails.
const LOG_LINES: usize = 20;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    W1,
    W2,
    W3,
    W4,
    W5,
    W6,
    WCache,
    Embedded,
    Bus,
}

const ALL: [Workload; 9] = [
    Workload::W1,
    Workload::W2,
    Workload::W3,
    Workload::W4,
    Workload::W5,
    Workload::W6,
    Workload::WCache,
    Workload::Embedded,
    Workload::Bus,
];

#[derive(Debug)]
struct Options {
    workloads: Vec<Workload>,
    json: bool,
    rounds: u32,
    seconds: Option<u64>,
    case: Option<String>,
    beside: Option<PathBuf>,
    is_set_up: bool,
}

/// What all workloads share.
#[derive(Debug)]
pub(crate) struct Bench {
    servers: Option<Servers>,
    messages: Vec<Message>,
    /// Length of the parts that run for a time, when it was given.
    pub(crate) seconds: Option<u64>,
    /// The only case of W5, WCACHE or BUS that is measured.
    case: Option<String>,
    /// From this size on Redis rewrites its append-only file.
    rewrite_from: &'static str,
    versions: Value,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, [redis_url])) if word == consume::WORD => {
            return ended(consume::main(redis_url));
        }
        Some((word, rest)) if word == w6::WORD => return ended(w6::client::main(rest)),
        Some((word, rest)) if word == wcache::WORD => return ended(wcache::client::main(rest)),
        Some((word, rest)) if word == wcache::node::WORD => return ended(wcache::node::main(rest)),
        Some(_) | None => {}
    }
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("ratebox-bench: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // One thread: the client must not take both cores from what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(until_interrupted(&options)));
    self::ended(ended)
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ratebox-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options {
        workloads: Vec::new(),
        json: false,
        rounds: 1,
        seconds: None,
        case: None,
        beside: None,
        is_set_up: false,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--json" => options.json = true,
            "--rounds" => options.rounds = value()?.parse().context("--rounds needs a number")?,
            "--seconds" => {
                options.seconds = Some(value()?.parse().context("--seconds needs a number")?);
            }
            "--case" => options.case = Some(value()?),
            "--beside" => options.beside = Some(value()?.into()),
            "--set-up" => options.is_set_up = true,
            "--help" | "-h" => return Ok(None),
            name => options.workloads.push(workload(name)?),
        }
    }
    if options.workloads.is_empty() {
        options.workloads = ALL.to_vec();
    }
    Ok(Some(options))
}

fn workload(name: &str) -> Result<Workload> {
    match name.to_ascii_uppercase().as_str() {
        "W1" => Ok(Workload::W1),
        "W2" => Ok(Workload::W2),
        "W3" => Ok(Workload::W3),
        "W4" => Ok(Workload::W4),
        "W5" => Ok(Workload::W5),
        "W6" => Ok(Workload::W6),
        "WCACHE" => Ok(Workload::WCache),
        "EMB" => Ok(Workload::Embedded),
        "BUS" => Ok(Workload::Bus),
        _ => bail!("there is no workload {name}"),
    }
}

/// Ends early, in good order, on Ctrl-C and SIGTERM: dropping the work stops all servers.
async fn until_interrupted(options: &Options) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = measure(options) => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn measure(options: &Options) -> Result<()> {
    let messages = inputs::messages()?;
    let peers = options.beside.as_deref();
    let peers = peers
        .map(|folder| Peers::start(folder, options.seconds))
        .transpose()?;
    let needs_servers = options.workloads.iter().any(|it| *it != Workload::Embedded);
    let servers = match &peers {
        Some(peers) => Some(Servers::of(peers)?),
        None => needs_servers.then(Servers::start).transpose()?,
    };
    let rewrite_from = if options.is_set_up {
        servers::BUSY_REWRITE_FROM
    } else {
        servers::REWRITE_FROM
    };
    if let Some(servers) = &servers {
        servers.rewrite_from(rewrite_from)?;
    }
    let versions = versions(servers.as_ref()).await?;
    let bench = Bench {
        servers,
        messages,
        seconds: options.seconds,
        case: options.case.clone(),
        rewrite_from,
        versions,
    };
    let mut all = Vec::new();
    for round in 1..=options.rounds {
        for workload in &options.workloads {
            let lines = Box::pin(bench.round(*workload, round, peers.as_ref())).await?;
            if options.json {
                lines.iter().for_each(|line| println!("{line}"));
            }
            all.extend(lines);
        }
    }
    if !options.json {
        print!("{}", report::table(&all));
    }
    eprint!("{}", bars::judge(&all));
    Ok(())
}

impl Bench {
    /// One round of a workload: ours and the peers', in turns the first.
    async fn round(
        &self,
        workload: Workload,
        round: u32,
        peers: Option<&Peers>,
    ) -> Result<Vec<Value>> {
        let theirs = || peers.map_or(Vec::new(), |peers| peers.run(workload, round));
        if round % 2 == 1 {
            let ours = self.ours(workload, round).await?;
            Ok([ours, theirs()].concat())
        } else {
            let theirs = theirs();
            Ok([theirs, self.ours(workload, round).await?].concat())
        }
    }

    async fn ours(&self, workload: Workload, round: u32) -> Result<Vec<Value>> {
        eprintln!("… ratebox {workload:?}, round {round}");
        let mut lines = Vec::new();
        match workload {
            Workload::W1 => {
                self.warm_up(round).await?;
                for case in w1::CASES {
                    lines.push(w1::run(self, case).await.context(case.name)?);
                }
            }
            Workload::W2 => {
                self.warm_up(round).await?;
                lines = w2::run(self).await?;
            }
            Workload::W3 => {
                if round == 1 {
                    Box::pin(w3::run(self, w3::Accept::Durable))
                        .await
                        .context("warm-up")?;
                }
                for accept in w3::CASES {
                    lines.push(
                        Box::pin(w3::run(self, accept))
                            .await
                            .with_context(|| format!("{accept:?}"))?,
                    );
                }
            }
            Workload::W4 => {
                for clients in w4::POSTGRES {
                    let line = w4::postgres(self, clients).await;
                    lines.push(line.with_context(|| format!("PostgreSQL, {clients}"))?);
                }
                for clients in w4::SQLITE {
                    let line = w4::sqlite(self, clients).await;
                    lines.push(line.with_context(|| format!("SQLite, {clients}"))?);
                }
            }
            Workload::W5 => {
                for case in w5::CASES.into_iter().filter(|it| self.wants(it)) {
                    lines.extend(w5::run(self, case).await.context(case)?);
                }
            }
            Workload::W6 => {
                for case in w6::CASES {
                    lines.push(w6::run(self, case).await.context(case)?);
                }
            }
            Workload::WCache => {
                for case in wcache::CASES.into_iter().filter(|it| self.wants(it)) {
                    lines.extend(wcache::run(self, case).await.context(case)?);
                }
            }
            Workload::Embedded => lines.push(embedded::run(self).await?),
            Workload::Bus => {
                for case in bus::CASES.into_iter().filter(|it| self.wants(it)) {
                    lines.extend(bus::run(self, case).await.context(case)?);
                }
            }
        }
        let finished = lines.into_iter().map(|line| self.finished(line, round));
        finished.collect()
    }

    fn wants(&self, case: &str) -> bool {
        self.case.as_deref().is_none_or(|only| only == case)
    }

    /// A new server makes its WAL files and maps its memory first; one that is in use has both.
    async fn warm_up(&self, round: u32) -> Result<()> {
        if round == 1 {
            w1::run(self, w1::CASES[0]).await.context("warm-up")?;
        }
        Ok(())
    }

    fn finished(&self, line: Line, round: u32) -> Result<Value> {
        let line = line
            .with("run", round)
            .with("versions", self.versions.clone());
        Ok(serde_json::to_value(line)?)
    }

    /// The servers.
    ///
    /// # Errors
    /// When a workload asks for servers that it did not announce.
    pub(crate) fn servers(&self) -> Result<&Servers> {
        self.servers.as_ref().context("no servers were started")
    }

    /// The records.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The end of what a process of ours logged.
    pub(crate) fn tail_of(&self, process: &Ratebox) -> String {
        let logs = process.logs();
        let lines: Vec<&str> = logs.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }
}

/// What was measured, with what.
async fn versions(servers: Option<&Servers>) -> Result<Value> {
    let told = RateboxOptions::new("--version").run()?.stdout;
    let ratebox = told.trim().trim_start_matches("ratebox ").to_owned();
    let mut versions = match servers {
        Some(servers) => servers.versions().await?,
        None => json!({}),
    };
    versions["ratebox"] = ratebox.into();
    if let Ok(output) = Command::new("rustc").arg("--version").output() {
        let text = String::from_utf8_lossy(&output.stdout);
        versions["rustc"] = text.split(' ').nth(1).unwrap_or_default().into();
    }
    Ok(versions)
}
