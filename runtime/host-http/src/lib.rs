//! wasi:http over the virtual network.
//!
//! Outgoing: a guest's requests go over its pod's network, by its pod's names, through one pool of connections a pod
//! ([`HttpClient`], given to a guest as [`PodHttp`] in its extensions). Incoming: [`serve`] answers the connections of a
//! pod's listener with an instance of the component per request.
//!
//! The interfaces themselves are wasmtime's; this crate decides what a request may reach and how long it may take.

mod body;
mod client;
mod error;
mod outgoing;
mod pool;
mod serve;
mod tls;

pub use client::HttpClient;
pub use outgoing::PodHttp;
pub use serve::{Counters, Gate, GuestTemplate, ServeConfig, ServeError, Served, serve};
pub use tls::Trust;

use runtime_engine::{Capability, GuestState};
use wasmtime::component::Linker;
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};

/// The capability to make and to handle HTTP requests, for the engine.
pub fn capability() -> Capability {
    Capability { name: "http", add_to_linker }
}

fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    types::add_to_linker::<GuestState, WasiHttp>(linker, &types::LinkOptions::default(), outgoing::view)?;
    outgoing_handler::add_to_linker::<GuestState, WasiHttp>(linker, outgoing::view)?;
    Ok(())
}
