#!/usr/bin/env bash
# Requests a second of samples/function: wharf (NodePort -> pod) beside `wasmtime serve`, in turns, under the same load.
# Usage: bench/compare-http.sh [SECONDS OF A TURN]. Builds in release; installs wasmtime-cli 48 below the target folder once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-5}
target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/tools
work=$(mktemp -d)
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"; }
trap finish EXIT

[ -x "$tools/bin/wasmtime" ] ||
    CARGO_TARGET_DIR=$target/wasmtime-cli cargo install --quiet --locked --root "$tools" --version '^48' wasmtime-cli \
        --no-default-features --features serve,run,cranelift,pooling-allocator,parallel-compilation,component-model,component-model-async
# The whole workspace: a selection of crates would compile wasmtime anew, with other features.
cargo build --quiet --release --workspace
function=$(cargo xtask samples | grep '/function.wasm$')

await() { for _ in $(seq 200); do (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null && return; sleep 0.05; done; echo "$1 does not answer" >&2; return 1; }

"$tools/bin/wasmtime" serve -O pooling-allocator=y -S cli --addr 127.0.0.1:30990 "$function" 2>"$work/log" &
pids+=($!)
await 127.0.0.1:30990 || { cat "$work/log" >&2; exit 1; }
export WHARF_HOME=$work/home
"$target/release/wharf" image load "$function" -t function >/dev/null
"$target/release/wharf" serve --listen 127.0.0.1:0 >"$work/ready" 2>"$work/log" &
pids+=($!)
until [ -s "$work/ready" ]; do kill -0 $! || { cat "$work/log" >&2; exit 1; }; sleep 0.05; done
kubectl=$(cargo xtask kubectl)
export KUBECONFIG=$WHARF_HOME/kubeconfig
"$kubectl" apply -f samples/function/function.yaml >/dev/null
"$kubectl" rollout status deployment/function --timeout=60s >/dev/null
await 127.0.0.1:30081
"$target/release/wharf-bench" http wasmtime=127.0.0.1:30990 wharf=127.0.0.1:30081 --seconds "$seconds"
