//! What `bindgen!` makes of `guest-sdk/wit`. Pollables are those of wasi:io, so that guests can wait for several things.

wasmtime::component::bindgen!({
    path: "../../guest-sdk/wit",
    world: "guest",
    with: { "wasi:io": wasmtime_wasi_io::bindings::wasi::io },
    require_store_data_send: true,
    imports: { default: trappable },
});
