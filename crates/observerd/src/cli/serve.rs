//! `observerd serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use watchkeeper::report::error_chain;

use crate::config::ObserverdConfig;
use crate::service::Service;

/// Runs the service until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  observerd serve\n  observerd serve --config observerd.toml --listen 127.0.0.1:0 --data-dir data"
)]
pub struct ServeArgs {
    /// The configuration, a TOML file with a block [observerd]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen; wins over the configuration
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The directory of the journal; wins over the configuration
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) async fn run(args: ServeArgs) -> ExitCode {
    let mut config = ObserverdConfig::default();
    if let Some(listen) = args.listen {
        config.bind = listen;
    }
    if let Some(directory) = args.data_dir {
        config.persist_path = directory;
    }
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("observerd: {error}");
            ExitCode::from(2)
        }
    }
}

async fn serve(config: ObserverdConfig) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let service = Service::start(config).await.map_err(|error| error_chain(&error))?;
    println!("listening on http://{}", service.address());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service.stop().await.map_err(|error| error_chain(&error))
}
