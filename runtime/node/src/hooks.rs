//! Lifecycle hooks: what is done right after a container's start and before its end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime_net::Network;

use crate::{
    error::chain,
    prober::{self, Problem},
};

/// Runs a hook; the error is for an event.
pub(crate) async fn run(
    network: &Network,
    container: &Container,
    hook: &LifecycleHandler,
    ip: &str,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if let Some(action) = &hook.http_get {
        return match prober::http_get(network, container, action, ip, "kube-lifecycle/1.36").await {
            Ok(status) if status < 400 => Ok(()),
            Ok(status) => Err(format!("HTTP request returned statuscode: {status}")),
            Err(Problem::Impossible(why)) => Err(why),
            Err(Problem::Failed(url, error)) => Err(format!("Get {url:?}: {error}")),
        };
    }
    if let Some(action) = &hook.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
        let address = prober::address(container, &action.port, host)?;
        return network.connect_from_host(address).await.map(drop).map_err(|error| chain(&error));
    }
    Err("exec hooks are not supported yet; use httpGet or sleep".to_owned())
}
