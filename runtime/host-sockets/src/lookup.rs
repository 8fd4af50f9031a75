//! `ip-name-lookup`: names by the pod's resolver.

use crate::View;
use crate::bindings::wasi::sockets::ip_name_lookup::{Host, HostResolveAddressStream};
use crate::bindings::wasi::sockets::network::{ErrorCode, IpAddress};
use crate::error::{SocketResult, code_of_name};
use crate::pod_network::NetworkHandle;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

type Asking = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ErrorCode>> + Send>>;

/// A lookup under way, or its answers that are left.
pub enum Lookup {
    /// Waiting for the resolver.
    Asking(Asking),
    /// Addresses not yet taken.
    Answered(std::vec::IntoIter<IpAddr>),
    /// There are none.
    Failed(ErrorCode),
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asking(_) => f.write_str("Asking"),
            Self::Answered(rest) => f.debug_tuple("Answered").field(&rest.as_slice()).finish(),
            Self::Failed(code) => f.debug_tuple("Failed").field(code).finish(),
        }
    }
}

impl Lookup {
    // Asking -> Answered | Failed
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Asking(asking) = self {
            *self = match std::task::ready!(asking.as_mut().poll(cx)) {
                Ok(addresses) => Self::Answered(addresses.into_iter()),
                Err(code) => Self::Failed(code),
            };
        }
        Poll::Ready(())
    }
}

#[async_trait::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> SocketResult<Resource<Lookup>> {
        self.table.get(&network)?;
        let attachment = self.pod()?.attachment().clone();
        let mut lookup = Lookup::Asking(Box::pin(async move {
            attachment.resolve(&name).await.map_err(|error| code_of_name(&error))
        }));
        // Most names are the cluster's own and known at once.
        let _waits = lookup.poll(&mut Context::from_waker(Waker::noop()));
        if let Lookup::Failed(code) = lookup {
            return Err(code.into());
        }
        Ok(self.table.push(lookup)?)
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(&mut self, this: Resource<Lookup>) -> SocketResult<Option<IpAddress>> {
        let lookup = self.table.get_mut(&this)?;
        let _waits = lookup.poll(&mut Context::from_waker(Waker::noop()));
        match lookup {
            Lookup::Asking(_) => Err(ErrorCode::WouldBlock.into()),
            Lookup::Answered(rest) => Ok(rest.next().map(IpAddress::from)),
            Lookup::Failed(code) => Err((*code).into()),
        }
    }

    fn subscribe(&mut self, this: Resource<Lookup>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Lookup>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
