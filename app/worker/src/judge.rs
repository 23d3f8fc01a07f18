//! From a request to its response. Pure.

use ratebox_intake::{Answered, Profile, Request, Response};
use ratebox_kit::{Stopwatch, Timestamp};

use crate::Settings;

/// When the batch of a request was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) at: Timestamp,
    pub(crate) watch: Stopwatch,
}

/// Judges every item of a request.
pub(crate) fn judge(request: &Request, settings: &Settings, taken: Taken) -> (Profile, Response) {
    let profile = request.profile.unwrap_or_else(|| settings.rules.profile());
    let rules = settings.rules.with_profile(profile);
    let verdicts = rules.judge_all(&request.items);
    let answered = Answered {
        at: taken.at,
        took_ms: taken.watch.elapsed_ms(),
    };
    let response = Response::new(request, profile, verdicts, answered);
    (profile, response)
}
