//! Runs the peers' scripts between our own measurements, as their `run_all.sh` does: the same
//! servers, the same preparation, the same round.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::Workload;

/// Seconds after which a peer is given up.
const PEER_LIMIT_S: &str = "300";
/// Messages that the slow peers of W1 process, unless `W1_SLOW` says otherwise.
const SLOW_MESSAGES: &str = "20000";
/// Messages of BUS: as many as ours, as many as a peer drains in good time, and as many as one
/// handles at all.
const FAST_MESSAGES: &str = "500000";
const BUS_MESSAGES: &str = "100000";
const SMALL_BACKLOG: &str = "7000";
/// Starts the servers where they do not run, and prints the environment of the scripts.
const START: &str = r#"
set -eu
here="$1"; . "$here/lib/env.sh"
"$here/servers.sh" start >/dev/null
. "$BENCH_ENV/run/env"
env -0
"#;

/// A copy of the peers' folder whose `setup.sh` was run, with its servers up.
#[derive(Debug)]
pub(crate) struct Peers {
    folder: PathBuf,
    environment: HashMap<String, String>,
    started_here: bool,
    /// Length of the parts that run for a time, when it was given.
    seconds: Option<u64>,
}

/// One peer of a workload.
struct Peer {
    /// Arguments of `lib/prep.py`.
    prepare: Vec<String>,
    /// What fills the peer's own queue, before it is measured.
    preload: Option<Vec<String>>,
    /// Whether the rows of W1 are counted afterwards.
    check_rows: bool,
    command: Vec<String>,
    /// What its line is to be called, where the script gives it the name of another one.
    name: Option<&'static str>,
}

/// Restate as its script has it, but for the number of clients.
const RESTATE_AT: &str = "sed \"s/CONC = 32/CONC = $W4_CONC/\" w4/restate.mjs >w4/restate-at.mjs && \
    exec node w4/restate-at.mjs";

impl Peers {
    /// Starts the peers' servers, unless they run already.
    ///
    /// # Errors
    /// When the folder is not that of the peers, or its servers do not start.
    pub(crate) fn start(folder: &Path, seconds: Option<u64>) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("there is no folder {}", folder.display()))?;
        let bench_env = std::env::var_os("BENCH_ENV")
            .map_or_else(|| std::env::temp_dir().join("bench-env"), PathBuf::from);
        ensure!(
            bench_env.join("py").is_dir(),
            "{} is empty: run {}/setup.sh first",
            bench_env.display(),
            folder.display()
        );
        let started_here = !bench_env.join("run").join("env").exists();
        let output = Command::new("bash")
            .args(["-c", START, "start"])
            .arg(&folder)
            .env("BENCH_ENV", &bench_env)
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("{}/servers.sh does not start", folder.display());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let variables = text.split('\0').filter_map(|line| line.split_once('='));
        Ok(Self {
            environment: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            folder,
            started_here,
            seconds,
        })
    }

    /// One variable of the scripts' environment.
    ///
    /// # Errors
    /// When the scripts did not set it.
    pub(crate) fn variable(&self, name: &str) -> Result<&str> {
        let value = self.environment.get(name).map(String::as_str);
        value.with_context(|| format!("the peers' servers.sh does not set {name}"))
    }

    /// Measures every peer of a workload once; a peer that fails is named and left out.
    pub(crate) fn run(&self, workload: Workload, round: u32) -> Vec<Value> {
        let mut lines = Vec::new();
        for peer in self.peers_of(workload) {
            match self.measure(&peer, round) {
                Ok(measured) => lines.extend(measured),
                Err(error) => eprintln!("failed: {}: {error:#}", peer.command.join(" ")),
            }
        }
        lines
    }

    fn measure(&self, peer: &Peer, round: u32) -> Result<Vec<Value>> {
        eprintln!("… {}", peer.command.join(" "));
        let python = self.variable("BENCH_PY")?.to_owned();
        let prepare = [python.clone(), "lib/prep.py".to_owned()];
        self.call(&[&prepare[..], &peer.prepare].concat())?;
        if let Some(preload) = &peer.preload {
            self.call(preload)?;
        }
        let run = round.to_string();
        let mut command = vec![
            "timeout",
            PEER_LIMIT_S,
            &python,
            "lib/measure.py",
            "--run",
            &run,
        ];
        if peer.check_rows {
            command.extend(["--check", "w1"]);
        }
        command.push("--");
        command.extend(peer.command.iter().map(String::as_str));
        let told = self.call(&command)?;
        let lines = told.lines().filter(|line| line.starts_with('{'));
        let named = |line: &str| {
            let mut line: Value = serde_json::from_str(line)?;
            if let Some(name) = peer.name {
                line["peer"] = name.into();
            }
            Ok(line)
        };
        lines.map(named).collect()
    }

    /// Runs a program in the peers' folder and returns what it printed.
    fn call<T: AsRef<str>>(&self, words: &[T]) -> Result<String> {
        let mut words = words.iter().map(AsRef::as_ref);
        let program = words.next().context("a command has a program")?;
        let output = Command::new(program)
            .args(words)
            .current_dir(&self.folder)
            .env_clear()
            .envs(&self.environment)
            .stderr(Stdio::piped())
            .output()
            .with_context(|| format!("could not start {program}"))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            bail!("{}\n{}", output.status, told.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn peers_of(&self, workload: Workload) -> Vec<Peer> {
        match workload {
            Workload::W1 => self.bulk(),
            Workload::W2 => self.interactive(),
            Workload::W3 => self.http(),
            Workload::W4 => self.sagas(),
            Workload::W5 => self.outbox(),
            Workload::W6 => self.cache(),
            Workload::WCache => self.cache_parts(),
            Workload::Embedded => Vec::new(),
            Workload::Bus => self.bus(),
        }
    }

    fn bulk(&self) -> Vec<Peer> {
        let slow = std::env::var("W1_SLOW").unwrap_or_else(|_| SLOW_MESSAGES.to_owned());
        let worker = |mode: &str| self.python(&["w1/py_worker.py", "--mode", mode]);
        let mut seed = worker("seed");
        seed.prepare = words(&["stream", &slow]);
        seed.command.extend(words(&["--workers", "1"]));
        let checked = |mut peer: Peer| {
            peer.check_rows = true;
            peer
        };
        let streamed = |mut peer: Peer| {
            peer.prepare = words(&["stream"]);
            peer
        };
        let mut queue = node(&["w1/bullmq.mjs", "work"]);
        queue.preload = Some(words(&["node", "w1/bullmq.mjs", "preload"]));
        vec![
            checked(streamed(worker("unnest"))),
            checked(streamed(worker("copy"))),
            checked(queue),
            seed,
        ]
    }

    /// The bus alone. These peers are kept here, beside this program.
    fn bus(&self) -> Vec<Peer> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let script = |name: &str| here.join(name).display().to_string();
        let built = |name: &str| self.built(name);
        let counted = |count: &str, words: &[&str]| {
            let count = format!("BUS_MESSAGES={count}");
            let words = words.iter().map(|word| (*word).to_owned());
            ["env".to_owned(), count].into_iter().chain(words).collect()
        };
        let own = |count: &str, words: &[&str]| Peer {
            preload: Some(counted(count, &[words, &["preload"]].concat())),
            command: counted(count, &[words, &["work"]].concat()),
            ..Peer::of(&[])
        };
        let mut streamed = self.python(&[&script("preload.py"), FAST_MESSAGES]);
        streamed.preload = Some(std::mem::take(&mut streamed.command));
        streamed.command = counted(FAST_MESSAGES, &[&built("bus-ruststream"), "run"]);
        vec![
            streamed,
            own(BUS_MESSAGES, &[&built("bus-bullmq-official")]),
            own(BUS_MESSAGES, &["node", &script("bullmq.mjs")]),
            own(SMALL_BACKLOG, &[&built("bus-apalis")]),
        ]
    }

    /// A program that `peers/setup.sh` built.
    fn built(&self, name: &str) -> String {
        let folder = self.environment.get("BENCH_ENV").map_or("", String::as_str);
        format!("{folder}/target/release/{name}")
    }

    fn interactive(&self) -> Vec<Peer> {
        vec![
            self.python(&["w2/py.py", "seed"]),
            self.python(&["w2/py.py", "gather"]),
            node(&["w2/bullmq.mjs"]),
        ]
    }

    fn http(&self) -> Vec<Peer> {
        let mut servers = vec!["fastify", "fastify2", "fastapi", "axum"];
        let strapi = self
            .environment
            .get("BENCH_ENV")
            .is_some_and(|folder| Path::new(folder).join("strapi").is_dir());
        if strapi {
            match self.call(&["bash", "w3/strapi_make.sh"]) {
                Ok(_) => servers.push("strapi"),
                Err(error) => eprintln!("failed: w3/strapi_make.sh: {error:#}"),
            }
        }
        let driver = |server: &&str| self.python(&["w3/http_bench.py", server]);
        servers.iter().map(driver).collect()
    }

    fn sagas(&self) -> Vec<Peer> {
        let python = self.python(&[]).command;
        let at_once = |clients: &str, command: &[String]| Peer {
            command: [
                words(&["env", &format!("W4_CONC={clients}")]),
                command.to_vec(),
            ]
            .concat(),
            ..Peer::of(&[])
        };
        let of = |script: &[&str]| [python.clone(), words(script)].concat();
        let (sagaz, dbos) = (
            of(&["w4/sagaz_saga.py", "postgres"]),
            of(&["w4/dbos_saga.py"]),
        );
        let restate = words(&["node", "w4/restate.mjs"]);
        let restate_at = words(&["bash", "-c", RESTATE_AT]);
        let alone = [words(&["env", "W4_N=500"]), restate_at.clone()].concat();
        let steno = [self.built("saga-steno")];
        let named = |name, peer| Peer {
            name: Some(name),
            ..peer
        };
        vec![
            at_once("32", &sagaz),
            named("sagaz-postgres-c64", at_once("64", &sagaz)),
            at_once("32", &dbos),
            at_once("64", &dbos),
            at_once("32", &restate),
            named("restate-c64", at_once("64", &restate_at)),
            named("restate-c1", at_once("1", &alone)),
            at_once("32", &steno),
            at_once("64", &steno),
        ]
    }

    fn outbox(&self) -> Vec<Peer> {
        let peer = |name: &str, part: &str| self.python(&["w5/outbox.py", name, part]);
        vec![
            peer("sagaz-opt", "latency"),
            peer("sql", "latency"),
            peer("sql-notify", "latency"),
            peer("sagaz", "drain"),
            peer("sql", "drain"),
        ]
    }

    fn cache(&self) -> Vec<Peer> {
        let timed = |command: &[String]| {
            let seconds = self.seconds.unwrap_or(crate::w6::SECONDS);
            let set = words(&[
                "env",
                &format!("W6_SECS={seconds}"),
                "BENCH_NODE=node-bento",
            ]);
            Peer {
                command: [set, command.to_vec()].concat(),
                ..Peer::of(&[])
            }
        };
        let python = |peer: &str| timed(&self.python(&["w6/cache.py", peer]).command);
        let node = |kind: &str| timed(&words(&["node", "w6/bentocache.mjs", kind]));
        vec![node("l1l2"), node("l2"), python("cashews"), python("aside")]
    }

    /// Hits alone, then races and crowds. These peers are kept here, beside this program.
    fn cache_parts(&self) -> Vec<Peer> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let script = |name: &str| here.join(name).display().to_string();
        let node = |name: &str| Peer::of(&["env", "BENCH_NODE=node-bento", "node", &script(name)]);
        vec![
            node("bentocache.mjs"),
            self.python(&[&script("cashews_hits.py")]),
            node("bentocache_races.mjs"),
        ]
    }

    fn python(&self, arguments: &[&str]) -> Peer {
        let python = self.environment.get("BENCH_PY").map_or("python3", |it| it);
        Peer::of(&[&[python], arguments].concat())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        if self.started_here
            && let Err(error) = self.call(&["bash", "servers.sh", "stop"])
        {
            eprintln!("the peers' servers may still run: {error:#}");
        }
    }
}

impl Peer {
    fn of(command: &[&str]) -> Self {
        Self {
            prepare: Vec::new(),
            preload: None,
            check_rows: false,
            name: None,
            command: words(command),
        }
    }
}

fn node(arguments: &[&str]) -> Peer {
    Peer::of(&[&["node"], arguments].concat())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
