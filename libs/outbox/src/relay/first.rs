//! The first pass of a relay's life, which looks out for an event that kills whoever publishes it.
//!
//! Only in that pass is it noted in the rows, before their publication, that it was begun: a
//! process that dies again and again meets the same rows in each of its first passes. What was in
//! work in two deaths is published by itself; what was in work in as many as there are tries is given
//! up.

use std::collections::HashSet;

use ratebox_db::{Column, Db};

use super::due::{Due, waves};
use crate::sweeper::RowKey;
use crate::{Result, sql};

/// Deaths after which a row is published by itself.
pub(super) const ALONE: i64 = 2;
/// What is told of an event that was given up.
pub(super) const KILLS: &str = "every attempt to publish it ended with its process";

/// What was begun in the first pass; `None` when that is over.
pub(super) struct First(Option<HashSet<RowKey>>);

impl First {
    pub(super) fn new() -> Self {
        Self(Some(HashSet::new()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_none()
    }

    /// Waves in which what is suspected stands alone.
    pub(super) fn waves(&self, due: Vec<Due>) -> Vec<Vec<Due>> {
        let waves = waves(due);
        if self.is_over() {
            return waves;
        }
        let split = |wave: Vec<Due>| {
            let is_suspect = |due: &Due| due.started >= ALONE;
            let (suspects, others): (Vec<Due>, Vec<Due>) = wave.into_iter().partition(is_suspect);
            let alone = suspects.into_iter().map(|it| vec![it]);
            std::iter::once(others).chain(alone)
        };
        waves.into_iter().flat_map(split).collect()
    }

    /// Notes that a wave is begun, once for each row in the life of a process.
    pub(super) async fn begin(&mut self, db: &Db, wave: &[Due]) -> Result<()> {
        let Some(begun) = &mut self.0 else {
            return Ok(());
        };
        let new = wave
            .iter()
            .map(|due| due.key)
            .filter(|it| begun.insert(*it));
        let new: Vec<RowKey> = new.collect();
        if !new.is_empty() {
            let begin = sql::BEGUN.rows(columns(&new), Vec::new())?;
            db.execute(begin.planned_anew()).await?;
        }
        Ok(())
    }

    /// The process lives: nothing that is left of the pass is suspected any more.
    pub(super) async fn end(&mut self, db: &Db) -> Result<()> {
        let begun = self.0.iter().flatten().copied().collect::<Vec<_>>();
        if !begun.is_empty() {
            let survive = sql::SURVIVED.rows(columns(&begun), Vec::new())?;
            db.execute(survive.planned_anew()).await?;
        }
        self.0 = None;
        Ok(())
    }
}

fn columns(rows: &[RowKey]) -> Vec<Column> {
    let (partitions, ids) = rows.iter().copied().unzip();
    vec![Column::Int(partitions), Column::Uuid(ids)]
}
