//! `ratebox config check|show`: the settings in force.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cli::Ended;
use crate::config::{self, DEFAULT, Sources};
use crate::out::{print, say};
use crate::wiring;

/// What to do with the settings.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Says whether the settings are sound; exit code 2 when they are not.
    Check,
    /// Prints the settings in force, secrets hidden.
    Show {
        /// Prints the defaults with their explanations instead.
        #[arg(long)]
        defaults: bool,
    },
}

/// Checks or prints.
///
/// # Errors
/// When the settings are not sound.
pub fn run(sources: &Sources, args: &ConfigArgs, json: bool) -> Result<Ended> {
    match args.what {
        What::Check => {
            let config = config::load(sources)?;
            // Files of secrets and keys too; `doctor` asks addresses as well.
            wiring::jwt::settings(&config.jwt)?;
            wiring::check(&config)?;
            match json {
                true => say!("{}", serde_json::json!({ "sound": true })),
                false => say!("the settings are sound"),
            }
        }
        What::Show { defaults } if json => {
            let defaults_only = Sources::default();
            let table = config::shown(if defaults { &defaults_only } else { sources })?;
            say!("{}", serde_json::to_string(&table)?);
        }
        What::Show { defaults: true } => print(format_args!("{DEFAULT}")),
        What::Show { defaults: false } => print(format_args!("{}", config::show(sources)?)),
    }
    Ok(Ended::Well)
}
