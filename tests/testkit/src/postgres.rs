//! A PostgreSQL server of one's own, with fsync on, that can be killed, frozen and brought back.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Ending, Process};
use crate::small_disk::SmallDisk;
use crate::wait::block_until;
use crate::{TempDir, free_port, tools};

/// Time to answer after a start; recovery after a crash is part of it.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Time to write a checkpoint and end.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Time for killed processes to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What the server logs when it accepts sessions; its messages are in English (locale C).
const READY: &str = "ready to accept connections";

/// How to start a server. The default: fsync and synchronous_commit on, all else as PostgreSQL has it.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    settings: Vec<(String, String)>,
    disk_bytes: Option<u64>,
}

impl PostgresOptions {
    /// Any setting of postgresql.conf, such as `max_connections`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All its files on a disk of their own of so many bytes (a new server takes some 40 MiB),
    /// which outlives its restarts. See [`PostgresServer::fill_disk`]. Needs `unshare` and
    /// `nsenter`, as root or where users may have name spaces.
    #[must_use]
    pub fn small_disk(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }
}

/// A running server on a loopback port of its own; gone on drop, with its data.
#[derive(Debug)]
pub struct PostgresServer {
    options: PostgresOptions,
    bin: PathBuf,
    owner: Option<Account>,
    port: u16,
    process: Option<Process>,
    disk: Option<SmallDisk>,
    folder: TempDir,
}

impl PostgresServer {
    /// Makes a cluster, starts a server on it and waits until it answers.
    ///
    /// # Errors
    /// When the programs are missing (the message says what to install) or do not answer.
    pub fn start() -> Result<Self> {
        Self::start_with(PostgresOptions::default())
    }

    /// The same with settings.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub fn start_with(options: PostgresOptions) -> Result<Self> {
        let folder = TempDir::new()?;
        let owner = Account::for_server(folder.path())?;
        let bin = tools::postgres_bin()?;
        let mut server = Self {
            options,
            bin,
            owner,
            port: free_port(),
            process: None,
            disk: None,
            folder,
        };
        server.mount()?;
        server.make_cluster()?;
        server.launch()?;
        Ok(server)
    }

    /// The server that all tests of this process share: the one of `RATEBOX_TEST_POSTGRES_DSN`,
    /// else one that is started on the first call. Each test makes its own database there.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub fn shared() -> Result<&'static SharedPostgres> {
        static SHARED: OnceLock<Result<SharedPostgres, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            if let Ok(dsn) = std::env::var("RATEBOX_TEST_POSTGRES_DSN") {
                return Ok(SharedPostgres { dsn, _own: None });
            }
            let own = Self::start().map_err(|error| format!("{error:#}"))?;
            Ok(SharedPostgres {
                dsn: own.dsn(),
                _own: Some(own),
            })
        });
        shared
            .as_ref()
            .map_err(|message| anyhow::anyhow!("{message}"))
    }

    /// The address of its first database; the same after a restart.
    pub fn dsn(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of its postmaster, or `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Makes an empty database and returns its address.
    ///
    /// # Errors
    /// When the server is down or has a database of that name.
    pub fn create_database(&self, name: &str) -> Result<String> {
        create_database(&self.dsn(), name)
    }

    /// Runs statements in the first database; rows come back as lines, columns separated by `|`.
    ///
    /// # Errors
    /// When the server is down or a statement fails.
    pub fn sql(&self, text: &str) -> Result<String> {
        run_sql(&self.dsn(), text)
    }

    /// Kills the postmaster and all its processes with -9, as a crash of the machine's software
    /// would. Committed transactions survive.
    pub fn kill9(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let postmaster = process.pid();
        // Stopped first, so that it makes no new processes while we list them.
        let _ = process::signal(postmaster, "STOP");
        let children = process::children_of(postmaster);
        process.kill9();
        for child in &children {
            let _ = process::signal(*child, "KILL");
        }
        block_until(KILL_DEADLINE, || {
            !children.iter().any(|child| process::runs(*child))
        });
    }

    /// Ends the server in good order, cutting its connections ("fast").
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal("INT")?;
            process.wait(STOP_DEADLINE)?;
        }
        Ok(())
    }

    /// Starts the server again on its port and its data, after ending it if it still runs.
    ///
    /// # Errors
    /// When it does not end or does not answer.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Freezes the server and all its processes: connections stay open, nothing is answered.
    ///
    /// # Errors
    /// When it is down.
    pub fn pause(&self) -> Result<()> {
        self.signal_all("STOP")
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it is down.
    pub fn resume(&self) -> Result<()> {
        self.signal_all("CONT")
    }

    /// Leaves not a byte free on its small disk. The server refuses what needs room, and ends when
    /// its write-ahead log gets none.
    ///
    /// # Errors
    /// When it has no small disk.
    pub fn fill_disk(&self) -> Result<()> {
        self.disk.as_ref().context("it has no small disk")?.fill()
    }

    /// Makes room on it again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty_disk(&self) -> Result<()> {
        self.disk.as_ref().context("it has no small disk")?.empty()
    }

    /// Starts the server again if it has ended by itself, as whoever watches over it would.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_if_ended(&mut self) -> Result<()> {
        let ended = self.process.as_mut().is_none_or(|it| it.exited().is_some());
        if ended {
            self.process = None;
            self.launch()?;
        }
        Ok(())
    }

    /// What the server wrote to its log.
    pub fn logs(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn signal_all(&self, name: &str) -> Result<()> {
        let postmaster = self.pid().context("the server is down")?;
        process::signal(postmaster, name)?;
        for child in process::children_of(postmaster) {
            let _ = process::signal(child, name); // One that ended meanwhile needs no signal.
        }
        Ok(())
    }

    fn mount(&mut self) -> Result<()> {
        if let Some(bytes) = self.options.disk_bytes {
            let folder = self.folder.join("disk");
            std::fs::create_dir(&folder)?;
            self.disk = Some(SmallDisk::mount(
                bytes,
                &folder,
                &self.folder.join("disk-log"),
            )?);
        }
        Ok(())
    }

    fn make_cluster(&self) -> Result<()> {
        let mut initdb = self.program("initdb")?;
        if self.disk.is_some() {
            initdb.arg("--wal-segsize=1"); // MiB; it keeps several.
        }
        let output = initdb
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
            ])
            .args(["--locale=C", "--pgdata"])
            .arg(self.data())
            .output()
            .context("could not start initdb")?;
        if !output.status.success() {
            bail!(
                "initdb failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = self.program("postgres")?;
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()]);
        let fixed = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("fsync", "on"),
            ("max_connections", "200"),
            // After a crash every file is synced; one by one that takes seconds.
            ("recovery_init_sync_method", "syncfs"),
        ];
        let own = self
            .options
            .settings
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let small = [("min_wal_size", "2MB"), ("max_wal_size", "16MB")];
        let small = small.into_iter().filter(|_| self.disk.is_some());
        for (name, value) in fixed.into_iter().chain(small).chain(own) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let told_before = self.logs().len();
        let ending = Ending {
            signal: "QUIT",
            remove: Some(self.folder.path()),
        };
        let mut process = Process::spawn(&mut command, &self.log(), ending)?;
        // The log tells it first, and asking over and over would fill it.
        let answered = block_until(START_DEADLINE, || {
            let told = self
                .logs()
                .get(told_before..)
                .is_some_and(|new| new.contains(READY));
            told || process.exited().is_some()
        });
        if !answered || process.exited().is_some() {
            bail!(
                "the server on port {} did not start:\n{}",
                self.port,
                process.logs()
            );
        }
        self.process = Some(process);
        Ok(())
    }

    /// One of PostgreSQL's programs, to be run as the cluster's owner.
    fn program(&self, name: &str) -> Result<Command> {
        let (program, owner) = (self.bin.join(name), self.owner);
        let mut command = match &self.disk {
            Some(disk) => disk.command(&program, owner.map(|it| (it.user, it.group)))?,
            None => {
                let mut command = Command::new(program);
                if let Some(owner) = owner {
                    command.uid(owner.user).gid(owner.group);
                }
                command
            }
        };
        command.current_dir(self.folder.path());
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        match self.disk {
            Some(_) => self.folder.join("disk").join("data"),
            None => self.folder.join("data"),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // "Immediate": as quick as a kill, but the postmaster still sweeps up after itself.
        let Some(process) = &mut self.process else {
            return;
        };
        let ended = process
            .signal("QUIT")
            .and_then(|()| process.wait(KILL_DEADLINE));
        if ended.is_err() {
            self.kill9();
        }
    }
}

/// A server that many tests use at once, each in its own database.
#[derive(Debug)]
pub struct SharedPostgres {
    dsn: String,
    _own: Option<PostgresServer>,
}

impl SharedPostgres {
    /// The address of the first database; better make your own.
    pub fn dsn(&self) -> &str {
        &self.dsn
    }

    /// Makes an empty database and returns its address. [`crate::unique_name`] gives names.
    ///
    /// # Errors
    /// When the server is down or has a database of that name.
    pub fn create_database(&self, name: &str) -> Result<String> {
        create_database(&self.dsn, name)
    }
}

/// An account of the machine.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Whom the server runs as: PostgreSQL refuses root, so root lends the folder to `postgres` or
    /// `nobody`; anybody else runs it as oneself (`None`).
    fn for_server(folder: &Path) -> Result<Option<Self>> {
        if std::fs::metadata(folder)?.uid() != 0 {
            return Ok(None);
        }
        let account = Self::named("postgres").or_else(|| Self::named("nobody"));
        let account = account.context("neither an account `postgres` nor `nobody` exists")?;
        chown(folder, Some(account.user), Some(account.group))?;
        Ok(Some(account))
    }

    fn named(name: &str) -> Option<Self> {
        let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
        let fields = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields
            .into_iter()
            .find(|fields| fields.first() == Some(&name))?;
        Some(Self {
            user: fields.get(2)?.parse().ok()?,
            group: fields.get(3)?.parse().ok()?,
        })
    }
}

fn create_database(server: &str, name: &str) -> Result<String> {
    run_sql(
        server,
        &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")),
    )?;
    let (base, _) = server
        .rsplit_once('/')
        .context("the address names no database")?;
    Ok(format!("{base}/{name}"))
}

fn run_sql(dsn: &str, text: &str) -> Result<String> {
    let output = Command::new(tools::postgres_bin()?.join("psql"))
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            dsn,
            "-c",
            text,
        ])
        .output()
        .context("could not start psql: `apt-get install postgresql-client`")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
