//! Endpoint slices: at most a hundred endpoints each, and as few writes as a change needs.

use super::{HEADLESS, Member, is_headless, members, selector, target_ref};
use crate::action::{Action, Plan, Propagation, change};
use crate::names::with_suffix;
use crate::object::{ENDPOINT_SLICES, Meta, Object, controlled_by, key};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const NAME: &str = "endpointslice-controller";

/// The label that names a slice's service.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// The most endpoints of a slice.
const FULL: usize = 100;

/// What all endpoints of a slice have in common: address type and ports.
pub(super) type Group = (String, String);

/// The endpoints that a group should have, by what tells them apart.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: BTreeMap<String, Endpoint>,
}

pub(super) fn reconcile(world: &World, at: &Key, _: Timestamp) -> Plan {
    let namespace = at.namespace.as_deref().unwrap_or_default();
    // Slices of a service that is gone are garbage, by their owner reference.
    let Some(service) = world.service(namespace, &at.name) else {
        return Plan::nothing();
    };
    let Some(spec) = service.spec.as_ref().filter(|_| selector(service).is_some()) else {
        return Plan::nothing();
    };
    if service.metadata.is_deleting() {
        return Plan::nothing();
    }
    let mut groups = wanted(world, service, spec);
    let mut changes = Vec::new();
    let mut surplus = Vec::new();
    let mut kept: BTreeMap<Group, Vec<EndpointSlice>> = BTreeMap::new();
    let mut before: BTreeMap<String, Arc<EndpointSlice>> = BTreeMap::new();
    for slice in existing(world, namespace, &at.name, MANAGER) {
        let group = group_of(&slice.address_type, slice.ports.as_deref().unwrap_or_default());
        before.insert(slice.metadata.name_str().to_owned(), Arc::clone(&slice));
        if groups.contains_key(&group) {
            kept.entry(group).or_default().push(EndpointSlice::clone(&slice));
        } else {
            surplus.push(slice);
        }
    }
    for (group, wanted) in &mut groups {
        // Whoever has a name has it, be it one of ours or not.
        let is_taken = |name: &str| world.endpoint_slice(namespace, name).is_some();
        let slices = fill(service, group, wanted, kept.remove(group).unwrap_or_default(), is_taken);
        for slice in slices {
            match before.get(slice.metadata.name_str()) {
                Some(old)
                    if slice.endpoints.as_ref().is_none_or(Vec::is_empty) && !wanted.endpoints.is_empty() =>
                {
                    surplus.push(Arc::clone(old));
                }
                Some(old) => {
                    let at = key(ENDPOINT_SLICES, namespace, old.metadata.name_str());
                    changes.extend(change(&at, old.metadata.revision(), None, &**old, &slice));
                }
                None => changes.push(create(&slice)),
            }
        }
    }
    changes.extend(surplus.iter().map(|slice| delete(slice)));
    if changes.is_empty() { Plan::nothing() } else { Plan::from(vec![Action::Together(changes)]) }
}

pub(super) fn create(slice: &EndpointSlice) -> Action {
    let object = serde_json::to_value(slice).expect("API types have string keys and no failing serializers");
    Action::Create { resource: ENDPOINT_SLICES, object: Box::new(object) }
}

pub(super) fn delete(slice: &EndpointSlice) -> Action {
    let meta = &slice.metadata;
    Action::Delete {
        key: key(ENDPOINT_SLICES, meta.namespace_str(), meta.name_str()),
        uid: meta.uid_str().to_owned(),
        revision: Some(meta.revision()),
        propagation: Propagation::Background,
        grace_secs: None,
    }
}

/// A manager's slices of a service.
pub(super) fn existing(
    world: &World,
    namespace: &str,
    service: &str,
    manager: &str,
) -> Vec<Arc<EndpointSlice>> {
    let slices = world.in_namespace(&ENDPOINT_SLICES, namespace).filter_map(|(_, object)| match object {
        Object::EndpointSlice(slice) => Some(slice),
        _ => None,
    });
    let ours = |slice: &&Arc<EndpointSlice>| {
        let meta = &slice.metadata;
        meta.label(SERVICE) == Some(service) && meta.label(MANAGED_BY) == Some(manager) && !meta.is_deleting()
    };
    slices.filter(ours).cloned().collect()
}

/// The endpoints a service should have, by group, then by their pods' UIDs.
fn wanted(world: &World, service: &Service, spec: &ServiceSpec) -> BTreeMap<Group, Wanted> {
    let families = spec.ip_families.clone().filter(|families| !families.is_empty());
    let mut groups: BTreeMap<Group, Wanted> = BTreeMap::new();
    for family in families.unwrap_or_else(|| vec!["IPv4".to_owned()]) {
        let mut any = false;
        // Most pods have the same ports: what they group by is worked out once.
        let mut known: Vec<(Vec<(usize, i32)>, Group)> = Vec::new();
        for member in members(world, service) {
            let is_v6 = family == "IPv6";
            let addresses: Vec<String> =
                member.addresses.iter().filter(|ip| ip.contains(':') == is_v6).take(1).cloned().collect();
            if addresses.is_empty() {
                continue;
            }
            any = true;
            let same =
                known.iter().find(|(numbers, _)| *numbers == member.numbers).map(|(_, group)| group.clone());
            let group = same.unwrap_or_else(|| {
                let ports = ports(&member);
                let group = group_of(&family, &ports);
                groups.entry(group.clone()).or_default().ports = ports;
                known.push((member.numbers.clone(), group.clone()));
                group
            });
            let mut endpoint = endpoint(&member, addresses, spec.publish_not_ready_addresses == Some(true));
            endpoint.zone = endpoint.node_name.as_deref().and_then(|node| zone(world, node));
            let uid = member.pod.metadata.uid_str().to_owned();
            groups.entry(group).or_default().endpoints.insert(uid, endpoint);
        }
        if !any {
            // A slice without endpoints says that the service has none, rather than that nobody looked.
            groups.entry(group_of(&family, &[])).or_default();
        }
    }
    groups
}

fn ports(member: &Member<'_>) -> Vec<EndpointPort> {
    let ports = member.ports().map(|(port, number)| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    ports.collect()
}

fn endpoint(member: &Member<'_>, addresses: Vec<String>, publish_not_ready: bool) -> Endpoint {
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish_not_ready || (member.serving && !member.terminating)),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        hostname: member.hostname.clone(),
        node_name: crate::pods::node(member.pod).map(str::to_owned),
        target_ref: Some(target_ref(member.pod)),
        ..Endpoint::default()
    }
}

/// The zone of a node, as its label tells.
fn zone(world: &World, node: &str) -> Option<String> {
    world
        .node(node)?
        .metadata
        .label("topology.kubernetes.io/zone")
        .filter(|zone| !zone.is_empty())
        .map(str::to_owned)
}

pub(super) fn group_of(address_type: &str, ports: &[EndpointPort]) -> Group {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|port| format!("{:?}/{:?}/{:?}/{:?}", port.name, port.protocol, port.port, port.app_protocol))
        .collect();
    texts.sort();
    (address_type.to_owned(), texts.join(" "))
}

/// Puts endpoints into slices: each stays where it is; new ones go where there is room, then into new slices.
fn fill(
    service: &Service,
    group: &Group,
    wanted: &Wanted,
    mut slices: Vec<EndpointSlice>,
    is_taken: impl Fn(&str) -> bool,
) -> Vec<EndpointSlice> {
    let mut placed = BTreeSet::new();
    for slice in &mut slices {
        let kept = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let uid = endpoint.target_ref.as_ref()?.uid.as_deref()?;
            let new = wanted.endpoints.get(uid)?;
            placed.insert(uid.to_owned()).then(|| new.clone())
        });
        slice.endpoints = Some(kept.collect());
        slice.metadata.labels = Some(labels(service));
    }
    let mut rest = wanted
        .endpoints
        .iter()
        .filter(|(uid, _)| !placed.contains(*uid))
        .map(|(_, new)| new.clone())
        .peekable();
    for slice in &mut slices {
        let endpoints = slice.endpoints.get_or_insert_default();
        while endpoints.len() < FULL && rest.peek().is_some() {
            endpoints.extend(rest.next());
        }
    }
    let mut index = 0_u32;
    while rest.peek().is_some() || slices.is_empty() {
        let endpoints = rest.by_ref().take(FULL).collect();
        let parts = [service.metadata.uid_str(), &group.0, &group.1];
        let name = free_name(service.metadata.name_str(), &parts, &mut index, &is_taken);
        slices.push(EndpointSlice {
            address_type: group.0.clone(),
            endpoints: Some(endpoints),
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", service.metadata.name_str())),
                name: Some(name),
                namespace: service.metadata.namespace.clone(),
                labels: Some(labels(service)),
                owner_references: Some(vec![controlled_by::<Service>(&service.metadata)]),
                ..ObjectMeta::default()
            },
            ports: Some(wanted.ports.clone()),
        });
    }
    slices
}

/// The next name for a slice of a service that nobody has; `index` counts those that were tried.
pub(super) fn free_name(
    service: &str,
    parts: &[&str],
    index: &mut u32,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    loop {
        let number = index.to_string();
        let parts: Vec<&str> = parts.iter().copied().chain([number.as_str()]).collect();
        let name = with_suffix(&format!("{service}-"), &parts);
        *index += 1;
        if !is_taken(&name) {
            return name;
        }
    }
}

/// The service's labels and ours.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service.spec.as_ref().is_some_and(is_headless) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE.to_owned(), service.metadata.name_str().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::SERVICES;
    use crate::testing::{add, add_pods, now, world};
    use control_api::object;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn service(spec: &Value) -> Value {
        let mut service = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "resourceVersion": "3", "labels": {"team": "x"}},
            "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
        });
        for (name, value) in spec.as_object().unwrap() {
            service["spec"][name] = value.clone();
        }
        service
    }

    fn check(spec: &Value, pods: &str, expect: Expect) {
        let mut world = world(&[(SERVICES, service(spec))]);
        add_pods(&mut world, pods);
        let plan = reconcile(&world, &key(SERVICES, "default", "web"), now());
        expect.assert_eq(&slices_of(&plan));
    }

    /// A slice a line: ports, then `address ready serving terminating` of each endpoint.
    fn slices_of(plan: &Plan) -> String {
        let mut out = String::new();
        let Some(Action::Together(actions)) = plan.actions.first() else { return out };
        for action in actions {
            let Action::Create { object: slice, .. } = action else { continue };
            let ports: Vec<String> = object::list(slice, &["ports"])
                .iter()
                .map(|port| format!("{}:{}", object::text(port, &["name"]), port["port"]))
                .collect();
            out += &format!("{} [{}]", slice["addressType"].as_str().unwrap(), ports.join(" "));
            for endpoint in object::list(slice, &["endpoints"]) {
                let conditions = &endpoint["conditions"];
                let marks: String = ["ready", "serving", "terminating"]
                    .iter()
                    .filter(|name| conditions[**name] == true)
                    .map(|name| &name[..1])
                    .collect();
                out += &format!(" {}:{marks}", endpoint["addresses"][0].as_str().unwrap());
            }
            out += "\n";
        }
        out
    }

    const PODS: &str = "a:ready app=web port=http:8080 ip=10.1.0.1; b:running app=web port=http:8080 ip=10.1.0.2; \
        c:ready app=web port=http:8080 ip=10.1.0.3 deleting; d:pending app=web; e:failed app=web ip=10.1.0.5; f:ready app=db ip=10.1.0.6";

    #[test]
    fn pods_with_addresses_are_endpoints_with_their_conditions() {
        check(
            &json!({}),
            PODS,
            expect![[r#"
            IPv4 [http:8080] 10.1.0.1:rs 10.1.0.2: 10.1.0.3:st
        "#]],
        );
        check(
            &json!({"publishNotReadyAddresses": true}),
            PODS,
            expect![[r#"
            IPv4 [http:8080] 10.1.0.1:rs 10.1.0.2:r 10.1.0.3:rst
        "#]],
        );
    }

    #[test]
    fn pods_with_other_numbers_for_a_named_port_get_their_own_slice() {
        check(
            &json!({}),
            "a:ready app=web port=http:80 ip=1.1.1.1; b:ready app=web port=http:81 ip=1.1.1.2; c:ready app=web ip=1.1.1.3",
            expect![[r#"
                IPv4 [] 1.1.1.3:rs
                IPv4 [http:80] 1.1.1.1:rs
                IPv4 [http:81] 1.1.1.2:rs
            "#]],
        );
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice_and_one_without_selector_none() {
        check(
            &json!({}),
            "",
            expect![[r#"
            IPv4 []
        "#]],
        );
        check(&json!({"selector": null}), PODS, expect![""]);
    }

    #[test]
    fn an_endpoint_has_the_zone_of_its_node() {
        let mut world = world(&[(SERVICES, service(&json!({})))]);
        let node = json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "east"}}});
        add(&mut world, &crate::object::NODES, &node);
        add_pods(
            &mut world,
            "a:ready app=web port=http:80 ip=1.1.1.1; b:ready app=web port=http:80 ip=1.1.1.2 node=n2",
        );
        let plan = reconcile(&world, &key(SERVICES, "default", "web"), now());
        let Some(Action::Together(actions)) = plan.actions.first() else { panic!("{plan}") };
        let Some(Action::Create { object: slice, .. }) = actions.first() else { panic!("{plan}") };
        let endpoints = object::list(slice, &["endpoints"]);
        assert_eq!((&endpoints[0]["zone"], &endpoints[1]["zone"]), (&json!("east"), &Value::Null));
    }

    #[test]
    fn a_name_that_somebody_has_is_left_to_them() {
        let at = key(SERVICES, "default", "web");
        let mut world = world(&[(SERVICES, service(&json!({})))]);
        let created = |world: &World| {
            let plan = reconcile(world, &at, now());
            let Some(Action::Together(actions)) = plan.actions.first() else { panic!("{plan}") };
            let Some(Action::Create { object: slice, .. }) = actions.first() else { panic!("{plan}") };
            Value::clone(slice)
        };
        let mut theirs = created(&world);
        theirs["metadata"]["labels"][MANAGED_BY] = json!("me");
        add(&mut world, &ENDPOINT_SLICES, &theirs);
        let mut held = created(&world);
        assert_ne!(object::name(&held), object::name(&theirs));
        held["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        add(&mut world, &ENDPOINT_SLICES, &held);
        let ours = created(&world);
        assert!(![&held, &theirs].iter().any(|other| object::name(other) == object::name(&ours)));
    }

    #[test]
    fn a_hundred_endpoints_fill_a_slice_and_one_change_writes_one_slice() {
        let mut world = world(&[(SERVICES, service(&json!({})))]);
        let line = |at: usize| format!("p{at}:ready app=web port=http:80 ip=10.0.{}.{}", at / 256, at % 256);
        add_pods(&mut world, &(0..150).map(line).collect::<Vec<_>>().join(";"));
        let at = key(SERVICES, "default", "web");
        let plan = reconcile(&world, &at, now());
        let Some(Action::Together(actions)) = plan.actions.first() else { panic!("no slices") };
        let sizes: Vec<usize> = actions
            .iter()
            .map(|action| {
                let Action::Create { object: slice, .. } = action else { panic!("{action}") };
                let mut slice = Value::clone(slice);
                slice["metadata"]["uid"] = slice["metadata"]["name"].clone();
                slice["metadata"]["resourceVersion"] = json!("5");
                add(&mut world, &ENDPOINT_SLICES, &slice);
                object::list(&slice, &["endpoints"]).len()
            })
            .collect();
        assert_eq!(sizes, [100, 50]);
        assert_eq!(reconcile(&world, &at, now()).to_string(), "");
        add_pods(
            &mut world,
            "p60:running app=web port=http:80 ip=10.0.0.60; p150:ready app=web port=http:80 ip=10.0.9.9",
        );
        let plan = reconcile(&world, &at, now());
        let Some(Action::Together(actions)) = plan.actions.first() else { panic!("no change") };
        assert_eq!(actions.len(), 1, "{plan}");
    }
}
