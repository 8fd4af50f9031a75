//! The API alone, over a store in memory or a file: no controllers, no node.
//!
//! `cargo run -p control-server --example serve -- 127.0.0.1:7443 /tmp/wharf-api [store-file]`
//! writes the kubeconfig to `/tmp/wharf-api/kubeconfig`.

use control_api::Resources;
use control_registry::{Config, Registry};
use control_server::{LogError, LogOpener, Pki, Server, ServerConfig, write_private};
use control_store::Store;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let listen: SocketAddr = args.next().unwrap_or_else(|| "127.0.0.1:7443".to_owned()).parse()?;
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "/tmp/wharf-api".to_owned()));
    let store = match args.next() {
        Some(file) => Store::open(&PathBuf::from(file))?,
        None => Store::in_memory(),
    };
    let registry = Registry::new(Arc::new(Resources::built_in()), store.clone(), Config::default());
    registry.bootstrap(listen).await?;
    let names = [listen.ip().to_string()];
    let pki = Pki::load_or_create(&dir.join("pki"), jiff::Timestamp::now(), &names)?;
    let logs: LogOpener = Arc::new(|_request| {
        Box::pin(async { Err(LogError::NotFound("nothing runs here: there is no node".to_owned())) })
    });
    let server = Server::bind(ServerConfig::new(listen, pki.clone()), registry, logs).await?;
    write_private(&dir.join("kubeconfig"), &pki.kubeconfig(server.local_addr()))?;
    let stop = CancellationToken::new();
    let running = server.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => (),
        signal = tokio::signal::ctrl_c() => {
            signal?;
            stop.cancel();
            running.await;
        }
    }
    store.close().await;
    Ok(())
}
