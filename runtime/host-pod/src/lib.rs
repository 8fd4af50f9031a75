//! `wharf:pod`: who a container is, and the notice that it is to end.
//!
//! The WIT stands with the guest's SDK, in `guest-sdk/wit/pod.wit`. The node puts a [`PodIdentity`] and a
//! [`Termination`] into a container's extensions, keeps a clone of the latter, and calls [`Termination::notify`] when
//! the container is to end. Whether anybody listens is told by the component's imports: see
//! [`TERMINATION_INTERFACE`]. What happens when the grace is over is the node's affair.

mod bindings;
mod termination;

pub use termination::{Notice, Termination};

use bindings::wharf::pod::{identity, termination as wit};
use runtime_engine::{Capability, GuestState};
use std::sync::Arc;
use termination::NoticeGiven;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

/// A component whose imports hold this interface can hear the notice of its end; any other cannot.
pub const TERMINATION_INTERFACE: &str = "wharf:pod/termination";

/// The capability to give to the engine.
pub fn capability() -> Capability {
    Capability { name: "pod", add_to_linker }
}

/// Who a container is, as the guest is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodIdentity {
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.uid`
    pub uid: String,
    /// `spec.hostname`, else the pod's name.
    pub hostname: String,
    /// The pod's address on the virtual network.
    pub ip: String,
    /// `spec.nodeName`
    pub node: String,
    /// `spec.serviceAccountName`
    pub service_account: String,
    /// The container's name.
    pub container: String,
    /// `metadata.labels`, in the order of their keys.
    pub labels: Vec<(String, String)>,
    /// `metadata.annotations`, in the order of their keys.
    pub annotations: Vec<(String, String)>,
}

fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    identity::add_to_linker::<_, PodHost>(linker, |state| state)?;
    wit::add_to_linker::<_, PodHost>(linker, |state| state)
}

/// Says that the host functions work on the whole of a guest's state.
struct PodHost;

impl HasData for PodHost {
    type Data<'a> = &'a mut GuestState;
}

impl identity::Host for &mut GuestState {
    fn get_pod(&mut self) -> wasmtime::Result<identity::Pod> {
        // A guest outside any pod (a test, a tool) has an identity without names.
        let pod = self.extensions.get::<Arc<PodIdentity>>().map(|pod| (**pod).clone()).unwrap_or_default();
        Ok(identity::Pod {
            name: pod.name,
            namespace: pod.namespace,
            uid: pod.uid,
            hostname: pod.hostname,
            ip: pod.ip,
            node: pod.node,
            service_account: pod.service_account,
            container: pod.container,
            labels: pod.labels,
            annotations: pod.annotations,
        })
    }
}

impl wit::Host for &mut GuestState {
    fn requested(&mut self) -> wasmtime::Result<Option<wit::Notice>> {
        let notice = self.extensions.get::<Termination>().and_then(Termination::notice);
        Ok(notice.map(|notice| wit::Notice {
            remaining_ms: u64::try_from(notice.remaining().as_millis()).unwrap_or(u64::MAX),
            reason: notice.reason,
        }))
    }

    fn subscribe(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let termination = self.extensions.get::<Termination>().cloned().unwrap_or_default();
        let given = self.table.push(NoticeGiven(termination))?;
        subscribe(&mut self.table, given)
    }
}
