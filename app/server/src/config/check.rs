//! Relations between settings that no single one shows.

use anyhow::{Result, ensure};

use super::Config;

impl Config {
    /// Refuses settings that cannot work together, with a sentence that says what to change.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn check(&self) -> Result<()> {
        let (worker, relay, bus, gateway) = (&self.worker, &self.relay, &self.bus, &self.gateway);
        ensure!(
            worker.heartbeat_ms * 3 <= worker.claim_idle_ms,
            "worker.heartbeat_ms ({}) must be at most a third of worker.claim_idle_ms ({}), or live \
             workers lose their messages; lower the first or raise the second",
            worker.heartbeat_ms,
            worker.claim_idle_ms
        );
        ensure!(
            bus.fair || worker.owner_in_work_max == 0,
            "worker.owner_in_work_max needs bus.fair, by which messages tell their owner; set it to \
             true, or the limit to 0"
        );
        ensure!(
            !bus.fair || gateway.accept == super::Accept::Durable,
            "bus.fair needs gateway.accept = \"durable\": a request in its owner's room has no entry \
             yet that a 202 could name"
        );
        gateway.check(bus.cluster)?;
        ensure!(
            relay.inbox_days > bus.retention_days,
            "relay.inbox_days ({}) must exceed bus.retention_days ({}), or an old entry could be \
             judged twice; raise the first",
            relay.inbox_days,
            bus.retention_days
        );
        ensure!(
            gateway.token_cache_ms <= 5000,
            "gateway.token_cache_ms ({}) must be at most 5000, or revoked tokens live too long",
            gateway.token_cache_ms
        );
        self.saga.check()?;
        let saga = self.relay.saga_outbox.as_str();
        ensure!(
            matches!(saga, "" | "bus") || self.brokers.has(saga),
            "relay.saga_outbox is {saga:?}, which is no broker of [brokers]; name kafka, rabbitmq or \
             nats and set its address, or write bus"
        );
        ensure!(
            self.outbox.pre_lease_ms > self.outbox.optimistic_timeout_ms,
            "outbox.pre_lease_ms ({}) must exceed outbox.optimistic_timeout_ms ({}), or the relay \
             sends what its sender still tries to send",
            self.outbox.pre_lease_ms,
            self.outbox.optimistic_timeout_ms
        );
        let one_at_least = [
            ("worker.batch_max", worker.batch_max),
            ("worker.batches_in_flight", worker.batches_in_flight),
            ("gateway.items_max", gateway.items_max),
            ("gateway.committers", gateway.committers),
            ("gateway.accept_queue_max", gateway.accept_queue_max),
            ("store.pool_max", self.store.pool_max),
        ];
        for (key, value) in one_at_least {
            ensure!(value >= 1, "{key} must be at least 1");
        }
        self.check_sizes()?;
        let pool_needed = gateway.committers + worker.batches_most() + 3;
        ensure!(
            self.store.pool_max >= pool_needed,
            "store.pool_max ({}) must be at least {pool_needed}: committers, batches in flight, \
             relay and look-ups each take a connection",
            self.store.pool_max
        );
        worker.policy(&bus.dead_letter_stream)?;
        bus.check()?;
        self.jwt.check()?;
        self.cache.check()?;
        self.rules.rules().map(drop)
    }

    /// What a request and an import may hold.
    fn check_sizes(&self) -> Result<()> {
        ensure!(
            self.gateway.items_max <= 1000,
            "gateway.items_max must be at most 1000"
        );
        let imports = &self.imports;
        ensure!(
            imports.items_max >= 1 && imports.look_every_ms >= 1 && imports.follow_every_ms >= 1,
            "imports.items_max, look_every_ms and follow_every_ms must be at least 1"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    fn refusal(pairs: &[(&str, &str)]) -> String {
        let env = pairs
            .iter()
            .map(|(key, value)| (format!("RATEBOX_{key}"), (*value).to_owned()));
        let sources = Sources {
            env: env.collect(),
            ..Sources::default()
        };
        load(&sources)
            .err()
            .map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn only_a_202_of_a_bus_that_is_no_cluster_can_wait_for_its_disk() {
        let waits = ("GATEWAY__ACCEPT_DISK_WAIT_MS", "2000");
        let stream = ("GATEWAY__ACCEPT", "stream");
        assert!(refusal(&[waits]).contains("set it to 0"));
        assert_eq!(refusal(&[waits, stream]), "");
        let cluster = ("BUS__CLUSTER", "true");
        assert!(refusal(&[waits, stream, cluster]).contains("set it to 0"));
    }

    #[test]
    fn fairness_needs_owners_that_are_told_and_requests_that_may_wait() {
        let capped = ("WORKER__OWNER_IN_WORK_MAX", "5");
        assert!(refusal(&[capped]).contains("needs bus.fair"));
        let fair = ("BUS__FAIR", "true");
        assert_eq!(refusal(&[capped, fair]), "");
        let stream = ("GATEWAY__ACCEPT", "stream");
        assert!(refusal(&[fair, stream]).contains("needs gateway.accept"));
    }

    #[test]
    fn imports_need_room_and_looks() {
        for key in ["ITEMS_MAX", "LOOK_EVERY_MS", "FOLLOW_EVERY_MS"] {
            let key = format!("IMPORTS__{key}");
            assert!(refusal(&[(&key, "0")]).contains("at least 1"), "{key}");
        }
        assert_eq!(refusal(&[("IMPORTS__AT_ONCE_MAX", "0")]), "");
    }
}
