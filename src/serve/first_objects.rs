//! The objects that no cluster can be without, made again where somebody has deleted them: without its namespace, the
//! node's lease could not be written, and the node would be taken for dead.

use control_registry::Registry;
use std::{net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often they are looked at, as upstream does it for the API's own Service.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps them until `stop`. They are there already; pods see the API at `api_server`.
pub(super) async fn keep(registry: Registry, api_server: SocketAddr, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = registry.bootstrap(api_server).await {
            tracing::warn!(%error, "an object that every cluster has could not be made again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::{Resources, object::ResourceId};
    use control_registry::{Config, DeleteOptions};
    use control_store::{EventKind, Store};
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn what_was_deleted_is_made_again() {
        let resources = Arc::new(Resources::built_in());
        let registry = Registry::new(Arc::clone(&resources), Store::in_memory(), Config::default());
        let api_server = "192.0.2.1:6443".parse().unwrap();
        registry.bootstrap(api_server).await.unwrap();
        let services = resources.by_plural("", "v1", "services").unwrap();
        let options = DeleteOptions::default();
        registry.delete(services, Some("default"), "kubernetes", &options).await.unwrap();

        let (_, mut watch) = registry.store().snapshot_and_watch(&ResourceId::new("", "services"), None);
        let event = tokio::select! {
            event = watch.next() => event.unwrap(),
            () = keep(registry.clone(), api_server, CancellationToken::new()) => unreachable!("nobody stops it"),
        };
        assert_eq!((event.kind, event.object.key.name.as_str()), (EventKind::Added, "kubernetes"));
    }
}
