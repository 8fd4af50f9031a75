#!/usr/bin/env bash
# Makes `cargo build --target wasm32-wasip2` work with the toolchain of this project.
#
# First by rustup. Where rustup reaches no server, by building the standard library from Debian's packages of its
# source (`rust-src`, of the very version of rustc) and of wasi-libc. Nothing is installed into the system: both
# packages are unpacked in a folder that is removed at the end. The result is the same: the libraries stand in the
# toolchain's sysroot. Takes a second, or about a minute; does nothing when the target is there.
set -euo pipefail

target=wasm32-wasip2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here" # the toolchain is pinned by rust-toolchain.toml

say() { printf 'guest target: %s\n' "$*" >&2; }
die() { # after the end of the log of what failed last, if there is one
    if [ -s "$work/log" ]; then tail -40 "$work/log" >&2; fi
    say "$*"
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v rustc >/dev/null || die "rustc is not on PATH; install Rust first"
sysroot=$(rustc --print sysroot)
version=$(rustc --version | cut -d' ' -f2)

works() { # a program can be linked for the target
    ls "$sysroot/lib/rustlib/$target/lib/"libstd-*.rlib >"$work/log" 2>&1 || return 1
    echo 'fn main() { println!("hello") }' >"$work/hello.rs"
    rustc --target "$target" -o "$work/hello.wasm" "$work/hello.rs" >"$work/log" 2>&1
}

works && { say "$target: there already"; exit 0; }

if command -v rustup >/dev/null; then
    say "asking rustup for $target"
    if timeout 120 rustup target add "$target" >"$work/log" 2>&1; then
        works && { say "$target: added by rustup"; exit 0; }
    else
        say "rustup did not bring it ($(tail -1 "$work/log")); using Debian's packages"
    fi
fi

for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || die "neither rustup nor $tool can bring $target. On a machine with network access run: rustup target add $target"
done
[ -w "$sysroot/lib/rustlib" ] || die "$sysroot/lib/rustlib is not writable by $(id -un); run this as the owner of the Rust toolchain"

# An apt of our own: the machine's Debian mirror, a newer suite, lists and packages in our folder.
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | grep -v snapshot | head -1 | tr -d ' ') || true
[ -n "$mirror" ] || die "no Debian mirror in /etc/apt/sources.list; run on another machine: rustup target add $target"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
for suite in trixie-backports sid; do echo "deb [signed-by=$keyring] $mirror $suite main"; done >"$work/sources.list"
apt=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User= -qq)
say "reading the package lists of Debian's newer suites"
apt-get "${apt[@]}" update >"$work/log" 2>&1 || die "apt-get update failed"

newest() { # PACKAGE [VERSION-PREFIX]
    apt-cache "${apt[@]}" madison "$1" | awk -F'|' -v p="${2:-}" '{gsub(/ /, "", $2)} index($2, p) == 1 {print $2; exit}'
}
src=$(newest rust-src "$version+")
[ -n "$src" ] || die "Debian has no rust-src of version $version; run on a machine with network access: rustup target add $target"
libc=$(newest wasi-libc)
[ -n "$libc" ] || die "Debian's newer suites have no wasi-libc"
say "unpacking rust-src $src and wasi-libc $libc"
(cd "$work" && apt-get "${apt[@]}" download "rust-src=$src" "wasi-libc=$libc" >"$work/log" 2>&1) ||
    die "the packages could not be downloaded"
mkdir "$work/root"
dpkg-deb --fsys-tarfile "$work"/rust-src_*.deb | tar -x -C "$work/root" --wildcards './usr/src/rustc-*/library'
dpkg-deb -x "$work"/wasi-libc_*.deb "$work/root"
library=$(echo "$work"/root/usr/src/rustc-*/library)
[ -f "$library/Cargo.lock" ] || die "rust-src $src is not laid out as expected: no library/Cargo.lock"

# cargo -Zbuild-std looks for the sources in the sysroot; ours stand there only meanwhile.
sources="$sysroot/lib/rustlib/src/rust"
if [ ! -e "$sources/library/std" ]; then
    mkdir -p "$sources"
    ln -sfn "$library" "$sources/library"
    trap 'rm -f "$sources/library"; rmdir -p "$sources" 2>/dev/null || true; rm -rf "$work"' EXIT
fi

mkdir -p "$work/crate/src"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/crate/Cargo.toml"
echo '#![no_std]' >"$work/crate/src/lib.rs"
libs=$(dirname "$(find "$work/root" -path "*/$target/libc.a" | head -1)")
[ "$libs" != . ] || die "wasi-libc $libc has no libraries for $target"
say "building the standard library for $target (about a minute)"
# With its bitcode in the libraries, guests can use LTO.
(cd "$work/crate" && PATH="$sysroot/bin:$PATH" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
    RUSTFLAGS="-Cembed-bitcode=yes -Lnative=$libs" \
    cargo build --release --target "$target" -Zbuild-std=std,panic_abort >"$work/log" 2>&1) || true
built="$work/target/$target/release/deps"
ls "$built"/libstd-*.rlib >/dev/null 2>&1 || die "the standard library for $target did not build"
dir="$sysroot/lib/rustlib/$target/lib"
mkdir -p "$dir/self-contained"
find "$built" -name 'lib*.rlib' ! -name 'libempty-*' -exec cp {} "$dir/" \;
for file in crt1-command.o crt1-reactor.o libc.a; do cp "$libs/$file" "$dir/self-contained/"; done
works || { rm -rf "$sysroot/lib/rustlib/$target"; die "a program for $target does not link"; }
say "$target: ready"
