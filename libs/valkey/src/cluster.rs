//! Commands on a cluster: each goes to the primary of its key's slot, and follows that slot when it
//! moves.
//!
//! A command that the server redirected was not run, so it is sent again; one whose connection broke
//! may have been, so it is not. After either, the plan of the slots is asked for again.

mod plan;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value, cmd};

use crate::link::Link;
use crate::route::{Answers, Line};
use crate::settings::Address;
use crate::source::Source;
use crate::tracking::Tracking;
use crate::{Blocking, Error, Settings, slot};
use plan::Owners;
pub(crate) use plan::Plan;

/// Redirections that one command follows.
pub(crate) const HOPS_MAX: usize = 5;

/// Links to the nodes of a cluster, dialled when first used.
pub(crate) struct Nodes {
    plan: Arc<Plan>,
    lines: Mutex<HashMap<Arc<Address>, Arc<Line>>>,
    tracking: Option<Arc<Tracking>>,
    dials: Arc<AtomicU64>,
}

/// Where the server says that a key is.
pub(crate) enum Redirect {
    /// There for good.
    Moved(Address),
    /// There for this once: the slot is on its way.
    Ask(Address),
}

// === impl Nodes ===

impl Nodes {
    /// Reads the settings; nothing is asked yet.
    pub(crate) fn new(settings: &Settings, more: &[Address]) -> Result<Self, Error> {
        Ok(Self::on(Arc::new(Plan::new(settings, more)?)))
    }

    /// Links of their own to the same cluster.
    pub(crate) fn apart(&self) -> Self {
        Self::on(Arc::clone(&self.plan))
    }

    /// Connections for one caller at a time to the same cluster.
    pub(crate) fn blocking(&self) -> Blocking {
        Blocking::to_cluster(Arc::clone(&self.plan))
    }

    fn on(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            lines: Mutex::default(),
            tracking: None,
            dials: Arc::default(),
        }
    }

    /// Connections that were made so far.
    pub(crate) fn dials(&self) -> u64 {
        self.dials.load(Ordering::SeqCst)
    }

    /// The same for keys whose changes are listened to.
    pub(crate) fn tracking(mut self, tracking: Option<Arc<Tracking>>) -> Self {
        self.tracking = tracking;
        self
    }

    pub(crate) async fn query(&self, cmd: &Cmd, timeout: Duration) -> Result<Value, Error> {
        let owners = self.plan.owners().await?;
        let node = owners.of(slot::of(cmd))?;
        let answer = self.line(&node, &owners)?.query(cmd, timeout).await;
        self.follow(node, cmd, answer, timeout).await
    }

    /// Commands for one node go in one go; nodes are asked at the same time.
    pub(crate) async fn pipeline(
        &self,
        pipe: &Pipeline,
        timeout: Duration,
    ) -> Result<Answers, Error> {
        let owners = self.plan.owners().await?;
        let homes = homes(pipe, &owners)?;
        let Some(first) = homes.first() else {
            return Ok(Vec::new());
        };
        let mut answers = if homes.iter().all(|home| home == first) {
            let answers = self.line(first, &owners)?.pipeline(pipe, timeout).await;
            self.learned(answers)?
        } else {
            self.spread(pipe, &homes, &owners, timeout).await?
        };
        for ((answer, cmd), home) in answers.iter_mut().zip(pipe.cmd_iter()).zip(homes) {
            if answer.is_err() {
                let refused = std::mem::replace(answer, Ok(Value::Nil));
                *answer = self.follow(home, cmd, refused, timeout).await;
            }
        }
        Ok(answers)
    }

    pub(crate) async fn everywhere(
        &self,
        pipe: &Pipeline,
        timeout: Duration,
    ) -> Result<Vec<Answers>, Error> {
        let owners = self.plan.owners().await?;
        let lines = owners.primaries().iter();
        let lines: Vec<_> = lines
            .map(|node| self.line(node, &owners))
            .collect::<Result<_, _>>()?;
        let asked = lines.iter().map(|line| line.pipeline(pipe, timeout));
        let answers: Result<Vec<_>, _> = join_all(asked).await.into_iter().collect();
        self.learned(answers)
    }

    /// Sends each node its part and puts the answers back into the order of the commands.
    async fn spread(
        &self,
        pipe: &Pipeline,
        homes: &[Arc<Address>],
        owners: &Owners,
        timeout: Duration,
    ) -> Result<Answers, Error> {
        let mut parts: Vec<(&Arc<Address>, Pipeline, Vec<usize>)> = Vec::new();
        for (index, (cmd, home)) in pipe.cmd_iter().zip(homes).enumerate() {
            let at = parts.iter().position(|(node, ..)| *node == home);
            let at = at.unwrap_or_else(|| {
                parts.push((home, Pipeline::new(), Vec::new()));
                parts.len() - 1
            });
            if let Some((_, part, indices)) = parts.get_mut(at) {
                part.add_command(cmd.clone());
                indices.push(index);
            }
        }
        let sent = parts.iter().map(async |(node, part, _)| {
            let line = self.line(node, owners)?;
            self.learned(line.pipeline(part, timeout).await)
        });
        let mut answers: Answers = homes.iter().map(|_| Ok(Value::Nil)).collect();
        for (part, (.., indices)) in join_all(sent).await.into_iter().zip(&parts) {
            let got = part.unwrap_or_else(|error| vec![Err(error); indices.len()]);
            for (answer, index) in got.into_iter().zip(indices) {
                if let Some(slot) = answers.get_mut(*index) {
                    *slot = answer;
                }
            }
        }
        Ok(answers)
    }

    /// Goes where the server says that the key is.
    async fn follow(
        &self,
        mut asked: Arc<Address>,
        cmd: &Cmd,
        mut answer: Result<Value, Error>,
        timeout: Duration,
    ) -> Result<Value, Error> {
        for _ in 0..HOPS_MAX {
            let redirect = match &answer {
                Err(error) => Redirect::read(error, &asked),
                Ok(_) => None,
            };
            match redirect {
                None => return self.learned(answer),
                Some(Redirect::Moved(node)) => {
                    self.plan.outdated();
                    asked = Arc::new(node);
                    let line = self.line(&asked, &self.plan.known())?;
                    answer = line.query(cmd, timeout).await;
                }
                Some(Redirect::Ask(node)) => {
                    asked = Arc::new(node);
                    answer = self.ask(&asked, cmd, timeout).await;
                }
            }
        }
        Err(Error::Unavailable {
            code: "MOVED".to_owned(),
        })
    }

    /// Asks the node that a slot is on its way to.
    async fn ask(
        &self,
        node: &Arc<Address>,
        command: &Cmd,
        timeout: Duration,
    ) -> Result<Value, Error> {
        let mut asked = Pipeline::with_capacity(2);
        asked.add_command(cmd("ASKING"));
        asked.add_command(command.clone());
        let line = self.line(node, &self.plan.known())?;
        let answers = line.pipeline(&asked, timeout).await?;
        let answer = answers.into_iter().next_back();
        answer.unwrap_or_else(|| Err(Error::answer("an answer after ASKING")))
    }

    /// An error after which the slots may be elsewhere.
    fn learned<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().is_err_and(Error::may_have_moved) {
            self.plan.outdated();
        }
        result
    }

    fn line(&self, node: &Arc<Address>, owners: &Owners) -> Result<Arc<Line>, Error> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(node) {
            return Ok(Arc::clone(line));
        }
        let source = Source::at(self.plan.dialer().at(node)?);
        let link = Link::new(source, self.plan.connect_timeout());
        let link = link.tracking(self.tracking.clone());
        let link = link.counting(&self.dials);
        let line = Arc::new(Line::new(link));
        // Nodes that have left are forgotten.
        lines.retain(|node, _| owners.primaries().contains(node));
        lines.insert(Arc::clone(node), Arc::clone(&line));
        Ok(line)
    }
}

impl std::fmt::Display for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.plan.fmt(f)
    }
}

// === impl Redirect ===

impl Redirect {
    /// `MOVED 3999 host:port`; without a host it is the one that was asked.
    pub(crate) fn read(error: &Error, asked: &Address) -> Option<Self> {
        let Error::Command { code, detail } = error else {
            return None;
        };
        let make = match code.as_str() {
            "MOVED" => Self::Moved,
            "ASK" => Self::Ask,
            _ => return None,
        };
        let (host, port) = detail.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        let host = if host.is_empty() { &asked.host } else { host };
        Some(make(Address {
            host: host.to_owned(),
            port: port.parse().ok()?,
        }))
    }
}

/// The node of each command; one without a key goes with its neighbours.
fn homes(pipe: &Pipeline, owners: &Owners) -> Result<Vec<Arc<Address>>, Error> {
    let mut slots: Vec<Option<u16>> = pipe.cmd_iter().map(slot::of).collect();
    let mut near = slots.iter().flatten().next().copied();
    for slot in &mut slots {
        near = slot.or(near);
        *slot = near;
    }
    slots.into_iter().map(|slot| owners.of(slot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read() {
        let asked = Address {
            host: "a".to_owned(),
            port: 1,
        };
        let read = |code: &str, detail: &str| {
            let error = Error::Command {
                code: code.to_owned(),
                detail: detail.to_owned(),
            };
            match Redirect::read(&error, &asked)? {
                Redirect::Moved(to) => Some(format!("moved {to}")),
                Redirect::Ask(to) => Some(format!("ask {to}")),
            }
        };
        assert_eq!(read("MOVED", "3999 b:2").as_deref(), Some("moved b:2"));
        assert_eq!(read("MOVED", "3999 :2").as_deref(), Some("moved a:2"));
        assert_eq!(read("ASK", "1 ::1:2").as_deref(), Some("ask [::1]:2"));
        assert_eq!(read("ERR", "3999 b:2"), None);
        assert_eq!(read("MOVED", "gibberish"), None);
    }
}
