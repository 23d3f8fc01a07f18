//! `crashlab [--messages N] [--seed N] [--per-second N]`: the experiment by hand, as long as wanted.

use anyhow::{Context as _, Result, bail};
use ratebox_crashlab::one_effect::{Plan, run};

#[tokio::main]
async fn main() -> Result<()> {
    let plan = plan(std::env::args().skip(1))?;
    println!("seed {}", plan.seed);
    let report = run(&plan).await?;
    print!("{report}");
    if !report.violations.is_empty() {
        bail!(
            "{} promises were broken; seed {}",
            report.violations.len(),
            plan.seed
        );
    }
    Ok(())
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan> {
    let mut plan = Plan::new(fastrand::u64(..));
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a number"))?;
        let value = value
            .parse()
            .with_context(|| format!("{value} is no number"))?;
        match &*word {
            "--messages" => plan.messages = value,
            "--seed" => plan.seed = value,
            "--per-second" => plan.per_second = value,
            _ => bail!("crashlab [--messages N] [--seed N] [--per-second N]"),
        }
    }
    Ok(plan)
}
