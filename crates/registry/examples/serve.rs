//! Serves a registry from a configuration file until it is killed: `serve CONFIG.yml`. Prints its address.

use std::path::PathBuf;

use strata_registry::{Config, Running, config::Overrides};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: serve CONFIG.yml")?;
    let config = Config::load(Some(&path), std::env::vars(), &Overrides::default())?;
    let running = Running::start(config).await?;
    println!("{}", running.address());
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}
