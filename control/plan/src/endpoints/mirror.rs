//! Endpoints that a user writes for a service without a selector, told once more as slices: a proxy reads nothing else.
//!
//! A slice per address type and set of ports, of at most a thousand endpoints, as upstream's controller makes them.

use super::slices::{Group, MANAGED_BY, SERVICE, Wanted, create, delete, existing, free_name, group_of};
use crate::action::{Action, EventRecord, Plan, change};
use crate::object::{ENDPOINT_SLICES, Meta, controlled_by, key, reference};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) const NAME: &str = "endpointslice-mirroring-controller";

/// Who says it in events.
const COMPONENT: &str = "endpoint-slice-mirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations of endpoints that say nothing about slices.
const NOT_COPIED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// The most endpoints that are mirrored of a subset, and that a slice has.
const FULL: usize = 1000;

/// Whether a slice is one of ours.
pub(super) fn is_mirror(meta: &ObjectMeta) -> bool {
    meta.label(MANAGED_BY) == Some(MANAGER)
}

pub(super) fn reconcile(world: &World, at: &Key, _: Timestamp) -> Plan {
    let namespace = at.namespace.as_deref().unwrap_or_default();
    let existing = existing(world, namespace, &at.name, MANAGER);
    let endpoints = world.endpoints(namespace, &at.name).filter(|endpoints| is_mirrored(endpoints));
    let (Some(endpoints), Some(service)) = (endpoints, world.service(namespace, &at.name)) else {
        return together(existing.iter().map(|slice| delete(slice)).collect());
    };
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty()) {
        return Plan::nothing();
    }
    let (mut groups, skipped) = wanted(endpoints);
    let mut changes = Vec::new();
    for slice in existing {
        let group = group_of(&slice.address_type, slice.ports.as_deref().unwrap_or_default());
        // The first of a group stays, in place of a new one.
        let Some(wanted) = groups.remove(&group) else {
            changes.push(delete(&slice));
            continue;
        };
        let mut new = EndpointSlice::clone(&slice);
        new.endpoints = Some(first(wanted));
        new.metadata.labels = Some(labels(endpoints));
        new.metadata.annotations = annotations(endpoints);
        let at = key(ENDPOINT_SLICES, namespace, slice.metadata.name_str());
        changes.extend(change(&at, slice.metadata.revision(), None, &*slice, &new));
    }
    if !endpoints.metadata.is_deleting() {
        let is_taken = |name: &str| world.endpoint_slice(namespace, name).is_some();
        changes.extend(
            groups.into_iter().map(|(group, wanted)| create(&new(endpoints, group, wanted, is_taken))),
        );
    }
    let mut plan = together(changes);
    if !plan.actions.is_empty() {
        plan.actions.extend(skipped.tell(endpoints));
    }
    plan
}

fn together(changes: Vec<Action>) -> Plan {
    if changes.is_empty() { Plan::nothing() } else { Plan::from(vec![Action::Together(changes)]) }
}

/// Endpoints that are a lock, or that say so, are not mirrored.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.metadata.label(SKIP) != Some("true") && endpoints.metadata.annotation(LEADER).is_none()
}

/// Addresses that have no place in a slice.
#[derive(Default)]
struct Skipped {
    invalid: usize,
    surplus: usize,
}

/// The slices that endpoints make, and what finds no place in them.
fn wanted(endpoints: &Endpoints) -> (BTreeMap<Group, Wanted>, Skipped) {
    let mut groups: BTreeMap<Group, Wanted> = BTreeMap::new();
    let mut skipped = Skipped::default();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let mut n_taken = 0;
        for (address, ready) in ready.chain(others) {
            if n_taken == FULL {
                skipped.surplus += 1;
                continue;
            }
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                skipped.invalid += 1;
                continue;
            };
            n_taken += 1;
            let group = group_of(if ip.is_ipv6() { "IPv6" } else { "IPv4" }, &ports);
            let wanted =
                groups.entry(group).or_insert_with(|| Wanted { ports: ports.clone(), ..Wanted::default() });
            let target = address.target_ref.as_ref().and_then(|target| target.uid.as_deref());
            // Ready ones come first, and so are the last to be left out.
            let place = format!("{} {ip} {:?} {target:?}", u8::from(!ready), address.hostname);
            wanted.endpoints.insert(place, endpoint(address, ip, ready));
        }
    }
    (groups, skipped)
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    ports.collect()
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// As many as a slice holds.
fn first(wanted: Wanted) -> Vec<Endpoint> {
    wanted.endpoints.into_values().take(FULL).collect()
}

fn new(
    endpoints: &Endpoints,
    group: Group,
    wanted: Wanted,
    is_taken: impl Fn(&str) -> bool,
) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = free_name(meta.name_str(), &[meta.uid_str(), &group.0, &group.1], &mut 0, is_taken);
    EndpointSlice {
        address_type: group.0,
        ports: Some(wanted.ports.clone()),
        endpoints: Some(first(wanted)),
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta.name_str())),
            name: Some(name),
            namespace: meta.namespace.clone(),
            labels: Some(labels(endpoints)),
            annotations: annotations(endpoints),
            owner_references: Some(vec![controlled_by::<Endpoints>(meta)]),
            ..ObjectMeta::default()
        },
    }
}

/// The endpoints' labels and ours.
fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), endpoints.metadata.name_str().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn annotations(endpoints: &Endpoints) -> Option<BTreeMap<String, String>> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    (!annotations.is_empty()).then_some(annotations)
}

impl Skipped {
    fn tell(&self, endpoints: &Endpoints) -> Vec<Action> {
        let tell = |reason: &str, message: String| {
            Action::Tell(Box::new(EventRecord {
                regarding: reference::<Endpoints>(&endpoints.metadata),
                type_: "Warning",
                reason: reason.to_owned(),
                message,
                component: COMPONENT,
            }))
        };
        let Self { invalid, surplus } = self;
        let mut told = Vec::new();
        if *invalid > 0 {
            let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            told.push(tell("InvalidIPAddress", message));
        }
        if *surplus > 0 {
            let all = invalid + surplus;
            let message = format!(
                "A max of {FULL} addresses can be mirrored to EndpointSlices per Endpoints subset. {all} addresses were skipped"
            );
            told.push(tell("TooManyAddressesToMirror", message));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{ENDPOINTS, SERVICES};
    use crate::testing::{add, now, world};
    use control_api::object;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn service(selector: &Value) -> Value {
        json!({"metadata": {"name": "db", "namespace": "default", "uid": "uid-db"},
            "spec": {"selector": selector, "ports": [{"port": 5432}]}})
    }

    fn endpoints(meta: &Value, subsets: &Value) -> Value {
        let mut endpoints = json!({"metadata": {"name": "db", "namespace": "default", "uid": "uid-e",
            "resourceVersion": "2"}, "subsets": subsets});
        for (name, value) in meta.as_object().unwrap() {
            endpoints["metadata"][name] = value.clone();
        }
        endpoints
    }

    fn subset(ready: &[&str], not_ready: &[&str], port: i32) -> Value {
        let addresses = |ips: &[&str]| ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
        json!({"addresses": addresses(ready), "notReadyAddresses": addresses(not_ready), "ports": [{"port": port}]})
    }

    /// What is done, a line each; of a new slice, which then exists, its type, ports, endpoints (`-` when not ready)
    /// and owner.
    fn step(world: &mut World, expect: Expect) {
        let plan = reconcile(world, &key(ENDPOINTS, "default", "db"), now());
        let mut out = String::new();
        for action in plan.actions.iter().flat_map(|action| match action {
            Action::Together(actions) => actions.clone(),
            other => vec![other.clone()],
        }) {
            let Action::Create { object: slice, .. } = &action else {
                out += &format!("{action}\n");
                continue;
            };
            let mut slice = Value::clone(slice);
            let text = |value: &Value| -> String {
                let mark = if value["conditions"]["ready"] == true { "" } else { "-" };
                format!("{mark}{}", value["addresses"][0].as_str().unwrap())
            };
            let endpoints: Vec<String> = object::list(&slice, &["endpoints"]).iter().map(text).collect();
            let owner = &slice["metadata"]["ownerReferences"][0];
            out += &format!(
                "create {} {} {endpoints:?} of {} {}\n",
                object::text(&slice, &["addressType"]),
                slice["ports"][0]["port"],
                object::text(owner, &["kind"]),
                object::text(owner, &["uid"]),
            );
            slice["metadata"]["uid"] = slice["metadata"]["name"].clone();
            slice["metadata"]["resourceVersion"] = json!("3");
            add(world, &ENDPOINT_SLICES, &slice);
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn endpoints_of_a_service_without_a_selector_are_told_as_slices() {
        let subsets = json!([
            subset(&["1.1.1.2", "1.1.1.1"], &["1.1.1.0"], 5432),
            subset(&["fd00::1", "nonsense"], &[], 5433),
        ]);
        let mut world =
            world(&[(SERVICES, service(&json!(null))), (ENDPOINTS, endpoints(&json!({}), &subsets))]);
        step(
            &mut world,
            expect![[r#"
                create IPv4 5432 ["1.1.1.1", "1.1.1.2", "-1.1.1.0"] of Endpoints uid-e
                create IPv6 5433 ["fd00::1"] of Endpoints uid-e
                tell Warning InvalidIPAddress db: Skipped 1 invalid IP addresses when mirroring to EndpointSlices
            "#]],
        );
        step(&mut world, expect![""]);
        let other = endpoints(&json!({}), &json!([subset(&["1.1.1.1"], &[], 5432)]));
        add(&mut world, &ENDPOINTS, &other);
        let plan = reconcile(&world, &key(ENDPOINTS, "default", "db"), now()).to_string();
        let kinds: Vec<&str> = plan.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(kinds, ["patch", "delete"], "{plan}");
        world.apply(key(ENDPOINTS, "default", "db"), 9, None, now());
        let plan = reconcile(&world, &key(ENDPOINTS, "default", "db"), now()).to_string();
        assert_eq!(plan.lines().filter(|line| line.starts_with("delete")).count(), 2, "{plan}");
    }

    #[test]
    fn what_is_not_to_be_mirrored_is_not() {
        let subsets = json!([subset(&["1.1.1.1"], &[], 80)]);
        let nothing = |selector: Value, meta: Value| {
            let mut world = world(&[(SERVICES, service(&selector)), (ENDPOINTS, endpoints(&meta, &subsets))]);
            step(&mut world, expect![""]);
        };
        nothing(json!({"app": "db"}), json!({}));
        nothing(json!(null), json!({"labels": {SKIP: "true"}}));
        nothing(json!(null), json!({"annotations": {LEADER: "{}"}}));
        let mut without_service = world(&[(ENDPOINTS, endpoints(&json!({}), &subsets))]);
        step(&mut without_service, expect![""]);
    }

    #[test]
    fn a_subset_is_mirrored_up_to_a_thousand_addresses() {
        let ips: Vec<String> = (0..FULL + 5).map(|at| format!("1.1.{}.{}", at / 256, at % 256)).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        let endpoints = endpoints(&json!({}), &json!([subset(&ips, &["2.2.2.2"], 80)]));
        let world = world(&[(SERVICES, service(&json!(null))), (ENDPOINTS, endpoints)]);
        let plan = reconcile(&world, &key(ENDPOINTS, "default", "db"), now());
        let Some(Action::Together(actions)) = plan.actions.first() else { panic!("{plan}") };
        let Some(Action::Create { object: slice, .. }) = actions.first() else { panic!("{plan}") };
        assert_eq!((actions.len(), object::list(slice, &["endpoints"]).len()), (1, FULL));
        let message = "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 6 addresses were skipped";
        assert_eq!(
            plan.actions[1].to_string(),
            format!("tell Warning TooManyAddressesToMirror db: {message}")
        );
    }
}
