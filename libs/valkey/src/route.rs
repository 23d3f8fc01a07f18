//! The way of a command: over one link, or over that of the node whose slot its key is in.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike as _;
use redis::{Cmd, Pipeline, Value};

use crate::cluster::Nodes;
use crate::link::{Link, Live};
use crate::tracking::Tracking;
use crate::valkey::answered;
use crate::{Blocking, Error};

/// The way of a command.
pub(crate) enum Route {
    /// One server, or the primary that Sentinels name.
    One(Box<Line>),
    /// A cluster.
    Cluster(Box<Nodes>),
}

/// A link to one server.
pub(crate) struct Line {
    link: Link,
}

/// Answers of a pipeline, one for each command.
pub(crate) type Answers = Vec<Result<Value, Error>>;

// === impl Route ===

impl Route {
    /// Connections of their own to the same servers.
    pub(crate) fn apart(&self) -> Self {
        match self {
            Self::One(line) => Self::One(Box::new(Line::new(line.link.apart()))),
            Self::Cluster(nodes) => Self::Cluster(Box::new(nodes.apart())),
        }
    }

    /// Connections of their own to the same servers, which listen to changes of keys.
    pub(crate) fn tracking(&self, tracking: Tracking) -> Self {
        let tracking = Some(Arc::new(tracking));
        match self {
            Self::One(line) => {
                let link = line.link.apart().tracking(tracking);
                Self::One(Box::new(Line::new(link)))
            }
            Self::Cluster(nodes) => Self::Cluster(Box::new(nodes.apart().tracking(tracking))),
        }
    }

    /// Connections for one caller at a time to the same servers.
    pub(crate) fn blocking(&self) -> Blocking {
        match self {
            Self::One(line) => line.link.blocking(),
            Self::Cluster(nodes) => nodes.blocking(),
        }
    }

    /// Connections that were made so far.
    pub(crate) fn dials(&self) -> u64 {
        match self {
            Self::One(line) => line.link.dials(),
            Self::Cluster(nodes) => nodes.dials(),
        }
    }

    pub(crate) async fn query(&self, cmd: &Cmd, timeout: Duration) -> Result<Value, Error> {
        match self {
            Self::One(line) => line.query(cmd, timeout).await,
            Self::Cluster(nodes) => nodes.query(cmd, timeout).await,
        }
    }

    pub(crate) async fn pipeline(
        &self,
        pipe: &Pipeline,
        timeout: Duration,
    ) -> Result<Answers, Error> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::One(line) => line.pipeline(pipe, timeout).await,
            Self::Cluster(nodes) => nodes.pipeline(pipe, timeout).await,
        }
    }

    /// The same of every primary.
    pub(crate) async fn everywhere(
        &self,
        pipe: &Pipeline,
        timeout: Duration,
    ) -> Result<Vec<Answers>, Error> {
        match self {
            Self::One(line) => Ok(vec![line.pipeline(pipe, timeout).await?]),
            Self::Cluster(nodes) => nodes.everywhere(pipe, timeout).await,
        }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(line) => line.link.source().fmt(f),
            Self::Cluster(nodes) => nodes.fmt(f),
        }
    }
}

// === impl Line ===

impl Line {
    pub(crate) fn new(link: Link) -> Self {
        Self { link }
    }

    pub(crate) async fn query(&self, cmd: &Cmd, timeout: Duration) -> Result<Value, Error> {
        let Live {
            mut connection,
            standing,
        } = self.link.live().await?;
        connection.set_response_timeout(timeout);
        let answer = connection.req_packed_command(cmd);
        let answer = standing.hear(answer, timeout).await.and_then(answered);
        if answer.as_ref().is_err_and(Error::is_demotion) {
            standing.give_up();
        }
        answer
    }

    pub(crate) async fn pipeline(
        &self,
        pipe: &Pipeline,
        timeout: Duration,
    ) -> Result<Answers, Error> {
        let Live {
            mut connection,
            standing,
        } = self.link.live().await?;
        connection.set_response_timeout(timeout);
        let answers = connection.req_packed_commands(pipe, 0, pipe.len());
        let answers = standing.hear(answers, timeout).await?;
        let answers: Answers = answers.into_iter().map(answered).collect();
        let demoted =
            |answer: &Result<Value, Error>| answer.as_ref().is_err_and(Error::is_demotion);
        if answers.iter().any(demoted) {
            standing.give_up();
        }
        Ok(answers)
    }
}
