//! Writes what happened to a saga, and tells whoever wants to know.

use futures_util::StreamExt as _;

use super::super::faults::{Fault, Point};
use super::super::live::Ending;
use super::{Runner, messages};
use crate::journal::store::{Append, Entry, HeadChange, Wake, Written};
use crate::listener::About;
use crate::{Error, Kind, Record, Result, Status};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// The store will never take it: the saga is to be read back.
    Never,
}

impl Runner {
    /// Writes records that the machine has taken in, and tells whoever wants to know.
    pub(super) async fn write(&mut self, records: Vec<Record>) -> Result<Kept> {
        let append = self.append(records);
        let change = append.head.clone();
        let records = append.records.clone();
        let entry = Entry::Append(append);
        let writer = self.session.writer.clone();
        let written = {
            let write = writer.write(entry);
            tokio::pin!(write);
            loop {
                tokio::select! {
                    biased;
                    written = &mut write => break written,
                    Some(finished) = self.running.next(), if !self.running.is_empty() => {
                        self.finished.push(finished);
                    }
                }
            }
        };
        match written {
            Ok(Written::Kept) => {
                self.kept(&records, change).await;
                Ok(Kept::Yes)
            }
            Ok(Written::NotYours | Written::Exists(_)) => Err(Error::Fenced),
            Err(error) if self.note_refusal(&records, &error) => Ok(Kept::Never),
            Err(error) => Err(error),
        }
    }

    /// What the next entry of this saga says.
    pub(super) fn append(&mut self, records: Vec<Record>) -> Append {
        let status = self.machine.status();
        let wake = self.rest().unwrap_or(Wake::Live);
        let now = self.engine.now();
        for record in &records {
            if matches!(record.kind, Kind::Failed | Kind::UndoFailed | Kind::Parked) {
                let note = record.note.as_deref().unwrap_or_default();
                self.first_error
                    .get_or_insert_with(|| format!("{}: {note}", record.step));
            }
        }
        let error = self.machine.cause().map(str::to_owned);
        let change = ((status, wake) != self.written).then(|| HeadChange {
            status,
            wake,
            error: error.or_else(|| self.first_error.clone()),
            output: self
                .machine
                .final_output()
                .filter(|_| status == Status::Completed),
            at: now,
        });
        let mut follow_ups = std::mem::take(&mut self.sends);
        messages::lifecycle(
            &self.plan,
            self.id,
            &records,
            change.as_ref(),
            &mut follow_ups,
        );
        Append {
            saga: self.id,
            records,
            head: change,
            letters: std::mem::take(&mut self.answered),
            follow_ups,
        }
    }

    /// The entry is on disk.
    pub(super) async fn kept(&mut self, records: &[Record], change: Option<HeadChange>) {
        if let Some(faults) = &self.engine.0.faults
            && faults.at(Point::Written(records)) == Fault::Crash
        {
            std::future::pending::<()>().await;
        }
        let about = About {
            saga: self.id,
            name: &self.plan.name,
        };
        let inner = &self.engine.0;
        messages::tell(&inner.listeners, inner.stats, about, &self.plan, records);
        if let Some(change) = change {
            let before = std::mem::replace(&mut self.written, (change.status, change.wake)).0;
            if before != change.status {
                self.turned(&change);
            }
        }
    }

    /// Its status is another one now.
    fn turned(&self, change: &HeadChange) {
        let (name, status) = (&*self.plan.name, change.status);
        let about = About {
            saga: self.id,
            name,
        };
        let cause = change.error.as_deref().unwrap_or_default();
        let (listeners, stats) = (&self.engine.0.listeners, self.engine.0.stats);
        match status {
            Status::Pending | Status::Executing | Status::ForwardRecovery => return,
            Status::Compensating => {
                stats.compensating(name);
                return listeners.tell(about, |it| it.on_compensation_start(about, cause));
            }
            Status::Completed => listeners.tell(about, |it| it.on_saga_complete(about)),
            Status::Parked => {
                stats.parked(name);
                tracing::error!(saga.id = %self.id, saga.name = name, cause, "a saga is parked: it needs an operator");
                listeners.tell(about, |it| it.on_saga_failed(about, status, cause));
            }
            Status::RolledBack | Status::Failed => {
                listeners.tell(about, |it| it.on_saga_failed(about, status, cause));
            }
        }
        if status.is_end() {
            let took_us = change.at.as_microsecond() - self.created_at.as_microsecond();
            #[expect(clippy::cast_precision_loss, reason = "a histogram is of floats")]
            stats.ended(name, status, took_us as f64 / 1e6);
        }
        let ending = Ending {
            status,
            output: change.output.clone(),
            error: change.error.clone(),
        };
        self.engine.0.lives.announce(self.id, &ending);
    }
}
