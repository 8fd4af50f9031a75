//! Endpoints, the older form: one object a service, at most a thousand addresses.

use super::{HEADLESS, Member, endpoints_key, is_headless, members, selector, target_ref};
use crate::action::{Action, Plan, Propagation, change};
use crate::object::{ENDPOINTS, Meta};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

pub(super) const NAME: &str = "endpoint-controller";

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The most addresses of an object.
const FULL: usize = 1000;

pub(super) fn reconcile(world: &World, at: &Key, _: Timestamp) -> Plan {
    let namespace = at.namespace.as_deref().unwrap_or_default();
    let place = endpoints_key(at);
    let old = world.endpoints(namespace, &at.name);
    let Some(service) = world.service(namespace, &at.name) else {
        // Endpoints that we made go with their service; others are someone else's.
        let ours =
            old.filter(|old| old.metadata.label(MANAGED_BY) == Some(NAME) && !old.metadata.is_deleting());
        return Plan::from(ours.map(|old| delete(&place, old)).into_iter().collect::<Vec<_>>());
    };
    if selector(service).is_none() || service.metadata.is_deleting() {
        return Plan::nothing();
    }
    let members: Vec<Member<'_>> = members(world, service);
    let (subsets, cut) = subsets(service, members);
    let mut new = old.map_or_else(|| empty(service), |old| Endpoints::clone(old));
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    new.metadata.labels = Some(labels(service));
    if cut {
        let annotations = new.metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut new.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    let action = match old {
        Some(old) => change(&place, old.metadata.revision(), None, &**old, &new),
        None => {
            let object =
                serde_json::to_value(&new).expect("API types have string keys and no failing serializers");
            Some(Action::Create { resource: ENDPOINTS, object: Box::new(object) })
        }
    };
    Plan::from(action.into_iter().collect::<Vec<_>>())
}

fn delete(place: &Key, old: &Endpoints) -> Action {
    Action::Delete {
        key: place.clone(),
        uid: old.metadata.uid_str().to_owned(),
        revision: Some(old.metadata.revision()),
        propagation: Propagation::Background,
        grace_secs: None,
    }
}

fn empty(service: &Service) -> Endpoints {
    let metadata = ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    Endpoints { metadata, subsets: None }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service.spec.as_ref().is_some_and(is_headless) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), NAME.to_owned());
    labels
}

/// Addresses grouped by the ports they have, and whether some had to be left out.
fn subsets(service: &Service, members: Vec<Member<'_>>) -> (Vec<EndpointSubset>, bool) {
    let publish_not_ready =
        service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let headless = service.spec.as_ref().is_some_and(is_headless);
    let mut groups: BTreeMap<Vec<(String, i32, String)>, EndpointSubset> = BTreeMap::new();
    let mut members: Vec<_> =
        members.into_iter().filter(|member| !member.terminating || publish_not_ready).collect();
    // Ready ones are the last to be left out.
    members.sort_by_key(|member| !(member.serving || publish_not_ready));
    let cut = members.len() > FULL;
    members.truncate(FULL);
    for member in members {
        let ports: Vec<EndpointPort> = member
            .ports()
            .map(|(port, number)| EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: number,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        if ports.is_empty() && !headless {
            continue;
        }
        let group = ports.iter().map(|port| {
            (port.name.clone().unwrap_or_default(), port.port, port.protocol.clone().unwrap_or_default())
        });
        let subset = groups.entry(group.collect()).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..EndpointSubset::default()
        });
        let address = EndpointAddress {
            ip: member.addresses.first().cloned().unwrap_or_default(),
            hostname: member.hostname.clone(),
            node_name: crate::pods::node(member.pod).map(str::to_owned),
            target_ref: Some(target_ref(member.pod)),
        };
        if member.serving || publish_not_ready {
            subset.addresses.get_or_insert_default().push(address);
        } else {
            subset.not_ready_addresses.get_or_insert_default().push(address);
        }
    }
    (groups.into_values().collect(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{SERVICES, key};
    use crate::testing::{add_pods, now, world};
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(pods: &str, expect: Expect) {
        let service = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "resourceVersion": "3"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let mut world = world(&[(SERVICES, service)]);
        add_pods(&mut world, pods);
        let plan = reconcile(&world, &key(SERVICES, "default", "web"), now());
        let Some(Action::Create { object, .. }) = plan.actions.first() else { panic!("{plan}") };
        let text = |list: &serde_json::Value| -> Vec<String> {
            list.as_array()
                .into_iter()
                .flatten()
                .map(|address| address["ip"].as_str().unwrap().to_owned())
                .collect()
        };
        let subset = &object["subsets"][0];
        let (ready, not) = (text(&subset["addresses"]), text(&subset["notReadyAddresses"]));
        expect.assert_eq(&format!("{} ready {ready:?} not {not:?}", subset["ports"][0]["port"]));
    }

    #[test]
    fn ready_pods_and_others_are_told_apart_and_ending_ones_left_out() {
        check(
            "a:ready app=web ip=1.1.1.1; b:running app=web ip=1.1.1.2; c:ready app=web ip=1.1.1.3 deleting; d:pending app=web",
            expect![[r#"8080 ready ["1.1.1.1"] not ["1.1.1.2"]"#]],
        );
    }
}
