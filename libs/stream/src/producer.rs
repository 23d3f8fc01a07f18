//! A producer: messages onto the lanes of one stream, at once or later, once by key, within limits.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::{Message, Stopwatch, Timestamp};
use tokio::sync::Mutex;

use crate::{
    Append, Dispatch, Dispatcher, Error, Lanes, Load, Place, Receipt, Repeat, Scheduled, Sent,
    StreamName, When, dispatch, field,
};

/// A figure of a stream that is older is asked for again; so much of what other producers send
/// meanwhile may go beyond a limit. Where the figure takes long to find, it is kept twenty times
/// as long as that took.
pub const LOAD_FRESH: Duration = Duration::from_millis(100);

/// How full a stream may get before a producer refuses. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Entries of a lane that the slowest group has not acknowledged.
    pub depth: Option<u64>,
    /// Bytes of a lane.
    pub bytes: Option<u64>,
    /// Messages of all lanes that wait for their time.
    pub scheduled: Option<u64>,
}

// === impl Bounds ===

impl Bounds {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Sends messages to the lanes of one stream. Cheap to clone; clones share what they know of the
/// stream.
///
/// What it answers for is stored. What does not fit the limits is refused with [`Error::Backlog`]:
/// nothing is dropped and nothing is trimmed for it.
#[derive(Clone)]
pub struct Producer {
    log: Arc<dyn Dispatcher>,
    lanes: Lanes,
    limits: Bounds,
    gauges: Arc<[Mutex<Gauge>; 3]>,
    repeat: Repeat,
}

// === impl Producer ===

impl Producer {
    /// A producer without limits.
    pub fn new(log: Arc<dyn Dispatcher>, lanes: Lanes) -> Self {
        Self {
            log,
            lanes,
            limits: Bounds::default(),
            gauges: Arc::default(),
            repeat: Repeat::Stored,
        }
    }

    /// The same for messages whose ids are their own: where the log can tell, one that goes at once
    /// and is sent a second time soon after, because its answer was lost, is stored once, and the
    /// producer itself sends it a second time when the connection breaks. See
    /// [`Append::recognised`].
    #[must_use]
    pub fn recognised(mut self) -> Self {
        self.repeat = Repeat::Recognised;
        self
    }

    /// The same with limits. It looks at a lane at most once in [`LOAD_FRESH`] and counts what it
    /// sends itself, so a message costs no more round trips than without.
    #[must_use]
    pub fn with_limits(mut self, limits: Bounds) -> Self {
        self.limits = limits;
        self.gauges = Arc::default();
        self
    }

    /// Where it sends to.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Sends one message: a [`Message`] at once on the normal lane, or a [`Dispatch`].
    ///
    /// # Errors
    /// [`Error::Backlog`] when a limit is reached; [`Error::Refused`] for a header with a name that
    /// only this library writes ([`field::RESERVED`]); otherwise why the log did not take it. After a
    /// timeout or a broken connection it may have been taken nevertheless: give it a key
    /// ([`Dispatch::once`]) where a second one would hurt, or see [`Producer::recognised`].
    pub async fn send(&self, dispatch: impl Into<Dispatch>) -> Result<Sent, Error> {
        let sent = self.send_all(vec![dispatch.into()]).await.pop();
        sent.unwrap_or_else(|| Err(Error::refused("the log did not answer")))
    }

    /// Sends one message so long from now on the log's clock. It goes onto its stream within a
    /// second after, as long as a consumer of the stream runs.
    ///
    /// # Errors
    /// As for [`Producer::send`].
    pub async fn send_after(&self, message: Message, wait: Duration) -> Result<Sent, Error> {
        self.send(Dispatch::new(message).after(wait)).await
    }

    /// Sends one message at a time on the log's clock.
    ///
    /// # Errors
    /// As for [`Producer::send`].
    pub async fn send_at(&self, message: Message, due: Timestamp) -> Result<Sent, Error> {
        self.send(Dispatch::new(message).at(due)).await
    }

    /// Sends many and says of each what became of it, in order: one round trip for those that go
    /// at once, and one for some dozens of those with a time or a key. Those without go first.
    pub async fn send_all(&self, dispatches: Vec<Dispatch>) -> Vec<Result<Sent, Error>> {
        let mut answers: Vec<Option<Result<Sent, Error>>> = Vec::with_capacity(dispatches.len());
        let (mut plain, mut plain_at) = (Vec::new(), Vec::new());
        let (mut wishes, mut wishes_at) = (Vec::new(), Vec::new());
        for (at, dispatch) in dispatches.into_iter().enumerate() {
            answers.push(self.admit(&dispatch).await.err().map(Err));
            if answers.last().is_some_and(Option::is_some) {
                continue;
            }
            if dispatch.is_plain() {
                let stream = self.lanes.stream(dispatch.lane).clone();
                let mut append = Append::new(stream, dispatch.message);
                append.repeat = self.repeat;
                plain.push(append);
                plain_at.push(at);
            } else {
                wishes.push(dispatch);
                wishes_at.push(at);
            }
        }
        let mut fill = |places: Vec<usize>, sent: Vec<Result<Sent, Error>>| {
            for (at, sent) in places.into_iter().zip(sent) {
                if let Some(answer) = answers.get_mut(at) {
                    *answer = Some(sent);
                }
            }
        };
        if !plain.is_empty() {
            fill(plain_at, self.append(&plain).await);
        }
        if !wishes.is_empty() {
            fill(wishes_at, self.log.send(&self.lanes, &wishes).await);
        }
        let unanswered = || Err(Error::refused("the log did not answer"));
        let answers = answers.into_iter();
        answers.map(|it| it.unwrap_or_else(unanswered)).collect()
    }

    /// Looks at what waits for its time, next one first: at most `max`, after `skip` others.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn scheduled(&self, skip: usize, max: usize) -> Result<Vec<Scheduled>, Error> {
        self.log.scheduled(&self.lanes, skip, max).await
    }

    /// Takes a message out of the schedule; false when none waits under that id.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn unschedule(&self, message_id: &str) -> Result<bool, Error> {
        self.log.unschedule(&self.lanes, message_id).await
    }

    async fn append(&self, appends: &[Append]) -> Vec<Result<Sent, Error>> {
        let ids = self.log.append(appends).await;
        let accepted = |(append, id): (&Append, Result<_, _>)| {
            let message_id = append.message.id.clone();
            let place = Place::Stream(id?);
            Ok(Sent::Accepted(Receipt { message_id, place }))
        };
        appends.iter().zip(ids).map(accepted).collect()
    }

    /// Checks one message against the limits and counts it.
    async fn admit(&self, dispatch: &Dispatch) -> Result<(), Error> {
        refuse_reserved(&dispatch.message)?;
        if let Some(dedupe) = &dispatch.dedupe
            && (dedupe.key.len() > dispatch::DEDUPE_KEY_MAX || dedupe.window.as_millis() == 0)
        {
            return Err(Error::refused(
                "a key has at most 1024 bytes and a window at least one millisecond",
            ));
        }
        if self.limits.is_none() {
            return Ok(());
        }
        let Some(gauge) = self.gauges.get(dispatch.lane.index()) else {
            return Ok(());
        };
        let mut gauge = gauge.lock().await;
        if gauge.is_old() {
            let took = Stopwatch::start();
            let load = self.log.load(&self.lanes, dispatch.lane, &self.limits);
            gauge.learn(load.await?, took.elapsed());
        }
        gauge.admit(dispatch, &self.limits, self.lanes.stream(dispatch.lane))
    }
}

/// A header that says what only consumers and logs may say would hide the message or spend its retries.
fn refuse_reserved(message: &Message) -> Result<(), Error> {
    let mut names = message.headers.iter().map(|(name, _)| name.as_str());
    match names.find(|it| field::RESERVED.contains(it)) {
        Some(name) => Err(Error::refused(format!(
            "a message cannot have the header {name}: only ratebox-stream writes it"
        ))),
        None => Ok(()),
    }
}

/// What is known of a lane: what the log said, and what was sent since.
#[derive(Default)]
struct Gauge {
    load: Load,
    measured: Option<Stopwatch>,
    fresh_for: Duration,
}

// === impl Gauge ===

impl Gauge {
    fn is_old(&self) -> bool {
        let age = self.measured.as_ref().map(Stopwatch::elapsed);
        age.is_none_or(|age| age >= self.fresh_for)
    }

    fn learn(&mut self, load: Load, took: Duration) {
        self.load = load;
        self.fresh_for = LOAD_FRESH.max(took * 20);
        self.measured = Some(Stopwatch::start());
    }

    fn admit(
        &mut self,
        dispatch: &Dispatch,
        limits: &Bounds,
        stream: &StreamName,
    ) -> Result<(), Error> {
        let Load {
            depth,
            bytes,
            scheduled,
        } = &mut self.load;
        let size = dispatch.bytes();
        let added = if dispatch.when == When::Now {
            [
                ("entries", depth, 1, limits.depth),
                ("bytes", bytes, size, limits.bytes),
            ]
        } else {
            [
                ("scheduled messages", scheduled, 1, limits.scheduled),
                ("bytes", bytes, 0, None),
            ]
        };
        for (what, have, more, max) in &added {
            if let Some(max) = max
                && **have + more > *max
            {
                return Err(Error::Backlog {
                    stream: stream.clone(),
                    what,
                    have: **have,
                    max: *max,
                });
            }
        }
        for (_, have, more, _) in added {
            *have += more;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("stream", self.lanes.base())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(gauge: &mut Gauge, limits: &Bounds, dispatch: &Dispatch) -> Result<(), Error> {
        gauge.admit(dispatch, limits, &StreamName::new("s"))
    }

    #[test]
    fn headers_of_this_library_are_refused_and_those_of_senders_are_not() {
        let with = |name| Message::new("m", "x").with_header(name, "99");
        for name in ["rb-group", "rb-attempt", "rb-id", "data"] {
            let error = refuse_reserved(&with(name)).unwrap_err();
            assert!(!error.is_retryable() && error.to_string().contains(name));
        }
        for name in [
            "key",
            "owner",
            "type",
            "traceparent",
            "rb-expires-at",
            "rb-seal",
        ] {
            refuse_reserved(&with(name)).unwrap();
        }
    }

    #[test]
    fn a_gauge_counts_what_it_admits_and_refuses_what_goes_beyond() {
        let now = Dispatch::new(Message::new("m", "12345"));
        let later = now.clone().after(Duration::from_secs(1));
        let limits = Bounds {
            depth: Some(2),
            bytes: Some(35),
            scheduled: Some(1),
        };
        let mut gauge = Gauge::default();
        assert!(gauge.is_old());
        gauge.learn(Load::default(), Duration::ZERO);
        assert!(!gauge.is_old());
        admit(&mut gauge, &limits, &now).unwrap();
        admit(&mut gauge, &limits, &later).unwrap();
        admit(&mut gauge, &limits, &now).unwrap();
        for (dispatch, what) in [
            (&now, "2 entries of 2"),
            (&later, "1 scheduled messages of 1"),
        ] {
            let error = admit(&mut gauge, &limits, dispatch).unwrap_err();
            assert!(error.is_retryable());
            assert_eq!(error.to_string(), format!("s is full: it has {what}"));
        }
        let fuller = Load {
            bytes: 30,
            ..Load::default()
        };
        gauge.learn(fuller, Duration::from_secs(1));
        assert_eq!(gauge.fresh_for, Duration::from_secs(20));
        let error = admit(&mut gauge, &limits, &now).unwrap_err();
        assert_eq!(error.to_string(), "s is full: it has 30 bytes of 35");
    }
}
