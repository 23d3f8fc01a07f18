//! `ratebox migrate`: brings the tables up to date; `--adopt` takes over the predecessor's.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ratebox_intake::Profile;
use ratebox_outbox::Adopted;
use ratebox_store::{Adoption, Compared, PREDECESSOR_SCHEMA, Progress, Store};
use serde_json::{Map, Value, json};

use super::outbox::hint_left;
use crate::cli::{Ended, ServerArgs};
use crate::config::Config;
use crate::out::{hint, say};
use crate::wiring;

/// What to bring up to date.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Copies the predecessor's tables of the same PostgreSQL database into ours and compares;
    /// exit code 3 when they differ. Items without a verdict become requests, which the relay
    /// publishes. Its unsent events are the relays' afterwards, unless
    /// relay.saga_outbox serves them where they are. May be repeated: nothing is copied twice.
    #[arg(long)]
    adopt: bool,
    /// Schema of the predecessor's tables.
    #[arg(long, value_name = "SCHEMA", default_value = PREDECESSOR_SCHEMA, requires = "adopt")]
    from_schema: String,
}

/// Migrates, and adopts when asked to.
///
/// # Errors
/// When the store cannot be reached, a newer release made its tables, a migration fails, or there is
/// nothing to adopt.
pub async fn run(config: Config, args: MigrateArgs, json: bool) -> Result<Ended> {
    let store = wiring::store(&config).await?;
    let newer = wiring::newer(&store).await?;
    ensure!(
        newer.is_empty(),
        "nothing was changed: the tables are of a newer release, and this one ({}) does not know {}; run \
         `ratebox migrate` of the newer release",
        env!("CARGO_PKG_VERSION"),
        wiring::listed(&newer)
    );
    let applied = wiring::migrate(&store).await?;
    let ahead = config.relay.partitions_ahead;
    let made = store.ensure_partitions(store.clock().now(), ahead).await;
    made.context("making the partitions")?;
    if !json {
        show_applied(&applied);
    }
    let taken = match args.adopt {
        true => Some(take_over(&store, &config, &args.from_schema).await?),
        false => None,
    };
    if json {
        say!("{}", describe(&applied, taken.as_ref()));
    } else if let Some(taken) = &taken {
        taken.show();
    }
    let differ = taken.is_some_and(|taken| taken.compared.iter().any(differs));
    Ok(if differ { Ended::Found } else { Ended::Well })
}

/// What was taken over.
struct Taken {
    compared: Vec<Compared>,
    /// From its outbox and inbox; `None` when there are none, or they stay where they are.
    outbox: Option<Adopted>,
}

/// Takes over what the predecessor had, be it all of it or only its sagas or its outbox.
async fn take_over(store: &Store, config: &Config, schema: &str) -> Result<Taken> {
    // Whoever comes second finds what is done when it is done.
    let waits = || hint!("another process takes over just now; waiting for it");
    let _turn = store.adopting(waits).await?;
    let sagas = adopt_sagas(store, schema).await?;
    let outbox = adopt_outbox(store, config, schema).await?;
    let is_all = sagas.is_empty() && outbox.is_none();
    let mut compared = Vec::new();
    if is_all || store.has_predecessor(schema).await? {
        compared = adopt(store, config, schema.to_owned()).await?;
    }
    compared.extend(sagas);
    Ok(Taken { compared, outbox })
}

/// The predecessor's unsent events and what its consumers had received.
async fn adopt_outbox(store: &Store, config: &Config, schema: &str) -> Result<Option<Adopted>> {
    if config.relay.saga_route().is_some() || schema != PREDECESSOR_SCHEMA {
        return Ok(None);
    }
    let adopted = ratebox_outbox::adopt(store.db()).await?;
    Ok(Some(adopted).filter(|it| it.found))
}

async fn adopt(store: &Store, config: &Config, schema: String) -> Result<Vec<Compared>> {
    let owner = config.bus.foreign_owner.clone();
    // The predecessor had one set of rules: what we call classic.
    let rules = config.rules.rules()?.with_profile(Profile::Classic);
    let bar = bar();
    let compared = store
        .adopt(
            &Adoption {
                schema,
                owner,
                rules,
            },
            |it| show(&bar, it),
        )
        .await;
    bar.finish_and_clear();
    Ok(compared?)
}

/// The predecessor's sagas, if it kept any in this database.
async fn adopt_sagas(store: &Store, schema: &str) -> Result<Vec<Compared>> {
    let taken = ratebox_saga::take_over_predecessor(store.db(), schema).await?;
    let row = |it: ratebox_saga::TakenOver| Compared {
        what: it.what,
        there: it.there,
        here: it.here,
    };
    Ok(taken.into_iter().map(row).collect())
}

fn differs(compared: &Compared) -> bool {
    compared.there != compared.here
}

fn show_applied(applied: &[(&'static str, Vec<i64>)]) {
    for (owner, versions) in applied {
        if versions.is_empty() {
            say!("{owner}: up to date");
        } else {
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            say!("{owner}: applied {}", versions.join(", "));
        }
    }
}

impl Taken {
    fn show(&self) {
        for row in &self.compared {
            let verdict = if differs(row) { "  DIFFERS" } else { "" };
            say!(
                "{:<14} predecessor {:>12}  ratebox {:>12}{verdict}",
                row.what,
                row.there,
                row.here
            );
        }
        if let Some(it) = &self.outbox {
            say!(
                "outbox: {} unsent events, {} dead ones and {} marks were taken over",
                it.events,
                it.dead,
                it.marks
            );
            hint_left(it.left);
        }
    }
}

fn describe(applied: &[(&'static str, Vec<i64>)], taken: Option<&Taken>) -> Value {
    let applied: Map<String, Value> = applied
        .iter()
        .map(|(owner, versions)| ((*owner).to_owned(), json!(versions)))
        .collect();
    let adopted = taken.map(|taken| {
        let row =
            |it: &Compared| json!({"what": it.what, "predecessor": it.there, "ratebox": it.here});
        taken.compared.iter().map(row).collect::<Vec<_>>()
    });
    let outbox = taken.and_then(|taken| taken.outbox).map(
        |it| json!({"events": it.events, "dead": it.dead, "marks": it.marks, "left": it.left}),
    );
    json!({ "applied": applied, "adopted": adopted, "outbox": outbox })
}

/// Items done of all, for people; nothing where nobody looks.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{msg} {bar:40} {pos} of {len} items, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    ProgressBar::new(0).with_style(style)
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(if progress.comparing {
        "comparing"
    } else {
        "copying"
    });
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}
