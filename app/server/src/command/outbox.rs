//! `ratebox outbox status|retry|purge|adopt|export`: what waits to be published, what was given up
//! and what was sent.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use ratebox_db::Db;
use ratebox_kit::id;
use ratebox_outbox::{Adopted, Event, OutboxAdmin, Status, Waiting};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::broker;
use crate::cli::{Ended, ServerArgs, Usage};
use crate::config::Config;
use crate::out::{hint, say};
use crate::wiring::operator::{self, IfMissing};

/// What to do with the outbox.
#[derive(Clone, Debug, Args)]
pub struct OutboxArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Name in the audit log; the user of this session when it is left out.
    #[arg(long = "as", global = true, value_name = "NAME")]
    actor: Option<String>,
    /// Why; goes into the audit log, with what is retried or purged, and with bodies that are shown.
    #[arg(long, global = true, value_name = "WHY")]
    reason: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Counts events by state. Ends with 3 when some are dead.
    Status,
    /// Gives dead events to the relays again, with the same ids: the named ones, or all. Ends with 3
    /// when a named one is not dead.
    Retry {
        /// Ids of events.
        ids: Vec<Uuid>,
        /// Every dead event.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Deletes dead events for good. Ends with 3 when a named one is not dead.
    Purge {
        /// Ids of events.
        #[arg(required = true)]
        ids: Vec<Uuid>,
    },
    /// Takes over the unsent events and the inbox of saga_outbox and consumer_inbox in the schema
    /// `public`.
    Adopt,
    /// Writes dead events as one JSON object a line, without their bodies.
    Export {
        /// With bodies, which may hold personal data: as text, or as hexadecimal when they are none.
        #[arg(long)]
        bodies: bool,
        /// Events that were sent, latest first, in place of the dead ones; as long as they are
        /// archived.
        #[arg(long)]
        sent: bool,
        /// Events at most.
        #[arg(long, default_value_t = 10_000)]
        limit: u32,
    },
}

/// Dead events of one transaction.
const RETRY_MAX: u32 = 1000;

/// Does what is asked.
///
/// # Errors
/// When the store cannot be reached or has no tables.
pub async fn run(config: Config, args: OutboxArgs, json: bool) -> Result<Ended> {
    if let What::Retry { ids, all } = &args.what {
        ensure!(
            *all || !ids.is_empty(),
            Usage("name the events, or give --all")
        );
    }
    let store = operator::store(&config, IfMissing::Refuse)?;
    let reached = store.db().ping().await;
    reached.context("the store cannot be reached")?;
    let done = async {
        if let Some((action, subject)) = args.what.deed() {
            let actor = super::actor(args.actor);
            super::note(&store, &actor, action, subject, args.reason.as_deref()).await?;
        }
        carry_out(store.db(), args.what, json).await
    };
    let done = done.await;
    done.map_err(|error| match error.downcast_ref() {
        Some(ratebox_outbox::Error::Db(cause)) if operator::lacks_tables_in(cause) => {
            error.context(operator::LACKS_TABLES)
        }
        _ => match error.downcast_ref() {
            Some(cause) if operator::lacks_tables(cause) => error.context(operator::LACKS_TABLES),
            _ => error,
        },
    })
}

impl What {
    /// What the audit log is told, and of what.
    fn deed(&self) -> Option<(&'static str, String)> {
        let named = |ids: &[Uuid]| {
            let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
            ids.join(" ")
        };
        match self {
            Self::Status | Self::Export { bodies: false, .. } => None,
            Self::Retry { all: true, .. } => Some(("outbox.retry", "all dead events".to_owned())),
            Self::Retry { ids, .. } => Some(("outbox.retry", named(ids))),
            Self::Purge { ids } => Some(("outbox.purge", named(ids))),
            Self::Adopt => Some(("outbox.adopt", "saga_outbox, consumer_inbox".to_owned())),
            Self::Export { sent: true, .. } => Some(("payload.unmask", "sent events".to_owned())),
            Self::Export { .. } => Some(("payload.unmask", "dead events".to_owned())),
        }
    }
}

async fn carry_out(db: &Db, what: What, json: bool) -> Result<Ended> {
    let admin = OutboxAdmin::new(db.clone()).routed(broker::names());
    match what {
        What::Status => {
            let status = admin.status().await?;
            show(&status, &admin.waiting().await?, json);
            Ok(if status.dead_letter > 0 {
                Ended::Found
            } else {
                Ended::Well
            })
        }
        What::Retry { ids, all } => {
            let count = retry(&admin, all, &ids).await?;
            if json {
                say!("{}", json!({"retried": count}));
            } else {
                say!("{count} events are with the relays again");
            }
            Ok(of_named(count, &ids))
        }
        What::Adopt => {
            let adopted = ratebox_outbox::adopt(db).await?;
            show_adopted(&adopted, json);
            Ok(Ended::Well)
        }
        What::Purge { ids } => {
            let count = admin.purge(&ids).await?;
            if json {
                say!("{}", json!({"purged": count}));
            } else {
                say!("{count} events are deleted");
            }
            Ok(of_named(usize::try_from(count)?, &ids))
        }
        What::Export {
            bodies,
            sent,
            limit,
        } => {
            export(&admin, sent, bodies, limit).await?;
            Ok(Ended::Well)
        }
    }
}

/// What is to be done about events that were left to workers of the predecessor.
pub(super) fn hint_left(left: u64) {
    if left > 0 {
        hint!(
            "{left} events are with workers of the predecessor, behind those, or came meanwhile: stop its \
             workers, and do this again after five minutes"
        );
    }
}

fn show_adopted(adopted: &Adopted, json: bool) {
    let Adopted {
        events,
        dead,
        marks,
        left,
        ..
    } = adopted;
    if json {
        say!(
            "{}",
            json!({"events": events, "dead": dead, "marks": marks, "left": left})
        );
    } else if adopted.found {
        say!("{events} events, {dead} dead ones and {marks} marks were taken over");
    } else {
        say!("there is no outbox or inbox with the predecessor's columns in the schema public");
    }
    hint_left(*left);
}

/// What is named and not dead was mistyped, or was sent meanwhile.
fn of_named(count: usize, ids: &[Uuid]) -> Ended {
    let named: HashSet<_> = ids.iter().collect();
    if count >= named.len() {
        return Ended::Well;
    }
    hint!(
        "{} of the named events are not dead; `ratebox outbox export` lists those that are",
        named.len() - count
    );
    Ended::Found
}

async fn retry(admin: &OutboxAdmin, all: bool, ids: &[Uuid]) -> Result<usize> {
    if !all {
        return Ok(admin.retry(Some(ids), RETRY_MAX).await?.len());
    }
    let mut count = 0;
    loop {
        let retried = admin.retry(None, RETRY_MAX).await?.len();
        count += retried;
        // One that dies again while this runs is not tried for ever.
        if retried < RETRY_MAX as usize {
            return Ok(count);
        }
    }
}

fn show(status: &Status, waiting: &[Waiting], json: bool) {
    let oldest_s = status.oldest.map(|it| it.as_secs_f64());
    if json {
        let brokers: Vec<Value> = waiting.iter().map(of_broker).collect();
        let line = json!({
            "pending": status.pending, "claimed": status.claimed, "failing": status.failing,
            "dead_letter": status.dead_letter, "oldest_s": oldest_s, "relays": status.relays,
            "brokers": brokers,
        });
        say!("{line}");
        return;
    }
    say!("pending      {}", status.pending);
    say!("claimed      {}", status.claimed);
    say!("failing      {}", status.failing);
    say!("dead_letter  {}", status.dead_letter);
    say!("relays       {}", status.relays);
    if let Some(seconds) = oldest_s {
        say!("the oldest waits for {seconds:.1} s");
    }
    for it in waiting {
        let broker = it.broker.as_deref().unwrap_or(BUS);
        say!(
            "for {broker}: {} events wait, {} failing",
            it.events,
            it.failing
        );
        if let Some(error) = &it.last_error {
            say!("  it said of one: {error}");
        }
    }
}

/// The first broker.
const BUS: &str = "the bus";

fn of_broker(it: &Waiting) -> Value {
    json!({
        "broker": it.broker, "events": it.events, "failing": it.failing,
        "oldest_s": it.oldest.map(|it| it.as_secs_f64()), "last_error": it.last_error,
    })
}

async fn export(admin: &OutboxAdmin, sent: bool, bodies: bool, limit: u32) -> Result<()> {
    if sent {
        let most = usize::try_from(limit)?;
        for it in admin.sent(limit).await?.into_iter().take(most) {
            let mut line = exported(&it.event, bodies);
            line["sent_at"] = json!(it.sent_at.to_string());
            say!("{line}");
        }
        return Ok(());
    }
    for dead in admin.dead(limit).await? {
        let mut line = exported(&dead.event, bodies);
        line["attempts"] = json!(dead.attempts);
        line["last_error"] = json!(dead.last_error);
        line["died_at"] = json!(dead.died_at.to_string());
        say!("{line}");
    }
    Ok(())
}

fn exported(event: &Event, bodies: bool) -> Value {
    let about = event.about.as_deref();
    let mut line = json!({
        "id": event.id, "topic": event.topic, "key": event.key,
        "event_type": about.and_then(|it| it.event_type.as_deref()),
        "bytes": event.body.len(),
    });
    if bodies {
        let body = match std::str::from_utf8(&event.body) {
            Ok(text) => json!({"text": text}),
            Err(_) => json!({"hex": id::hex(&event.body)}),
        };
        line["body"] = body;
        line["headers"] = json!(event.headers);
    }
    line
}
