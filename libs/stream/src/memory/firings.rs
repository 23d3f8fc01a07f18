//! Last moments of jobs, beside the streams in memory.

use async_trait::async_trait;
use ratebox_kit::Timestamp;

use super::MemoryLog;
use crate::cron::Firings;
use crate::{Append, Error, Log as _, StreamName};

#[async_trait]
impl Firings for MemoryLog {
    async fn begin(
        &self,
        stream: &StreamName,
        job: &str,
        first: Timestamp,
    ) -> Result<Timestamp, Error> {
        let mut firings = self.firings.lock().await;
        let name = (stream.clone(), job.to_owned());
        Ok(*firings.entry(name).or_insert(first))
    }

    async fn fire(&self, job: &str, moment: Timestamp, append: &Append) -> Result<bool, Error> {
        let name = (append.stream.clone(), job.to_owned());
        let mut firings = self.firings.lock().await;
        if firings.get(&name).is_some_and(|last| *last >= moment) {
            return Ok(false);
        }
        for appended in self.append(std::slice::from_ref(append)).await {
            appended?;
        }
        firings.insert(name, moment);
        Ok(true)
    }
}
