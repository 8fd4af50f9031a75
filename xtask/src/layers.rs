//! The layer proof: arrows between our crates go one way, and crates that decide cannot do IO.

use crate::shell::{command, output};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Each crate, and the crates of ours it may use. A new arrow is a new word here, with a commit of its own.
const ARROWS: &[(&str, &[&str])] = &[
    ("control-api", &[]),
    ("control-store", &["control-api"]),
    ("control-registry", &["control-api", "control-store"]),
    ("control-server", &["control-api", "control-store", "control-registry"]),
    ("control-plan", &["control-api"]),
    ("control-driver", &["control-api", "control-plan", "control-store", "control-registry"]),
    ("runtime-engine", &[]),
    ("runtime-net", &[]),
    ("runtime-volumes", &[]),
    ("runtime-images", &["runtime-engine"]),
    ("runtime-host-sockets", &["runtime-engine", "runtime-net"]),
    ("runtime-host-http", &["runtime-engine", "runtime-net"]),
    ("runtime-host-pod", &["runtime-engine"]),
    (
        "runtime-node",
        &[
            "runtime-engine",
            "runtime-images",
            "runtime-net",
            "runtime-volumes",
            "runtime-host-sockets",
            "runtime-host-http",
            "runtime-host-pod",
        ],
    ),
    ("wharf-guest", &[]),
    ("wharf-bench", &[]),
    ("wharf-tests", &[]),
    ("xtask", &[]),
];

/// Crates that must not be reachable, even through others.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("control-api", &["tokio", "hyper", "redb"]),
    ("control-plan", &["tokio", "hyper", "redb"]),
    ("control-store", &["wasmtime", "hyper"]),
    ("control-server", &["wasmtime"]),
    ("control-driver", &["wasmtime", "hyper"]),
    ("runtime-engine", &["k8s-openapi", "redb"]),
    ("runtime-net", &["wasmtime", "k8s-openapi"]),
    ("runtime-node", &["redb"]),
];

/// Fails with every broken rule.
pub(crate) fn check() -> Result<()> {
    let metadata: Value =
        serde_json::from_str(&output(&mut command("cargo", "metadata --format-version 1 --no-deps"))?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        if name == "wharf" {
            continue; // The binary joins everything.
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            faults.push(format!("{name} has no line in xtask/src/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            // Tests may use more.
            if dependency["kind"].is_null() && ours.contains(&to) && !allowed.contains(&to) {
                faults.push(format!("{name} must not use {to}"));
            }
        }
    }
    for (name, forbidden) in FORBIDDEN {
        // `-i` counts dev-dependencies and passes on a misspelt crate; the whole tree does neither.
        let tree = output(&mut command("cargo", &format!("tree -q -p {name} -e normal --prefix none")))?;
        for found in
            tree.lines().filter_map(|line| line.split(' ').next()).filter(|found| forbidden.contains(found))
        {
            faults.push(format!("{name} must not reach {found}"));
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("layers: {} crates, every arrow allowed", packages.len());
    Ok(())
}
