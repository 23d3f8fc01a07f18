//! Keeps the answers on the embedded bus within their bytes. How many there may be is kept by those who
//! append them; how large they are is looked at here, in between. A server has limits of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use ratebox_kit::{Causes, Shutdown, Stopwatch, Trouble};
use ratebox_stream::{Admin, Error, Retention, StreamName};

use crate::wiring::Parts;

/// How often it is looked: a disk is not full within that time.
const EVERY: Duration = Duration::from_secs(10);
/// Entries that are removed in one go. Of a thousand items each that is some 50 ms, for which no
/// verdict can be written.
const STEP: u64 = 100;

/// Keeps each answer stream at about `bus.answers_bytes`, until it is asked to stop.
pub async fn bound(parts: Parts, shutdown: Shutdown) {
    let bus = &parts.config.bus;
    let allowed = bus.answer_streams_allowed.iter();
    let names = allowed.chain([&bus.extension_responses, &bus.importer_responses]);
    let streams: BTreeSet<&str> = names.map(String::as_str).collect();
    let (since, mut trouble) = (Stopwatch::start(), Trouble::default());
    while shutdown.sleep(EVERY).await {
        let mut failed = None;
        for stream in &streams {
            let done = cut(&*parts.admin, &StreamName::new(stream), bus.answers_bytes).await;
            failed = failed.or(done.err());
        }
        let now = since.elapsed();
        match failed {
            None => {
                trouble.ended(now);
            }
            Some(error) => {
                if trouble.failed(now).is_some() {
                    tracing::warn!(error = %Causes(&error),
                        "answers could not be kept within bus.answers_bytes");
                }
            }
        }
    }
}

/// Removes the oldest entries of a stream until it has about so many bytes; the newest one stays.
async fn cut(admin: &dyn Admin, stream: &StreamName, max_bytes: u64) -> Result<(), Error> {
    let bytes = admin.bytes(stream).await?;
    if bytes <= max_bytes {
        return Ok(());
    }
    let length = admin.info(stream).await?.map_or(0, |info| info.length);
    let fits = u128::from(length) * u128::from(max_bytes) / u128::from(bytes);
    let keep = u64::try_from(fits).unwrap_or(u64::MAX).max(1);
    let mut left = length;
    while left > keep {
        left = left.saturating_sub(STEP).max(keep);
        let retention = Retention {
            max_age: None,
            max_len: Some(left),
        };
        admin.trim(stream, retention).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ratebox_kit::{Clock, Message};
    use ratebox_stream::{Append, EntryId, Log as _, MemoryLog};

    use super::*;

    #[tokio::test]
    async fn large_answers_are_cut_to_their_bytes_and_the_newest_stay() {
        let log = MemoryLog::new(Clock::system());
        let stream = StreamName::new("answers");
        let answer = |no: u64| Message::new(format!("m{no}"), "x".repeat(10_000));
        let appends: Vec<_> = (0..500)
            .map(|no| Append::new(stream.clone(), answer(no)))
            .collect();
        for answer in log.append(&appends).await {
            answer.unwrap();
        }
        cut(&log, &stream, 10_000_000).await.unwrap();
        assert_eq!(log.info(&stream).await.unwrap().unwrap().length, 500);
        cut(&log, &stream, 1_000_000).await.unwrap();
        let left = log.peek(&stream, EntryId::MIN, 1_000).await.unwrap();
        assert!((90..=100).contains(&left.len()), "{}", left.len());
        assert!(log.bytes(&stream).await.unwrap() <= 1_000_000);
        assert_eq!(left.last().unwrap().message_id(), "m499");
        cut(&log, &stream, 1).await.unwrap();
        assert_eq!(log.info(&stream).await.unwrap().unwrap().length, 1);
    }
}
