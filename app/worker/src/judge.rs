//! From a request to its response. Pure.

use ratebox_intake::{Answered, Profile, Response};
use ratebox_kit::{Stopwatch, Timestamp};

use crate::Settings;
use crate::message::Task;

/// A task with its response.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) task: Task,
    pub(crate) profile: Profile,
    pub(crate) response: Response,
}

/// Judges every item of every task.
pub(crate) fn all(
    tasks: Vec<Task>,
    settings: &Settings,
    now: Timestamp,
    watch: Stopwatch,
) -> Vec<Judged> {
    let judge = |task: Task| {
        let profile = task
            .request
            .profile
            .unwrap_or_else(|| settings.rules.profile());
        let verdicts = settings
            .rules
            .with_profile(profile)
            .judge_all(&task.request.items);
        let answered = Answered {
            at: now,
            took_ms: watch.elapsed_ms(),
        };
        let response = Response::new(&task.request, profile, verdicts, answered);
        Judged {
            task,
            profile,
            response,
        }
    };
    tasks.into_iter().map(judge).collect()
}
