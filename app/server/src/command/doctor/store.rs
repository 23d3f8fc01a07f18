//! The store: does a commit survive a power cut, are the tables there, does work pile up?

use std::time::Duration;

use ratebox_kit::{Causes, Clock};
use ratebox_outbox::{OutboxAdmin, Status, Waiting};
use ratebox_store::{ServerSettings, Store};

use super::super::figures::{grouped, span};
use super::finding::{self, Finding, Level};
use super::{files, is_durable, sagas};
use crate::config::Config;
use crate::wiring::operator::{self, IfMissing};
use crate::wiring::{OWNERS, listed};

const STORE: &str = "store";
const TABLES: &str = "tables";
const RELAY: &str = "relay";
const OUTBOX: &str = "outbox";
const LETTERS: &str = "letters";

/// What to do about a server that is away.
const AWAY: &str = "start it, or correct store.url (--database-url, POSTGRES_DSN)";

/// The oldest PostgreSQL whose SQL is spoken here, as `server_version_num`.
const POSTGRES_MIN: i64 = 130_000;
/// Events in the outbox above which they pile up; the threshold of the alert OutboxHighLag.
const BACKLOG_WARN: u64 = 5_000;
/// A relay looks every second, and a sender keeps its event for 5 s: what waits longer does not leave.
const WAITS_WARN: Duration = Duration::from_secs(60);
/// Letters of a broker's own words that are told.
const WORDS_MAX: usize = 200;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let embedded = match operator::embedded_store(config) {
        Ok(Some(file)) if !file.exists() => {
            return vec![Finding::ok(STORE, "embedded; the first start makes it")];
        }
        Ok(file) => file.is_some(),
        Err(error) => return vec![away(&format!("{error:#}"), AWAY)],
    };
    let advice = |error: &(dyn std::error::Error + 'static)| match embedded {
        true => files::advice(error),
        false => AWAY,
    };
    let store = match operator::store(config, IfMissing::Refuse) {
        Ok(store) => store,
        Err(error) => return vec![away(&format!("{error:#}"), advice(&*error))],
    };
    if let Err(error) = store.db().ping().await {
        return vec![away(&Causes(&error).to_string(), advice(&error))];
    }
    let mut findings = server(&store, is_durable(config)).await;
    let tables = tables(&store).await;
    let there = tables.iter().all(|finding| finding.level == Level::Ok);
    findings.extend(tables);
    if there {
        findings.extend(work(&store).await);
        findings.push(Box::pin(sagas::look(config, &store)).await);
    }
    findings
}

fn away(why: &str, advice: &'static str) -> Finding {
    Finding::fail(STORE, format!("it cannot be reached: {why}")).advise(advice)
}

async fn server(store: &Store, durable: bool) -> Vec<Finding> {
    let clock = Clock::system();
    let before = clock.now();
    match store.server_settings().await {
        Ok(Some(server)) => {
            let mut findings = settings(&server, durable);
            findings.push(finding::clock(STORE, server.clock, before, clock.now()));
            findings
        }
        Ok(None) => vec![Finding::ok(
            STORE,
            "embedded; every commit is on disk before its answer",
        )],
        Err(error) => vec![unanswered(STORE, &error)],
    }
}

fn settings(server: &ServerSettings, durable: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (major, minor) = (
        server.version_number / 10_000,
        server.version_number % 10_000,
    );
    let name = format!("PostgreSQL {major}.{minor}");
    findings.push(if server.version_number < POSTGRES_MIN {
        Finding::fail(STORE, format!("{name} is too old")).advise("use PostgreSQL 14 or newer")
    } else {
        Finding::ok(STORE, format!("{name} answers"))
    });
    if server.is_read_only {
        let says = "it takes no writes: a standby, or default_transaction_read_only = on";
        findings.push(Finding::fail(STORE, says).advise("name the primary in store.url"));
    } else if !server.may_write {
        let says = "this user may not write to the tables";
        let advice = "GRANT INSERT, UPDATE, DELETE on them, or name their owner in store.url";
        findings.push(Finding::fail(STORE, says).advise(advice));
    }
    if server.fsync == "off" {
        let says = "fsync is off: a power cut can destroy the database";
        findings.push(Finding::fail(STORE, says).advise("fsync = on"));
    }
    if server.synchronous_commit == "off" {
        let says = "synchronous_commit is off: a power cut takes what was committed last";
        let finding = if durable {
            Finding::fail(STORE, says)
        } else {
            Finding::warn(STORE, says)
        };
        findings.push(finding.advise("synchronous_commit = on, at least for this user"));
    }
    if server.full_page_writes == "off" {
        let says = "full_page_writes is off: a power cut can tear pages, unless the file system \
                    writes them whole";
        findings.push(Finding::warn(STORE, says).advise("full_page_writes = on"));
    }
    if findings.len() == 1 {
        findings.push(Finding::ok(
            STORE,
            "every commit is on disk before its answer",
        ));
    }
    findings
}

/// Whether the tables are those of this version.
async fn tables(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (owner, migrations) in OWNERS {
        let there = match ratebox_db::applied(store.db(), owner).await {
            Ok(there) => there,
            Err(error) if error.is_outage() => {
                return vec![Finding::fail(TABLES, format!("{}", Causes(&error)))];
            }
            // Never migrated: there is not even the table of migrations.
            Err(_) => Vec::new(),
        };
        let missing = migrations
            .iter()
            .filter(|it| !there.contains(&it.version))
            .count();
        if missing > 0 {
            let all = migrations.len();
            let says =
                format!("{missing} of {all} migrations of the tables of {owner} are missing");
            findings.push(Finding::fail(TABLES, says).advise("ratebox migrate"));
        }
        let newer = ratebox_db::unknown(store.db(), owner, migrations).await;
        let newer = newer.unwrap_or_default();
        if !newer.is_empty() {
            let says = format!(
                "the tables of {owner} are newer than this program, which does not know {}",
                listed(&newer)
            );
            findings.push(Finding::warn(TABLES, says).advise("use the newer program everywhere"));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(TABLES, "all migrations are applied"));
    }
    findings
}

/// Whether work piles up, and whether somebody does it.
async fn work(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    match store.partition_complaints(store.clock().now()).await {
        Ok(complaints) => findings.extend(complaints.into_iter().map(partition)),
        Err(error) => findings.push(unanswered(TABLES, &error)),
    }
    let admin = OutboxAdmin::new(store.db().clone());
    match Box::pin(admin.status()).await {
        Ok(status) => findings.extend(outbox(&status)),
        Err(error) => findings.push(unanswered(OUTBOX, &error)),
    }
    match Box::pin(admin.waiting()).await {
        Ok(waiting) => findings.extend(waiting.iter().flat_map(stuck)),
        Err(error) => findings.push(unanswered(OUTBOX, &error)),
    }
    findings.push(match store.dead_letter_count().await {
        Ok(0) => Finding::ok(LETTERS, "no dead letters"),
        Ok(count) => Finding::warn(LETTERS, format!("{} dead letters", grouped(count)))
            .advise("`ratebox dlq list` shows class and code, `ratebox dlq show ID` the error"),
        Err(error) => unanswered(LETTERS, &error),
    });
    findings
}

/// A partition that is missing can be made; not so while the DEFAULT one holds rows of its month.
fn partition(complaint: String) -> Finding {
    let advice = if complaint.contains("_default ") {
        "no partition of their months can be made while they are there, and `migrate` fails when it \
         wants one: move them with the SQL of docs/Operating-The-Bus.md, \"Rows without a partition\"; \
         rows of months that need none do no harm"
    } else {
        "let a relay run, which makes partitions ahead, or run `ratebox migrate`"
    };
    Finding::warn(TABLES, complaint).advise(advice)
}

/// Who empties the outbox, what waits in it, and what was given up.
fn outbox(status: &Status) -> Vec<Finding> {
    let relays = match status.relays {
        0 => Finding::warn(RELAY, "none runs: what its sender could not publish waits")
            .advise("start `ratebox relay`; `ratebox up` has one"),
        count => Finding::ok(RELAY, format!("{count} at work")),
    };
    let count = status.pending.saturating_add(status.claimed);
    let says = format!("{} events wait in the outbox", grouped(count));
    let waiting = match count > BACKLOG_WARN {
        true => Finding::warn(RELAY, says)
            .advise("see that a relay runs and that the bus takes entries"),
        false => Finding::ok(RELAY, says),
    };
    let dead = match status.dead_letter {
        0 => Finding::ok(OUTBOX, "no dead events"),
        count => {
            let says = format!(
                "{} dead events: they used up their tries, and nobody sends them",
                grouped(count)
            );
            Finding::warn(OUTBOX, says).advise(
                "`ratebox outbox export` shows why; when that is mended, `ratebox outbox retry --all`",
            )
        }
    };
    vec![relays, waiting, dead]
}

/// What should have left for a broker and has not, and what it refused.
fn stuck(waiting: &Waiting) -> Vec<Finding> {
    let broker = waiting.broker.as_deref().unwrap_or("the bus");
    let mut findings = Vec::new();
    if let Some(oldest) = waiting.oldest.filter(|it| *it > WAITS_WARN) {
        let (events, age) = (grouped(waiting.events), span(oldest));
        let says = format!("{events} events wait for {broker}, the oldest for {age}");
        let advice = match &waiting.broker {
            None => "the log of the relay says why the bus takes nothing",
            Some(_) => {
                "see that [brokers] names it in the settings of a relay, whose log says why it takes \
                 nothing"
            }
        };
        findings.push(Finding::warn(RELAY, says).advise(advice));
    }
    if waiting.failing > 0 {
        let failing = grouped(waiting.failing);
        let words = waiting.last_error.as_deref().unwrap_or("nothing");
        let words: String = words.chars().take(WORDS_MAX).collect();
        let says = format!("{failing} rows were refused by {broker}, which said: {words}");
        let advice = "each is tried again, and dead when it used up its tries";
        findings.push(Finding::warn(OUTBOX, says).advise(advice));
    }
    findings
}

fn unanswered(about: &'static str, error: &(dyn std::error::Error + 'static)) -> Finding {
    Finding::fail(
        about,
        format!("the database did not answer: {}", Causes(error)),
    )
    .advise("see the database's log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> ServerSettings {
        ServerSettings {
            version_number: 150_018,
            fsync: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            is_read_only: false,
            may_write: true,
            clock: "2026-03-04T05:06:07Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_outbox_that_nobody_empties_and_dead_events_are_told() {
        let sound = Status {
            pending: 1,
            claimed: 1,
            failing: 0,
            dead_letter: 0,
            oldest: None,
            relays: 1,
        };
        let levels =
            |status: &Status| -> Vec<Level> { outbox(status).iter().map(|it| it.level).collect() };
        assert_eq!(levels(&sound), [Level::Ok, Level::Ok, Level::Ok]);
        let stuck = Status {
            pending: BACKLOG_WARN,
            dead_letter: 2,
            relays: 0,
            ..sound
        };
        assert_eq!(levels(&stuck), [Level::Warn, Level::Warn, Level::Warn]);
        let dead = outbox(&stuck)[2].text();
        assert!(
            dead.contains("2 dead events") && dead.contains("`ratebox outbox retry --all`"),
            "{dead}"
        );
    }

    #[test]
    fn what_does_not_leave_for_a_broker_is_told_with_its_name_and_its_words() {
        let sound = Waiting {
            broker: Some("rabbitmq".to_owned()),
            events: 7,
            failing: 0,
            oldest: Some(WAITS_WARN),
            last_error: None,
        };
        assert!(stuck(&sound).is_empty());
        let old = Waiting {
            oldest: Some(WAITS_WARN * 2),
            failing: 1,
            last_error: Some("returned: NO_ROUTE".to_owned()),
            ..sound
        };
        let told = stuck(&old);
        assert!(told.iter().all(|it| it.level == Level::Warn));
        let told: Vec<String> = told.iter().map(Finding::text).collect();
        assert!(told[0].contains("7 events wait for rabbitmq"), "{told:?}");
        assert!(told[1].contains("NO_ROUTE"), "{told:?}");
        let bus = stuck(&Waiting {
            broker: None,
            ..old
        });
        assert!(bus[0].text().contains("for the bus"));
    }

    #[test]
    fn rows_in_a_default_partition_are_not_said_to_be_cured_by_a_migration() {
        let used = partition("raw_items_default holds rows whose month had no partition".into());
        let used = used.text();
        assert!(
            used.contains("Rows without a partition") && !used.contains("ratebox migrate"),
            "{used}"
        );
        // The rest of the housekeeping is done all the same.
        assert!(!used.contains("housekeeping"), "{used}");
        let missing = partition("partition raw_items_2040_06 is missing".into()).text();
        assert!(missing.contains("`ratebox migrate`"), "{missing}");
    }

    fn levels(server: &ServerSettings, durable: bool) -> Vec<Level> {
        settings(server, durable)
            .iter()
            .map(|it| it.level)
            .collect()
    }

    #[test]
    fn a_server_whose_commits_survive_is_well() {
        assert_eq!(levels(&sound(), true), [Level::Ok, Level::Ok]);
        assert!(
            settings(&sound(), true)[0]
                .text()
                .contains("PostgreSQL 15.18")
        );
    }

    #[test]
    fn settings_that_lose_commits_are_told_apart() {
        let off = || "off".to_owned();
        let fsync = ServerSettings {
            fsync: off(),
            ..sound()
        };
        assert_eq!(levels(&fsync, true), [Level::Ok, Level::Fail]);
        let lazy = ServerSettings {
            synchronous_commit: off(),
            ..sound()
        };
        assert_eq!(levels(&lazy, true), [Level::Ok, Level::Fail]);
        assert_eq!(levels(&lazy, false), [Level::Ok, Level::Warn]);
        let torn = ServerSettings {
            full_page_writes: off(),
            ..sound()
        };
        assert_eq!(levels(&torn, true), [Level::Ok, Level::Warn]);
        let standby = ServerSettings {
            is_read_only: true,
            ..sound()
        };
        assert_eq!(levels(&standby, true), [Level::Ok, Level::Fail]);
        let guest = ServerSettings {
            may_write: false,
            ..sound()
        };
        assert_eq!(levels(&guest, true), [Level::Ok, Level::Fail]);
        let old = ServerSettings {
            version_number: 120_005,
            ..sound()
        };
        assert_eq!(levels(&old, true)[0], Level::Fail);
    }
}
