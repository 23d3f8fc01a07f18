//! Tells others what is in the journal: lifecycle messages, listeners, metrics.

use ratebox_kit::FollowUp;

use crate::definition::plan::Plan;
use crate::journal::store::HeadChange;
use crate::listener::{About, Listeners};
use crate::stats::Stats;
use crate::{Kind, Record, SagaId, Status};

/// Adds the messages of a definition that asked for them.
pub(super) fn lifecycle(
    plan: &Plan,
    saga: SagaId,
    records: &[Record],
    change: Option<&HeadChange>,
    out: &mut Vec<FollowUp>,
) {
    let Some(topic) = &plan.events else {
        return;
    };
    let mut say = |kind: String, body: &serde_json::Value| {
        let message = FollowUp::new(&**topic, body.to_string());
        let message = message.ordered_by(saga.to_string());
        out.push(message.with_header("event_type", kind));
    };
    for record in records {
        let what = match record.kind {
            Kind::Done | Kind::Supplied => "success",
            Kind::Failed => "failed",
            Kind::Undone => "compensated",
            _ => continue,
        };
        let body = serde_json::json!({
            "saga": saga, "step": &*record.step, "item": record.item, "attempt": record.attempt,
            "at_us": record.at.as_microsecond(), "error": record.note,
        });
        say(format!("{}.{}.{what}", plan.name, record.step), &body);
    }
    let Some(change) = change else {
        return;
    };
    let what = match change.status {
        Status::Completed => "completed",
        Status::RolledBack | Status::Failed => "failed",
        Status::Pending
        | Status::Executing
        | Status::ForwardRecovery
        | Status::Compensating
        | Status::Parked => return,
    };
    let body = serde_json::json!({
        "saga": saga, "status": change.status.as_str(),
        "at_us": change.at.as_microsecond(), "error": change.error,
    });
    say(format!("{}.{what}", plan.name), &body);
}

/// Tells listeners and metrics what the records say.
pub(super) fn tell(
    listeners: &Listeners,
    stats: Stats,
    about: About<'_>,
    plan: &Plan,
    records: &[Record],
) {
    for record in records {
        #[expect(clippy::cast_precision_loss, reason = "a histogram is of floats")]
        let seconds = record.took_us as f64 / 1e6;
        match record.kind {
            Kind::Done => {
                stats.step(&plan.name, &record.step, seconds);
                listeners.tell(about, |it| it.on_step_success(about, record));
                listeners.tell(about, |it| it.on_step_exit(about, record));
            }
            Kind::Retry => {
                stats.retried(&plan.name, &record.step);
                listeners.tell(about, |it| it.on_step_failure(about, record));
            }
            Kind::Failed => {
                listeners.tell(about, |it| it.on_step_failure(about, record));
                listeners.tell(about, |it| it.on_step_exit(about, record));
            }
            Kind::Skipped => listeners.tell(about, |it| it.on_step_exit(about, record)),
            Kind::Undone => listeners.tell(about, |it| it.on_compensation_complete(about, record)),
            _ => {}
        }
    }
}
