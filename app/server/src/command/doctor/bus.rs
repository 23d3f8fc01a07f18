//! The bus: can it carry streams, what does a power cut take, and is it worked on?

use ratebox_db::Unknown;
use ratebox_kit::{Causes, Clock};

use super::finding::{self, Finding};
use super::{files, workers};
use crate::config::{Accept, Config};
use crate::wiring::listed;
use crate::wiring::operator::{self, Ability, Appendfsync, IfMissing, OperatorBus, ServerInfo};

const BUS: &str = "bus";

/// The oldest version that has all commands that are used.
const VERSION_MIN: (u32, u32) = (7, 0);

/// Percent of its memory that may be in use before it is said.
const MEMORY_WARN_PERCENT: u64 = 85;

/// What the server sets by itself. Above it, a rewrite of the append-only file is rare.
const REWRITE_MIN_BYTES: u64 = 64 << 20;

/// What a 202 relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// The store; requests are published again from there.
    Store,
    /// The bus, when it has the request.
    Bus,
    /// The bus, when its disk has the request.
    BusOnDisk,
}

impl Promise {
    fn of(config: &Config) -> Self {
        let gateway = &config.gateway;
        match (gateway.accept, gateway.accept_disk_wait_ms) {
            (Accept::Durable, _) => Self::Store,
            (Accept::Stream, 0) => Self::Bus,
            (Accept::Stream, _) => Self::BusOnDisk,
        }
    }
}

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    match operator::embedded_bus(config) {
        Ok(Some(file)) if !file.exists() => {
            return vec![Finding::ok(BUS, "embedded; the first start makes it")];
        }
        Ok(Some(_)) => {}
        Ok(None) => return server(config).await,
        Err(error) => return vec![away(&format!("{error:#}"))],
    }
    match operator::bus(config, IfMissing::Refuse).await {
        Ok(bus) => {
            let says = "embedded; every append is on disk before its answer";
            let mut findings = vec![Finding::ok(BUS, says)];
            findings.extend(newer(&bus.newer().await.unwrap_or_default()));
            findings.extend(workers::look(config, &bus).await);
            findings
        }
        Err(error) => vec![
            Finding::fail(BUS, format!("the embedded bus cannot be opened: {error:#}"))
                .advise(files::advice(&*error)),
        ],
    }
}

fn newer(unknown: &[Unknown]) -> Option<Finding> {
    let says = format!(
        "bus.db is newer than this program, which does not know {}",
        listed(unknown)
    );
    let finding = || Finding::warn(BUS, says).advise("use the newer program everywhere");
    (!unknown.is_empty()).then(finding)
}

async fn server(config: &Config) -> Vec<Finding> {
    let bus = match operator::bus(config, IfMissing::Refuse).await {
        Ok(bus) => bus,
        Err(error) => return vec![away(&format!("{error:#}"))],
    };
    if let Err(error) = bus.admin.ping().await {
        return vec![away(&Causes(&error).to_string())];
    }
    let mut findings = match bus.server_info().await {
        Ok(Some(info)) => {
            let mut findings = settings(&info, Promise::of(config));
            findings.extend(topology(&info, config.bus.cluster));
            findings
        }
        Ok(None) => Vec::new(),
        Err(error) => vec![
            Finding::fail(BUS, format!("it does not tell what it is: {error:#}"))
                .advise("let its user run INFO (ACL: +info +config|get)"),
        ],
    };
    let abilities = bus.abilities().await;
    findings.extend(disk_wait(Promise::of(config), abilities.as_deref()));
    findings.extend(abilities.map(|found| beyond(&found)));
    findings.extend(clock(&bus).await);
    findings.extend(workers::look(config, &bus).await);
    findings
}

fn away(why: &str) -> Finding {
    Finding::fail(BUS, format!("it cannot be reached: {why}"))
        .advise("start it, or correct bus.url (--redis-url, REDIS_URL)")
}

/// Commands that are not needed: it is said what they are used for, so that nobody has to look it up.
fn beyond(abilities: &[Ability]) -> Finding {
    let uses = abilities.iter().map(|ability| {
        let why = match ability {
            Ability::WaitAof => "for gateway.accept_disk_wait_ms",
            Ability::AckDel => "not used: acknowledged entries are kept for a while",
            Ability::ReadClaim => "a consumer that waits gets what is handed back",
            Ability::IdempotentAdd => "an append that is repeated is stored once",
            Ability::Nack => "hands back what was not started",
        };
        format!("{ability} ({why})")
    });
    let uses: Vec<String> = uses.collect();
    let newer = match uses.is_empty() {
        true => "no newer one that could be used".to_owned(),
        false => format!("the newer {}", uses.join(", ")),
    };
    Finding::ok(
        BUS,
        format!("it has every command that is needed, and {newer}"),
    )
}

/// Whether the server can tell when its disk has something, where a 202 waits for that.
fn disk_wait(promise: Promise, abilities: Option<&[Ability]>) -> Option<Finding> {
    let can = abilities.is_some_and(|found| found.contains(&Ability::WaitAof));
    (promise == Promise::BusOnDisk && !can).then(|| {
        Finding::fail(BUS, "it cannot tell when its disk has a request (WAITAOF)").advise(
            "set gateway.accept_disk_wait_ms to 0, or use Redis or Valkey from 7.2 on and let its user \
             ask (ACL: +command|info +command|docs +waitaof)",
        )
    })
}

async fn clock(bus: &OperatorBus) -> Option<Finding> {
    let clock = Clock::system();
    let before = clock.now();
    let server = bus.server_time().await.ok()??;
    Some(finding::clock(BUS, server, before, clock.now()))
}

fn settings(info: &ServerInfo, promise: Promise) -> Vec<Finding> {
    let mut findings = vec![version(info), eviction(info), persistence(info, promise)];
    findings.extend(rewrites(info));
    let (used, limit) = (info.used_memory_bytes, info.maxmemory_bytes);
    if limit > 0 && used.saturating_mul(100) / limit >= MEMORY_WARN_PERCENT {
        let mib = |bytes: u64| bytes >> 20;
        let says = format!(
            "{} of {} MiB of its memory are in use",
            mib(used),
            mib(limit)
        );
        let advice = "raise maxmemory, or lower bus.retention_entries and bus.retention_days";
        findings.push(Finding::warn(BUS, says).advise(advice));
    }
    findings
}

/// Whether the settings know a cluster as one.
fn topology(info: &ServerInfo, expected: bool) -> Option<Finding> {
    match (info.cluster_enabled, expected) {
        (true, false) => {
            let finding = Finding::fail(BUS, "it is part of a cluster");
            Some(finding.advise("set bus.cluster to true"))
        }
        (false, true) => {
            let finding = Finding::fail(BUS, "it is no part of a cluster");
            Some(finding.advise("set bus.cluster to false"))
        }
        (true, true) | (false, false) => None,
    }
}

fn version(info: &ServerInfo) -> Finding {
    let mut parts = info
        .version
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let name = format!("{:?} {}", info.flavour, info.version);
    if version < VERSION_MIN {
        return Finding::fail(BUS, format!("{name} is too old"))
            .advise("use Redis 7.0 or Valkey 7.2, or newer");
    }
    Finding::ok(BUS, format!("{name} answers"))
}

fn eviction(info: &ServerInfo) -> Finding {
    match info.check_for_bus() {
        Ok(None) => Finding::ok(BUS, "it evicts nothing (noeviction)"),
        Ok(Some(warning)) => Finding::warn(BUS, warning)
            .advise("CONFIG SET maxmemory-policy noeviction, and in its file"),
        Err(refused) => Finding::fail(BUS, refused.to_string())
            .advise("CONFIG SET maxmemory-policy noeviction, and in its file"),
    }
}

/// A busy bus fills 64 MiB within minutes, and the fork of each rewrite stops the server for 10 to 25 ms.
fn rewrites(info: &ServerInfo) -> Option<Finding> {
    let is_small = |bytes: u64| (1..=REWRITE_MIN_BYTES).contains(&bytes);
    (info.aof_enabled && info.aof_rewrite_min_bytes.is_some_and(is_small)).then(|| {
        Finding::ok(
            BUS,
            "it rewrites its append-only file from 64 MiB on; on a busy bus that is often, and holds up \
             urgent work each time: auto-aof-rewrite-min-size 1gb makes it rare",
        )
    })
}

/// What a power cut takes. With the durable accept mode nothing that was accepted is lost, but
/// what foreign producers put on the bus can be.
fn persistence(info: &ServerInfo, promise: Promise) -> Finding {
    let takes = match promise {
        Promise::Store => {
            "of what foreign producers sent; accepted requests are published again from the store"
        }
        Promise::Bus => "of what was accepted (gateway.accept = stream)",
        Promise::BusOnDisk => {
            "of what foreign producers sent; a 202 waits for the disk (gateway.accept_disk_wait_ms)"
        }
    };
    match (info.aof_enabled, info.appendfsync) {
        (true, Some(Appendfsync::Always)) => Finding::ok(
            BUS,
            "every append is on disk before its answer; a power cut takes nothing",
        ),
        (true, Some(Appendfsync::Everysec)) => {
            let says = format!("a power cut takes about the last second {takes}");
            if promise != Promise::Bus {
                return Finding::ok(BUS, says);
            }
            Finding::warn(BUS, says).advise(
                "appendfsync always, gateway.accept_disk_wait_ms, or gateway.accept = durable",
            )
        }
        (true, Some(Appendfsync::No)) => Finding::warn(
            BUS,
            format!("appendfsync is no: a power cut takes some 30 s {takes}"),
        )
        .advise("CONFIG SET appendfsync everysec, and in its file"),
        (true, None) => Finding::warn(
            BUS,
            format!("it does not tell its appendfsync; a power cut takes an unknown part {takes}"),
        )
        .advise("let its user run CONFIG GET (ACL: +config|get)"),
        (false, _) => Finding::warn(
            BUS,
            format!("it writes no append-only file: a restart can take everything {takes}"),
        )
        .advise("CONFIG SET appendonly yes, and in its file"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn info() -> ServerInfo {
        ServerInfo {
            version: "7.0.15".to_owned(),
            maxmemory_policy: "noeviction".to_owned(),
            maxmemory_bytes: 0,
            used_memory_bytes: 1 << 20,
            aof_enabled: true,
            appendfsync: Some(Appendfsync::Everysec),
            rdb_saves: None,
            aof_rewrite_min_bytes: Some(64 << 20),
            cluster_enabled: false,
            flavour: ratebox_valkey::Flavour::Redis,
        }
    }

    fn check(info: &ServerInfo, promise: Promise, level: Level, part: &str) {
        let findings = settings(info, promise);
        let hit = findings
            .iter()
            .any(|it| it.level == level && it.text().contains(part));
        assert!(hit, "{part}: {findings:?}");
    }

    #[test]
    fn a_sound_server_has_nothing_to_complain_of() {
        assert!(
            settings(&info(), Promise::Store)
                .iter()
                .all(|it| it.level == Level::Ok)
        );
    }

    #[test]
    fn servers_that_lose_data_are_told_apart() {
        let policy = |policy: &str| ServerInfo {
            maxmemory_policy: policy.to_owned(),
            ..info()
        };
        check(
            &policy("allkeys-lru"),
            Promise::Store,
            Level::Fail,
            "noeviction",
        );
        check(
            &policy("volatile-ttl"),
            Promise::Store,
            Level::Warn,
            "noeviction",
        );
        let fsync = |appendfsync| ServerInfo {
            appendfsync,
            ..info()
        };
        check(
            &fsync(Some(Appendfsync::Always)),
            Promise::Bus,
            Level::Ok,
            "takes nothing",
        );
        check(
            &info(),
            Promise::Bus,
            Level::Warn,
            "last second of what was accepted",
        );
        let waits = Promise::BusOnDisk;
        check(&info(), waits, Level::Ok, "a 202 waits for the disk");
        assert!(disk_wait(waits, Some(&[Ability::WaitAof])).is_none());
        for (promise, told) in [(waits, true), (Promise::Bus, false)] {
            assert_eq!(disk_wait(promise, Some(&[])).is_some(), told);
            assert_eq!(disk_wait(promise, None).is_some(), told);
        }
        check(
            &fsync(Some(Appendfsync::No)),
            Promise::Store,
            Level::Warn,
            "everysec",
        );
        check(&fsync(None), Promise::Store, Level::Warn, "+config|get");
        check(
            &ServerInfo {
                aof_enabled: false,
                ..info()
            },
            Promise::Store,
            Level::Warn,
            "appendonly yes",
        );
    }

    #[test]
    fn frequent_rewrites_are_told_and_rare_ones_not() {
        check(
            &info(),
            Promise::Store,
            Level::Ok,
            "auto-aof-rewrite-min-size",
        );
        let with = |bytes| ServerInfo {
            aof_rewrite_min_bytes: bytes,
            ..info()
        };
        for rare in [Some(1 << 30), Some(0), None] {
            assert!(rewrites(&with(rare)).is_none());
        }
    }

    #[test]
    fn what_newer_commands_are_used_for_is_told() {
        let old = beyond(&[]).text();
        assert!(old.contains("no newer one"), "{old}");
        let new = beyond(&Ability::ALL).text();
        for command in Ability::ALL {
            assert!(new.contains(&command.to_string()), "{new}");
        }
    }

    #[test]
    fn old_and_full_servers_and_unexpected_clusters_are_told() {
        let old = ServerInfo {
            version: "6.2.14".to_owned(),
            ..info()
        };
        check(&old, Promise::Store, Level::Fail, "Redis 7.0");
        let full = ServerInfo {
            maxmemory_bytes: 1 << 20,
            ..info()
        };
        check(&full, Promise::Store, Level::Warn, "1 of 1 MiB");
        let cluster = ServerInfo {
            cluster_enabled: true,
            ..info()
        };
        for (info, expected) in [(&cluster, false), (&info(), true)] {
            assert!(topology(info, expected).is_some_and(|told| told.level == Level::Fail));
        }
        assert!(topology(&cluster, true).is_none());
    }
}
