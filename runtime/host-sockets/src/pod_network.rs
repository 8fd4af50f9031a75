//! A container's way to the network, and the `network` and `instance-network` interfaces.

use crate::View;
use crate::bindings::wasi::sockets::network::ErrorCode;
use crate::bindings::wasi::sockets::{instance_network, network};
use crate::error::{SocketError, SocketResult};
use runtime_net::Attachment;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::component::Resource;

/// The network of one container: goes into the guest's extensions.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    attachment: Attachment,
    abort: AbortHandle,
    /// Connects, and writes to kernel sockets, that outlive the guest's call.
    tasks: TaskTracker,
}

/// Says that the container is about to be killed. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct AbortHandle(CancellationToken);

impl AbortHandle {
    /// From now on the container's connections are reset when they are dropped, where otherwise they would be closed
    /// as if the guest had meant it; what waits to be sent is not waited for.
    pub fn abort(&self) {
        self.0.cancel();
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(crate) async fn aborted(&self) {
        self.0.cancelled().await;
    }
}

impl PodNetwork {
    /// The network of a container of the pod.
    pub fn new(attachment: Attachment) -> Self {
        Self { attachment, abort: AbortHandle::default(), tasks: TaskTracker::new() }
    }

    /// To be set before a kill.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }

    /// The pod's place on the network.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

/// What stands behind a guest's `network` handle. It carries no right of its own: those are the pod's.
#[derive(Debug)]
pub struct NetworkHandle;

impl View<'_> {
    /// The guest's network, or the error for a guest without one.
    pub(crate) fn pod(&self) -> SocketResult<&PodNetwork> {
        self.network.ok_or(ErrorCode::AccessDenied.into())
    }
}

impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.into_code()
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, this: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl instance_network::Host for View<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<NetworkHandle>> {
        Ok(self.table.push(NetworkHandle)?)
    }
}
