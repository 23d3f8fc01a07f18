//! `ratebox doctor`: looks for settings and servers that would lose data and for work that stands
//! still, and says what to change.
//!
//! Every check stands for itself: a server that is away is a finding, and the rest is still
//! looked at.

mod bus;
mod files;
mod finding;
mod jwt;
mod place;
mod sagas;
mod store;
mod workers;

use std::io::Write as _;

use anyhow::Result;
use clap::Args;

use self::files::Depth;
use self::finding::Level;
use crate::cli::{Ended, ServerArgs};
use crate::config::{Accept, Config};

/// How far to look.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Reads embedded databases of more than 256 MiB, too, which takes seconds a gigabyte.
    #[arg(long)]
    deep: bool,
}

/// Looks at everything and prints what was found.
///
/// # Errors
/// When the findings cannot be printed.
pub async fn run(config: Config, args: DoctorArgs, json: bool) -> Result<Ended> {
    let depth = match args.deep {
        true => Depth::All,
        false => Depth::Small,
    };
    let mut findings = place::look(&config);
    findings.extend(files::look(&config, depth).await);
    findings.extend(Box::pin(bus::look(&config)).await);
    findings.extend(Box::pin(store::look(&config)).await);
    findings.extend(jwt::look(&config).await);
    let mut out = crate::out::Out;
    match json {
        true => writeln!(out, "{}", finding::to_json(&findings))?,
        false => out.write_all(finding::to_text(&findings).as_bytes())?,
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Ended::Found } else { Ended::Well })
}

/// Whether a 202 relies on the store, not on the bus.
fn is_durable(config: &Config) -> bool {
    config.gateway.accept == Accept::Durable
}
