//! The built binary as a child process, in a folder of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{Ending, Process};
use crate::wait::block_until;
use crate::{HttpClient, TempDir, free_port, tools, wait_for};

/// Time to be ready after a start, in a debug build on a loaded machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Time to end after SIGTERM.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(60);
/// Time for a command that ends by itself.
const RUN_DEADLINE: Duration = Duration::from_secs(120);
/// Variables that a child may inherit; all others could change what it does.
const INHERITED: [&str; 6] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
];

/// What to start: a subcommand, its arguments and its environment.
#[derive(Clone, Debug)]
pub struct RateboxOptions {
    subcommand: String,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    data_dir: Option<PathBuf>,
    port: Option<u16>,
    binary: Option<PathBuf>,
}

impl RateboxOptions {
    /// A subcommand such as `worker`, with nothing added.
    pub fn new(subcommand: &str) -> Self {
        Self {
            subcommand: subcommand.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            data_dir: None,
            port: None,
            binary: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// An environment variable. Nothing but `PATH` and the like is inherited.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The bus to use.
    #[must_use]
    pub fn redis(self, url: &str) -> Self {
        self.env("REDIS_URL", url)
    }

    /// The store to use.
    #[must_use]
    pub fn postgres(self, dsn: &str) -> Self {
        self.env("POSTGRES_DSN", dsn)
    }

    /// A data folder that outlives the process, for a second start on the same data.
    #[must_use]
    pub fn data_dir(mut self, folder: &Path) -> Self {
        self.data_dir = Some(folder.to_path_buf());
        self
    }

    /// The port to listen on, in place of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Another binary than the one just built, such as the previous version's.
    #[must_use]
    pub fn binary(mut self, file: &Path) -> Self {
        self.binary = Some(file.to_path_buf());
        self
    }

    /// The binary that would be started, for tests that start it themselves.
    ///
    /// # Errors
    /// When it is missing.
    pub fn binary_path(&self) -> Result<PathBuf> {
        self.binary.clone().map_or_else(built_binary, Ok)
    }

    /// Starts the process and returns at once.
    ///
    /// # Errors
    /// When the binary is missing or cannot be started.
    pub fn start(self) -> Result<Ratebox> {
        Ratebox::start(&self)
    }

    /// Runs a command that ends by itself, such as `validate FILE`, in a folder of its own.
    ///
    /// # Errors
    /// When the binary is missing or does not end within 2 minutes.
    pub fn run(self) -> Result<Output> {
        let folder = TempDir::new()?;
        let out = folder.join("stdout");
        let mut command = self.command(folder.path())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out)?)
            .stderr(std::fs::File::create(folder.join("stderr"))?)
            .spawn()?;
        let mut status = None;
        block_until(RUN_DEADLINE, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&read("stderr")).into_owned();
        let Some(status) = status else {
            child.kill()?;
            child.wait()?;
            bail!(
                "`ratebox {}` did not end within {RUN_DEADLINE:?}:\n{stderr}",
                self.subcommand
            );
        };
        let stdout = String::from_utf8_lossy(&read("stdout")).into_owned();
        Ok(Output {
            code: status.code(),
            stdout,
            stderr,
        })
    }

    fn command(&self, work_dir: &Path) -> Result<Command> {
        let binary = self.binary.clone().map_or_else(built_binary, Ok)?;
        let mut command = Command::new(binary);
        command
            .arg(&self.subcommand)
            .args(&self.arguments)
            .current_dir(work_dir)
            .env_clear();
        for name in INHERITED {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

/// What a command that ended by itself left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

/// A running `ratebox`; killed on drop.
#[derive(Debug)]
pub struct Ratebox {
    process: Process,
    port: u16,
    metrics_port: u16,
    data_dir: PathBuf,
    _folder: TempDir,
}

impl Ratebox {
    /// `ratebox up` on a free port and a fresh data folder, changed by `with`:
    /// `Ratebox::up(|o| o.redis(url).postgres(dsn))`. Follow with [`Ratebox::wait_ready`].
    ///
    /// # Errors
    /// When the binary is missing or cannot be started.
    pub fn up(with: impl FnOnce(RateboxOptions) -> RateboxOptions) -> Result<Self> {
        Self::start(&with(RateboxOptions::new("up")))
    }

    /// `ratebox gateway` on a free port.
    ///
    /// # Errors
    /// As [`Ratebox::up`].
    pub fn gateway(with: impl FnOnce(RateboxOptions) -> RateboxOptions) -> Result<Self> {
        Self::start(&with(RateboxOptions::new("gateway")))
    }

    /// `ratebox worker`.
    ///
    /// # Errors
    /// As [`Ratebox::up`].
    pub fn worker(with: impl FnOnce(RateboxOptions) -> RateboxOptions) -> Result<Self> {
        Self::start(&with(RateboxOptions::new("worker")))
    }

    /// `ratebox relay`.
    ///
    /// # Errors
    /// As [`Ratebox::up`].
    pub fn relay(with: impl FnOnce(RateboxOptions) -> RateboxOptions) -> Result<Self> {
        Self::start(&with(RateboxOptions::new("relay")))
    }

    /// Any subcommand. `up` gets `--data-dir`, `up` and `gateway` get `--listen`, all get a metrics
    /// port of their own.
    fn start(options: &RateboxOptions) -> Result<Self> {
        let folder = TempDir::new()?;
        let port = options.port.unwrap_or_else(free_port);
        let metrics_port = free_port();
        let data_dir = options
            .data_dir
            .clone()
            .unwrap_or_else(|| folder.join("data"));
        let mut command = options.command(folder.path())?;
        let given = |name: &str| {
            options
                .environment
                .iter()
                .any(|(its_name, _)| its_name == name)
        };
        if !given("RATEBOX_METRICS__LISTEN") {
            command.env(
                "RATEBOX_METRICS__LISTEN",
                format!("127.0.0.1:{metrics_port}"),
            );
        }
        if matches!(&*options.subcommand, "up" | "cache") {
            command.arg("--data-dir").arg(&data_dir);
        }
        if matches!(&*options.subcommand, "up" | "gateway" | "cache") {
            command.args(["--listen", &format!("127.0.0.1:{port}")]);
        }
        let ending = Ending {
            signal: "KILL",
            remove: Some(folder.path()),
        };
        let process = Process::spawn(&mut command, &folder.join("log"), ending)?;
        Ok(Self {
            process,
            port,
            metrics_port,
            data_dir,
            _folder: folder,
        })
    }

    /// Waits until the process is alive and ready for requests.
    ///
    /// # Errors
    /// When it ends before, or is not ready within a minute; the message holds its log.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let client = HttpClient::new(&self.base_url()).with_deadline(Duration::from_secs(5));
        let looked = ratebox_kit::Stopwatch::start();
        for path in ["/api/health/live", "/api/health/ready"] {
            while !matches!(client.get(path).await, Ok(answer) if answer.status == 200) {
                if let Some(status) = self.process.exited() {
                    bail!(
                        "ratebox ended ({status}) before it was ready:\n{}",
                        self.logs()
                    );
                }
                if looked.elapsed() > READY_DEADLINE {
                    bail!(
                        "{path} did not answer 200 in {READY_DEADLINE:?}:\n{}",
                        self.logs()
                    );
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// `http://127.0.0.1:PORT` of the API.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:PORT` of the listener with `/metrics`.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.metrics_port)
    }

    /// A client of the API without a token.
    pub fn client(&self) -> HttpClient {
        HttpClient::new(&self.base_url())
    }

    /// A client of the API with the first admin token.
    ///
    /// # Errors
    /// When there is no token file.
    pub fn admin(&self) -> Result<HttpClient> {
        Ok(self.client().with_token(&self.admin_token()?))
    }

    /// The first admin token, from the data folder.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn admin_token(&self) -> Result<String> {
        let file = self.data_dir.join("admin.token");
        let token = std::fs::read_to_string(&file)
            .with_context(|| format!("no admin token in {}", file.display()))?;
        Ok(token.trim().to_owned())
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it printed and logged so far.
    pub fn logs(&self) -> String {
        self.process.logs()
    }

    /// Its exit code, if it ended by itself. A signal's number is told as 128 + number.
    pub fn exited(&mut self) -> Option<i32> {
        self.process.exited().map(exit_code)
    }

    /// Kills it with -9.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Freezes it, as a long pause of the machine would.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> Result<()> {
        self.process.signal("STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.process.signal("CONT")
    }

    /// Sends SIGTERM and returns the exit code; a signal's number is told as 128 + number.
    ///
    /// # Errors
    /// When it had ended already.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub async fn terminate(&mut self) -> Result<i32> {
        self.process.signal("TERM")?;
        let process = std::sync::Mutex::new(&mut self.process);
        let status = wait_for(TERMINATE_DEADLINE, "ratebox ends after SIGTERM", || async {
            process
                .lock()
                .expect("nobody panics while holding it")
                .exited()
        })
        .await;
        Ok(exit_code(status))
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The binary: named by `RATEBOX_BIN`, else beside the running test.
fn built_binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("RATEBOX_BIN").map(PathBuf::from) {
        if !named.is_file() {
            bail!("RATEBOX_BIN names {}, which is no file", named.display());
        }
        return Ok(named);
    }
    // A test runs from target/PROFILE/deps, another binary from target/PROFILE.
    let running = std::env::current_exe()?;
    let beside = running
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("ratebox"));
    let target = tools::workspace_root().join("target");
    let usual = ["debug", "release"].map(|profile| target.join(profile).join("ratebox"));
    beside.chain(usual).find(|file| file.is_file()).context(
        "the binary is missing: `cargo build -p ratebox-server` first, or set RATEBOX_BIN to it",
    )
}
