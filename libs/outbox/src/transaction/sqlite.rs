//! Transactions of rusqlite. The futures are ready at once: a program without a runtime may poll
//! them once.

use ratebox_db::Committed;

use super::{FOREIGN, Transaction};
use crate::bundle::NewRow;
use crate::{Result, sql};

impl Transaction for rusqlite::Transaction<'_> {
    async fn insert(&mut self, row: &NewRow<'_>) -> Result<i64> {
        let about = row.event.about.as_deref();
        let values = rusqlite::params![
            row.partition,
            row.event.id.as_bytes(),
            row.event.topic,
            row.event.key,
            row.headers,
            row.event.body.as_ref(),
            row.pre_lease_ms,
            about.and_then(|it| it.aggregate_type.as_deref()),
            about.and_then(|it| it.event_type.as_deref()),
            about.and_then(|it| it.routing_key.as_deref()),
            about.and_then(|it| it.partition_key.as_deref()),
            row.delay_ms(),
        ];
        let insert = || {
            let mut prepared = self.prepare_cached(sql::ADD_ONE.sqlite)?;
            prepared.query_row(values, |row| row.get(0))
        };
        Ok(insert().map_err(ratebox_db::Error::from)?)
    }

    async fn commit(self) -> Result<Committed> {
        self.commit().map_err(ratebox_db::Error::from)?;
        Ok(Committed::outside(FOREIGN))
    }
}
