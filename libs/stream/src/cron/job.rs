//! A job: when it is due, what it sends, and what is done about moments that nobody was there for.

use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{Message, Timestamp};

use super::Schedule;
use crate::handler::TYPE_HEADER;
use crate::{Append, Error, StreamName};

/// A moment that is this late counts as missed.
pub(super) const LATE_MAX: Duration = Duration::from_secs(60);

/// What is done about moments while no process was running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing: what is more than a minute late is left out.
    None,
    /// The newest of them is made up for.
    Last,
    /// All of them are made up for, in order, but at most so many of the newest.
    All {
        /// How many.
        max: usize,
    },
}

/// Something that is due by the calendar.
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) name: String,
    pub(super) schedule: Schedule,
    pub(super) stream: StreamName,
    pub(super) catch_up: CatchUp,
    message_type: String,
    body: Bytes,
    jitter: Duration,
}

// === impl Job ===

impl Job {
    /// Sends a message of a type to `stream` whenever `expression` matches in `zone`. The name
    /// identifies the job over processes and versions.
    ///
    /// Each message has the id `cron/NAME/MOMENT`, and the moment in its header `cron-moment`.
    ///
    /// # Errors
    /// When the expression cannot be read, or the zone is unknown.
    pub fn new(
        name: &str,
        expression: &str,
        zone: &str,
        stream: &str,
        message_type: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            schedule: Schedule::new(expression, zone)?,
            stream: StreamName::new(stream),
            catch_up: CatchUp::Last,
            message_type: message_type.to_owned(),
            body: Bytes::from_static(b"null"),
            jitter: Duration::ZERO,
        })
    }

    /// The body of its messages. Default: JSON `null`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// What is done about missed moments. Default: [`CatchUp::Last`].
    #[must_use]
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// Sends up to this much later, differently for each job and moment and the same in every
    /// process, so that not all jobs of midnight come at midnight. Moments keep their order.
    #[must_use]
    pub fn jitter(mut self, max: Duration) -> Self {
        self.jitter = max;
        self
    }

    /// When a moment's message is sent.
    pub(super) fn due_at(&self, moment: Timestamp) -> Timestamp {
        let max_ms = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if max_ms == 0 {
            return moment;
        }
        let seed = format!("{}/{}", self.name, moment.as_second());
        let later = Duration::from_millis(fnv1a(seed.as_bytes()) % max_ms);
        moment.checked_add(later).unwrap_or(moment)
    }

    /// The moments to be made up for or due, oldest first, and the newest one that is over.
    pub(super) fn due(&self, last: Timestamp, now: Timestamp) -> (Vec<Timestamp>, Timestamp) {
        let max = match self.catch_up {
            CatchUp::None | CatchUp::Last => 1,
            CatchUp::All { max } => max.max(1),
        };
        let mut moments = self.schedule.between(last, now, max);
        // What waits for its jitter holds back what comes after it.
        let waiting = moments.iter().position(|moment| self.due_at(*moment) > now);
        if let Some(waiting) = waiting {
            moments.truncate(waiting);
        }
        let over = moments.last().copied().unwrap_or(last);
        if self.catch_up == CatchUp::None {
            let is_late = |moment: &Timestamp| {
                let since = now.duration_since(self.due_at(*moment));
                Duration::try_from(since).is_ok_and(|since| since > LATE_MAX)
            };
            moments.retain(|moment| !is_late(moment));
        }
        (moments, over)
    }

    pub(super) fn append(&self, moment: Timestamp) -> Append {
        let id = format!("cron/{}/{moment}", self.name);
        let message = Message::new(id, self.body.clone())
            .with_header(TYPE_HEADER, self.message_type.as_str())
            .with_header("cron-job", self.name.as_str())
            .with_header("cron-moment", moment.to_string());
        Append::new(self.stream.clone(), message)
    }
}

/// FNV-1a, 64 bits: the same in every process and version, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_bounded_differs_by_moment_and_is_the_same_everywhere() {
        let job = || {
            let job = Job::new("j", "* * * * *", "UTC", "s", "t").unwrap();
            job.jitter(Duration::from_secs(30))
        };
        let moment = |minute: i64| Timestamp::from_second(1_700_000_000 + 60 * minute).unwrap();
        let later: Vec<_> = (0..20)
            .map(|minute| job().due_at(moment(minute)).duration_since(moment(minute)))
            .collect();
        assert!(later.iter().all(|it| (0..30_000).contains(&it.as_millis())));
        assert!(later.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(job().due_at(moment(7)), job().due_at(moment(7)));
    }
}
