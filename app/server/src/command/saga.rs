//! `ratebox saga list|show|retry|skip|supply|compensate|…|graph|simulate`: sagas.
//!
//! Needs no engine: an order is a letter in the journal, read by the process that owns the saga.
//! What a saga carries is masked unless `--unmask`, which is written into the audit log, as every
//! order is.

mod text;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ratebox_kit::{Clock, Timestamp};
use ratebox_operator::{
    By, Many, Payload, SagaFilter, SagaOrder, SagaOutcome, SagaStates, Sagas, saga_counts,
    saga_definition, saga_foreseen, saga_head, saga_ordered, saga_shown,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::moment::Moment;
use crate::cli::{Ended, ServerArgs, Usage};
use crate::config::Config;
use crate::out::{hint, print, say};
use crate::wiring::operator::{self, IfMissing};
use crate::wiring::saga;

/// Definitions that are listed at most.
const DEFINITIONS_MAX: usize = 1_000;

/// What to do with sagas.
#[derive(Clone, Debug, Args)]
pub struct SagaArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Name in the audit log; the user of this session when it is left out.
    #[arg(long = "as", global = true, value_name = "NAME")]
    actor: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Lists sagas, oldest first; those that have not ended unless --state says otherwise.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Sagas at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Shows a saga with its steps, its records, and what was ordered.
    Show {
        /// The saga.
        id: Uuid,
        /// As it stood then: a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
        #[arg(long, value_name = "TIME")]
        at: Option<Moment>,
        /// Shows what it carries as it is; needs --reason.
        #[arg(long, requires = "reason")]
        unmask: bool,
        /// Why; goes into the audit log.
        #[arg(long, value_name = "WHY")]
        reason: Option<String>,
    },
    /// Tries a step that waits for an operator again, or its undo; or all of those that match.
    Retry(RetryArgs),
    /// Leaves out a step that waits for an operator, or its undo.
    Skip(StepArgs),
    /// Gives the result of a step that waits for an operator; or says that an undo was done by hand.
    Supply {
        #[command(flatten)]
        step: StepArgs,
        /// File with the result as JSON; - is standard input. Without it the result is null.
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
    },
    /// Stops a saga and has it undone; a completed one, too. Or all of those that match.
    #[command(visible_alias = "cancel")]
    Compensate(EndArgs),
    /// Lets a saga go on that is parked as a whole: its definition is there now.
    Resume(OrderArgs),
    /// Ends a parked saga as failed, with whatever effects are left; or all of those that match.
    Abandon(EndArgs),
    /// Approves a step that waits for it, or refuses it.
    Approve {
        #[command(flatten)]
        step: StepArgs,
        /// Refuses.
        #[arg(long)]
        refuse: bool,
    },
    /// Tells a step what it waits for.
    Signal {
        #[command(flatten)]
        step: StepArgs,
        /// File with the value as JSON; - is standard input. Without it the value is null.
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
    },
    /// Draws a saga with its states, or a definition, as a Mermaid flow chart.
    Graph {
        /// A saga's id, or a definition's name.
        what: String,
    },
    /// Says what a definition takes: critical path, time, and how much runs at once.
    Simulate {
        /// The definition's name.
        definition: String,
        /// What a step takes, as STEP=MILLISECONDS; else what it took lately.
        #[arg(long = "takes", value_name = "STEP=MS", value_parser = take)]
        takes: Vec<(String, Duration)>,
    },
    /// Lists the definitions that the journal knows.
    Definitions,
}

/// Which sagas.
#[derive(Clone, Debug, Default, Args)]
struct FilterArgs {
    /// live (have not ended), any, or states between commas: pending, executing,
    /// `forward_recovery`, compensating, parked, completed, `rolled_back`, failed.
    #[arg(long, default_value = "live")]
    state: SagaStates,
    /// Name of the definition.
    #[arg(long, value_name = "NAME")]
    definition: Option<String>,
    /// Key that it was started with.
    #[arg(long)]
    key: Option<String>,
    /// Started by a step of this saga.
    #[arg(long, value_name = "ID")]
    parent: Option<Uuid>,
    /// Started then or later: a time as 2026-01-31T12:00:00Z, or how long ago as 15m.
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Started before then: a time, or how long ago.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only younger than this saga.
    #[arg(long, value_name = "ID")]
    cursor: Option<Uuid>,
}

/// An order about a saga.
#[derive(Clone, Debug, Args)]
struct OrderArgs {
    /// The saga.
    id: Uuid,
    #[command(flatten)]
    why: Why,
}

/// An order about a step.
#[derive(Clone, Debug, Args)]
struct StepArgs {
    /// The saga.
    id: Uuid,
    /// The step, or the signal's name.
    step: String,
    #[command(flatten)]
    why: Why,
}

#[derive(Clone, Debug, Args)]
struct Why {
    /// Why; goes into the audit log and into the saga's records.
    #[arg(long, value_name = "WHY")]
    reason: String,
    /// Seconds to wait until the saga's owner has read the order; exit code 3 when it has not.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    wait: u64,
}

/// Many sagas in place of one.
#[derive(Clone, Debug, Args)]
struct AllArgs {
    /// All sagas that match, in place of one.
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Sagas at most, with --all.
    #[arg(long, default_value_t = 1_000)]
    max: usize,
}

#[derive(Clone, Debug, Args)]
struct RetryArgs {
    /// The saga; or --all with a filter: every parked step of the sagas that match.
    #[arg(required_unless_present = "all")]
    id: Option<Uuid>,
    /// The step.
    #[arg(conflicts_with = "all", required_unless_present = "all")]
    step: Option<String>,
    #[command(flatten)]
    all: AllArgs,
    #[command(flatten)]
    why: Why,
}

#[derive(Clone, Debug, Args)]
struct EndArgs {
    /// The saga; or --all with a definition, a key or a parent.
    #[arg(required_unless_present = "all")]
    id: Option<Uuid>,
    #[command(flatten)]
    all: AllArgs,
    #[command(flatten)]
    why: Why,
}

impl What {
    /// # Errors
    /// When an order that cannot be taken back would go to whatever sagas there are.
    fn check(&self) -> Result<(), Usage> {
        if let Self::Compensate(it) | Self::Abandon(it) = self
            && it.all.all
            && !it.all.filter.is_narrow()
        {
            return Err(Usage(
                "name a definition, a key or a parent: this order is not given to all sagas at \
                 once",
            ));
        }
        Ok(())
    }
}

/// Does what is asked.
///
/// # Errors
/// When the journal cannot be reached, or a saga does not take the order.
pub async fn run(config: Config, args: SagaArgs, json: bool) -> Result<Ended> {
    args.what.check()?;
    let store = operator::store(&config, IfMissing::Refuse)?;
    let reached = store.db().ping().await;
    reached.context("the store cannot be reached")?;
    let desk = Desk {
        sagas: saga::sagas(&config, &store).await?,
        actor: super::actor(args.actor),
        json,
    };
    desk.act(args.what).await.map_err(|error| {
        let lacks = match error.downcast_ref() {
            Some(ratebox_operator::Error::Store(cause)) => operator::lacks_tables(cause),
            Some(ratebox_operator::Error::Saga(cause)) => saga::lacks_tables(cause),
            _ => false,
        };
        match lacks {
            true => error.context(operator::LACKS_TABLES),
            false => error,
        }
    })
}

struct Desk {
    sagas: Sagas,
    actor: String,
    json: bool,
}

impl Desk {
    async fn act(&self, what: What) -> Result<Ended> {
        match what {
            What::List { filter, limit } => self.list(&filter, limit).await,
            What::Show {
                id,
                at,
                unmask,
                reason,
            } => {
                let at = at.map(|it| it.time(Clock::system().now()));
                self.show(id, at, unmask.then(|| reason.unwrap_or_default()))
                    .await
            }
            What::Retry(args) => self.retry(args).await,
            What::Skip(it) => {
                let step = it.step;
                self.order(it.id, &SagaOrder::Skip { step }, &it.why).await
            }
            What::Supply { step, value_file } => {
                let result = value(value_file)?;
                let order = SagaOrder::Supply {
                    step: step.step,
                    result,
                };
                self.order(step.id, &order, &step.why).await
            }
            What::Compensate(it) => self.end(it, &SagaOrder::Cancel, Many::Cancel).await,
            What::Resume(it) => self.order(it.id, &SagaOrder::Resume, &it.why).await,
            What::Abandon(it) => self.end(it, &SagaOrder::Abandon, Many::Abandon).await,
            What::Approve { step, refuse } => {
                let order = SagaOrder::Approve {
                    step: step.step,
                    yes: !refuse,
                };
                self.order(step.id, &order, &step.why).await
            }
            What::Signal { step, value_file } => {
                let value = value(value_file)?;
                let order = SagaOrder::Signal {
                    name: step.step,
                    value,
                };
                self.order(step.id, &order, &step.why).await
            }
            What::Graph { what } => self.graph(&what).await,
            What::Simulate { definition, takes } => self.simulate(&definition, takes).await,
            What::Definitions => self.definitions().await,
        }
    }

    async fn list(&self, filter: &FilterArgs, limit: u32) -> Result<Ended> {
        let limit = limit as usize;
        let heads = self.sagas.list(&filter.filter(), limit).await?;
        let counts = self.sagas.counts().await?;
        let next = heads.last().filter(|_| heads.len() == limit);
        let next = next.map(|last| last.id);
        if self.json {
            let sagas: Vec<Value> = heads.iter().map(saga_head).collect();
            let counts = saga_counts(&counts);
            self.say(&json!({ "sagas": sagas, "next": next, "counts": counts }));
        } else {
            print(format_args!("{}", text::list(&heads, &counts)));
            if let Some(next) = next {
                hint!("there may be more: --cursor {next}");
            }
        }
        Ok(Ended::Well)
    }

    async fn show(&self, id: Uuid, at: Option<Timestamp>, why: Option<String>) -> Result<Ended> {
        let seen = self.sagas.show(id, at).await?;
        let payload = match why {
            Some(why) => {
                self.sagas.note_unmasking(id, &self.by(&why)?).await?;
                Payload::Plain
            }
            None => Payload::Masked,
        };
        let shown = saga_shown(&seen, payload);
        if self.json {
            self.say(&shown);
        } else {
            print(format_args!("{}", text::saga(&shown)));
        }
        Ok(Ended::Well)
    }

    async fn retry(&self, args: RetryArgs) -> Result<Ended> {
        match (args.id, args.step, args.all.all) {
            (Some(id), Some(step), false) => {
                self.order(id, &SagaOrder::Retry { step }, &args.why).await
            }
            (None, None, true) => self.order_all(&args.all, Many::Retry, &args.why).await,
            _ => bail!("name a saga and a step, or --all"),
        }
    }

    async fn end(&self, args: EndArgs, one: &SagaOrder, many: Many) -> Result<Ended> {
        match (args.id, args.all.all) {
            (Some(id), false) => self.order(id, one, &args.why).await,
            (None, true) => self.order_all(&args.all, many, &args.why).await,
            _ => bail!("name a saga, or --all"),
        }
    }

    /// Posts an order to each saga that matches; nobody is waited for.
    async fn order_all(&self, all: &AllArgs, order: Many, why: &Why) -> Result<Ended> {
        let by = self.by(&why.reason)?;
        let filter = all.filter.filter();
        let outcome = self.sagas.order_many(&filter, order, all.max, &by);
        let outcome = outcome.await?;
        if self.json {
            self.say(&saga_ordered(&outcome));
        } else {
            say!(
                "{} sagas match, {} orders were posted, {} were refused",
                outcome.matched,
                outcome.posted,
                outcome.refused.len()
            );
            for (id, why) in &outcome.refused {
                say!("  {id} {why}");
            }
        }
        let all = outcome.refused.is_empty() && outcome.next.is_none();
        Ok(if all { Ended::Well } else { Ended::Found })
    }

    async fn order(&self, id: Uuid, order: &SagaOrder, why: &Why) -> Result<Ended> {
        let by = self.by(&why.reason)?;
        let wait = Duration::from_secs(why.wait);
        let outcome = self.sagas.order(id, order, &by, wait).await?;
        let (word, sentence) = match outcome {
            SagaOutcome::Done => ("done", "done"),
            SagaOutcome::Waiting => (
                "waiting",
                "posted; the process that owns the saga has not read it yet",
            ),
            SagaOutcome::TooLate => ("too_late", "read, but it came too late: look again"),
        };
        if self.json {
            self.say(&json!({ "id": id, "order": order.verb(), "outcome": word }));
        } else {
            say!("{sentence}");
        }
        Ok(match outcome {
            SagaOutcome::Done => Ended::Well,
            SagaOutcome::Waiting | SagaOutcome::TooLate => Ended::Found,
        })
    }

    async fn graph(&self, what: &str) -> Result<Ended> {
        let mermaid = match Uuid::try_parse(what) {
            Ok(id) => self.sagas.graph(id).await?,
            Err(_) => self.sagas.definition(what).await?.mermaid(),
        };
        if self.json {
            self.say(&json!({ "mermaid": mermaid }));
        } else {
            print(format_args!("{mermaid}"));
        }
        Ok(Ended::Well)
    }

    async fn simulate(&self, definition: &str, takes: Vec<(String, Duration)>) -> Result<Ended> {
        let given = takes.into_iter().collect::<HashMap<_, _>>();
        let foreseen = self.sagas.simulate(definition, given).await?;
        let shown = saga_foreseen(&foreseen);
        if self.json {
            self.say(&shown);
        } else {
            print(format_args!("{}", text::foreseen(&shown)));
        }
        Ok(Ended::Well)
    }

    async fn definitions(&self) -> Result<Ended> {
        let outlines = self.sagas.definitions(None, DEFINITIONS_MAX).await?;
        let all: Vec<Value> = outlines.iter().map(saga_definition).collect();
        if self.json {
            self.say(&json!({ "definitions": all }));
        } else {
            print(format_args!("{}", text::definitions(&all)));
        }
        Ok(Ended::Well)
    }

    fn say(&self, value: &Value) {
        say!("{value}");
    }

    fn by(&self, reason: &str) -> Result<By> {
        Ok(By::new(self.actor.clone(), reason)?)
    }
}

impl FilterArgs {
    /// Whether it names some sagas, and not just states and times.
    fn is_narrow(&self) -> bool {
        self.definition.is_some() || self.key.is_some() || self.parent.is_some()
    }

    fn filter(&self) -> SagaFilter {
        let now = Clock::system().now();
        SagaFilter {
            states: self.state.clone(),
            definition: self.definition.clone(),
            key: self.key.clone(),
            parent: self.parent,
            from: self.from.map(|it| it.time(now)),
            until: self.until.map(|it| it.time(now)),
            after: self.cursor,
        }
    }
}

fn take(text: &str) -> Result<(String, Duration), &'static str> {
    const FORM: &str = "it is STEP=MILLISECONDS";
    let (step, ms) = text.split_once('=').ok_or(FORM)?;
    let ms = ms.parse().map_err(|_| FORM)?;
    Ok((step.to_owned(), Duration::from_millis(ms)))
}

/// JSON of a file or of standard input; null without one.
fn value(file: Option<PathBuf>) -> Result<Value> {
    let Some(file) = file else {
        return Ok(Value::Null);
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        let read = std::fs::read_to_string(&file);
        text = read.with_context(|| format!("cannot read {}", file.display()))?;
    }
    serde_json::from_str(&text).context("the value is no JSON")
}
