//! `cargo xtask dev`: servers to develop against, until Ctrl-C.

use anyhow::Result;

use crate::install;
use crate::servers::Servers;

/// Starts the servers, prints their addresses and waits.
pub(crate) fn run() -> Result<()> {
    install::missing()?;
    let servers = Servers::start()?;
    let addresses = servers.environment()?;
    println!("# Ctrl-C stops them and removes their data.");
    for (name, address) in &addresses {
        match *name {
            "RATEBOX_TEST_REDIS_URL" => println!("export REDIS_URL={address}"),
            "RATEBOX_TEST_POSTGRES_DSN" => println!("export POSTGRES_DSN={address}"),
            _ => {}
        }
        println!("export {name}={address}");
    }
    loop {
        // Ctrl-C ends this process; the guard of each server then ends the server.
        std::thread::park();
    }
}
