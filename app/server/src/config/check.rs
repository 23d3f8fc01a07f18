//! Relations between settings that no single one shows.

use std::ops::RangeInclusive;

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
        self.check_brokers()?;
        ensure!(
            self.outbox.pre_lease_ms > self.outbox.optimistic_timeout_ms,
            "outbox.pre_lease_ms ({}) must exceed outbox.optimistic_timeout_ms ({}), or the relay \
             sends what its sender still tries to send",
            self.outbox.pre_lease_ms,
            self.outbox.optimistic_timeout_ms
        );
        relay.check()?;
        self.check_ranges()?;
        self.check_sizes()?;
        self.check_timeouts()?;
        let pool_needed = gateway.committers + worker.batches_most() + 3;
        ensure!(
            self.store.pool_max >= pool_needed,
            "store.pool_max ({}) must be at least {pool_needed}: committers, batches in flight, \
             relay and look-ups each take a connection",
            self.store.pool_max
        );
        worker.policy(&bus.dead_letter_stream)?;
        self.lookup.settings()?;
        self.server.check()?;
        self.log.check()?;
        self.metrics.check()?;
        self.store.check()?;
        bus.check()?;
        self.jwt.check()?;
        self.cache.check()?;
        self.rules.rules().map(drop)
    }

    /// Where events go that are not the bus'.
    fn check_brokers(&self) -> Result<()> {
        self.brokers.check()?;
        let saga = self.relay.saga_outbox.as_str();
        ensure!(
            matches!(saga, "" | "bus") || self.brokers.has(saga),
            "relay.saga_outbox is {saga:?}, which is no broker of [brokers]; name kafka, rabbitmq or \
             nats and set its address, or write bus"
        );
        Ok(())
    }

    /// Numbers with which nothing would work: nobody would get in, a loop would never rest, or
    /// a start would ask for more than there is.
    fn check_ranges(&self) -> Result<()> {
        let (worker, gateway, server) = (&self.worker, &self.gateway, &self.server);
        let counts = [
            ("worker.batch_max", worker.batch_max, 1..=1_000_000),
            (
                "worker.batches_in_flight",
                worker.batches_in_flight,
                1..=10_000,
            ),
            // Workers take so many, whatever is set here.
            (
                "gateway.items_max",
                gateway.items_max,
                1..=ratebox_intake::ITEMS_MAX,
            ),
            ("gateway.committers", gateway.committers, 1..=10_000),
            (
                "gateway.accept_queue_max",
                gateway.accept_queue_max,
                1..=1_000_000,
            ),
            (
                "gateway.connections_max",
                gateway.connections_max,
                1..=1_000_000,
            ),
            // A body is held as a whole, and once more as messages.
            (
                "gateway.body_max_bytes",
                gateway.body_max_bytes,
                1_024..=64 << 20,
            ),
            ("store.pool_max", self.store.pool_max, 1..=10_000),
            ("store.readers_max", self.store.readers_max, 1..=10_000),
            ("server.threads", server.threads, 0..=1_024),
        ];
        for (key, value, range) in counts {
            within(
                key,
                value as u64,
                *range.start() as u64..=*range.end() as u64,
            )?;
        }
        let day_s = 86_400;
        within(
            "server.shutdown_timeout_s",
            server.shutdown_timeout_s,
            1..=day_s,
        )?;
        within("worker.block_ms", worker.block_ms, 1..=day_s * 1_000)?;
        within(
            "worker.claim_every_ms",
            worker.claim_every_ms,
            1..=day_s * 1_000,
        )?;
        within("saga.live_max", self.saga.live_max as u64, 1..=1_000_000)
    }

    /// What an import may hold.
    fn check_sizes(&self) -> Result<()> {
        let imports = &self.imports;
        ensure!(
            imports.items_max >= 1 && imports.look_every_ms >= 1 && imports.follow_every_ms >= 1,
            "imports.items_max, look_every_ms and follow_every_ms must be at least 1"
        );
        Ok(())
    }

    /// Times in which nothing can be done: a role would fail each time, and begin again for ever.
    fn check_timeouts(&self) -> Result<()> {
        let (store, bus, cache, gateway) = (&self.store, &self.bus, &self.cache, &self.gateway);
        for (key, value) in [
            ("store.connect_timeout_ms", store.connect_timeout_ms),
            ("store.statement_timeout_ms", store.statement_timeout_ms),
            ("bus.connect_timeout_ms", bus.connect_timeout_ms),
            ("bus.response_timeout_ms", bus.response_timeout_ms),
            ("cache.connect_timeout_ms", cache.connect_timeout_ms),
            ("cache.response_timeout_ms", cache.response_timeout_ms),
            ("cache.away_after_ms", cache.away_after_ms),
            ("gateway.head_timeout_ms", gateway.head_timeout_ms),
            ("gateway.body_timeout_ms", gateway.body_timeout_ms),
            ("gateway.idle_timeout_ms", gateway.idle_timeout_ms),
        ] {
            ensure!(value >= 1, "{key} must be at least 1");
        }
        Ok(())
    }
}

pub(super) fn within(key: &str, value: u64, range: RangeInclusive<u64>) -> Result<()> {
    let (least, most) = range.into_inner();
    ensure!(
        (least..=most).contains(&value),
        "{key} ({value}) must be from {least} to {most}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    fn refusal(pairs: &[(&str, &str)]) -> String {
        load(&Sources::of_env(pairs))
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
    fn a_replica_needs_the_server_that_it_follows() {
        let (reader, writer) = (("CACHE__READER", "replica"), ("CACHE__WRITER", "primary"));
        assert!(refusal(&[reader]).contains("name the writer"));
        assert!(
            refusal(&[reader, ("CACHE__URL", "redis://primary/3")]).contains("name the writer")
        );
        assert_eq!(refusal(&[reader, writer]), "");
    }

    #[test]
    fn a_prefix_of_the_cache_has_no_braces() {
        for prefix in ["{cache}:", "cache{", "}:"] {
            let said = refusal(&[("CACHE__PREFIX", prefix)]);
            assert!(said.contains("must hold no braces"), "{prefix}: {said}");
        }
        assert_eq!(refusal(&[("CACHE__PREFIX", "shop:")]), "");
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
    fn numbers_with_which_nothing_would_work_are_refused_before_the_start() {
        for (key, wrong, said) in [
            ("SERVER__SHUTDOWN_TIMEOUT_S", "0", "from 1 to 86400"),
            (
                "SERVER__SHUTDOWN_TIMEOUT_S",
                "9223372036854775807",
                "from 1 to",
            ),
            ("SERVER__THREADS", "999999999999", "from 0 to 1024"),
            ("STORE__READERS_MAX", "9223372036854775807", "from 1 to"),
            ("GATEWAY__BODY_MAX_BYTES", "0", "from 1024 to"),
            ("GATEWAY__BODY_MAX_BYTES", "67108865", "to 67108864"),
            ("GATEWAY__CONNECTIONS_MAX", "0", "from 1 to"),
            (
                "GATEWAY__ACCEPT_QUEUE_MAX",
                "9223372036854775807",
                "to 1000000",
            ),
            ("GATEWAY__ITEMS_MAX", "1001", "from 1 to 1000"),
            ("WORKER__BLOCK_MS", "0", "from 1 to"),
            ("WORKER__CLAIM_EVERY_MS", "0", "from 1 to"),
            ("LOOKUP__MAX_AGE_MS", "0", "lookup.max_age_ms is from 1"),
            (
                "WORKER__BATCH_MAX",
                "-1",
                "worker.batch_max must not be negative",
            ),
            (
                "GATEWAY__LIMIT_VALIDATE",
                "0",
                "gateway.limit_validate must be at least 1",
            ),
            (
                "METRICS__LISTEN",
                "foo",
                "metrics.listen \"foo\" is no address",
            ),
            ("LOG__LEVEL", "loud", "log.level \"loud\""),
            ("LOG__LEVEL", "info,loud", "log.level \"loud\""),
            ("LOG__LEVEL", "info,foo=", "log.level \"foo=\""),
            ("LOG__LEVEL", "info,foo=loud", "log.level \"foo=loud\""),
            (
                "RELAY__LEASE_MS",
                "10",
                "relay.lease_ms (10) must be from 1000",
            ),
            ("RELAY__POLL_MS", "0", "relay.poll_ms (0) must be from 1"),
            (
                "RELAY__BATCH_MAX",
                "0",
                "relay.batch_max must be at least 1",
            ),
            (
                "RELAY__ATTEMPTS_MAX",
                "0",
                "relay.attempts_max must be at least 1",
            ),
            ("RELAY__REPUBLISH_EVERY_MS", "0", "must be from 1 to"),
            ("RELAY__HOUSEKEEPING_EVERY_MS", "0", "must be from 1 to"),
            ("BUS__STREAM", "", "bus.stream must not be empty"),
            ("SERVER__DATA_DIR", "", "server.data_dir must not be empty"),
        ] {
            let told = refusal(&[(key, wrong)]);
            assert!(told.contains(said), "{key} = {wrong}: {told}");
        }
    }

    #[test]
    fn levels_and_directives_are_levels_of_the_log() {
        for level in [
            "off",
            "info",
            "WARN",
            "info,ratebox_stream=debug",
            "[span]=trace",
            "[span{id=7}]",
            "[span{id=7}]=debug",
        ] {
            assert_eq!(refusal(&[("LOG__LEVEL", level)]), "", "{level}");
        }
    }

    #[test]
    fn times_to_wait_are_no_less_than_a_millisecond() {
        for (section, key) in [
            ("store", "connect_timeout_ms"),
            ("store", "statement_timeout_ms"),
            ("bus", "connect_timeout_ms"),
            ("bus", "response_timeout_ms"),
            ("cache", "connect_timeout_ms"),
            ("cache", "response_timeout_ms"),
            ("cache", "away_after_ms"),
            ("gateway", "head_timeout_ms"),
            ("gateway", "body_timeout_ms"),
            ("gateway", "idle_timeout_ms"),
        ] {
            let name = format!("{section}__{key}").to_uppercase();
            let said = refusal(&[(&name, "0")]);
            assert_eq!(said, format!("{section}.{key} must be at least 1"));
            assert_eq!(refusal(&[(&name, "1")]), "", "{name}");
        }
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
