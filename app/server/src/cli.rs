//! Every command and every flag.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage or settings; 3 the check that was asked for found
//! something (`doctor`, `validate --fail-on-error`, `migrate --adopt`, `outbox status`), or a part was left undone
//! (`dlq replay`, `stream trim`), or an order was not carried out yet (`saga`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};

use crate::command;
use crate::config::{self, Config, Sources};

/// Takes in records, gives every one a verdict, and tells the sender, without losing one.
#[derive(Debug, Parser)]
#[command(name = "ratebox", version, max_term_width = 100)]
pub struct Cli {
    /// File of settings; see `ratebox config show`.
    #[arg(long, global = true, env = "RATEBOX_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Output for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every role in one process; embedded unless servers are given.
    Up(UpArgs),
    /// Takes requests over HTTP.
    Gateway(RoleArgs),
    /// Takes messages from the bus, judges and records them.
    Worker(RoleArgs),
    /// Sends what its sender could not, makes good what the bus lost, does the chores.
    Relay(RoleArgs),
    /// Serves declared resources through a cache; `cache tour URL` walks through a running service.
    Cache(CacheArgs),
    /// Brings the tables up to date.
    Migrate(command::migrate::MigrateArgs),
    /// Judges a file of records without any server: CSV or NDJSON.
    Validate(command::validate::ValidateArgs),
    /// Puts made-up messages on the bus, as the predecessor's producer did.
    Produce(command::produce::ProduceArgs),
    /// Prints a report on streams, consumers and results.
    Monitor(command::monitor::MonitorArgs),
    /// Shows lanes, consumers, dead letters and errors live on a terminal.
    Top(command::top::TopArgs),
    /// Lists, shows, replays, edits, purges and exports dead letters.
    Dlq(command::dlq::DlqArgs),
    /// Looks at the bus, trims, replays, hands on, carries away and back.
    Stream(command::stream::StreamArgs),
    /// Shows what waits to be published, and tries again what was given up.
    Outbox(command::outbox::OutboxArgs),
    /// Lists, shows, draws and foresees sagas, and orders what is to become of them.
    Saga(command::saga::SagaArgs),
    /// Makes, lists and revokes API tokens.
    Token(command::token::TokenArgs),
    /// Checks or shows the settings in force.
    Config(command::config::ConfigArgs),
    /// Looks for settings and servers that would lose data and for what stands still, and says what to do.
    Doctor(command::doctor::DoctorArgs),
    /// Copies the embedded databases, also while they are in use, into a folder that can be started.
    Backup(command::backup::BackupArgs),
}

/// Servers in place of the embedded databases.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerArgs {
    /// Redis or Valkey, redis://host:port; a password belongs into RATEBOX_BUS__URL_FILE.
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,
    /// PostgreSQL, postgresql://user@host/database; a password belongs into
    /// RATEBOX_STORE__URL_FILE.
    #[arg(long, global = true, value_name = "DSN")]
    database_url: Option<String>,
    /// Folder of the embedded databases.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A long-running role.
#[derive(Clone, Debug, Args)]
pub struct RoleArgs {
    #[command(flatten)]
    servers: ServerArgs,
    /// Address of /metrics; empty switches it off.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
    /// Address of the API (gateway only).
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// The cache service.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct CacheArgs {
    #[command(flatten)]
    role: CacheRoleArgs,
    #[command(subcommand)]
    action: Option<CacheAction>,
}

/// The cache service as a role.
#[derive(Clone, Debug, Args)]
struct CacheRoleArgs {
    /// Redis or Valkey, redis://host:port; none = in this process. A password belongs into
    /// RATEBOX_CACHE__URL_FILE.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// PostgreSQL of tokens and dead letters.
    #[arg(long, value_name = "DSN")]
    database_url: Option<String>,
    /// Folder of the embedded databases.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the service.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Address of /metrics; empty switches it off.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
enum CacheAction {
    /// Walks a running service through fifteen scenes with their times; exit code 1 when one fails.
    Tour(command::cache::TourArgs),
}

#[derive(Clone, Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Do not judge the sample records on the first start.
    #[arg(long)]
    no_sample: bool,
}

impl ServerArgs {
    pub(crate) fn flags(&self) -> Vec<(&'static str, String)> {
        let dir = self.data_dir.as_ref().map(|dir| dir.display().to_string());
        [
            ("bus.url", self.redis_url.clone()),
            ("store.url", self.database_url.clone()),
            ("server.data_dir", dir),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}

impl RoleArgs {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = self.servers.flags();
        flags.extend(self.metrics_listen.clone().map(|it| ("metrics.listen", it)));
        flags.extend(self.listen.map(|it| ("server.listen", it.to_string())));
        flags
    }
}

impl CacheRoleArgs {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let dir = self.data_dir.as_ref().map(|dir| dir.display().to_string());
        [
            ("cache.url", self.redis_url.clone()),
            ("store.url", self.database_url.clone()),
            ("server.data_dir", dir),
            ("cache.listen", self.listen.map(|it| it.to_string())),
            ("metrics.listen", self.metrics_listen.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}

/// How a command ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Well,
    /// The check found something.
    Found,
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let ended = cli.go().and_then(|ended| match crate::out::ended() {
        Ok(()) => Ok(ended),
        Err(why) => Err(anyhow!(why)),
    });
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Err(error) if crate::out::is_unread(&error) => ExitCode::SUCCESS,
        Ok(Ended::Found) => ExitCode::from(3),
        Err(error) => {
            crate::out::hint!("ratebox: {error:#}");
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Whether other words, or other settings, are what it takes.
fn is_usage(error: &anyhow::Error) -> bool {
    use ratebox_operator::Error;
    let wish = error.downcast_ref::<Error>();
    error.is::<WrongSettings>()
        || error.is::<Usage>()
        || wish.is_some_and(|it| matches!(it, Error::NoReason | Error::OutOfRange { .. }))
}

/// Marks errors of the settings, for the exit code.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used")]
struct WrongSettings;

/// Wrong usage that the parser of the command line cannot see, for the exit code. Commands look for
/// it before they reach for anything.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub &'static str);

impl Cli {
    fn go(self) -> Result<Ended> {
        let json = self.json;
        match &self.command {
            Command::Up(args) => {
                let config = self.config(args.role.flags())?;
                serve(&config, command::up::run(config.clone(), !args.no_sample))
            }
            Command::Gateway(args) => {
                let config = self.config(args.flags())?;
                serve(&config, command::role::gateway(config.clone()))
            }
            Command::Worker(args) => {
                let config = self.config(args.flags())?;
                serve(&config, command::role::worker(config.clone()))
            }
            Command::Relay(args) => {
                let config = self.config(args.flags())?;
                serve(&config, command::role::relay(config.clone()))
            }
            Command::Cache(args) => match &args.action {
                Some(CacheAction::Tour(tour)) => once(command::cache::tour(tour.clone(), json)),
                None => {
                    let config = self.config(args.role.flags())?;
                    serve(&config, command::cache::serve(config.clone()))
                }
            },
            Command::Migrate(args) => self.once(&args.servers, |config| {
                command::migrate::run(config, args.clone(), json)
            }),
            Command::Validate(args) => {
                command::validate::run(&self.config(Vec::new())?, args, json)
            }
            Command::Produce(args) => self.once(&args.servers, |config| {
                command::produce::run(config, args.clone(), json)
            }),
            Command::Monitor(args) => self.once(&args.servers, |config| {
                command::monitor::run(config, args.clone(), json)
            }),
            Command::Top(args) => {
                let config = self.config(args.servers.flags())?;
                // A line of a log would tear the screen.
                to_its_end(command::top::run(config, args.clone()))
            }
            Command::Dlq(args) => self.once(&args.servers, |config| {
                command::dlq::run(config, args.clone(), json)
            }),
            Command::Stream(args) => self.once(&args.servers, |config| {
                command::stream::run(config, args.clone(), json)
            }),
            Command::Outbox(args) => self.once(&args.servers, |config| {
                command::outbox::run(config, args.clone(), json)
            }),
            Command::Saga(args) => self.once(&args.servers, |config| {
                command::saga::run(config, args.clone(), json)
            }),
            Command::Token(args) => self.once(&args.servers, |config| {
                command::token::run(config, args.clone(), json)
            }),
            Command::Config(args) => {
                let sources = self.sources(Vec::new()).context(WrongSettings)?;
                command::config::run(&sources, args, json).context(WrongSettings)
            }
            Command::Doctor(args) => self.once(&args.servers, |config| {
                command::doctor::run(config, args.clone(), json)
            }),
            Command::Backup(args) => self.once(&args.servers, |config| {
                command::backup::run(config, args.clone(), json)
            }),
        }
    }

    /// Runs a command that ends by itself, on the servers or the folder that it names.
    fn once<W: Future<Output = Result<Ended>>>(
        &self,
        servers: &ServerArgs,
        work: impl FnOnce(Config) -> W,
    ) -> Result<Ended> {
        once(work(self.config(servers.flags())?))
    }

    fn config(&self, flags: Vec<(&'static str, String)>) -> Result<Config> {
        let sources = self.sources(flags).context(WrongSettings)?;
        config::load(&sources).context(WrongSettings)
    }

    fn sources(&self, flags: Vec<(&'static str, String)>) -> Result<Sources> {
        Ok(Sources {
            file: self.config.clone(),
            env: environment()?,
            flags,
        })
    }
}

/// The variables that are text. Others may hold anything, but not a setting.
fn environment() -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => pairs.push((name.to_owned(), value)),
            Err(_) if config::is_setting(name) => bail!("{name}: its value is not UTF-8"),
            Err(_) => {}
        }
    }
    Ok(pairs)
}

/// Runs a role until it is told to stop.
fn serve(config: &Config, work: impl Future<Output = Result<()>>) -> Result<Ended> {
    crate::log::start(&config.log)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.server.threads > 0 {
        runtime.worker_threads(config.server.threads);
    }
    runtime
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)?;
    Ok(Ended::Well)
}

/// Runs a command that ends by itself. Its log goes to the standard error, warnings only.
fn once(work: impl Future<Output = Result<Ended>>) -> Result<Ended> {
    crate::log::start_quiet()?;
    to_its_end(work)
}

fn to_its_end(work: impl Future<Output = Result<Ended>>) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.context("cannot start the runtime")?.block_on(work)
}
