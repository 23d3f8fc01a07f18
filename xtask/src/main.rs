//! The project's own commands: `cargo xtask <command>`. `ci` is the whole truth; the others are its
//! parts, and what a developer needs beside them.

mod bench;
mod ci;
mod deny;
mod dev;
mod disposable;
mod dist;
mod docs;
mod install;
mod plans;
mod servers;
mod step;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <command>

  test [-p CRATE]… [NAME]…   installs what is missing, starts its own servers, runs all tests
                             (or those of a crate, or whose name contains NAME)
  ci                         fmt, tidy, deny, clippy, test and docs: what has to be green
  tidy                       the rules of ARCHITECTURE.md and docs/House-Style.md that text can show
  deny                       licences, banned crates, sources and number of dependencies
  docs                       builds the documentation with warnings as errors
  bench [W1 W2 …] [--json] [--beside DIR]
                             builds for release and measures, on servers of its own
                             (RATEBOX_BIN names another binary to measure)
  dist                       builds the binary for servers: twice, the second time by what W1, W2 and W3
                             showed of the first (a quarter of an hour)
  disposable [--check]       writes the domains of throw-away mail of app/intake from mailchecker's list
  plans [--check]            writes the numbering plans of app/intake from libphonenumber's
  dev                        starts Redis, Valkey and PostgreSQL, prints their addresses, and stops
                             them on Ctrl-C
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match &*command {
        "test" => test::run(&rest),
        "ci" => ci::run(),
        "tidy" => tidy::run(),
        "deny" => deny::run(),
        "docs" => docs::run(),
        "bench" => bench::run(&rest),
        "dist" => dist::run(),
        "disposable" => disposable::run(&rest),
        "plans" => plans::run(&rest),
        "dev" => dev::run(),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        "" => bail!("which command?\n\n{USAGE}"),
        unknown => bail!("there is no command `{unknown}`\n\n{USAGE}"),
    }
}
