//! `ratebox doctor`: looks for settings and servers that would lose data and for work that stands
//! still, and says what to change.
//!
//! Every check stands for itself: a server that is away is a finding, and the rest is still
//! looked at.

mod bus;
mod finding;
mod jwt;
mod place;
mod sagas;
mod store;
mod workers;

use std::io::Write as _;

use anyhow::Result;

use self::finding::Level;
use crate::cli::Ended;
use crate::config::{Accept, Config};

/// Looks at everything and prints what was found.
///
/// # Errors
/// When the findings cannot be printed.
pub async fn run(config: Config, json: bool) -> Result<Ended> {
    let mut findings = place::look(&config);
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
