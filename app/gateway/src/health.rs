//! How the process is: named checks that the server hands in, run in the background.
//!
//! Whoever asks gets what was found last, at most a few seconds ago; nobody outside makes us ask
//! the database. Only fixed phrases are shown.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ratebox_kit::{Stopwatch, Tasks};
use serde::Serialize;
use tokio::sync::watch;

/// How often the checks run.
const EVERY: Duration = Duration::from_secs(1);
/// A check that takes longer says down.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All is well.
    Up,
    /// It works, but someone should look. The phrase is shown to anybody.
    Warn(&'static str),
    /// It does not work. The phrase is shown to anybody.
    Down(&'static str),
}

/// What a component that is down means for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The gateway cannot keep its promises: not ready.
    Needed,
    /// It can go on.
    Optional,
}

type Found = Pin<Box<dyn Future<Output = Condition> + Send>>;

struct Check {
    name: &'static str,
    weight: Weight,
    run: Box<dyn Fn() -> Found + Send + Sync>,
}

/// The checks of a process, in the order in which they are shown.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
}

impl Health {
    /// Without checks, a process is well while none of its tasks has panicked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It runs about once a second and is given up after two.
    #[must_use]
    pub fn check<F, C>(mut self, name: &'static str, weight: Weight, run: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Condition> + Send + 'static,
    {
        let run = Box::new(move || -> Found { Box::pin(run()) });
        self.checks.push(Check { name, weight, run });
        self
    }

    /// Runs all checks at once.
    async fn look(&self) -> Vec<Component> {
        join_all(self.checks.iter().map(Check::look)).await
    }
}

impl Check {
    async fn look(&self) -> Component {
        let watch = Stopwatch::start();
        let found = tokio::time::timeout(CHECK_MAX, (self.run)()).await;
        let (status, detail) = match found {
            Ok(Condition::Up) => ("up", None),
            Ok(Condition::Warn(phrase)) => ("warn", Some(phrase)),
            Ok(Condition::Down(phrase)) => ("down", Some(phrase)),
            Err(_) => ("down", Some("no answer in time")),
        };
        Component {
            name: self.name,
            status,
            needed: self.weight == Weight::Needed,
            detail,
            took_ms: watch.elapsed_ms(),
        }
    }
}

/// One component as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Component {
    name: &'static str,
    status: &'static str,
    needed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    took_ms: u64,
}

/// What was found last.
#[derive(Debug)]
pub(crate) struct Vitals {
    found: watch::Receiver<Option<Arc<Vec<Component>>>>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Overall {
    Up,
    /// Ready, with something to look at.
    Degraded,
    /// The first checks are under way.
    Starting,
    Down,
}

impl Vitals {
    /// Starts looking.
    pub(crate) fn start(health: Health, tasks: &Tasks) -> Self {
        let (tell, found) = watch::channel(None);
        let shutdown = tasks.shutdown();
        tasks.spawn("gateway-health", async move {
            let mut before: Option<Arc<Vec<Component>>> = None;
            loop {
                let Some(now) = shutdown.unless(health.look()).await else {
                    return;
                };
                report_changes(before.as_deref(), &now);
                let now = Arc::new(now);
                before = Some(Arc::clone(&now));
                tell.send_replace(Some(now));
                if !shutdown.sleep(EVERY).await {
                    return;
                }
            }
        });
        Self { found }
    }

    /// What was found last, and what it means.
    pub(crate) fn now(&self) -> (Overall, Arc<Vec<Component>>) {
        let Some(components) = self.found.borrow().clone() else {
            return (Overall::Starting, Arc::default());
        };
        let any = |status: &str, needed: bool| {
            components
                .iter()
                .any(|it| it.status == status && it.needed >= needed)
        };
        let overall = if any("down", true) {
            Overall::Down
        } else if any("down", false) || any("warn", false) {
            Overall::Degraded
        } else {
            Overall::Up
        };
        (overall, components)
    }
}

/// Each change of a component is logged once.
fn report_changes(before: Option<&Vec<Component>>, now: &[Component]) {
    for (at, component) in now.iter().enumerate() {
        let was = before
            .and_then(|before| before.get(at))
            .map_or("up", |before| before.status);
        let detail = component.detail.unwrap_or("-");
        match (was, component.status) {
            (was, is) if was == is => {}
            (_, "up") => tracing::info!(component = component.name, "a component is up again"),
            (_, status) => {
                tracing::warn!(
                    component = component.name,
                    status,
                    detail,
                    "a component is not well"
                );
            }
        }
    }
}
