//! The writer thread: logical transactions as savepoints inside one physical commit.
//!
//! Callers wait until the physical commit that holds their work is on disk. While one commit runs
//! the next callers queue up, so one fsync serves all of them. Whatever is group-committed here is
//! kept apart by savepoints: one that fails takes only itself back.

mod session;

use std::path::Path;
use std::thread;
use std::time::Duration;

use ratebox_kit::Stopwatch;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::session::SqliteTx;
use self::session::{Ended, Session};
use super::bind;
use crate::{Committed, Error, Result, Statement};

/// Callers that wait for the writer; beyond it they wait for a place in the queue.
const QUEUE_MAX: usize = 1024;
/// Logical transactions in one physical commit.
const GROUP_MAX: usize = 256;
/// A physical transaction that is this old is committed, however many callers wait.
const GROUP_TIME_MAX: Duration = Duration::from_millis(20);

type Answer = Result<(Vec<u64>, Committed)>;

enum Command {
    /// A whole transaction at once.
    Run(Vec<Statement>, oneshot::Sender<Answer>),
    /// A transaction whose statements come one after another.
    Begin(Session),
    /// Statements outside any transaction.
    Script(String, oneshot::Sender<Result<()>>),
}

/// Someone who waits for the physical commit.
struct Waiting {
    counts: Vec<u64>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::Sender<Command>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self> {
        let (commands, queue) = mpsc::channel(QUEUE_MAX);
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || Thread { connection, queue }.run())
            .map_err(|error| Error::Connection {
                what: format!("no writer thread: {error}"),
            })?;
        Ok(Self { commands })
    }

    pub(super) async fn run(&self, statements: Vec<Statement>) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Run(statements, answer)).await?;
        answered.await.map_err(|_| gone())?
    }

    pub(super) async fn begin(&self) -> Result<SqliteTx> {
        let (tx, session) = SqliteTx::new();
        self.send(Command::Begin(session)).await?;
        Ok(tx)
    }

    pub(super) async fn script(&self, text: String) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Script(text, answer)).await?;
        answered.await.map_err(|_| gone())?
    }

    async fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::Connection {
        what: "the SQLite writer has stopped".to_owned(),
    }
}

struct Thread {
    connection: Connection,
    queue: mpsc::Receiver<Command>,
}

impl Thread {
    fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            match first {
                Command::Script(text, answer) => drop(answer.send(self.script(&text))),
                other => self.group(other),
            }
        }
    }

    /// One physical transaction: the first caller's work and that of whoever waits meanwhile.
    fn group(&mut self, first: Command) {
        let mut waiting = Vec::new();
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            let error = self.named(error);
            let busy = match &error {
                Error::Contention { code } => Some(code.clone()),
                _ => None,
            };
            refuse(first, error);
            if let Some(code) = busy {
                self.refuse_waiting(&code);
            }
            return;
        }
        let age = Stopwatch::start();
        let mut next = Some(first);
        while let Some(command) = next.take() {
            let script = self.one(command, &mut waiting);
            if self.connection.is_autocommit() {
                // The error was so bad (disk full, I/O) that SQLite gave the whole group up.
                fail_all(waiting, || Error::Full {
                    code: "group rolled back".to_owned(),
                });
                if let Some(command) = script {
                    refuse(
                        command,
                        Error::Contention {
                            code: "group rolled back".to_owned(),
                        },
                    );
                }
                return;
            }
            if let Some(Command::Script(text, answer)) = script {
                self.commit(waiting);
                let _ = answer.send(self.script(&text));
                return;
            }
            if waiting.len() < GROUP_MAX && age.elapsed() < GROUP_TIME_MAX {
                next = self.queue.try_recv().ok();
            }
        }
        self.commit(waiting);
    }

    /// Another process had the file for as long as anybody waits for it; so long waited those behind
    /// the first one, too, and would once more each in turn.
    fn refuse_waiting(&mut self, code: &str) {
        for _ in 0..self.queue.len() {
            match self.queue.try_recv() {
                // Its caller may not have spoken yet, and is told when it does.
                Ok(Command::Begin(session)) => drop(session),
                Ok(command) => {
                    let code = code.to_owned();
                    refuse(command, Error::Contention { code });
                }
                Err(_) => return,
            }
        }
    }

    /// Says which file it is: rights and room are the file's.
    fn named(&self, error: rusqlite::Error) -> Error {
        let error = Error::from(error);
        match self.connection.path() {
            Some(file) => error.of(Path::new(file)),
            None => error,
        }
    }

    /// Does one command; gives a script back, which must run outside the transaction.
    fn one(&mut self, command: Command, waiting: &mut Vec<Waiting>) -> Option<Command> {
        match command {
            Command::Script(..) => return Some(command),
            Command::Run(statements, answer) => match self.savepoint(statements) {
                Ok(counts) => waiting.push(Waiting { counts, answer }),
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Begin(session) => match session.serve(&self.connection) {
                Ended::Committed(counts, answer) => waiting.push(Waiting { counts, answer }),
                Ended::GivenUp => {}
            },
        }
        None
    }

    fn savepoint(&self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        self.connection
            .prepare_cached("SAVEPOINT tx")?
            .execute([])?;
        let done = self.execute_all(statements);
        if done.is_err() {
            session::take_back(&self.connection);
        }
        done
    }

    fn execute_all(&self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        let counts = statements
            .into_iter()
            .map(|it| bind::execute(&self.connection, &it))
            .collect::<Result<_>>()?;
        self.connection.prepare_cached("RELEASE tx")?.execute([])?;
        Ok(counts)
    }

    fn commit(&mut self, waiting: Vec<Waiting>) {
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => {
                for Waiting { counts, answer } in waiting {
                    let _ = answer.send(Ok((counts, Committed::of_run())));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a SQLite commit failed; nothing of it was kept");
                let _ = self.connection.execute_batch("ROLLBACK");
                let error = Error::from(error);
                let code = error.code();
                fail_all(waiting, || match code {
                    "db.full" => Error::Full {
                        code: "commit".to_owned(),
                    },
                    _ => Error::Connection {
                        what: "the commit failed".to_owned(),
                    },
                });
            }
        }
    }

    /// Runs a script; one that fails leaves no transaction open.
    fn script(&self, text: &str) -> Result<()> {
        let done = self.connection.execute_batch(text);
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        done.map_err(|error| {
            let what = error.to_string();
            match Error::from(error) {
                damaged @ Error::Damaged { .. } => damaged,
                _ => Error::Settings { what },
            }
        })
    }
}

fn fail_all(waiting: Vec<Waiting>, error: impl Fn() -> Error) {
    for Waiting { answer, .. } in waiting {
        let _ = answer.send(Err(error()));
    }
}

fn refuse(command: Command, error: Error) {
    match command {
        Command::Run(_, answer) => drop(answer.send(Err(error))),
        Command::Begin(session) => session.refuse(error),
        Command::Script(_, answer) => drop(answer.send(Err(error))),
    }
}
