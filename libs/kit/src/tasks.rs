//! Background tasks with an owner.
//!
//! Every task of a process is spawned through [`Tasks`]: it has a name, it is joined at the end,
//! and one that panics is remembered, so that health can turn red.

#![expect(clippy::disallowed_methods, reason = "this is where tasks are spawned")]

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Tells a loop that it is time to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stopping: watch::Receiver<bool>,
}

impl Shutdown {
    /// True once the process is asked to stop.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Completes when the process is asked to stop. Cancel-safe.
    pub async fn wait(&mut self) {
        // An error means that the owner is gone, which is a stop as well.
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
    }

    /// Runs `work` until it ends or the process is asked to stop; `None` when stopped.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut shutdown = self.clone();
        tokio::select! {
            done = work => Some(done),
            () = shutdown.wait() => None,
        }
    }

    /// Waits for `time` or for the stop; true when the time passed.
    pub async fn sleep(&self, time: Duration) -> bool {
        self.unless(tokio::time::sleep(time)).await.is_some()
    }
}

/// A task's name and its handle.
type Running = (Cow<'static, str>, JoinHandle<()>);

/// Remembers a task that panics: it is dropped while the panic unwinds.
struct Watch {
    name: Cow<'static, str>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task.name = %self.name, "a background task panicked");
            let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
            failed.push(std::mem::take(&mut self.name).into_owned());
        }
    }
}

/// Tasks that were spawned; those that ended leave it now and then.
#[derive(Default)]
struct List {
    all: Vec<Running>,
    /// How many there may be before those that ended are looked for.
    sweep_at: usize,
}

/// Tasks among which nobody looks for those that ended.
const SWEEP_MIN: usize = 64;

impl List {
    /// Its price is spread over as many spawns as there are tasks.
    fn push(&mut self, task: Running) {
        if self.all.len() >= self.sweep_at {
            self.all.retain(|(_, task)| !task.is_finished());
            self.sweep_at = (self.all.len() * 2).max(SWEEP_MIN);
        }
        self.all.push(task);
    }
}

/// Owns the tasks of a process or of a test.
#[derive(Clone)]
pub struct Tasks {
    stop: Arc<watch::Sender<bool>>,
    running: Arc<Mutex<List>>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self {
            stop: Arc::new(watch::channel(false).0),
            running: Arc::default(),
            failed: Arc::default(),
        }
    }

    /// The signal that every loop watches.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown {
            stopping: self.stop.subscribe(),
        }
    }

    /// Spawns a task and remembers it under `name`.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        let watch = Watch {
            name: name.clone(),
            failed: Arc::clone(&self.failed),
        };
        let handle = tokio::spawn(async move {
            let _watch = watch;
            work.await;
        });
        let mut running = self.running.lock().unwrap_or_else(|e| e.into_inner());
        running.push((name, handle));
    }

    /// Names of the tasks that panicked; health is red while there are any.
    pub fn failed(&self) -> Vec<String> {
        self.failed
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    /// Asks every task to stop, without waiting.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn take(&self) -> Vec<Running> {
        let mut running = self.running.lock().unwrap_or_else(|e| e.into_inner());
        std::mem::take(&mut running.all)
    }

    /// Asks every task to stop and waits until they end, also those that are spawned meanwhile, at
    /// most `deadline` in all. Returns the names of those that did not end in time; they are aborted.
    pub async fn join(&self, deadline: Duration) -> Vec<String> {
        self.stop();
        let end = tokio::time::Instant::now() + deadline;
        let mut late = Vec::new();
        loop {
            let tasks = self.take();
            if tasks.is_empty() {
                return late;
            }
            for (name, mut task) in tasks {
                if tokio::time::timeout_at(end, &mut task).await.is_err() {
                    task.abort();
                    late.push(name.into_owned());
                }
            }
            if tokio::time::Instant::now() >= end {
                for (name, task) in self.take() {
                    if !task.is_finished() {
                        task.abort();
                        late.push(name.into_owned());
                    }
                }
                return late;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_task_is_remembered() {
        let tasks = Tasks::new();
        tasks.spawn("doomed", async { panic!("on purpose") });
        assert!(tasks.join(Duration::from_secs(5)).await.is_empty());
        assert_eq!(tasks.failed(), ["doomed"]);
    }

    #[tokio::test]
    async fn what_a_task_spawns_at_its_end_is_waited_for_too() {
        let tasks = Tasks::new();
        let (mine, mut shutdown) = (tasks.clone(), tasks.shutdown());
        let (done, mut is_done) = tokio::sync::oneshot::channel();
        tasks.spawn("first", async move {
            shutdown.wait().await;
            mine.spawn("last", async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = done.send(());
            });
        });
        assert!(tasks.join(Duration::from_secs(5)).await.is_empty());
        assert_eq!(is_done.try_recv(), Ok(()));
    }

    #[tokio::test]
    async fn a_loop_ends_when_asked_and_a_stubborn_one_is_named() {
        let tasks = Tasks::new();
        let mut shutdown = tasks.shutdown();
        tasks.spawn("polite", async move { shutdown.wait().await });
        tasks.spawn("stubborn", std::future::pending());
        assert_eq!(tasks.join(Duration::from_millis(50)).await, ["stubborn"]);
    }
}
