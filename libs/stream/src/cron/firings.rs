//! The port that makes a moment of a job happen once over all processes.

use async_trait::async_trait;
use ratebox_kit::Timestamp;

use crate::{Append, Error, Lanes, StreamName};

/// Remembers the last moment of each job beside the stream that its messages go to. Every log of
/// this crate does.
#[async_trait]
pub trait Firings: Send + Sync {
    /// The job's last moment; where there is none, `first` is kept and returned, so that moments
    /// are counted from the job's first sight on, whichever process saw it.
    async fn begin(
        &self,
        stream: &StreamName,
        job: &str,
        first: Timestamp,
    ) -> Result<Timestamp, Error>;

    /// In one step: where `moment` is later than the job's last one, appends the message and keeps
    /// the moment. False when somebody else was here before. Moments have whole milliseconds.
    async fn fire(&self, job: &str, moment: Timestamp, append: &Append) -> Result<bool, Error>;
}

/// The key under which a log keeps the last moments of a stream's jobs, in the stream's slot.
pub(crate) fn key(stream: &StreamName) -> String {
    let lanes = Lanes::only(stream);
    let delayed = lanes.delayed().as_str();
    format!(
        "{}:cron",
        delayed.strip_suffix(":delayed").unwrap_or(delayed)
    )
}
